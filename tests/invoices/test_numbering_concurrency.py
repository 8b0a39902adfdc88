"""Many finalise at once, some are rolled back: no gap, no number twice."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection, transaction
from moneyed import Money

from invoices.drafts import InvoiceDraft
from invoices.models import CreditNote, Invoice
from invoices.services.credit_notes import issue_credit_note
from invoices.services.drafting import write_draft
from invoices.services.finalizing import finalize_invoice
from invoices.services.settling import allocate_payment, apply_customer_credit

from .conftest import CLERK, NOW, books, capture, issue, line, make_customer, make_organisation

pytestmark = pytest.mark.django_db(transaction=True)
THREADS = 50


class RolledBack(Exception):
    """The transaction around a finalisation was given up."""


def together(work: Callable[[int], object], count: int = THREADS) -> list[object]:
    """Run ``work(i)`` in ``count`` threads that start at the same moment; results, or the exceptions, in order."""
    barrier = threading.Barrier(count)

    def run(i: int) -> object:
        try:
            barrier.wait()
            return work(i)
        except Exception as exc:
            return exc
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(run, range(count)))


def test_fifty_finalisations_at_once_leave_no_gap():
    school = make_organisation()
    family = make_customer(school)
    draft = InvoiceDraft(customer_id=family.pk, currency="INR", lines=[line()])
    drafts = [write_draft(organisation=school, draft=draft, at=NOW) for _ in range(THREADS * 2)]

    def work(i: int) -> int:
        for n, invoice in enumerate(drafts[i * 2 : i * 2 + 2]):
            try:
                with transaction.atomic():
                    finalize_invoice(invoice_id=invoice.pk)
                    if (i * 2 + n) % 10 == 3:
                        raise RolledBack
            except RolledBack:
                pass
        return 0

    assert together(work) == [0] * THREADS
    numbers = sorted(Invoice.objects.exclude(number="").values_list("number", flat=True))
    assert [int(number.rsplit("/", 1)[1]) for number in numbers] == list(range(1, 91))
    assert Invoice.objects.filter(status="draft").count() == 10
    assert books(school)["receivable"] == f"{90 * 1180}.00"


def test_a_draft_is_finalised_once_however_many_try():
    school = make_organisation()
    draft = InvoiceDraft(customer_id=make_customer(school).pk, currency="INR", lines=[line()])
    invoice = write_draft(organisation=school, draft=draft, at=NOW)

    results = together(lambda _: finalize_invoice(invoice_id=invoice.pk), 8)

    assert sorted(type(result).__name__ for result in results) == ["Invoice"] + ["InvoiceNotDraft"] * 7
    assert books(school)["receivable"] == "1180.00"


def test_credit_is_spent_once_by_invoices_that_ask_for_it_together():
    school = make_organisation()
    family = make_customer(school)
    invoices = [issue(family) for _ in range(8)]
    capture(family, "2000.00")

    together(lambda i: apply_customer_credit(invoice_id=invoices[i].pk), 8)

    paid = sum(invoice.paid.amount for invoice in Invoice.objects.all())
    assert paid == 2000
    assert "customer_credit" not in books(school)


def test_a_payment_heard_by_many_and_a_credit_note_at_the_same_time_end_in_one_legal_order():
    school = make_organisation()
    family = make_customer(school)
    invoice = issue(family)
    payment = capture(family, "1180.00", invoice=invoice)

    def work(i: int) -> object:
        if i % 2:
            return allocate_payment(payment_id=payment.pk)
        return issue_credit_note(
            invoice_id=invoice.pk, amounts={1: Money("400.00", "INR")}, reason="late bus", actor=CLERK
        )

    together(work, 8)

    invoice.refresh_from_db()
    notes = list(CreditNote.objects.all())
    assert len(notes) == 2  # 400 + 400, the third would exceed 1000
    assert (invoice.status, invoice.due.amount) == ("paid", 0)
    credit = sum(note.to_credit.amount for note in notes) + 1180 - invoice.allocations.get().amount.amount
    assert books(school)["customer_credit"] == f"{-credit:.2f}"
    assert credit == 944
