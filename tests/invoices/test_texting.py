"""Texts: written once, handed to the gateway over real HTTP, never sent twice when its answer is lost."""

import threading
from collections.abc import Iterator
from datetime import timedelta
from http.server import ThreadingHTTPServer
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from hypothesis import given
from hypothesis import strategies as st

from billing import clock
from billing.errors import InvalidInput, NotFound
from config.local.mailcatcher import Inbox
from config.local.textbox import Textbox
from invoices.models import TextMessage, TextOptOut
from invoices.services import texting
from invoices.services.settling import allocate_payment
from invoices.sms import gateway, words
from invoices.sms.twilio import Twilio

from .conftest import CLERK, NOW, capture, events, issue, make_customer, make_organisation
from .test_numbering_concurrency import together

pytestmark = pytest.mark.django_db
PHONE = "+919845012345"


class Carrier(Inbox):
    """The local stand-in, told how to misbehave: ``faults`` are used up one by one, by method."""

    faults: list[tuple[str, str]]
    calls: list[str]

    def do_POST(self) -> None:  # noqa: N802
        self.calls.append("POST")
        match self._fault("POST"):
            case "take and drop":
                self._send = lambda *_, **__: None  # type: ignore[method-assign]
                super().do_POST()
                self.close_connection = True
            case "drop":
                self.close_connection = True
            case "500":
                self._send_json({"message": "oops"}, status=500)
            case "429":
                self._send_json({"code": 20429, "message": "Too many"}, status=429)
            case "401":
                self._send_json({"code": 20003, "message": "Authenticate"}, status=401)
            case _:
                super().do_POST()

    def do_GET(self) -> None:  # noqa: N802
        self.calls.append("GET")
        if self._fault("GET") == "500":
            self._send_json({}, status=500)
        else:
            super().do_GET()

    def _fault(self, method: str) -> str:
        if self.faults and self.faults[0][0] == method:
            return self.faults.pop(0)[1]
        return ""


@pytest.fixture
def carrier(settings, tmp_path) -> Iterator[Any]:
    handler: Any = type("Bound", (Carrier,), {"texts": Textbox(tmp_path), "faults": [], "calls": []})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    settings.SMS_URL = f"twilio+http://AC1:secret@127.0.0.1:{server.server_port}?from=%2B15005550006"
    yield handler
    server.shutdown()
    server.server_close()


@pytest.fixture
def parent(school):
    customer = make_customer(school, phone=PHONE)
    customer.phone_hash = "h1"
    customer.save()
    return customer


def queue(customer, kind="reminder_1", key="k", invoice=None):
    invoice = invoice or issue(customer)
    return texting.queue_text(
        organisation=customer.organisation, customer_id=customer.pk, kind=kind, key=key, invoice_id=invoice.pk
    )


def later(monkeypatch, minutes):
    """Move the wall clock, on which back-off is counted."""
    real = clock.wall_now()
    monkeypatch.setattr(clock, "wall_now", lambda: real + timedelta(minutes=minutes))


def state():
    return [(row.status, row.attempts) for row in TextMessage.objects.order_by("id")]


def sent(carrier):
    return [(text.to, text.body) for text in carrier.texts.newest()]


def test_a_text_is_sent_once_in_the_words_of_its_kind(parent, carrier):
    invoice = issue(parent)
    queue(parent, invoice=invoice)
    queue(parent, invoice=invoice)

    assert (texting.send_due(), texting.send_due()) == (1, 0)

    message = TextMessage.objects.get()
    assert (message.status, message.sent_at, message.attempts) == ("sent", NOW, 1)
    body = (
        f"Sunrise Valley School: Rs.1,180.00 of invoice {invoice.number} was due on 15 Jun 2026. "
        "Paid already? Then thank you. STOP ends texts."
    )
    assert sent(carrier) == [(PHONE, body)]
    assert message.gateway_ref.startswith("SM")
    assert events(parent.organisation).count("text.sent") == 1
    assert [text.sender for text in carrier.texts.newest()] == ["+15005550006"]


def test_a_lost_answer_is_asked_for_and_not_sent_again(parent, carrier, monkeypatch):
    queue(parent)
    carrier.faults.append(("POST", "take and drop"))

    texting.send_due()
    assert state() == [("unknown", 1)]
    assert texting.send_due() == 0, "it waits before it asks"
    later(monkeypatch, 6)
    texting.send_due()

    assert state() == [("sent", 1)]
    assert len(sent(carrier)) == 1
    assert carrier.calls == ["POST", "GET"]


def test_what_the_gateway_does_not_have_is_sent_again(parent, carrier, monkeypatch):
    queue(parent)
    carrier.faults += [("POST", "drop"), ("GET", "500")]

    texting.send_due()
    later(monkeypatch, 6)
    texting.send_due()
    assert state() == [("unknown", 1)], "it did not say"
    later(monkeypatch, 12)
    texting.send_due()
    assert state() == [("due", 1)], "it certainly has not got it"
    later(monkeypatch, 18)
    texting.send_due()

    assert state() == [("sent", 2)]
    assert carrier.calls == ["POST", "GET", "GET", "POST"]
    assert len(sent(carrier)) == 1


def test_a_worker_that_dies_in_the_call_leaves_a_text_that_is_asked_for(parent, carrier, monkeypatch):
    queue(parent)
    [claimed] = texting._claim(20)
    gateway.gateway().send(to=claimed.recipient, body=claimed.body)  # and then nothing more

    assert texting.send_due() == 0
    later(monkeypatch, 11)
    texting.send_due()

    assert state() == [("sent", 1)]
    assert len(sent(carrier)) == 1


@pytest.mark.parametrize(("fault", "expected"), [("429", "due"), ("500", "unknown"), ("401", "due")])
def test_a_faltering_gateway_is_tried_again(parent, carrier, monkeypatch, fault, expected):
    queue(parent)
    carrier.faults.append(("POST", fault))

    texting.send_due()

    assert state() == [(expected, 1)]
    for minutes in (6, 12, 18):
        later(monkeypatch, minutes)
        texting.send_due()
    assert [status for status, _ in state()] == ["sent"]
    assert len(sent(carrier)) == 1


def test_nobody_there_means_not_sent(parent, settings, monkeypatch):
    settings.SMS_URL = "twilio+http://AC1:secret@127.0.0.1:9?from=Munim"
    queue(parent)

    for minutes in (0, 2, 8, 24, 90, 400, 900):
        later(monkeypatch, minutes)
        texting.send_due()

    assert state() == [("failed", 6)]
    assert "No connection" in TextMessage.objects.get().error


def test_without_a_gateway_it_fails_and_says_why(parent, settings):
    settings.SMS_URL = ""
    queue(parent)
    texting.send_due()
    assert state() == [("failed", 1)]
    assert "SMS_URL" in TextMessage.objects.get().error


def test_a_refused_number_is_final(school, carrier):
    queue(make_customer(school, phone="+919845010008"))
    texting.send_due()
    assert state() == [("failed", 1)]
    assert TextMessage.objects.get().error.startswith("21211: Invalid 'To' Phone Number")


def test_stop_is_remembered(school, carrier):
    stopped = make_customer(school, phone="+919845010009")
    stopped.phone_hash = "stopped"
    stopped.save()
    queue(stopped, key="first")
    texting.send_due()
    assert state() == [("skipped", 1)]
    row = TextOptOut.objects.get()
    assert (row.ending, row.source) == ("0009", "gateway")

    queue(stopped, key="second")

    assert state() == [("skipped", 1), ("skipped", 0)]
    assert carrier.calls == ["POST"]


def test_who_wants_no_texts_gets_none_until_asked_for_again(parent, carrier):
    queue(parent, key="waiting")
    row = texting.opt_out(organisation=parent.organisation, customer_id=parent.pk, actor=CLERK)
    again = texting.opt_out(organisation=parent.organisation, customer_id=parent.pk, actor=CLERK)
    assert row.pk == again.pk
    queue(parent, key="after")
    assert texting.send_due() == 0
    assert state() == [("skipped", 0), ("skipped", 0)]

    texting.opt_in(opt_out_id=row.pk, actor=CLERK, reason="wants them again")
    queue(parent, key="wanted")
    texting.send_due()

    assert state()[-1] == ("sent", 1)
    assert sent(carrier)[0][0] == PHONE


def test_a_customer_without_a_number_gets_a_failed_row(family):
    assert queue(family).error == "The customer has no telephone number."
    with pytest.raises(InvalidInput) as refused:
        texting.opt_out(organisation=family.organisation, customer_id=family.pk, actor=CLERK)
    assert refused.value.field == "customer"


def test_what_was_paid_meanwhile_is_not_chased_by_text(parent, carrier):
    invoice = issue(parent)
    queue(parent, invoice=invoice)
    allocate_payment(payment_id=capture(parent, "1180.00", invoice=invoice).pk, at=NOW)

    texting.send_due()

    assert state() == [("skipped", 1)]
    assert carrier.calls == []


def test_rows_of_others_are_not_found(parent):
    other = make_customer(make_organisation())
    with pytest.raises(NotFound):
        texting.queue_text(
            organisation=parent.organisation,
            customer_id=parent.pk,
            kind="reminder_1",
            key="k",
            invoice_id=issue(other).pk,
        )
    with pytest.raises(texting.TextKindUnknown):
        queue(parent, kind="love")
    assert not TextMessage.objects.exists()


def test_an_organisation_on_real_time_sends_by_the_wall_clock(parent, carrier):
    real = make_customer(make_organisation(test_clock=None), phone="+919845077777")
    queue(real)
    queue(parent)

    assert (texting.send_due(), texting.send_due()) == (2, 0)
    assert sorted(to for to, _ in sent(carrier)) == sorted([PHONE, "+919845077777"])


@pytest.mark.django_db(transaction=True)
def test_two_workers_send_each_text_once(carrier, monkeypatch):
    school = make_organisation()
    for n in range(6):
        queue(make_customer(school, phone=f"+91984501{n}345"), key=f"k{n}")

    monkeypatch.setattr(texting, "BATCH", 1)
    together(lambda _: texting.send_due(), 2)

    assert sorted(to for to, _ in sent(carrier)) == [f"+91984501{n}345" for n in range(6)]
    assert {status for status, _ in state()} == {"sent"}


# --- words and addresses ---------------------------------------------------------------------------
@given(st.sampled_from(sorted(words.KINDS)), st.sampled_from(["en", "de-DE", "hi", "fr", ""]), st.text(max_size=200))
def test_words_are_short_and_name_the_debt(kind, language, seller):
    text = words.body(
        kind, language=language, seller=seller, due="₹1,180.00", number="INV/26-27/0001", due_on="1 Jun 2026"
    )
    assert len(text) <= 160 if words.language_of(language) != "hi" else len(text) <= 134
    assert ("₹1,180.00" if words.language_of(language) == "hi" else "Rs.1,180.00") in text
    assert "INV/26-27/0001" in text
    assert "STOP" in text


@pytest.mark.parametrize(
    ("url", "sender", "port", "secure"),
    [
        ("twilio://AC1:t%2Fk@api.twilio.com?from=+15005550006", "+15005550006", 443, True),
        ("twilio://AC1:t%2Fk@api.twilio.com?from=MG9", "MG9", 443, True),
        ("twilio+http://AC1:t%2Fk@localhost:8200?from=Munim", "Munim", 8200, False),
    ],
)
def test_the_address_of_the_gateway_is_read(url, sender, port, secure):
    found = Twilio.of(url)
    assert (found.sender, found.port, found.secure, found.token) == (sender, port, secure, "t/k")


@pytest.mark.parametrize(
    "url", ["twilio://api.twilio.com?from=1", "twilio://AC1:t@api.twilio.com", "smpp://a:b@c?from=1"]
)
def test_an_address_that_lacks_something_is_refused(settings, url):
    settings.SMS_URL = url
    with pytest.raises(ImproperlyConfigured):
        gateway.gateway()
