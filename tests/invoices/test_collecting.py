"""What the payments app is asked for: what an invoice is due, no more and once."""

import pytest
from moneyed import Money

from billing.services import outbox
from invoices.drafts import InvoiceDraft
from invoices.models import Invoice
from invoices.selectors import free_credit
from invoices.services.credit_notes import issue_credit_note
from invoices.services.drafting import delete_draft, write_draft
from invoices.services.finalizing import finalize_invoice
from invoices.services.settling import allocate_payment, void_invoice
from payments.models import Payment

from .conftest import CLERK, NOW, capture, issue, line

pytestmark = pytest.mark.django_db


def drain(school):
    while outbox.dispatch(school.pk):
        pass


def asked(invoice):
    """(suffix of the reference, amount, status) of the invoice's payments."""
    rows = Payment.objects.filter(reference__startswith=f"invoice:{invoice.pk}").order_by("recorded_at", "reference")
    return [(row.reference.partition(str(invoice.pk))[2], row.amount.amount, row.status) for row in rows]


def test_a_finalised_invoice_is_asked_for_once(school, family):
    invoice = issue(family)
    drain(school)
    event = outbox.publish("invoice.finalized", invoice)
    drain(school)

    assert asked(invoice) == [("", 1180, "pending")]
    payment = Payment.objects.get()
    assert (payment.automatic, payment.description) == (True, f"Invoice {invoice.number}")
    assert event.dispatched_at is None


def test_an_invoice_that_is_not_collected_automatically_waits_for_the_customer(school, family):
    issue(family, collect_automatically=False)
    drain(school)

    payment = Payment.objects.get()
    assert (payment.automatic, payment.next_attempt_at) == (False, None)


def test_free_credit_pays_first(school, family):
    capture(family, "1000.00")
    first, second = issue(family), issue(family)
    drain(school)

    assert asked(first) == [("", 180, "pending")]
    assert asked(second) == [("", 1180, "pending")]
    first.refresh_from_db()
    assert first.paid == Money("1000.00", "INR")


def test_credit_can_be_kept_for_later(school, family):
    school.settings = {"apply_credit_automatically": False}
    school.save()
    capture(family, "1000.00")
    invoice = issue(family)
    drain(school)

    assert asked(invoice) == [("", 1180, "pending")]


def test_nothing_is_asked_for_an_invoice_that_credit_pays_whole(school, family):
    capture(family, "5000.00")
    invoice = issue(family)
    drain(school)

    invoice.refresh_from_db()
    assert (invoice.status, asked(invoice)) == ("paid", [])


@pytest.mark.parametrize("suffix", ["", ":offline"])
@pytest.mark.parametrize("heard", ["while it is a draft", "after it was finalised"])
def test_what_was_paid_on_a_draft_pays_it_once_it_is_final_and_the_rest_is_asked_for(school, family, suffix, heard):
    draft = write_draft(
        organisation=school, draft=InvoiceDraft(customer_id=family.pk, currency="INR", lines=[line()]), at=NOW
    )
    payment = capture(family, "180.00", reference=f"invoice:{draft.pk}{suffix}")
    capture(family, "300.00")
    if heard == "while it is a draft":
        assert allocate_payment(payment_id=payment.pk) is None
    assert free_credit(organisation=school, customer_id=family.pk, currency="INR") == Money("300.00", "INR")

    finalize_invoice(invoice_id=draft.pk)
    if heard == "after it was finalised":
        allocate_payment(payment_id=payment.pk)
    drain(school)
    outbox.publish("invoice.finalized", draft)
    drain(school)

    draft.refresh_from_db()
    assert (draft.status, draft.paid, draft.due) == (
        "partially_paid", Money("480.00", "INR"), Money("700.00", "INR"),
    )  # fmt: skip
    rest = f":{draft.version}" if not suffix else ""
    assert sorted(asked(draft)) == sorted([(suffix, 180, "succeeded"), (rest, 700, "pending")])
    assert free_credit(organisation=school, customer_id=family.pk, currency="INR") == Money(0, "INR")


def test_what_was_paid_on_a_draft_beyond_its_total_is_credit_and_of_a_deleted_one_all(school, family):
    lines = [line("100.00", tax_category="books")]
    drafts = [write_draft(organisation=school, draft=InvoiceDraft(customer_id=family.pk, currency="INR", lines=lines), at=NOW)
              for _ in range(2)]  # fmt: skip
    for draft in drafts:
        allocate_payment(payment_id=capture(family, "150.00", reference=f"invoice:{draft.pk}").pk)
    finalize_invoice(invoice_id=drafts[0].pk)
    drain(school)
    delete_draft(invoice_id=drafts[1].pk)

    paid = Invoice.objects.get(pk=drafts[0].pk)
    assert (paid.status, asked(paid)) == ("paid", [("", 150, "succeeded")])
    assert free_credit(organisation=school, customer_id=family.pk, currency="INR") == Money("200.00", "INR")


def test_a_credit_note_makes_the_open_payment_smaller(school, family):
    invoice = issue(family)
    drain(school)
    issue_credit_note(invoice_id=invoice.pk, amounts={1: Money("400.00", "INR")}, reason="late bus", actor=CLERK)
    drain(school)

    assert asked(invoice) == [("", 1180, "cancelled"), (":2", 708, "pending")]


def test_a_part_payment_makes_the_open_payment_smaller(school, family):
    invoice = issue(family)
    drain(school)
    allocate_payment(payment_id=capture(family, "180.00", reference=f"invoice:{invoice.pk}:offline").pk)
    drain(school)

    statuses = sorted(asked(invoice))
    assert statuses == [("", 1180, "cancelled"), (":2", 1000, "pending"), (":offline", 180, "succeeded")]


def test_a_payment_under_way_is_waited_for(school, family):
    invoice = issue(family)
    drain(school)
    Payment.objects.update(status=Payment.Status.PROCESSING)
    issue_credit_note(invoice_id=invoice.pk, amounts={1: Money("400.00", "INR")}, reason="late bus", actor=CLERK)
    drain(school)
    assert asked(invoice) == [("", 1180, "processing")]

    Payment.objects.update(status=Payment.Status.CANCELLED)  # the attempt under way was declined
    outbox.publish("payment.cancelled", Payment.objects.get())
    drain(school)

    assert asked(invoice) == [("", 1180, "cancelled"), (":2", 708, "pending")]


def test_a_payment_a_person_cancelled_stays_cancelled(school, family):
    invoice = issue(family)
    drain(school)
    Payment.objects.update(status=Payment.Status.CANCELLED)
    outbox.publish("payment.cancelled", Payment.objects.get())
    drain(school)

    assert asked(invoice) == [("", 1180, "cancelled")]


def test_a_settled_or_void_invoice_is_no_longer_asked_for(school, family):
    paid, void = issue(family), issue(family, line("5.00"))
    drain(school)
    allocate_payment(payment_id=capture(family, "1180.00", reference=f"invoice:{paid.pk}:offline").pk)
    void_invoice(invoice_id=void.pk, reason="x", actor=CLERK)
    drain(school)

    assert ("", 1180, "cancelled") in asked(paid)
    assert asked(void) == [("", Invoice.objects.get(pk=void.pk).total.amount, "cancelled")]
