"""A credit note with the money back: credited once, refunded once, whatever happens between the lines."""

import contextlib
import re
import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import pytest
from django.db import connection
from django.urls import reverse
from moneyed import Money

from billing.context import Actor
from billing.errors import InvalidInput, NotFound, PermissionRefused
from billing.models import AuditRecord, Event, Organisation, Role
from billing.services import outbox
from invoices import selectors
from invoices.drafts import InvoiceDraft, LineInput
from invoices.errors import InvoiceNotOpen, NothingToRefund, NothingToSendAgain
from invoices.models import CreditNote, Invoice
from invoices.services import collecting, refunding, settling
from invoices.services.credit_notes import issue_credit_note
from invoices.services.finalizing import issue_invoice
from payments.models import GatewayAccount, Payment, ReconciliationException, Refund
from payments.services import collection, disputes, offline, refunds, resolving
from tests.payments.conftest import NOON, SYSTEM, again

pytestmark = pytest.mark.django_db


def inr(amount):
    return Money(amount, "INR")


@pytest.fixture
def drain(organisation):
    """Let the house hear what happened, as often as there is something to hear."""

    def run():
        while outbox.dispatch(organisation.pk):
            pass

    return run


@pytest.fixture
def bill(organisation, customer):
    """A finalised invoice of one line without tax."""

    def issue(amount="499.00", of=None, **more):
        line = LineInput(description="Meals", code="meals", amount=inr(amount))
        payer = of or customer
        draft = InvoiceDraft(customer_id=payer.pk, currency="INR", lines=[line], **more)
        return issue_invoice(organisation=organisation, draft=draft)

    return issue


@pytest.fixture
def cash(organisation, customer):
    """Money over the counter for an invoice, the next part under the next reference."""

    def pay(invoice, amount, part="", of=None):
        return offline.record_offline_payment(
            organisation=organisation, customer_id=(of or customer).pk, amount=inr(amount),
            reference=f"invoice:{invoice.pk}{part}", received_on=NOON.date(), note="Counter", actor=SYSTEM,
        )  # fmt: skip

    return pay


@pytest.fixture
def collected(account, customer, save_method, bill, organisation, drain):
    """An invoice of 499.00 that the gateway collected, once at each provider."""
    save_method(customer, account)
    invoice = bill()
    drain()
    collection.collect_due(organisation=organisation)
    drain()
    assert read(invoice).status == "paid"
    return invoice


def credit(invoice, amount=None, *, refund=True, actor=SYSTEM):
    amounts = None if amount is None else {1: inr(amount)}
    return issue_credit_note(invoice_id=invoice.pk, amounts=amounts, reason="Left", actor=actor, refund=refund)


def read(row):
    return type(row).objects.get(pk=row.pk)


def free(customer):
    credit_of = selectors.free_credit(organisation=customer.organisation_id, customer_id=customer.pk, currency="INR")
    return f"{credit_of.amount:.2f}"


def refunded():
    return [(f"{row.amount.amount:.2f}", row.status) for row in Refund.objects.order_by("pk")]


def test_the_money_goes_back_and_the_invoice_stays_paid(account, collected, customer, drain, balance_of, simulator):
    note = credit(collected, "99.00")
    assert (refunded(), free(customer)) == ([("99.00", "requested")], "99.00"), (
        "nothing is called inside the transaction"
    )

    drain()

    invoice = read(collected)
    assert refunded() == [("99.00", "succeeded")]
    assert (invoice.status, invoice.due.amount, note.to_credit) == ("paid", 0, inr("99.00"))
    assert (free(customer), balance_of("receivable"), balance_of("revenue")) == ("0.00", "0.00", "-400.00")
    assert balance_of(f"gateway_clearing:{account.code}") == "400.00"
    assert sum(item.get("refunded", 0) for item in simulator.truth(account)["objects"].values()) == 9900
    assert AuditRecord.objects.get(action="credit_note.issued").after["refund"] is True
    assert AuditRecord.objects.get(action="refund.requested").reason == f"Credit note {note.number}"


def test_without_asking_it_stays_credit(collected, customer, drain):
    credit(collected, "99.00", refund=False)
    drain()
    assert (refunded(), free(customer)) == ([], "99.00")
    assert not Event.objects.filter(type="credit_note.refund_due").exists()


def test_of_a_partly_paid_invoice_only_what_was_paid_goes_back(bill, cash, drain, customer, balance_of):
    invoice = bill()
    drain()
    collection.cancel_payment(organisation_id=invoice.organisation_id, reference=f"invoice:{invoice.pk}")
    cash(invoice, "100.00", ":part")
    drain()

    note = credit(invoice)
    drain()

    assert (note.reduced_due, note.to_credit) == (inr("399.00"), inr("100.00"))
    assert refunded() == [("100.00", "succeeded")]
    assert (read(invoice).status, read(invoice).due.amount, free(customer)) == ("paid", 0, "0.00")
    assert (balance_of("receivable"), balance_of("revenue"), balance_of("gateway_clearing:offline")) == ("0.00",) * 3


def paid_in_parts(bill, cash, drain, *parts):
    invoice = bill()
    drain()
    collection.cancel_payment(organisation_id=invoice.organisation_id, reference=f"invoice:{invoice.pk}")
    for number, part in enumerate(parts):
        cash(invoice, part, f":part{number}")
        drain()
    return invoice


def test_several_payments_are_refunded_the_newest_first(bill, cash, drain, customer):
    invoice = paid_in_parts(bill, cash, drain, "200.00", "150.00", "149.00")

    credit(invoice, "250.00")
    drain()

    made = [(f"{row.amount.amount:.2f}", row.payment.reference[-6:]) for row in Refund.objects.order_by("pk")]
    assert made == [("149.00", ":part2"), ("101.00", ":part1")]
    assert (read(invoice).status, free(customer)) == ("paid", "0.00")


def test_two_credit_notes_refund_what_each_gave_and_no_more(bill, cash, drain, customer):
    invoice = paid_in_parts(bill, cash, drain, "499.00")
    first, second = credit(invoice, "99.00"), credit(invoice)
    drain()
    assert refunded() == [("99.00", "succeeded"), ("400.00", "succeeded")]
    for note in (first, second, first):
        refunding.refund_credit(organisation_id=note.organisation_id, credit_note_id=note.pk, actor=SYSTEM)
    assert (len(refunded()), free(customer)) == (2, "0.00")


# --- refusals: nothing is written -----------------------------------------------------------------
def nothing_written(invoice):
    assert not CreditNote.objects.exists()
    assert not Refund.objects.exists()
    assert not Event.objects.filter(type__startswith="credit_note.").exists()
    assert read(invoice).credited.amount == 0


def test_it_needs_the_permission_to_refund_too(bill, cash, drain):
    invoice = paid_in_parts(bill, cash, drain, "499.00")
    with pytest.raises(PermissionRefused, match=r"refund\.issue"):
        credit(invoice, actor=Actor(type="user", id="1", permissions=frozenset({"credit_note.issue"})))
    nothing_written(invoice)


def test_a_note_that_would_only_lower_what_is_due_is_refused_with_the_reason(bill, cash, drain):
    invoice = paid_in_parts(bill, cash, drain, "100.00")
    with pytest.raises(NothingToRefund, match="only lowers what is due") as refusal:
        credit(invoice, "399.00")
    assert (refusal.value.http_status, refusal.value.field) == (409, "refund")
    nothing_written(invoice)


def test_what_was_paid_from_credit_has_no_payment_to_go_back_to(bill, cash, drain, organisation, customer):
    offline.record_offline_payment(
        organisation=organisation, customer_id=customer.pk, amount=inr("499.00"), reference="deposit-1",
        received_on=NOON.date(), note="Deposit", actor=SYSTEM,
    )  # fmt: skip
    invoice = bill()
    drain()
    assert read(invoice).status == "paid"
    with pytest.raises(NothingToRefund, match="no payment of the invoice"):
        credit(invoice)
    nothing_written(invoice)


def test_nothing_goes_back_on_another_customers_payment(bill, cash, drain, make_customer, customer):
    """Somebody else paid under the invoice's reference: their money is theirs, and no refund of this credit."""
    stranger = make_customer()
    invoice = paid_in_parts(bill, cash, drain, "499.00")
    cash(invoice, "300.00", ":stray", of=stranger)
    drain()

    credit(invoice)
    drain()

    assert [row.payment.customer_id for row in Refund.objects.all()] == [customer.pk]
    assert (free(stranger), free(customer)) == ("300.00", "0.00")


def test_another_organisations_note_is_not_found(bill, cash, drain):
    note = credit(paid_in_parts(bill, cash, drain, "499.00"))
    other = Organisation.objects.create(
        code="other-school", name="Other", currency="INR", country="IN", region="29", time_zone="Asia/Kolkata",
        financial_year_start=4,
    )  # fmt: skip
    assert refunding.refund_credit(organisation_id=other.pk, credit_note_id=note.pk, actor=SYSTEM) == []
    with pytest.raises(NotFound):
        refunding.send_again(organisation_id=other.pk, credit_note_id=note.pk, actor=SYSTEM)
    assert refunded() == [("499.00", "requested")], "nobody else sends it"


# --- between the lines ----------------------------------------------------------------------------
class Killed(Exception):
    """The process died here."""


def dies(monkeypatch, place, name, *, after=False):
    """Let the next call of ``place.name`` be the last of this process."""
    real = getattr(place, name)

    def die(*args, **kwargs):
        monkeypatch.setattr(place, name, real)
        if after:
            real(*args, **kwargs)
        raise Killed

    monkeypatch.setattr(place, name, die)


def refund_again(note):
    return refunding.refund_credit(organisation_id=note.organisation_id, credit_note_id=note.pk, actor=SYSTEM)


@pytest.mark.parametrize(("place", "name"), [(refunding, "require_refundable"), (refunding, "reserve")])
def test_killed_before_the_commit_there_is_neither_note_nor_refund(
    monkeypatch, bill, cash, drain, customer, place, name
):
    invoice = paid_in_parts(bill, cash, drain, "499.00")
    dies(monkeypatch, place, name, after=True)
    with pytest.raises(Killed):
        credit(invoice)
    drain()
    nothing_written(invoice)
    assert free(customer) == "0.00"


@pytest.mark.parametrize(
    ("place", "name", "after", "left_behind"),
    [
        (refunds, "send", False, [("499.00", "requested")]),
        (refunds, "settle_refund", False, [("499.00", "requested")]),
        (refunds, "settle_refund", True, [("499.00", "succeeded")]),
    ],
    ids=["before the call", "after the call", "after all of it"],
)
def test_killed_in_the_refund_it_is_made_once(
    monkeypatch, account, collected, customer, drain, simulator, place, name, after, left_behind
):
    note = credit(collected)
    dies(monkeypatch, place, name, after=after)
    with pytest.raises(Killed):
        refund_again(note)
    assert refunded() == left_behind

    drain()  # the event is heard after all
    refund_again(note)  # and once more

    assert refunded() == [("499.00", "succeeded")]
    assert sum(item.get("refunded", 0) for item in simulator.truth(account)["objects"].values()) == 49900
    assert (read(collected).status, free(customer)) == ("paid", "0.00")


def test_killed_between_two_payments_the_second_is_refunded_later(monkeypatch, bill, cash, drain, customer):
    note = credit(paid_in_parts(bill, cash, drain, "300.00", "199.00"))
    dies(monkeypatch, refunds, "send", after=True)
    with pytest.raises(Killed):
        refund_again(note)
    assert refunded() == [("199.00", "succeeded"), ("300.00", "requested")]

    drain()

    assert refunded() == [("199.00", "succeeded"), ("300.00", "succeeded")]
    assert free(customer) == "0.00"


@pytest.mark.parametrize("kind", ["timeout_after", "drop"])
def test_a_lost_answer_is_asked_for_and_the_credit_is_held_meanwhile(
    account, collected, customer, drain, bill, simulator, settings, kind
):
    settings.GATEWAY_READ_SECONDS = 0.4
    credit(collected, "99.00")
    simulator.fault(kind, "refund")
    drain()
    assert refunded() == [("99.00", "unknown")]

    later = bill("50.00")
    assert settling.apply_customer_credit(invoice_id=later.pk) is None, "it is on its way back, not free"
    refunds.resolve(Refund.objects.get().pk)
    drain()

    assert refunded() == [("99.00", "succeeded")]
    assert sum(item.get("refunded", 0) for item in simulator.truth(account)["objects"].values()) == 9900
    assert (read(collected).status, read(later).due, free(customer)) == ("paid", inr("50.00"), "0.00")


def test_a_gateway_that_is_away_gets_it_later(account, collected, customer, drain, simulator, settings):
    credit(collected)
    settings.RAZORPAY_API_BASE = settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    drain()
    assert refunded() == [("499.00", "requested")]

    settings.RAZORPAY_API_BASE = settings.STRIPE_API_BASE = simulator.base
    refunds.resolve(Refund.objects.get().pk)
    drain()

    assert (refunded(), free(customer), read(collected).status) == ([("499.00", "succeeded")], "0.00", "paid")


def test_what_is_to_go_back_is_not_spent_before_its_refund_is_heard(
    bill, cash, drain, organisation, customer, balance_of
):
    """The next invoice pays itself from credit as soon as it is issued; the refund's event comes after it."""
    note = credit(paid_in_parts(bill, cash, drain, "499.00"))
    later = bill("200.00")
    assert settling.apply_customer_credit(invoice_id=later.pk) is None
    collecting.collect_invoices(organisation=organisation, invoice_ids=[later.pk])

    drain()
    refund_again(note)

    assert refunded() == [("499.00", "succeeded")]
    assert (read(later).status, read(later).due, read(note.invoice).status) == ("open", inr("200.00"), "paid")
    assert (free(customer), balance_of("receivable")) == ("0.00", "200.00")


# --- a refund that fails is work to do --------------------------------------------------------------
def works(account, yes):
    """Whether the gateway takes our keys; with others it refuses the refund and knows of none."""
    secret = account.key_secret if yes else "revoked at the gateway"
    GatewayAccount.objects.filter(pk=account.pk).update(key_secret=secret)


def board():
    rows = ReconciliationException.objects.order_by("opened_at", "pk")
    return [(row.kind, row.source_type, f"{row.amount.amount:.2f}", row.status) for row in rows]


def send_again(note, actor=SYSTEM):
    return refunding.send_again(organisation_id=note.organisation_id, credit_note_id=note.pk, actor=actor)


@pytest.fixture
def failed(account, collected, customer, drain):
    """A note over 99.00 whose refund the gateway refused."""
    works(account, False)
    note = credit(collected, "99.00")
    drain()
    works(account, True)
    return note


def test_a_refund_that_fails_is_before_a_person_and_goes_back_at_the_second_try(
    account, failed, collected, customer, drain, simulator, balance_of
):
    assert (refunded(), free(customer)) == ([("99.00", "failed")], "99.00")
    assert board() == [("refund_failed", "refund", "99.00", "open")]
    found = ReconciliationException.objects.get()
    assert failed.number in found.explanation
    assert found.source_id == Refund.objects.get().pk
    refund_again(failed)
    assert refunded() == [("99.00", "failed")], "nothing is repeated by itself"

    send_again(failed)
    drain()

    assert refunded() == [("99.00", "failed"), ("99.00", "succeeded")]
    assert (board(), found.pk) == ([("refund_failed", "refund", "99.00", "resolved")], read(found).pk)
    assert (read(found).resolution, failed.number in read(found).reason) == ("handled", True)
    assert (read(collected).status, free(customer), balance_of("receivable")) == ("paid", "0.00", "0.00")
    assert sum(item.get("refunded", 0) for item in simulator.truth(account)["objects"].values()) == 9900
    with pytest.raises(NothingToSendAgain, match="no refund of it has failed"):
        send_again(failed)
    assert len(refunded()) == 2


def test_a_second_failure_is_work_again_and_a_third_try_is_possible(account, failed, customer, drain):
    works(account, False)
    send_again(failed)
    drain()
    assert board() == [("refund_failed", "refund", "99.00", "resolved"), ("refund_failed", "refund", "99.00", "open")]

    works(account, True)
    send_again(failed)
    drain()

    assert [status for _, status in refunded()] == ["failed", "failed", "succeeded"]
    assert ([row[3] for row in board()], free(customer)) == (["resolved", "resolved"], "0.00")


def test_a_refund_that_the_bank_sends_back_is_work_too(account, collected, customer, drain, simulator):
    note = credit(collected, "99.00")
    drain()
    refund = Refund.objects.get()
    simulator.post(f"refunds/{refund.gateway_ref}/fail")
    refunds.resolve(refund.pk)  # it is done, as far as we know
    refunds.follow_gateway(account=account, refund_ref=refund.gateway_ref, charge_ref="")
    drain()
    assert (refunded(), free(customer)) == ([("99.00", "failed")], "99.00")
    assert board() == [("refund_failed", "refund", "99.00", "open")]

    send_again(note)
    drain()

    assert refunded() == [("99.00", "failed"), ("99.00", "succeeded")]
    assert (read(collected).status, free(customer)) == ("paid", "0.00")


def test_what_was_spent_after_the_failure_does_not_go_back_as_well(failed, bill, customer, drain, balance_of):
    spent = bill("60.00")
    drain()
    assert (read(spent).status, free(customer)) == ("paid", "39.00")

    send_again(failed)
    drain()

    assert refunded() == [("99.00", "failed"), ("39.00", "succeeded")]
    assert (read(spent).status, free(customer), balance_of("receivable")) == ("paid", "0.00", "0.00")


def test_nothing_is_sent_again_when_all_of_it_was_spent(failed, bill, customer, drain):
    spent = bill("99.00")
    drain()
    with pytest.raises(NothingToSendAgain, match="its credit was spent") as refusal:
        send_again(failed)
    assert (refusal.value.http_status, refusal.value.code) == (409, "nothing_to_send_again")
    assert (refunded(), read(spent).status) == ([("99.00", "failed")], "paid")
    assert board() == [("refund_failed", "refund", "99.00", "open")]


def test_who_may_not_refund_sends_nothing_again(failed):
    with pytest.raises(PermissionRefused, match=r"refund\.issue"):
        send_again(failed, actor=Actor(type="user", id="1", permissions=frozenset({"credit_note.issue"})))
    assert (len(refunded()), board()[0][3]) == (1, "open")


@pytest.mark.parametrize(("after", "left"), [(False, "failed"), (True, "requested")])
def test_killed_while_sending_again_it_is_made_once(
    monkeypatch, failed, customer, drain, simulator, account, after, left
):
    dies(monkeypatch, *((refunding, "_sent") if after else (refunds, "reserve_refund")))
    with pytest.raises(Killed):
        send_again(failed)
    assert refunded()[-1] == ("99.00", left)

    send_again(failed)
    drain()

    assert refunded() == [("99.00", "failed"), ("99.00", "succeeded")]
    assert sum(item.get("refunded", 0) for item in simulator.truth(account)["objects"].values()) == 9900
    assert free(customer) == "0.00"


@pytest.mark.django_db(transaction=True)
def test_sent_again_by_many_and_spent_at_once_the_credit_goes_one_way(failed, bill, customer, drain):
    later = bill("99.00")
    barrier = threading.Barrier(6)

    def race(number):
        barrier.wait()
        try:
            if number == 0:
                with contextlib.suppress(InvoiceNotOpen):
                    settling.apply_customer_credit(invoice_id=later.pk)
            else:
                with contextlib.suppress(NothingToSendAgain):
                    send_again(failed)
        finally:
            connection.close()

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(race, range(6)))
    drain()

    gone = sum((row.amount for row in Refund.objects.filter(status="succeeded")), inr(0))
    assert gone + read(later).paid == inr("99.00")
    assert Refund.objects.count() == (2 if gone.amount else 1)
    assert free(customer) == "0.00"


def test_a_failed_refund_is_no_posting(organisation, failed):
    found = ReconciliationException.objects.get()
    decide = partial(resolving.resolve_exception, organisation=organisation, exception_id=found.pk, actor=SYSTEM)
    with pytest.raises(InvalidInput, match="moved no money"):
        decide(resolution="write_off", reason="Paid by hand")
    assert decide(resolution="handled", reason="Paid by hand").status == "resolved"


def test_a_contested_payment_bears_nothing(collected, account, customer, drain, simulator):
    charge = Payment.objects.get().attempts.get().gateway_ref
    found = simulator.post("disputes", payment=charge, reason="fraudulent")
    disputes.follow_gateway(account=account, dispute_ref=found["id"])
    with pytest.raises(NothingToRefund, match="no payment of the invoice"):
        credit(collected)
    nothing_written(collected)


@pytest.mark.django_db(transaction=True)
def test_heard_by_many_and_spent_at_once_the_credit_goes_one_way(bill, cash, drain, customer, balance_of):
    note = credit(paid_in_parts(bill, cash, drain, "499.00"))
    later = bill("499.00")
    barrier = threading.Barrier(8)

    def race(number):
        barrier.wait()
        try:
            if number % 4 == 0:
                with contextlib.suppress(InvoiceNotOpen):  # the other one was there first
                    settling.apply_customer_credit(invoice_id=later.pk)
            else:
                refund_again(note)
        finally:
            connection.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(race, range(8)))
    drain()

    back = sum((row.amount for row in Refund.objects.all()), inr(0))
    assert back + read(later).paid == inr("499.00")
    assert (free(customer), read(note.invoice).status) == ("0.00", "paid")
    assert all(again(payment).refunded <= payment.amount for payment in Payment.objects.all())
    assert Invoice.objects.count() == 2


def test_over_http_a_failed_refund_is_read_and_sent_again(account, failed, client_of, organisation, customer, drain):
    client, url = client_of(organisation), f"/api/v1/credit-notes/{failed.pk}"
    (first,) = client.get(url).json()["refunds"]
    assert (first["status"], first["amount"]) == ("failed", {"amount": "99.00", "currency": "INR"})
    assert first["error"]
    (work,) = client.get("/api/v1/reconciliation-exceptions").json()["results"]
    assert (work["kind"], work["source_type"], work["source_id"]) == ("refund_failed", "refund", first["id"])

    answer = client.post(f"{url}/refund-again", headers={"Idempotency-Key": "again-1"})
    repeated = client.post(f"{url}/refund-again", headers={"Idempotency-Key": "again-1"})
    drain()

    assert (answer.status_code, repeated.content) == (200, answer.content)
    assert [row["status"] for row in answer.json()["refunds"]] == ["failed", "succeeded"]
    refused = client.post(f"{url}/refund-again")
    assert (refused.status_code, refused.json()["code"]) == (409, "nothing_to_send_again")
    assert (refunded(), free(customer)) == ([("99.00", "failed"), ("99.00", "succeeded")], "0.00")


def test_over_http_others_send_nothing_again(account, failed, client_of, organisation):
    other = Organisation.objects.create(code="other", name="Other", currency="EUR", country="DE", time_zone="UTC")
    url = f"/api/v1/credit-notes/{failed.pk}/refund-again"
    assert client_of(other).post(url).status_code == 404
    assert client_of(organisation, "credit_note.issue", "invoice.view").post(url).status_code == 403
    assert refunded() == [("99.00", "failed")]


def test_in_the_console_a_failed_refund_is_said_and_sent_again(account, failed, console, drain, customer):
    client = console(Role.MANAGER)
    page = reverse("admin:invoices_creditnote_change", args=[failed.pk])
    action = reverse("admin:invoices_creditnote_refund_again", args=[failed.pk])
    text = client.get(page).content.decode()
    assert ("did not go back" in text, action in text) == (True, True)
    assert "Refund failed" in client.get(reverse("admin:payments_reconciliationexception_changelist")).content.decode()

    client.post(action, {"confirm": "1"})
    drain()

    assert (refunded()[1:], free(customer)) == ([("99.00", "succeeded")], "0.00")
    text = client.get(page).content.decode()
    assert ("did not go back" in text, action in text) == (False, False)


def test_from_the_payment_s_page_credit_and_refund_are_one_form(collected, console, drain, customer, ask):
    client, payment = console(Role.MANAGER), Payment.objects.get()
    action = reverse("admin:payments_payment_credit", args=[payment.pk])
    assert action in client.get(reverse("admin:payments_payment_change", args=[payment.pk])).content.decode()
    form = client.get(action, follow=True)
    assert form.redirect_chain == [(reverse("admin:invoices_invoice_credit", args=[collected.pk]) + "?refund=1", 302)]
    box = re.search(r'<input[^>]*name="refund"[^>]*>', form.content.decode())
    assert box is not None
    assert "checked" in box[0]
    assert client.get(action, follow=True).request["QUERY_STRING"] == "refund=1"

    client.post(form.redirect_chain[0][0], {"extent": "whole", "refund": "on", "reason": "Left the school"})
    drain()

    invoice = read(collected)
    assert (refunded(), invoice.due.amount, free(customer)) == ([("499.00", "succeeded")], 0, "0.00")
    assert invoice.status != "open"


def test_a_payment_of_no_invoice_or_not_made_offers_no_credit_note(account, customer, save_method, ask, console):
    client, payment = console(Role.MANAGER), ask(reference="order:7")
    action = reverse("admin:payments_payment_credit", args=[payment.pk])
    Payment.objects.update(status="succeeded")
    assert action not in client.get(reverse("admin:payments_payment_change", args=[payment.pk])).content.decode()
    assert client.get(action).status_code == 404


# --- lost disputes, from the gateway to the invoice -----------------------------------------------
@pytest.mark.parametrize(
    ("choice", "outcome", "status", "owed"),
    [("reopen", "lost", "open", "499.00"), ("reopen", "won", "paid", "0.00"), ("loss", "lost", "paid", "0.00")],
)
def test_a_dispute_as_it_ends_at_the_gateway(
    account, collected, organisation, drain, simulator, balance_of, choice, outcome, status, owed
):
    Organisation.objects.filter(pk=organisation.pk).update(settings={"lost_disputes": choice})
    charge = Payment.objects.get().attempts.get().gateway_ref
    made = simulator.post("disputes", payment=charge, reason="fraudulent")
    disputes.follow_gateway(account=account, dispute_ref=made["id"])
    drain()
    assert read(collected).status == "paid", "nothing is decided yet"

    simulator.post(f"disputes/{made['id']}/close", outcome=outcome)
    for _ in range(2):  # told twice
        disputes.follow_gateway(account=account, dispute_ref=made["id"])
        drain()
    collection.collect_due(organisation=organisation)
    drain()

    assert (read(collected).status, f"{read(collected).due.amount:.2f}") == (status, owed)
    assert (balance_of("receivable"), balance_of("customer_credit")) == (owed, "0.00")
    assert balance_of("chargeback_loss") == ("499.00" if choice == "loss" else "0.00")
    assert len(simulator.captured(account)) == 1, "what a bank gave back is never debited again by itself"
