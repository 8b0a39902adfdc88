"""A credit note with the money back: credited once, refunded once, whatever happens between the lines."""

import contextlib
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection
from moneyed import Money

from billing.context import Actor
from billing.errors import PermissionRefused
from billing.models import AuditRecord, Event, Organisation
from billing.services import outbox
from invoices import selectors
from invoices.drafts import InvoiceDraft, LineInput
from invoices.errors import InvoiceNotOpen, NothingToRefund
from invoices.models import CreditNote, Invoice
from invoices.services import refunding, settling
from invoices.services.credit_notes import issue_credit_note
from invoices.services.finalizing import issue_invoice
from payments.models import Payment, Refund
from payments.services import collection, disputes, offline, refunds
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
    assert (refunded(), free(customer)) == ([], "99.00"), "nothing is called inside the transaction"

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
    assert not Refund.objects.exists()


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


def test_killed_before_the_commit_there_is_neither_note_nor_refund(monkeypatch, bill, cash, drain, customer):
    invoice = paid_in_parts(bill, cash, drain, "499.00")
    dies(monkeypatch, refunding, "require_refundable", after=True)
    with pytest.raises(Killed):
        credit(invoice)
    drain()
    nothing_written(invoice)
    assert free(customer) == "0.00"


@pytest.mark.parametrize(
    ("place", "name", "after", "left_behind"),
    [
        (refunds, "reserve_refund", False, []),
        (refunds, "send", False, [("499.00", "requested")]),
        (refunds, "settle_refund", False, [("499.00", "requested")]),
        (refunds, "settle_refund", True, [("499.00", "succeeded")]),
    ],
    ids=["before the row", "before the call", "after the call", "after all of it"],
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
    assert refunded() == [("199.00", "succeeded")]

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


def test_heard_late_what_was_spent_meanwhile_does_not_go_back_as_well(bill, cash, drain, customer, balance_of):
    note = credit(paid_in_parts(bill, cash, drain, "499.00"))
    later = bill("200.00")
    settling.apply_customer_credit(invoice_id=later.pk)

    drain()
    refund_again(note)

    assert refunded() == [("299.00", "succeeded")]
    assert (read(later).status, read(note.invoice).status) == ("paid", "paid")
    assert (free(customer), balance_of("receivable")) == ("0.00", "0.00")


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
