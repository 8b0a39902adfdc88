"""What the payments app is asked for: what an invoice is due, no more and once."""

import pytest
from moneyed import Money

from billing.services import outbox
from invoices.models import Invoice
from invoices.services.credit_notes import issue_credit_note
from invoices.services.settling import allocate_payment, void_invoice
from payments.models import Payment

from .conftest import CLERK, capture, issue, line

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
