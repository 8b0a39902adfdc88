"""Payments, credit, refunds, voids and write-offs: what is due, and what the books say."""

import pytest
from moneyed import Money

from billing.errors import InvalidInput
from invoices import selectors
from invoices.errors import InvoiceHasPayments, InvoiceNotOpen
from invoices.models import PaymentAllocation
from invoices.services.credit_notes import issue_credit_note
from invoices.services.settling import (
    allocate_payment,
    apply_customer_credit,
    void_invoice,
    write_off_invoice,
)
from invoices.services.taking_back import restore_after_failed_refund, take_back_refunded
from payments.models import Refund

from .conftest import CLERK, NOW, books, capture, events, issue, line, make_customer, refund

pytestmark = pytest.mark.django_db


def credit_of(customer):
    return selectors.free_credit(organisation=customer.organisation, customer_id=customer.pk, currency="INR").amount


def test_a_payment_settles_its_invoice(school, family):
    invoice = issue(family)
    payment = capture(family, "1180.00", invoice=invoice)

    allocate_payment(payment_id=payment.pk)
    allocate_payment(payment_id=payment.pk)  # heard twice

    invoice.refresh_from_db()
    assert (invoice.status, invoice.due.amount, invoice.paid_at) == ("paid", 0, NOW)
    assert events(school) == ["invoice.finalized", "invoice.paid"]
    assert books(school) == {
        "gateway_clearing:test": "1180.00",
        "revenue": "-1000.00",
        "tax_payable:cgst": "-90.00",
        "tax_payable:sgst": "-90.00",
    }


def test_part_payments_add_up_and_too_much_stays_credit(school, family):
    invoice = issue(family)
    allocate_payment(payment_id=capture(family, "180.00", invoice=invoice).pk)
    invoice.refresh_from_db()
    assert (invoice.status, invoice.due) == ("partially_paid", Money("1000.00", "INR"))

    allocate_payment(payment_id=capture(family, "1500.00", reference=f"invoice:{invoice.pk}:2").pk)

    invoice.refresh_from_db()
    assert (invoice.status, invoice.paid) == ("paid", Money("1180.00", "INR"))
    assert credit_of(family) == 500
    assert books(school)["customer_credit"] == "-500.00"


def test_credit_pays_the_next_invoice_but_never_what_a_payment_is_about_to_use(school, family):
    first, second = issue(family), issue(family)
    capture(family, "1180.00", invoice=first)  # captured, not allocated yet
    assert apply_customer_credit(invoice_id=second.pk) is None

    capture(family, "200.00")
    apply_customer_credit(invoice_id=second.pk)

    second.refresh_from_db()
    assert second.due == Money("980.00", "INR")
    with pytest.raises(InvalidInput, match="Only"):
        apply_customer_credit(invoice_id=second.pk, amount=Money("1.00", "INR"))


def test_a_refund_reopens_the_invoice_it_had_paid(school, family):
    invoice = issue(family)
    payment = capture(family, "1180.00", invoice=invoice)
    allocate_payment(payment_id=payment.pk)

    back = refund(payment, "180.00")
    take_back_refunded(refund_id=back.pk)
    take_back_refunded(refund_id=back.pk)

    invoice.refresh_from_db()
    assert (invoice.status, invoice.due, invoice.paid_at) == ("partially_paid", Money("180.00", "INR"), None)
    assert books(school)["receivable"] == "180.00"
    assert "customer_credit" not in books(school)
    assert events(school)[-1] == "invoice.reopened"


def test_a_refund_of_credited_money_leaves_the_invoice_paid(school, family):
    invoice = issue(family)
    payment = capture(family, "1180.00", invoice=invoice)
    allocate_payment(payment_id=payment.pk)
    issue_credit_note(invoice_id=invoice.pk, amounts=None, reason="left the school", actor=CLERK)
    assert credit_of(family) == 1180

    take_back_refunded(refund_id=refund(payment, "1180.00").pk)

    invoice.refresh_from_db()
    assert invoice.status == "paid"
    assert books(school) == {}


def test_a_refund_that_came_back_pays_the_invoice_again(school, family):
    invoice = issue(family)
    payment = capture(family, "1180.00", invoice=invoice)
    allocate_payment(payment_id=payment.pk)
    back = refund(payment, "1180.00")
    take_back_refunded(refund_id=back.pk)

    Refund.objects.filter(pk=back.pk).update(status=Refund.Status.FAILED)
    capture(family, "1180.00", reference="refund-returned")  # the payments app gives the credit back
    restore_after_failed_refund(refund_id=back.pk)

    invoice.refresh_from_db()
    assert (invoice.status, invoice.paid) == ("paid", Money("1180.00", "INR"))


def test_a_refund_that_came_back_takes_no_other_credit(school, family):
    invoice = issue(family)
    payment = capture(family, "500.00", invoice=invoice)
    allocate_payment(payment_id=payment.pk)
    back = refund(payment, "500.00")
    take_back_refunded(refund_id=back.pk)
    capture(family, "900.00")  # 500.00 of it are the refund that came back

    Refund.objects.filter(pk=back.pk).update(status=Refund.Status.FAILED)
    restore_after_failed_refund(refund_id=back.pk)

    invoice.refresh_from_db()
    assert (invoice.status, invoice.paid) == ("partially_paid", Money("500.00", "INR"))


def test_a_refund_that_came_back_after_the_invoice_was_paid_otherwise_is_credit(school, family):
    invoice = issue(family)
    payment = capture(family, "1180.00", invoice=invoice)
    allocate_payment(payment_id=payment.pk)
    back = refund(payment, "1180.00")
    take_back_refunded(refund_id=back.pk)
    allocate_payment(payment_id=capture(family, "1180.00", reference=f"invoice:{invoice.pk}:5").pk)

    Refund.objects.filter(pk=back.pk).update(status=Refund.Status.FAILED)
    capture(family, "1180.00", reference="refund-returned")

    assert restore_after_failed_refund(refund_id=back.pk) == []
    assert selectors.free_credit(organisation=school, customer_id=family.pk, currency="INR").amount == 1180


def test_only_an_untouched_open_invoice_can_be_voided(school, family):
    invoice, paid = issue(family), issue(family)
    allocate_payment(payment_id=capture(family, "1.00", invoice=paid).pk)

    void_invoice(invoice_id=invoice.pk, reason="wrong family", actor=CLERK)

    invoice.refresh_from_db()
    assert (invoice.status, invoice.number != "") == ("void", True)
    assert books(school)["receivable"] == "1179.00"
    with pytest.raises(InvoiceHasPayments):
        void_invoice(invoice_id=paid.pk, reason="x", actor=CLERK)
    with pytest.raises(InvoiceNotOpen):
        void_invoice(invoice_id=invoice.pk, reason="again", actor=CLERK)


def test_money_for_a_void_invoice_is_the_customers_credit(school, family):
    invoice = issue(family)
    void_invoice(invoice_id=invoice.pk, reason="x", actor=CLERK)

    allocate_payment(payment_id=capture(family, "1180.00", invoice=invoice).pk)

    assert credit_of(family) == 1180
    assert PaymentAllocation.objects.get().amount == Money("0.00", "INR")


def test_money_after_a_write_off_takes_the_loss_back(school, family):
    invoice = issue(family)
    write_off_invoice(invoice_id=invoice.pk, reason="moved away", actor=CLERK)
    assert books(school)["bad_debt"] == "1180.00"

    allocate_payment(payment_id=capture(family, "180.00", invoice=invoice).pk)

    invoice.refresh_from_db()
    assert (invoice.status, invoice.due) == ("partially_paid", Money("1000.00", "INR"))
    assert books(school)["receivable"] == "1000.00"
    assert "bad_debt" not in books(school)
    write_off_invoice(invoice_id=invoice.pk, reason="for good", actor=CLERK)
    assert books(school)["bad_debt"] == "1000.00"


def test_a_payment_of_another_currency_pays_nothing(school, family):
    invoice = issue(family)
    family.currency = "EUR"

    allocate_payment(payment_id=capture(family, "1180.00", invoice=invoice).pk)

    invoice.refresh_from_db()
    assert (invoice.status, invoice.due) == ("open", Money("1180.00", "INR"))


def test_an_unknown_reference_is_left_alone(school, family):
    assert allocate_payment(payment_id=capture(family, "1.00", reference="invoice:nonsense").pk) is None
    assert allocate_payment(payment_id=capture(family, "1.00").pk) is None


def test_money_of_another_customer_is_not_spent_on_this_ones_invoice(school, family):
    """A payment that names another customer's invoice stays its payer's credit: it is there once, not twice."""
    invoice, stranger = issue(family), make_customer(school)
    payment = capture(stranger, "1180.00", invoice=invoice)

    assert allocate_payment(payment_id=payment.pk).amount == Money("0.00", "INR")

    invoice.refresh_from_db()
    assert (invoice.status, invoice.due) == ("open", Money("1180.00", "INR"))
    credit = {
        customer: selectors.free_credit(organisation=school, customer_id=customer.pk, currency="INR").amount
        for customer in (family, stranger)
    }
    assert credit == {family: 0, stranger: 1180}


def test_money_that_names_no_invoice_of_ours_is_free_credit(school, family):
    capture(family, "100.00", reference="invoice:nonsense")
    capture(family, "200.00", reference=f"invoice:{family.pk}")

    free = selectors.free_credit(organisation=school, customer_id=family.pk, currency="INR")
    assert free == Money("300.00", "INR")


def test_a_line_of_credit_is_spent_once(school, family):
    capture(family, "1180.00")
    invoice = issue(family, line("2000.00"))

    for _ in range(3):
        apply_customer_credit(invoice_id=invoice.pk, key="finalized")

    invoice.refresh_from_db()
    assert invoice.due == Money("1180.00", "INR")
