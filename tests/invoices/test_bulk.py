"""Many invoices at once are the same rows as one by one."""

from datetime import date
from decimal import Decimal

import pytest
from django.db import transaction
from django.forms.models import model_to_dict

from billing.errors import NotFound
from billing.models import Event, JournalEntry
from billing.services import ledger
from invoices.drafts import InvoiceDraft
from invoices.errors import MissingTaxRate
from invoices.models import Invoice, InvoiceLine, InvoiceTax, NumberSeries
from invoices.services.bulk import Issuer, issue_invoices
from invoices.services.finalizing import issue_invoice

from .conftest import NOW, books, line, make_customer, make_organisation

pytestmark = pytest.mark.django_db


def drafts_for(organisation):
    """Drafts of every kind: several lines, tiers, other state, abroad, inclusive, nothing to pay, fractions."""
    home = make_customer(organisation)
    other_state = make_customer(organisation, region="27")
    abroad = make_customer(organisation, country="DE", region="", currency="EUR")
    whole = [
        line(
            "499.00", code="seat", description="Seats\twith a tab and a \\ backslash", quantity=Decimal(3), unit="seat"
        ),
        line("12.35", tax_category="meals", code="meal", quantity=Decimal("2.5"), unit_price=Decimal("4.940000000001")),
        line("0.00", tax_category="books", code="book", details=({"kind": "tier", "up_to": None, "amount": "0"},)),
        line("10.01", tax_category="", code="outside", period_start=date(2026, 6, 1), period_end=date(2027, 5, 31)),
    ]
    return [
        InvoiceDraft(customer_id=home.pk, currency="INR", lines=whole, origin="subscription", memo="With \n a break"),
        InvoiceDraft(customer_id=home.pk, currency="INR", lines=whole, net_days=0, custom_fields={"po": "7 ü"}),
        InvoiceDraft(customer_id=other_state.pk, currency="INR", lines=[line("100.05")], collect_automatically=False),
        InvoiceDraft(customer_id=abroad.pk, currency="EUR", lines=[line("19.99", currency="EUR")], net_days=30),
        InvoiceDraft(customer_id=home.pk, currency="INR", lines=[line("118.00")], prices_include_tax=True),
        InvoiceDraft(customer_id=home.pk, currency="INR", lines=[line("0.00")]),
        InvoiceDraft(
            customer_id=home.pk, currency="INR", lines=[line("5.00")], period_start=date(2026, 6, 1),
            period_end=date(2026, 6, 30), subscription_ref=home.pk, method_ref=home.pk,
        ),
    ]  # fmt: skip


def rows_of(model, names, **query):
    return [
        {name: value for name, value in model_to_dict(row).items() if name not in names}
        | {
            "amounts": [
                getattr(row, field.name) for field in row._meta.fields if field.get_internal_type() == "DecimalField"
            ]
        }
        for row in model.objects.filter(**query).order_by("pk")
    ]


def everything(invoice_id):
    """All that was written for one invoice, without ids, numbers and wall-clock times."""
    loose = {"id", "invoice", "number", "organisation"}
    invoice = Invoice.objects.get(pk=invoice_id)
    entries = JournalEntry.objects.filter(source_id=invoice_id)
    return {
        "invoice": [
            *rows_of(Invoice, loose, pk=invoice_id),
            (invoice.created_at, invoice.finalized_at, invoice.paid_at, invoice.status, invoice.version),
        ],
        "lines": rows_of(InvoiceLine, loose, invoice_id=invoice_id),
        "taxes": rows_of(InvoiceTax, loose, invoice_id=invoice_id),
        "entries": [
            (entry.kind, entry.source_type, entry.occurred_at, entry.idempotency_key == f"invoice_finalized:{invoice_id}",
             entry.description == invoice.number,
             sorted((p.account.code, p.side, p.amount, p.customer_id) for p in entry.postings.select_related("account")))
            for entry in entries
        ],
        "events": [
            (event.type, event.aggregate_type, event.occurred_at,
             {k: v for k, v in event.payload.items() if k not in ("invoice_id", "number")},
             event.payload["invoice_id"] == str(invoice_id), event.payload["number"] == invoice.number)
            for event in Event.objects.filter(aggregate_id=invoice_id).order_by("id")
        ],
    }  # fmt: skip


def test_in_bulk_an_invoice_has_the_rows_it_has_alone(school):
    drafts = drafts_for(school)

    with transaction.atomic():
        issued = issue_invoices(organisation=school, drafts=drafts, at=NOW)
    alone = [issue_invoice(organisation=school, draft=draft, at=NOW) for draft in drafts]

    assert [everything(one.id) for one in issued] == [everything(one.pk) for one in alone]
    assert [one.number[-5:] for one in issued] == [f"{i:05d}" for i in range(1, 8)]
    assert [one.number[-5:] for one in alone] == [f"{i:05d}" for i in range(8, 15)]


def test_an_invoice_of_nothing_is_paid_and_posts_nothing(school, family):
    draft = InvoiceDraft(customer_id=family.pk, currency="INR", lines=[line("0.00")])

    [issued] = issue_invoices(organisation=school, drafts=[draft], at=NOW)

    assert Invoice.objects.get(pk=issued.id).status == "paid"
    assert not JournalEntry.objects.filter(source_id=issued.id).exists()
    assert list(Event.objects.filter(aggregate_id=issued.id).order_by("id").values_list("type", flat=True)) == [
        "invoice.finalized", "invoice.paid",
    ]  # fmt: skip


def test_the_books_balance_and_say_who_owes(school, family):
    drafts = [
        InvoiceDraft(
            customer_id=family.pk, currency="INR", lines=[line("1000.00"), line("200.00", tax_category="meals")]
        )
    ] * 3

    issue_invoices(organisation=school, drafts=drafts, at=NOW)

    assert books(school) == {
        "receivable": "4170.00", "revenue": "-3600.00", "tax_payable:cgst": "-285.00", "tax_payable:sgst": "-285.00",
    }  # fmt: skip
    assert (
        ledger.balance(organisation=school, account="receivable", currency="INR", customer_id=family.pk).amount == 4170
    )


def test_one_bad_draft_writes_nothing(school, family):
    good = InvoiceDraft(customer_id=family.pk, currency="INR", lines=[line()])
    bad = InvoiceDraft(customer_id=family.pk, currency="INR", lines=[line(tax_category="unheard-of")])

    with pytest.raises(MissingTaxRate):
        issue_invoices(organisation=school, drafts=[good, bad], at=NOW)

    assert not Invoice.objects.exists()
    assert not NumberSeries.objects.exists()


def test_somebody_elses_customer_is_not_found(school):
    stranger = make_customer(make_organisation())

    with pytest.raises(NotFound):
        issue_invoices(
            organisation=school, drafts=[InvoiceDraft(customer_id=stranger.pk, currency="INR", lines=[line()])], at=NOW
        )


def test_a_rollback_gives_numbers_and_accounts_back(school, family):
    issuer = Issuer(organisation=school, at=NOW)
    draft = InvoiceDraft(customer_id=family.pk, currency="INR", lines=[line()])
    issuer.meet([family.pk])
    with transaction.atomic():
        issuer.issue([issuer.prepare(draft), issuer.prepare(draft)])
        transaction.set_rollback(True)
    issuer.forget()

    with transaction.atomic():
        [again] = issuer.issue([issuer.prepare(draft)])

    assert again.number.endswith("00001")
    assert Invoice.objects.count() == 1
