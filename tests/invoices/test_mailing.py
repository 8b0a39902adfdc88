"""Letters: written once, sent through a real SMTP server, retried when it falters, in the customer's language."""

from datetime import timedelta

import pytest
from django.db import IntegrityError, transaction
from moneyed import Money

from billing import clock
from billing.errors import NotFound
from billing.services import outbox
from billing.services.outbox import waking
from invoices.errors import MailRefused
from invoices.mail.letters import letter
from invoices.mail.words import ENGLISH, GERMAN, HINDI, KINDS
from invoices.models import Mail
from invoices.services import mailing
from invoices.services.credit_notes import issue_credit_note
from invoices.services.mailing import queue_mail, send_due
from invoices.services.resending import retry_failed, send_again

from .conftest import CLERK, NOW, advance, capture, events, issue, make_customer, make_organisation
from .smtp import Post, Server
from .test_numbering_concurrency import together

pytestmark = pytest.mark.django_db


def queue(customer, kind="trial_ending", key="k", **extra):
    context = extra.pop("context", {"plan": "School Plus", "trial_ends_on": "2026-06-10"})
    return queue_mail(
        organisation=customer.organisation, customer_id=customer.pk, kind=kind, key=key, context=context, **extra
    )


@pytest.fixture
def post(settings):
    found = Post()
    with Server(settings, found):
        yield found


def later(monkeypatch, minutes):
    """Move the wall clock, which back-off is counted on."""
    real = clock.wall_now()
    monkeypatch.setattr(clock, "wall_now", lambda: real + timedelta(minutes=minutes))


def test_an_invoice_is_sent_with_its_pdf(family, post):
    invoice = issue(family)
    queue(family, "invoice", invoice_id=invoice.pk, context={})

    assert (send_due(), send_due()) == (1, 0)

    (message,) = post.taken
    mail = Mail.objects.get()
    assert (mail.status, mail.sent_at, mail.attempts) == ("sent", NOW, 1)
    assert message["To"] == family.email
    assert message["Message-ID"] == mail.message_id
    assert message["From"].startswith("Sunrise Valley School <")
    assert message["Reply-To"] == "accounts@sunrise.example"
    assert message["Subject"] == f"Invoice {invoice.number} from Sunrise Valley School"
    (pdf,) = message.iter_attachments()
    assert (pdf.get_content_type(), pdf.get_content()[:5]) == ("application/pdf", b"%PDF-")
    assert pdf.get_filename() == invoice.number.replace("/", "-") + ".pdf"
    assert "₹1,180.00 is due by 15 Jun 2026." in message.get_body(("plain",)).get_content()
    assert events(family.organisation)[-1] == "mail.sent"


def test_who_is_told_of_letters_is_woken_once_for_a_batch(
    family, post, monkeypatch, django_capture_on_commit_callbacks
):
    other = make_customer(make_organisation(code="other", country="IN"))
    for number, customer in enumerate((family, family, family, other)):
        queue(customer, key=f"k{number}")
    woken = []

    def begin_at_once(*_, args, **__):
        woken.extend(args)
        outbox.begins(args[0])

    monkeypatch.setattr(waking.current_app, "send_task", begin_at_once)

    with django_capture_on_commit_callbacks(execute=True):
        assert send_due() == 4

    assert sorted(woken) == sorted([str(family.organisation_id), str(other.organisation_id)])
    assert len(post.taken) == 4


def test_a_letter_is_only_about_documents_of_its_own_organisation(family):
    other = make_customer(make_organisation(code="other", country="IN"))
    foreign = issue(other)
    note = issue_credit_note(invoice_id=foreign.pk, amounts=None, reason="Returned", actor=CLERK)
    before = Mail.objects.count()

    with pytest.raises(NotFound, match="invoice"):
        queue(family, "invoice", invoice_id=foreign.pk, context={})
    with pytest.raises(NotFound, match="credit note"):
        queue(family, "credit_note", credit_note_id=note.pk, context={})

    assert Mail.objects.count() == before


def test_many_letters_share_one_connection(school, post):
    for i in range(5):
        queue(make_customer(school), key=f"k{i}")

    assert send_due() == 5

    assert len(post.taken) == 5
    assert post.connections == 1


def test_the_same_letter_is_queued_and_sent_once(family, post):
    first, second = queue(family), queue(family)

    assert first.pk == second.pk
    assert send_due() == 1
    with pytest.raises(IntegrityError), transaction.atomic():
        Mail.objects.create(
            organisation=family.organisation, customer=family, kind="x", key="k", send_after=NOW, created_at=NOW
        )


def test_a_letter_waits_for_its_time_on_the_organisations_clock(school, family, post):
    queue(family, send_after=NOW + timedelta(days=30))

    assert send_due() == 0
    advance(school, NOW + timedelta(days=30))

    assert send_due() == 1


def test_organisations_on_real_time_and_on_a_test_clock_each_wait_for_their_own(family, post, monkeypatch):
    real = make_customer(make_organisation(test_clock=None))
    queue(real, key="now")
    queue(real, key="later", send_after=clock.wall_now() + timedelta(minutes=30))
    queue(family, key="now")
    queue(family, key="far", send_after=NOW + timedelta(days=1))

    assert (send_due(), send_due()) == (2, 0)
    later(monkeypatch, 31)

    assert (send_due(), send_due()) == (1, 0)
    assert list(Mail.objects.filter(status="due").values_list("organisation", "key")) == [
        (family.organisation_id, "far")
    ]
    assert {mail.organisation_id for mail in Mail.objects.filter(status="sent", key="later")} == {real.organisation_id}


def test_a_temporary_refusal_is_tried_again_under_the_same_message_id(family, post, monkeypatch):
    post.answer = lambda n, _message: "451 try again later" if n < 3 else None
    queue(family)

    assert (send_due(), send_due()) == (1, 0)
    mail = Mail.objects.get()
    assert (mail.status, mail.error) == ("due", "451 try again later")
    later(monkeypatch, 2)
    assert send_due() == 1
    later(monkeypatch, 20)
    assert send_due() == 1

    mail.refresh_from_db()
    assert (mail.status, mail.attempts, mail.error) == ("sent", 3, "")
    assert {message["Message-ID"] for message in post.tried} == {mail.message_id}


def test_after_six_tries_a_letter_has_failed_and_can_be_sent_anew(family, post, monkeypatch):
    post.answer = lambda _n, _message: "451 no"
    mail = queue(family)
    for i in range(8):
        later(monkeypatch, 300 * i)
        send_due()

    mail.refresh_from_db()
    assert (mail.status, mail.attempts, len(post.tried)) == ("failed", 6, 6)
    assert events(family.organisation) == ["mail.failed"]

    post.answer = lambda _n, _message: None
    retry_failed(mail_id=mail.pk, actor=CLERK)
    with pytest.raises(MailRefused):
        retry_failed(mail_id=Mail.objects.exclude(pk=mail.pk).get().pk, actor=CLERK)
    assert send_due() == 1


def test_a_permanent_refusal_is_not_repeated_and_stops_nobody_else(school, post):
    bad, good = make_customer(school, email="gone@example.org"), make_customer(school)
    post.refuse["gone@example.org"] = "550 no such user"
    queue(bad, key="a")
    queue(good, key="b")

    send_due()

    assert list(Mail.objects.order_by("key").values_list("status", "error")) == [
        ("failed", "550 no such user"),
        ("sent", ""),
    ]


def test_a_dropped_connection_loses_nothing(school, post, monkeypatch):
    post.answer = lambda n, _message: "drop" if n == 2 else None
    for i in range(4):
        queue(make_customer(school), key=f"k{i}")

    send_due()
    assert sorted(Mail.objects.values_list("status", flat=True)) == ["due", "sent", "sent", "sent"]
    later(monkeypatch, 2)
    send_due()

    assert sorted(message["To"] for message in post.taken) == sorted(mail.recipient for mail in Mail.objects.all())


def test_a_lost_answer_can_only_double_the_same_message(family, post, monkeypatch):
    post.answer = lambda n, _message: "take and drop" if n == 1 else None
    queue(family)

    send_due()
    later(monkeypatch, 2)
    send_due()

    assert len(post.taken) == 2
    assert len({message["Message-ID"] for message in post.taken}) == 1


def test_what_a_dead_worker_held_is_taken_up_when_its_claim_ends(family, post, monkeypatch):
    queue(family)
    (held,) = mailing._claim(20)
    assert send_due() == 0

    later(monkeypatch, 11)
    assert send_due() == 1

    mailing._record(held, error="the dead one wakes up", final=True)  # changes nothing any more
    mail = Mail.objects.get()
    assert (mail.status, mail.attempts, len(post.taken)) == ("sent", 2, 1)


def test_a_server_that_is_away_delays_letters(family, settings, monkeypatch):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT = "127.0.0.1", 1
    queue(family)

    send_due()

    mail = Mail.objects.get()
    assert mail.status == "due"
    assert "ConnectionRefused" in mail.error


def test_letters_that_cannot_be_written_do_not_stop_the_others(school, post):
    broken, fine = make_customer(school, email="x@example.org\nBcc: y@example.org"), make_customer(school)
    queue(broken, key="a")
    queue(fine, key="b")

    send_due()

    assert list(Mail.objects.order_by("key").values_list("status", flat=True)) == ["due", "sent"]
    assert len(post.taken) == 1


def test_refusals(school, family):
    with pytest.raises(MailRefused, match="no letter of the kind 'spam'"):
        queue(family, kind="spam")
    with pytest.raises(NotFound):
        queue_mail(organisation=school, customer_id=make_customer(make_organisation()).pk, kind="receipt", key="x")
    silent = make_customer(school, email="")
    assert queue(silent).status == "failed"
    with pytest.raises(MailRefused, match="no e-mail"):
        send_again(invoice_id=issue(silent).pk, actor=CLERK)
    assert send_again(invoice_id=issue(family).pk, actor=CLERK).status == "due"


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("language", ["en", "de", "hi"])
def test_every_letter_can_be_written_in_every_language(school, kind, language):
    customer = make_customer(school, name="<b>Mia</b>", language=language)
    invoice = issue(customer)
    note = issue_credit_note(invoice_id=invoice.pk, amounts={1: Money("1.00", "INR")}, reason="x", actor=CLERK)
    context = {
        "plan": "Plus",
        "trial_ends_on": "2026-06-10",
        "method": "Visa •••• 4242",
        "expires_on": "2026-07-31",
        "paid_on": "2026-06-01",
        "amount": {"amount": "1180.00", "currency": "INR"},
        "action_url": "https://pay.example/x?a=1&b=2",
        "feature": "API calls",
        "threshold": "90",
        "used": "900",
        "limit": "1,000",
    }
    mail = queue(
        customer,
        kind,
        invoice_id=invoice.pk,
        credit_note_id=note.pk if kind == "credit_note" else None,
        context=context,
    )

    message = letter(
        Mail.objects.select_related("organisation__party", "customer", "invoice", "credit_note").get(pk=mail.pk)
    )

    html = message.alternatives[0].content
    assert "–" not in message.subject
    assert "{" not in message.subject + message.body
    assert "<b>Mia" not in html
    assert ("https://pay.example/x?a=1&b=2" in message.body) == (kind == "action_required")


def test_translations_name_the_same_values():
    for language in (GERMAN, HINDI):
        for kind, words in language.items():
            assert words.attaches_invoice == ENGLISH[kind].attaches_invoice
            assert words.button == ""


def test_only_web_addresses_become_links(family):
    mail = queue(family, "action_required", context={"action_url": "javascript:alert(1)"})

    assert "javascript" not in letter(mail).alternatives[0].content


def test_events_become_letters_once(school, family):
    invoice = issue(family)
    payment = capture(family, "1180.00", invoice=invoice)
    facts = {
        "payment_id": str(payment.pk),
        "reference": payment.reference,
        "customer_id": str(family.pk),
        "amount": "1180.00",
        "currency": "INR",
    }
    outbox.publish("payment.captured", payment, **facts)
    outbox.publish("payment.requires_action", payment, action_url="https://pay.example/1", **facts)
    outbox.publish(
        "payment_method.expiring", payment, customer_id=str(family.pk), shown="Visa •••• 4242", expires_on="2026-07-31"
    )
    while outbox.dispatch(school.pk):
        pass
    issue_credit_note(invoice_id=invoice.pk, amounts=None, reason="x", actor=CLERK)
    while outbox.dispatch(school.pk):
        pass

    assert sorted(Mail.objects.values_list("kind", flat=True)) == [
        "action_required",
        "credit_note",
        "expiry_notice",
        "invoice",
        "receipt",
    ]


@pytest.mark.django_db(transaction=True)
def test_workers_side_by_side_send_each_letter_once(settings):
    school, post = make_organisation(), Post()
    for i in range(40):
        queue(make_customer(school), key=f"k{i}")

    with Server(settings, post):
        results = together(lambda _: send_due(limit=40), 4)

    assert sum(results) == 40
    assert len(post.taken) == len({message["Message-ID"] for message in post.taken}) == 40
