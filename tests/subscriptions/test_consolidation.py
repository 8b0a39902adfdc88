"""Subscriptions of one customer that are due on the same day on the same terms share an invoice, where that is wanted."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
from django.db import connection

from billing.errors import InvalidInput, NotFound
from billing.models import AuditRecord, Event
from invoices.models import Invoice
from subscriptions.models import BilledPeriod, BillingTerms, Subscription
from subscriptions.services import standing
from subscriptions.services.billing_run import run_billing
from subscriptions.services.billing_terms import Agreed, set_terms, terms_of
from tests.subscriptions.house import (
    CLERK,
    amounts,
    flat,
    fresh,
    invoices_of,
    local,
    make_customer,
    make_organisation,
    make_plan,
    run,
    seats,
    subscribe,
    turn,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant(db):
    tenant = make_organisation(local("2026-04-01 09:00"))
    set_terms(organisation=tenant, actor=CLERK, consolidate=True)
    return tenant


def all_invoices(tenant):
    return list(Invoice.objects.of(tenant).order_by("number"))


def lines(invoice):
    return [(line.description, f"{line.amount.amount:.2f}", line.subscription_ref) for line in invoice.lines.all()]


class TestTerms:
    def test_the_customers_word_comes_before_the_houses(self, tenant):
        customer = make_customer(tenant)
        set_terms(organisation=tenant, actor=CLERK, consolidate=True, grace_days=3)
        set_terms(organisation=tenant, actor=CLERK, customer_id=customer.pk, consolidate=False)

        assert terms_of(organisation=tenant, customer_id=customer.pk) == Agreed(consolidate=False, grace_days=3)
        assert terms_of(organisation=tenant, customer_id=make_customer(tenant).pk) == Agreed(
            consolidate=True, grace_days=3
        )

    def test_setting_again_keeps_one_row_and_a_record_of_each(self, tenant):
        set_terms(organisation=tenant, actor=CLERK, grace_days=2)

        assert BillingTerms.objects.of(tenant).count() == 1
        assert terms_of(organisation=tenant, customer_id=make_customer(tenant).pk) == Agreed(grace_days=2)
        records = AuditRecord.objects.of(tenant).filter(action="billing_terms.set").order_by("id")
        assert [record.after for record in records] == [
            {"consolidate": True, "grace_days": None},
            {"consolidate": None, "grace_days": 2},
        ]

    @pytest.mark.parametrize("days", [-1, 61])
    def test_a_grace_out_of_bounds_is_refused(self, tenant, days):
        with pytest.raises(InvalidInput) as refused:
            set_terms(organisation=tenant, actor=CLERK, grace_days=days)

        assert refused.value.field == "grace_days"

    def test_a_foreign_customer_is_not_found(self, tenant):
        stranger = make_customer(make_organisation(local("2026-04-01 09:00")))

        with pytest.raises(NotFound):
            set_terms(organisation=tenant, actor=CLERK, customer_id=stranger.pk, consolidate=True)
        assert not BillingTerms.objects.filter(customer=stranger).exists()


class TestSharing:
    def test_one_invoice_whose_lines_name_their_subscription(self, tenant):
        customer = make_customer(tenant)
        one = subscribe(customer, make_plan(tenant, flat("500.00")), external_id="hosting")
        two = subscribe(customer, make_plan(tenant, seats("30.00")), external_id="mailboxes", quantity=4)

        report = run_billing(organisation=tenant)

        assert (report.billed, report.invoices, report.totals["INR"]) == (2, 1, 620)
        [invoice] = all_invoices(tenant)
        assert lines(invoice) == [
            ("hosting: Base fee", "500.00", one.pk),
            ("mailboxes: Seats", "120.00", two.pk),
        ]
        assert (invoice.subscription_ref, invoice.net.amount, invoice.total.amount) == (None, 620, report.totals["INR"])
        assert (invoice.period_start, invoice.period_end) == (date(2026, 4, 1), date(2026, 4, 30))
        assert BilledPeriod.objects.filter(invoice=invoice).count() == 2
        assert Event.objects.filter(type="invoice.finalized", aggregate_id=invoice.pk).count() == 1

    def test_others_keep_invoices_of_their_own(self, tenant):
        plan = make_plan(tenant, flat("500.00"))
        together, apart = make_customer(tenant), make_customer(tenant)
        set_terms(organisation=tenant, actor=CLERK, customer_id=apart.pk, consolidate=False)
        for customer in (together, together, apart, apart):
            subscribe(customer, plan)

        report = run_billing(organisation=tenant)

        assert (report.billed, report.invoices) == (4, 3)
        counts = Counter(Invoice.objects.values_list("customer_id", flat=True))
        assert counts == {together.pk: 1, apart.pk: 2}

    def test_other_terms_of_payment_make_another_invoice(self, tenant):
        customer, plan = make_customer(tenant), make_plan(tenant, flat("500.00"))
        for net_days in (0, 0, 30):
            subscribe(customer, plan, net_days=net_days)

        run_billing(organisation=tenant)

        assert amounts(all_invoices(tenant)) == ["1000.00", "500.00"]

    def test_subscriptions_that_lag_meet_on_the_days_they_share(self, tenant):
        """A week's and a month's plan, three weeks late: the month's first day is shared, the weeks are not."""
        customer = make_customer(tenant)
        subscribe(customer, make_plan(tenant, flat("70.00"), interval="week"))
        subscribe(customer, make_plan(tenant, flat("300.00")))
        turn(tenant, local("2026-04-20 09:00"))
        dry = run_billing(organisation=tenant, dry_run=True)

        report = run_billing(organisation=tenant)

        assert (report.billed, report.invoices) == (4, 3)
        assert (dry.billed, dry.invoices, dry.totals) == (report.billed, report.invoices, report.totals)
        assert amounts(all_invoices(tenant)) == ["370.00", "70.00", "70.00"]

    def test_a_customer_comes_whole_whatever_the_size_of_a_chunk(self, tenant):
        plan = make_plan(tenant, flat("10.00"))
        customers = [make_customer(tenant) for _ in range(4)]
        for _ in range(3):
            for customer in customers:
                subscribe(customer, plan)

        report = run_billing(organisation=tenant, chunk_size=2)

        assert (report.billed, report.invoices) == (12, 4)
        assert amounts(all_invoices(tenant)) == ["30.00"] * 4

    def test_a_poisoned_one_is_set_aside_and_the_others_share(self, tenant):
        customer, plan = make_customer(tenant), make_plan(tenant, flat("10.00"))
        good = [subscribe(customer, plan) for _ in range(2)]
        bad = subscribe(customer, make_plan(tenant, flat("10.00", tax_category="unheard-of")))

        report = run_billing(organisation=tenant)

        assert [one.subscription_id for one in report.failures] == [bad.pk]
        assert report.failures[0].code == "missing_tax_rate"
        assert (report.billed, report.invoices) == (2, 1)
        assert amounts(all_invoices(tenant)) == ["20.00"]
        assert [fresh(one).failure for one in good] == ["", ""]

    def test_one_overdue_invoice_makes_all_its_subscriptions_past_due(self, tenant):
        customer, plan = make_customer(tenant), make_plan(tenant, flat("10.00"))
        pair = [subscribe(customer, plan) for _ in range(2)]
        run(tenant)
        [invoice] = all_invoices(tenant)
        Invoice.objects.filter(pk=invoice.pk).update(overdue_at=local("2026-04-20 00:00"))
        about = {"organisation_id": tenant.pk, "invoice_id": invoice.pk}

        standing.note_overdue(**about)
        assert [fresh(one).status for one in pair] == ["past_due", "past_due"]
        assert standing.troubled(invoice_ids=[invoice.pk]) == {invoice.pk}
        standing.note_settled(**about, actor=CLERK)
        assert [fresh(one).status for one in pair] == ["past_due", "past_due"]  # still unpaid

        Invoice.objects.filter(pk=invoice.pk).update(status="uncollectible")
        standing.note_settled(**about, actor=CLERK)
        assert [fresh(one).status for one in pair] == ["active", "active"]


@pytest.mark.django_db(transaction=True)
def test_workers_side_by_side_never_split_a_customer():
    tenant = make_organisation(local("2026-04-01 09:00"))
    set_terms(organisation=tenant, actor=CLERK, consolidate=True)
    plan = make_plan(tenant, flat("10.00"))
    customers = [make_customer(tenant) for _ in range(8)]
    for _ in range(3):
        for customer in customers:
            subscribe(customer, plan)
    barrier = threading.Barrier(3)

    def work(_):
        barrier.wait()
        try:
            return run_billing(organisation=tenant, chunk_size=2).billed
        finally:
            connection.close()

    with ThreadPoolExecutor(3) as pool:
        billed = list(pool.map(work, range(3)))

    assert sum(billed) == 24
    assert Counter(Invoice.objects.values_list("customer_id", flat=True)) == dict.fromkeys(
        (customer.pk for customer in customers), 1
    )
    assert Subscription.objects.exclude(failure="").count() == 0
    assert invoices_of(Subscription.objects.first()) == []  # they are nobody's alone
