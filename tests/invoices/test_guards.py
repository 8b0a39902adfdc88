"""The database refuses what the code must never do, whoever asks."""

import json

import pytest
from django.db import IntegrityError, connection, transaction
from moneyed import Money

from invoices.models import CreditNote
from invoices.services.credit_notes import issue_credit_note
from invoices.services.drafting import create_invoice
from invoices.services.settling import allocate_payment

from .conftest import CLERK, capture, issue, line

pytestmark = pytest.mark.django_db


def execute(statement, *parameters):
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.rowcount


@pytest.mark.parametrize(
    "change",
    [
        "number = 'SV/26-27/99999'",
        "total = total + 1, net = net + 1, due = due + 1",
        "currency = 'EUR'",
        "issued_on = issued_on - 1",
        "due_on = due_on + 30",
        "buyer_id = NULL",
        "customer_id = gen_random_uuid()",
        "memo = 'other'",
        "reverse_charge = true",
        "status = 'draft', number = ''",
    ],
)
def test_a_finalised_invoice_cannot_be_rewritten(family, change):
    invoice = issue(family)

    with pytest.raises(IntegrityError, match="is finalised"):
        execute(f"UPDATE invoices_invoice SET {change} WHERE id = %s", invoice.pk)


def test_what_is_paid_may_change_and_must_add_up(family):
    invoice = issue(family)

    assert execute("UPDATE invoices_invoice SET paid = 180, due = 1000, version = 2 WHERE id = %s", invoice.pk) == 1
    with pytest.raises(IntegrityError, match="invoice_due"):
        execute("UPDATE invoices_invoice SET paid = 200 WHERE id = %s", invoice.pk)
    with pytest.raises(IntegrityError, match="invoice_not_overpaid"):
        execute("UPDATE invoices_invoice SET paid = 1200, due = -20 WHERE id = %s", invoice.pk)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE invoices_invoiceline SET amount = 1 WHERE invoice_id = %s",
        "DELETE FROM invoices_invoiceline WHERE invoice_id = %s",
        "UPDATE invoices_invoicetax SET tax = 0 WHERE invoice_id = %s",
        "DELETE FROM invoices_invoicetax WHERE invoice_id = %s",
        "DELETE FROM invoices_invoice WHERE id = %s",
    ],
)
def test_lines_taxes_and_the_invoice_stay(family, statement):
    invoice = issue(family)

    with pytest.raises(IntegrityError, match="finalised"):
        execute(statement, invoice.pk)


@pytest.mark.parametrize(("table", "column"), [("invoices_invoiceline", "position"), ("invoices_invoicetax", "rate")])
def test_a_finalised_invoice_gets_no_further_rows(family, table, column):
    invoice = issue(family)
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT string_agg(quote_ident(column_name), ', ') FROM information_schema.columns"
            " WHERE table_name = %s AND column_name NOT IN ('id', %s)",
            [table, column],
        )
        columns = cursor.fetchone()[0]

    with pytest.raises(IntegrityError, match="no further rows"):
        execute(
            f"INSERT INTO {table} ({column}, {columns}) SELECT {column} + 50, {columns} FROM {table} WHERE invoice_id = %s LIMIT 1",
            invoice.pk,
        )


def test_a_draft_may_change_in_every_way(school, family):
    draft = create_invoice(organisation=school, customer_id=family.pk, lines=[line()], currency="INR")

    assert execute("UPDATE invoices_invoice SET memo = 'later' WHERE id = %s", draft.pk) == 1
    assert execute("DELETE FROM invoices_invoicetax WHERE invoice_id = %s", draft.pk) == 2
    assert execute("DELETE FROM invoices_invoiceline WHERE invoice_id = %s", draft.pk) == 1
    assert execute("DELETE FROM invoices_invoice WHERE id = %s", draft.pk) == 1


def test_credit_notes_and_allocations_are_append_only(family):
    invoice = issue(family)
    allocate_payment(payment_id=capture(family, "100.00", invoice=invoice).pk)
    issue_credit_note(invoice_id=invoice.pk, amounts=None, reason="x", actor=CLERK)

    for table in ("invoices_creditnote", "invoices_paymentallocation"):
        with pytest.raises(IntegrityError, match="append only"):
            execute(f"UPDATE {table} SET created_at = now()")
        with pytest.raises(IntegrityError, match="append only"):
            execute(f"DELETE FROM {table}")


def test_a_series_only_counts_up_and_a_number_is_given_once(school, family):
    first, second = issue(family), issue(family)

    with pytest.raises(IntegrityError, match="counts up"):
        execute("UPDATE invoices_numberseries SET next_number = 1")
    with pytest.raises(IntegrityError, match="counts up"):
        execute("DELETE FROM invoices_numberseries")
    with pytest.raises(IntegrityError, match="counts up"):
        execute("UPDATE invoices_numberseries SET code = 'XX'")
    draft = create_invoice(organisation=school, customer_id=family.pk, lines=[line()], currency="INR")
    with pytest.raises(IntegrityError, match="invoice_number"):
        execute("UPDATE invoices_invoice SET status = 'open', number = %s WHERE id = %s", first.number, draft.pk)
    with pytest.raises(IntegrityError, match="invoice_numbered"):
        execute("UPDATE invoices_invoice SET status = 'open' WHERE id = %s", draft.pk)
    assert second.number > first.number


def copied_note(note, lines, total):
    """Another note on the same invoice, as a program without our services would write it."""
    execute(
        "INSERT INTO invoices_creditnote SELECT (jsonb_populate_record(note, jsonb_build_object("
        "'id', gen_random_uuid(), 'number', 'X/' || gen_random_uuid()::text::varchar(10), 'lines', %s::jsonb, 'net', %s, 'tax', 0,"
        " 'rounding', 0, 'total', %s, 'reduced_due', %s, 'to_credit', 0))).* FROM invoices_creditnote AS note WHERE id = %s",
        json.dumps(lines), total, total, total, note.pk,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("lines", "total", "allowed"),
    [
        ([{"position": 1, "amount": "600.00"}], "600.00", True),
        ([{"position": 1, "amount": "600.01"}], "600.01", False),
        ([{"position": 1, "amount": "-1.00"}, {"position": 1, "amount": "602.00"}], "1.00", False),
        ([{"position": 1, "amount": "-500.00"}], "1.00", False),
        ([{"position": 2, "amount": "1.00"}], "1.00", False),
        ([{"position": 1, "amount": "100.00"}], "900.00", False),
    ],
)
def test_credit_never_exceeds_its_line_nor_the_invoice(family, lines, total, allowed):
    invoice = issue(family, line("1000.00"))
    note = issue_credit_note(invoice_id=invoice.pk, amounts={1: Money("400.00", "INR")}, reason="Part", actor=CLERK)

    if allowed:
        copied_note(note, lines, total)
    else:
        with pytest.raises(IntegrityError, match="credit note X/"):
            copied_note(note, lines, total)

    assert CreditNote.objects.filter(invoice=invoice).count() == (2 if allowed else 1)
