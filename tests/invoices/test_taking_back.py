"""Money that went back, by a refund or by the bank: whose invoices are due again, and whose loss it is."""

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import OperationalError, connection
from moneyed import Money

from billing.models import AuditRecord, Organisation
from billing.services import ledger
from invoices import selectors
from invoices.drafts import InvoiceDraft
from invoices.models import PaymentAllocation
from invoices.services.credit_notes import issue_credit_note
from invoices.services.drafting import write_draft
from invoices.services.finalizing import finalize_invoice
from invoices.services.settling import allocate_payment, apply_customer_credit, write_off_invoice
from invoices.services.taking_back import follow_lost_dispute, restore_after_failed_refund, take_back_refunded
from payments import postings as payment_postings
from payments.models import Dispute, GatewayAccount, Refund

from .conftest import CLERK, NOW, SEQUENCE, books, capture, events, issue, line, make_customer, refund

pytestmark = pytest.mark.django_db


def inr(amount):
    return Money(amount, "INR")


def read(row):
    return type(row).objects.get(pk=row.pk)


def state(*invoices):
    return [(read(one).status, str(read(one).due.amount.quantize(inr("0.01").amount))) for one in invoices]


def credit_of(customer):
    found = selectors.free_credit(organisation=customer.organisation, customer_id=customer.pk, currency="INR")
    return str(found.amount.quantize(inr("0.01").amount))


def paid(customer, amount="1180.00"):
    """An invoice of 1180.00 and the payment it was paid by."""
    invoice = issue(customer)
    payment = capture(customer, amount, invoice=invoice)
    allocate_payment(payment_id=payment.pk)
    return invoice, payment


def from_credit(customer):
    """An invoice of 1180.00 that the customer's credit pays."""
    invoice = issue(customer)
    apply_customer_credit(invoice_id=invoice.pk)
    return invoice


# --- refunds --------------------------------------------------------------------------------------
def test_a_deposit_refunded_after_it_was_spent_makes_the_invoice_due_again(school, family):
    deposit = capture(family, "1180.00")
    invoice = from_credit(family)
    assert state(invoice) == [("paid", "0.00")]

    back = refund(deposit, "1180.00")
    taken = take_back_refunded(refund_id=back.pk)
    assert take_back_refunded(refund_id=back.pk) == taken

    assert [(one.invoice_id, one.amount, one.payment) for one in taken] == [(invoice.pk, inr("-1180.00"), None)]
    assert state(invoice) == [("open", "1180.00")]
    assert (books(school)["receivable"], credit_of(family)) == ("1180.00", "0.00")
    assert "customer_credit" not in books(school)
    assert events(school)[-1] == "invoice.reopened"


def test_overpaid_money_refunded_after_it_was_spent_leaves_the_first_invoice_alone(school, family):
    first, payment = paid(family, "1680.00")
    second = from_credit(family)
    assert state(first, second) == [("paid", "0.00"), ("partially_paid", "680.00")]

    take_back_refunded(refund_id=refund(payment, "500.00").pk)

    assert state(first, second) == [("paid", "0.00"), ("open", "1180.00")]
    assert "customer_credit" not in books(school)


def test_credited_money_refunded_after_it_was_spent_leaves_the_credited_invoice_alone(school, family):
    credited, payment = paid(family)
    issue_credit_note(invoice_id=credited.pk, amounts=None, reason="left the school", actor=CLERK)
    second = from_credit(family)

    take_back_refunded(refund_id=refund(payment, "1180.00").pk)

    assert state(credited, second) == [("paid", "0.00"), ("open", "1180.00")]
    assert books(school)["receivable"] == "1180.00"


def test_the_latest_that_credit_paid_is_due_again_first(school, family):
    deposit = capture(family, "2000.00")
    first, second = from_credit(family), from_credit(family)

    taken = take_back_refunded(refund_id=refund(deposit, "1000.00").pk)

    assert [one.invoice_id for one in taken] == [second.pk, first.pk]
    assert state(first, second) == [("partially_paid", "180.00"), ("open", "1180.00")]
    assert "customer_credit" not in books(school)


def test_what_a_refund_took_back_from_several_is_paid_again_when_it_comes_back(school, family):
    deposit = capture(family, "2000.00")
    first, second = from_credit(family), from_credit(family)
    back = refund(deposit, "1000.00")
    take_back_refunded(refund_id=back.pk)

    Refund.objects.filter(pk=back.pk).update(status=Refund.Status.FAILED)
    capture(family, "1000.00", reference="refund-returned")
    restored = restore_after_failed_refund(refund_id=back.pk)
    restore_after_failed_refund(refund_id=back.pk)

    assert [one.amount for one in restored] == [inr("820.00"), inr("180.00")]
    assert state(first, second) == [("paid", "0.00"), ("partially_paid", "360.00")]
    assert "customer_credit" not in books(school)


def test_a_refund_takes_nothing_back_from_another_customer_or_house(school, family):
    stranger, deposit = make_customer(school), capture(family, "1180.00")
    capture(stranger, "1180.00")
    theirs = from_credit(stranger)

    assert take_back_refunded(refund_id=refund(deposit, "1180.00").pk) == []
    assert state(theirs) == [("paid", "0.00")]


def test_a_part_that_was_paid_before_the_loss_can_be_refunded(school, family):
    invoice, payment = paid(family, "180.00")
    write_off_invoice(invoice_id=invoice.pk, reason="moved away", actor=CLERK)

    take_back_refunded(refund_id=refund(payment, "180.00").pk)

    assert state(invoice) == [("open", "1180.00")]
    assert (books(school)["receivable"], "bad_debt" in books(school)) == ("1180.00", False)


# --- lost disputes --------------------------------------------------------------------------------
@pytest.fixture
def reopening(school):
    Organisation.objects.filter(pk=school.pk).update(settings={"lost_disputes": "reopen"})
    return school


def dispute(payment, amount="", status=Dispute.Status.LOST):
    """A dispute that was lost, with the journal entries payments make of it."""
    account, _ = GatewayAccount.objects.get_or_create(
        organisation=payment.organisation, code="test", defaults={"provider": "razorpay"}
    )
    money = inr(amount) if amount else payment.amount
    row = Dispute.objects.create(
        organisation=payment.organisation, payment=payment, gateway_account=account, gateway_ref=f"d{next(SEQUENCE)}",
        amount=money, fee=inr(0), status=status, opened_at=NOW,
    )  # fmt: skip
    for entry in (
        payment_postings.dispute_opened(dispute_id=row.pk, account_code="test", amount=money, fee=inr(0), at=NOW),
        payment_postings.dispute_lost(dispute_id=row.pk, amount=money, at=NOW),
    ):
        ledger.post(organisation=payment.organisation, entry=entry)
    return row


def test_by_default_a_lost_dispute_is_a_loss_and_its_invoice_stays_paid(school, family):
    invoice, payment = paid(family)

    assert follow_lost_dispute(dispute_id=dispute(payment).pk) == []

    assert state(invoice) == [("paid", "0.00")]
    assert books(school)["chargeback_loss"] == "1180.00"
    assert not {"receivable", "customer_credit"} & set(books(school))


def test_where_it_reopens_the_invoice_is_due_again_and_nothing_is_lost_yet(reopening, family):
    invoice, payment = paid(family)
    lost = dispute(payment)

    taken = follow_lost_dispute(dispute_id=lost.pk)
    assert follow_lost_dispute(dispute_id=lost.pk) == taken, "heard twice"

    assert [(one.key, one.amount) for one in taken] == [(f"dispute:{lost.pk}", inr("-1180.00"))]
    assert state(invoice) == [("open", "1180.00")]
    assert books(reopening)["receivable"] == "1180.00"
    assert not {"chargeback_loss", "customer_credit", "gateway_clearing:test"} & set(books(reopening))
    assert events(reopening)[-1] == "invoice.reopened"
    write_off_invoice(invoice_id=invoice.pk, reason="not worth a lawyer", actor=CLERK)
    assert books(reopening)["bad_debt"] == "1180.00"


def test_a_part_that_was_contested_is_due_again(reopening, family):
    invoice, payment = paid(family)
    follow_lost_dispute(dispute_id=dispute(payment, "180.00").pk)
    assert state(invoice) == [("partially_paid", "180.00")]
    assert "chargeback_loss" not in books(reopening)


@pytest.mark.parametrize("status", [Dispute.Status.OPEN, Dispute.Status.UNDER_REVIEW, Dispute.Status.WON])
def test_what_is_not_lost_changes_nothing(reopening, family, status):
    invoice, payment = paid(family)
    row = dispute(payment, status=status)
    assert follow_lost_dispute(dispute_id=row.pk) == []
    assert state(invoice) == [("paid", "0.00")]
    assert PaymentAllocation.objects.count() == 1


@pytest.mark.parametrize(("choice", "loss"), [("loss", "1180.00"), ("reopen", "0.00")])
def test_unspent_credit_of_the_payment_is_not_kept_beside_the_money(school, family, choice, loss):
    """The customer paid 320.00 too much, and the bank gave all of it back."""
    Organisation.objects.filter(pk=school.pk).update(settings={"lost_disputes": choice})
    invoice, payment = paid(family, "1500.00")
    assert credit_of(family) == "320.00"

    follow_lost_dispute(dispute_id=dispute(payment).pk)

    assert credit_of(family) == "0.00"
    assert state(invoice) == [("paid", "0.00") if choice == "loss" else ("open", "1180.00")]
    assert books(school).get("chargeback_loss", "0.00") == loss


@pytest.mark.parametrize("choice", ["loss", "reopen"])
def test_a_credited_invoice_is_never_due_again_its_credit_is_taken(school, family, choice):
    Organisation.objects.filter(pk=school.pk).update(settings={"lost_disputes": choice})
    invoice, payment = paid(family)
    issue_credit_note(invoice_id=invoice.pk, amounts=None, reason="left the school", actor=CLERK)

    follow_lost_dispute(dispute_id=dispute(payment).pk)

    assert (state(invoice), credit_of(family)) == ([("paid", "0.00")], "0.00")
    assert books(school) == {}


@pytest.mark.parametrize(("first", "then", "due"), [("loss", "reopen", "0.00"), ("reopen", "loss", "1180.00")])
def test_what_was_decided_is_not_decided_anew_after_the_choice_changed(school, family, first, then, due):
    """Handed over again after the organisation chose otherwise, also where nothing was claimed the first time."""
    Organisation.objects.filter(pk=school.pk).update(settings={"lost_disputes": first})
    invoice, payment = paid(family)
    lost = dispute(payment)
    follow_lost_dispute(dispute_id=lost.pk)
    before = (state(invoice), books(school), PaymentAllocation.objects.count())
    assert before[0] == [("paid" if first == "loss" else "open", due)]

    Organisation.objects.filter(pk=school.pk).update(settings={"lost_disputes": then})
    taken = follow_lost_dispute(dispute_id=lost.pk)

    assert [one.amount for one in taken] == ([] if first == "loss" else [inr("-1180.00")])
    assert (state(invoice), books(school), PaymentAllocation.objects.count()) == before
    decided = AuditRecord.objects.get(action="dispute.decided")
    claimed = "1180.00" if first == "reopen" else "0.00"
    assert (decided.target_id, decided.after) == (
        str(lost.pk),
        {"choice": first, "due_again": claimed, "from_credit": "0.00"},
    )


def test_what_was_lost_after_the_choice_changed_follows_the_new_one(school, family):
    first, payment = paid(family)
    follow_lost_dispute(dispute_id=dispute(payment).pk)
    Organisation.objects.filter(pk=school.pk).update(settings={"lost_disputes": "reopen"})
    second, other = paid(family)
    follow_lost_dispute(dispute_id=dispute(other).pk)

    assert state(first, second) == [("paid", "0.00"), ("open", "1180.00")]


def test_a_loss_leaves_credit_of_other_money_alone(school, family):
    invoice, payment = paid(family)
    capture(family, "500.00")

    follow_lost_dispute(dispute_id=dispute(payment).pk)

    assert (state(invoice), credit_of(family)) == ([("paid", "0.00")], "500.00")
    assert books(school)["chargeback_loss"] == "1180.00"


def test_heard_late_what_was_refunded_meanwhile_is_not_claimed_again(reopening, family):
    """The customer has the money twice, from us and from the bank: that part is a loss, the invoice says what it said."""
    invoice, payment = paid(family)
    issue_credit_note(invoice_id=invoice.pk, amounts={1: inr("500.00")}, reason="late bus", actor=CLERK)
    take_back_refunded(refund_id=refund(payment, "590.00").pk)

    follow_lost_dispute(dispute_id=dispute(payment).pk)

    assert state(invoice) == [("partially_paid", "590.00")]
    assert books(reopening)["chargeback_loss"] == "590.00"
    assert (books(reopening)["receivable"], credit_of(family)) == ("590.00", "0.00")


def test_two_lost_disputes_of_a_payment_claim_it_once(reopening, family):
    invoice, payment = paid(family)

    for part in ("1000.00", "1000.00"):
        follow_lost_dispute(dispute_id=dispute(payment, part).pk)

    assert state(invoice) == [("open", "1180.00")]
    assert books(reopening)["chargeback_loss"] == "820.00"
    assert "customer_credit" not in books(reopening)


def test_what_is_due_again_is_paid_by_other_money(reopening, family):
    invoice, payment = paid(family)
    follow_lost_dispute(dispute_id=dispute(payment).pk)

    again = capture(family, "1180.00", reference=f"invoice:{invoice.pk}:9")
    allocate_payment(payment_id=again.pk)

    assert state(invoice) == [("paid", "0.00")]
    assert not {"receivable", "customer_credit", "chargeback_loss"} & set(books(reopening))


def test_a_line_of_a_written_off_invoice_is_claimed_again(reopening, family):
    invoice = issue(family, line("2000.00"))
    payment = capture(family, "1180.00", invoice=invoice)
    allocate_payment(payment_id=payment.pk)
    write_off_invoice(invoice_id=invoice.pk, reason="moved away", actor=CLERK)

    follow_lost_dispute(dispute_id=dispute(payment).pk)

    assert state(invoice) == [("open", "2360.00")]
    assert books(reopening)["receivable"] == "2360.00"
    assert not {"bad_debt", "chargeback_loss"} & set(books(reopening))


def test_a_capture_that_is_heard_after_the_loss_pays_nothing(reopening, family):
    invoice = issue(family)
    payment = capture(family, "1180.00", invoice=invoice)
    follow_lost_dispute(dispute_id=dispute(payment).pk)

    allocate_payment(payment_id=payment.pk)

    assert state(invoice) == [("open", "1180.00")]
    assert books(reopening)["receivable"] == "1180.00"
    assert not {"chargeback_loss", "customer_credit"} & set(books(reopening))


@pytest.mark.parametrize("choice", ["loss", "reopen"])
def test_lost_money_that_waited_for_a_draft_pays_nothing_of_it(school, family, choice):
    Organisation.objects.filter(pk=school.pk).update(settings={"lost_disputes": choice})
    draft = write_draft(
        organisation=school, draft=InvoiceDraft(customer_id=family.pk, currency="INR", lines=[line()]), at=NOW
    )
    payment = capture(family, "1180.00", reference=f"invoice:{draft.pk}")
    other = issue(family)
    payment_of_other = capture(family, "1180.00", invoice=other)
    allocate_payment(payment_id=payment_of_other.pk)

    follow_lost_dispute(dispute_id=dispute(payment).pk)
    finalize_invoice(invoice_id=draft.pk)
    allocate_payment(payment_id=payment.pk)

    assert state(draft, other) == [("open", "1180.00"), ("paid", "0.00")]
    assert books(school)["receivable"] == "1180.00"
    assert not {"chargeback_loss", "customer_credit"} & set(books(school))


@pytest.mark.django_db(transaction=True)
def test_two_who_paid_each_others_invoices_are_followed_at_once(school, family):
    """Each follower needs both customers: always in the same order, so that neither waits for the other for ever."""
    other, failures = make_customer(school), []
    for _ in range(6):
        invoices = {family: issue(family), other: issue(other)}
        lost = [
            dispute(capture(payer, "1180.00", invoice=invoices[owner]))
            for payer, owner in ((family, other), (other, family))
        ]
        barrier = threading.Barrier(2)

        def follow(one, barrier=barrier):
            barrier.wait()
            try:
                follow_lost_dispute(dispute_id=one.pk)
            except OperationalError as exc:
                failures.append(str(exc))
            finally:
                connection.close()

        with ThreadPoolExecutor(2) as pool:
            list(pool.map(follow, lost))

    assert failures == []
    assert AuditRecord.objects.filter(action="dispute.decided").count() == 12
    assert [state(one) for one in invoices.values()] == [[("open", "1180.00")]] * 2
    assert (credit_of(family), credit_of(other)) == ("0.00", "0.00")
