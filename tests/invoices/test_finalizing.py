"""Drafts become numbered claims: rows, books, events, and what is refused."""

from datetime import UTC, date, datetime

import pytest
from django.db import transaction
from moneyed import Money

from billing.errors import NotFound
from billing.models import BillingParty
from invoices.drafts import InvoiceDraft
from invoices.errors import InvoiceNotDraft, MissingTaxRate, NumberTooLong
from invoices.models import Invoice, NumberSeries
from invoices.numbers import default_code, financial_year, format_number
from invoices.services.drafting import create_invoice, delete_draft
from invoices.services.finalizing import finalize_invoice
from invoices.services.preview import price_draft

from .conftest import CLERK, NOW, books, events, issue, line, make_customer, make_organisation, postings_of

pytestmark = pytest.mark.django_db


def test_a_finalised_invoice_has_number_taxes_books_and_an_event(school, family):
    invoice = issue(family, line("1000.00"), line("200.15", tax_category="meals"))

    assert invoice.number == f"{default_code(school.code)}/26-27/00001"
    assert (invoice.status, invoice.issued_on, invoice.due_on) == ("open", date(2026, 6, 1), date(2026, 6, 15))
    assert (invoice.net, invoice.tax, invoice.total) == (
        Money("1200.15", "INR"),
        Money("190.00", "INR"),
        Money("1390.15", "INR"),
    )
    assert [(row.component, row.rate, row.tax.amount) for row in invoice.taxes.order_by("id")] == [
        ("CGST", 9, Money("90.00", "INR").amount),
        ("SGST", 9, Money("90.00", "INR").amount),
        ("CGST", 2.5, Money("5.00", "INR").amount),
        ("SGST", 2.5, Money("5.00", "INR").amount),
    ]
    assert postings_of(invoice) == [
        ("D", "receivable", "1390.15"),
        ("C", "revenue", "1200.15"),
        ("C", "tax_payable:cgst", "95.00"),
        ("C", "tax_payable:sgst", "95.00"),
    ]
    assert events(school) == ["invoice.finalized"]
    assert (invoice.buyer, invoice.seller) == (family.party, school.party)


def test_numbers_follow_each_other_and_begin_anew_each_financial_year(school, family):
    first = issue(family, at=datetime(2027, 3, 31, 18, 15, tzinfo=UTC))  # 23:45 in India
    second = issue(family, at=datetime(2027, 3, 31, 18, 45, tzinfo=UTC))  # 1 April there
    third = issue(family, at=datetime(2027, 4, 2, tzinfo=UTC))

    assert [invoice.number.split("/", 1)[1] for invoice in (first, second, third)] == [
        "26-27/00001",
        "27-28/00001",
        "27-28/00002",
    ]


def test_number_formats():
    assert financial_year(date(2026, 3, 31), 4) == "25-26"
    assert financial_year(date(2099, 4, 1), 4) == "99-00"
    assert financial_year(date(2026, 3, 31), 1) == "2026"
    assert format_number("SV", "26-27", 1) == "SV/26-27/00001"
    assert default_code("sunrise-valley") == "SV"
    assert default_code("007") == "7"
    assert default_code("0") == "INV"
    with pytest.raises(NumberTooLong):
        format_number("SCHOOL", "26-27", 1)


def test_a_rolled_back_finalisation_gives_its_number_back(school, family):
    with transaction.atomic():
        issue(family)
        transaction.set_rollback(True)

    assert issue(family).number.endswith("/00001")
    assert NumberSeries.objects.of(school).get().next_number == 2


def test_a_draft_is_priced_again_on_its_day_of_issue(school, family):
    draft = create_invoice(organisation=school, customer_id=family.pk, lines=[line()], currency="INR")
    assert (draft.status, draft.number, draft.total) == ("draft", "", Money("1180.00", "INR"))
    family.party = BillingParty.objects.create(
        organisation=school, customer=family, details={"name": "M"}, country="IN", region="33", registered=True
    )
    family.save()

    invoice = finalize_invoice(invoice_id=draft.pk, actor=CLERK)

    assert [row.component for row in invoice.taxes.all()] == ["IGST"]
    assert (invoice.place_of_supply, invoice.buyer) == ("33", family.party)


def test_an_inclusive_draft_keeps_what_is_to_pay(school, family):
    invoice = issue(family, line("599.00"), prices_include_tax=True)

    assert (invoice.net.amount, invoice.tax.amount, invoice.rounding.amount, invoice.total.amount) == (
        Money("507.63", "INR").amount,
        Money("91.38", "INR").amount,
        Money("-0.01", "INR").amount,
        Money("599.00", "INR").amount,
    )
    assert books(school) == {
        "receivable": "599.00",
        "revenue": "-507.63",
        "rounding": "0.01",
        "tax_payable:cgst": "-45.69",
        "tax_payable:sgst": "-45.69",
    }


def test_preview_says_what_issuing_writes(school, family):
    draft = InvoiceDraft(
        customer_id=family.pk, currency="INR", lines=[line("33.33"), line("-1.11", tax_category="meals")]
    )

    priced = price_draft(organisation=school, draft=draft)

    assert not Invoice.objects.exists()
    invoice = issue(family, *draft.lines)
    assert (priced.net, priced.tax, priced.total) == (invoice.net.amount, invoice.tax.amount, invoice.total.amount)
    assert [(item.amount, item.tax) for item in priced.lines] == [
        (row.amount.amount, row.tax.amount) for row in invoice.lines.all()
    ]


def test_an_invoice_of_nothing_is_paid_at_once(school, family):
    invoice = issue(family, line("100.00"), line("-100.00"))

    assert (invoice.status, invoice.paid_at) == ("paid", NOW)
    assert events(school) == ["invoice.finalized", "invoice.paid"]
    assert books(school) == {}


def test_what_is_billed_for_a_year_is_deferred(school, family):
    issue(family, line("1200.00", period_start=date(2026, 6, 1), period_end=date(2027, 5, 31)))

    assert books(school)["deferred_revenue"] == "-1200.00"


def test_refusals_change_nothing(school, family):
    invoice = issue(family)
    stranger = make_customer(make_organisation())

    with pytest.raises(InvoiceNotDraft, match="this invoice is open"):
        finalize_invoice(invoice_id=invoice.pk)
    with pytest.raises(NotFound):
        create_invoice(organisation=school, customer_id=stranger.pk, lines=[line()], currency="INR")
    with pytest.raises(MissingTaxRate):
        create_invoice(organisation=school, customer_id=family.pk, lines=[line(tax_category="gold")], currency="INR")
    assert Invoice.objects.of(school).count() == 1
    assert events(school) == ["invoice.finalized"]


def test_a_draft_can_be_thrown_away(school, family):
    draft = create_invoice(organisation=school, customer_id=family.pk, lines=[line()], currency="INR")

    delete_draft(invoice_id=draft.pk)

    assert not Invoice.objects.exists()
