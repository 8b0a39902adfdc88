"""What the clock does: installments, overdue invoices, earned revenue."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime

import pytest
from django.db import connection, transaction
from hypothesis import given
from hypothesis import strategies as st
from moneyed import Money

from billing.errors import Conflict, InvalidInput, NotFound
from billing.models import AuditRecord, Event
from billing.services import outbox
from billing.services.clock_jobs import JobsFailed
from invoices import tasks
from invoices.errors import InvalidInstallments, MissingTaxRate
from invoices.models import Invoice, RecognitionEntry, TaxRate
from invoices.services import installments
from invoices.services.credit_notes import issue_credit_note
from invoices.services.installments import cancel_plan, create_plan, issue_due, split
from invoices.services.overdue import mark_overdue
from invoices.services.recognition import recognise_revenue
from invoices.services.settling import allocate_payment, void_invoice

from .conftest import CLERK, advance, books, capture, events, issue, line, make_customer, make_organisation


def day(year, month, number, hour=12):
    return datetime(year, month, number, hour, tzinfo=UTC)


# --- Overdue ------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_an_unpaid_invoice_is_overdue_the_day_after_it_was_due_and_once(school, family):
    invoice, paid = issue(family), issue(family)
    allocate_payment(payment_id=capture(family, "1180.00", invoice=paid).pk)

    advance(school, day(2026, 6, 15, 18))  # 23:30 in India, on the due day
    assert mark_overdue(organisation=school) == 0
    advance(school, day(2026, 6, 15, 19))
    assert mark_overdue(organisation=school) == 1
    assert mark_overdue(organisation=school) == 0

    invoice.refresh_from_db()
    assert invoice.overdue_at == day(2026, 6, 15, 19)
    assert events(school).count("invoice.overdue") == 1


# --- Deferred revenue ---------------------------------------------------------------------------------------------


def yearly(customer):
    return issue(customer, line("1200.00", period_start=date(2026, 6, 1), period_end=date(2027, 5, 31)))


@pytest.mark.django_db
def test_a_year_is_earned_month_by_month(school, family):
    yearly(family)
    assert recognise_revenue(organisation=school) == 0

    advance(school, day(2026, 7, 31, 19))  # 1 August in India
    assert recognise_revenue(organisation=school) == 2
    assert books(school)["revenue"] == "-200.55"
    assert books(school)["deferred_revenue"] == "-999.45"
    assert recognise_revenue(organisation=school) == 0

    advance(school, day(2027, 6, 1))
    assert recognise_revenue(organisation=school) == 10
    assert books(school)["revenue"] == "-1200.00"
    assert "deferred_revenue" not in books(school)


@pytest.mark.django_db
def test_a_credit_takes_unearned_months_first(school, family):
    invoice = yearly(family)
    advance(school, day(2026, 8, 1))
    recognise_revenue(organisation=school)

    issue_credit_note(invoice_id=invoice.pk, amounts={1: Money("999.45", "INR")}, reason="left", actor=CLERK)
    assert "deferred_revenue" not in books(school)
    issue_credit_note(invoice_id=invoice.pk, amounts=None, reason="all of it", actor=CLERK)

    advance(school, day(2027, 6, 1))
    recognise_revenue(organisation=school)
    assert books(school) == {}
    assert sum(row.amount.amount for row in RecognitionEntry.objects.filter(posted_at__gt=day(2026, 9, 1))) == 0


@pytest.mark.django_db
def test_a_voided_year_leaves_nothing_in_the_books(school, family):
    invoice = yearly(family)
    advance(school, day(2026, 8, 1))
    recognise_revenue(organisation=school)

    void_invoice(invoice_id=invoice.pk, reason="mistake", actor=CLERK)
    advance(school, day(2027, 6, 1))

    assert recognise_revenue(organisation=school) == 0
    assert books(school) == {}


@pytest.mark.django_db(transaction=True)
def test_an_invoice_being_voided_earns_nothing_meanwhile():
    """Its earnings are reversed by the void: one posted beside it would stay in the books."""
    school = make_organisation()
    invoice = yearly(make_customer(school))
    recognise_revenue(organisation=school)
    advance(school, day(2026, 8, 1))

    def earn():
        try:
            return recognise_revenue(organisation=school)
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as other, transaction.atomic():
        void_invoice(invoice_id=invoice.pk, reason="mistake", actor=CLERK)
        assert other.submit(earn).result(timeout=20) == 0

    assert recognise_revenue(organisation=school) == 0
    assert books(school) == {}


# --- Installments -------------------------------------------------------------------------------------------------


def plan_for(customer, **extra):
    options = {"total": Money("10000.00", "INR"), "count": 3, "interval_months": 1, "first_due_on": date(2026, 6, 1)}
    options |= {"description": "Annual fee", "tax_category": "tuition", "actor": CLERK} | extra
    return create_plan(organisation=customer.organisation, customer_id=customer.pk, **options)


@pytest.mark.django_db
def test_installments_become_invoices_on_their_days_and_complete_the_plan(school, family):
    plan = plan_for(family, down_payment=Money("1000.00", "INR"))
    assert [(part.number, part.due_on.isoformat(), part.amount.amount) for part in plan.installments.all()] == [
        (0, "2026-06-01", 1000),
        (1, "2026-07-01", 3000),
        (2, "2026-08-01", 3000),
        (3, "2026-09-01", 3000),
    ]

    assert (issue_due(organisation=school), issue_due(organisation=school)) == (1, 0)
    advance(school, day(2026, 8, 1))
    assert issue_due(organisation=school) == 2
    advance(school, day(2026, 9, 1))
    assert issue_due(organisation=school) == 1

    invoices = list(Invoice.objects.of(school).order_by("number"))
    assert [invoice.lines.get().description for invoice in invoices] == [
        "Annual fee: down payment",
        "Annual fee: installment 1 of 3",
        "Annual fee: installment 2 of 3",
        "Annual fee: installment 3 of 3",
    ]
    assert sum(invoice.net.amount for invoice in invoices) == 10000
    for invoice in invoices:
        assert not installments.complete_if_paid(invoice_id=invoice.pk)
        allocate_payment(payment_id=capture(family, str(invoice.total.amount), invoice=invoice).pk)
    assert installments.complete_if_paid(invoice_id=invoices[0].pk)
    plan.refresh_from_db()
    assert plan.status == "completed"


@pytest.mark.django_db
def test_an_installment_that_cannot_be_invoiced_does_not_stop_the_others(school, family):
    """A rate that ended, say: the plan waits, and everybody else's installments are invoiced."""
    plan_for(family, tax_category="meals")
    TaxRate.objects.of(school).filter(category="meals").update(valid_until=date(2026, 5, 31))
    other = plan_for(make_customer(school))

    assert (issue_due(organisation=school), issue_due(organisation=school)) == (1, 0)
    assert Invoice.objects.of(school).get().customer_id == other.customer_id

    TaxRate.objects.of(school).filter(category="meals").update(valid_until=None)
    assert issue_due(organisation=school) == 1


@pytest.mark.django_db
def test_a_refused_installment_is_told_of_once_and_can_be_tried_again(school, family):
    plan = plan_for(family, tax_category="meals")
    TaxRate.objects.of(school).filter(category="meals").update(valid_until=date(2026, 5, 31))
    for _ in range(3):
        issue_due(organisation=school)

    part = plan.installments.get(number=1)
    assert part.failure.startswith("missing_tax_rate: ")
    assert part.refused_at is not None
    told = Event.objects.get(type="installment.refused")
    assert (told.aggregate_id, told.payload["plan_id"], told.payload["number"]) == (part.pk, str(plan.pk), 1)
    assert told.payload["reason"] == part.failure

    installments.retry_refused(plan_id=plan.pk, actor=CLERK, reason="nothing mended")
    assert plan.installments.get(number=1).failure == part.failure
    TaxRate.objects.of(school).filter(category="meals").update(valid_until=None)
    installments.retry_refused(plan_id=plan.pk, actor=CLERK, reason="mended")

    part.refresh_from_db()
    assert (part.failure, part.refused_at, part.invoice.net.amount) == ("", None, part.amount.amount)
    assert list(
        AuditRecord.objects.filter(action="installment_plan.retried").order_by("id").values_list("after", flat=True)
    ) == [{"invoiced": 0}, {"invoiced": 1}]
    assert Event.objects.filter(type="installment.refused").count() == 1
    with pytest.raises(Conflict, match="nothing to try again"):
        installments.retry_refused(plan_id=plan.pk, actor=CLERK)


@pytest.mark.django_db
def test_what_one_organisation_cannot_do_does_not_stop_the_next(school, family, monkeypatch):
    """The day's work of all organisations: the others go on, and the task says which one failed."""
    broken = make_organisation()
    invoice = issue(family)
    advance(school, day(2026, 7, 1))

    def issue_or_fail(*, organisation):
        if organisation == broken:
            raise RuntimeError("broken")
        return issue_due(organisation=organisation)

    monkeypatch.setattr(installments, "issue_due", issue_or_fail)
    monkeypatch.setattr(tasks, "organisations_on_real_time", lambda: [broken, school])

    with pytest.raises(JobsFailed, match=rf"^invoices.installments of {broken.code}: RuntimeError: broken$"):
        tasks.mark_overdue()
    invoice.refresh_from_db()
    assert invoice.overdue_at == day(2026, 7, 1)


@pytest.mark.django_db
def test_a_cancelled_plan_invoices_nothing_more(school, family):
    plan = plan_for(family)
    issue_due(organisation=school)

    cancel_plan(plan_id=plan.pk, reason="moved", actor=CLERK)

    advance(school, day(2026, 12, 1))
    assert issue_due(organisation=school) == 0
    with pytest.raises(Conflict):
        cancel_plan(plan_id=plan.pk, reason="again", actor=CLERK)


@pytest.mark.django_db
def test_plans_that_cannot_be(school, family):
    for options in (
        {"count": 0},
        {"count": 61},
        {"total": Money("0.00", "INR")},
        {"total": Money("0.02", "INR")},
        {"down_payment": Money("10000.00", "INR")},
    ):
        with pytest.raises(InvalidInstallments):
            plan_for(family, **options)
    with pytest.raises(MissingTaxRate):
        plan_for(family, tax_category="gold")
    with pytest.raises(NotFound):
        plan_for(family, beneficiary_id=make_customer(make_organisation()).pk)
    with pytest.raises(InvalidInput):
        plan_for(family, down_payment=Money("10.00", "EUR"))


@given(st.integers(10_000, 10**9), st.integers(1, 60), st.integers(0, 40))
def test_installments_add_up(minor, count, percent):
    total = Money(minor, "INR") / 100
    first = Money(minor * percent // 100, "INR") / 100 if minor * percent // 100 else None

    parts = split(total=total, count=count, down_payment=first)

    assert sum(parts, Money(0, "INR")) == total
    equal = parts[1:] if first else parts
    assert len(equal) == count
    assert max(equal) - min(equal) <= Money("0.01", "INR")


# --- Events -------------------------------------------------------------------------------------------------------


@pytest.mark.django_db
def test_a_captured_payment_reaches_its_invoice_through_the_outbox(school, family):
    invoice = issue(family)
    payment = capture(family, "1180.00", invoice=invoice)
    outbox.publish("payment.captured", payment)

    while outbox.dispatch(school.pk):
        pass

    invoice.refresh_from_db()
    assert invoice.status == "paid"
