"""What a run set aside: kept as failed cycles, shown with the billed ones, and taken up again by one or by all."""

import pytest

from billing.models import AuditRecord
from subscriptions.errors import NothingToRetry
from subscriptions.models import BillingCycle, BillingRun, FailedCycle, Subscription
from subscriptions.services import billing_run
from subscriptions.services.billing_run import run_billing
from subscriptions.services.retrying import retry_cycle, retry_run
from tests.subscriptions.house import (
    CLERK,
    flat,
    fresh,
    invoices_of,
    local,
    make_customer,
    make_organisation,
    make_plan,
    subscribe,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant(db):
    return make_organisation(local("2026-04-01 09:00"))


@pytest.fixture
def broken(tenant):
    """Two subscriptions in a currency that their plan has no price in, beside one that is well; a run has met them."""
    plan = make_plan(tenant, flat("100.00"))
    rows = [subscribe(make_customer(tenant), plan) for _ in range(3)]
    Subscription.objects.filter(pk__in=[row.pk for row in rows[:2]]).update(currency="EUR")
    run_billing(organisation=tenant)
    return rows[:2]


def mend(rows):
    Subscription.objects.filter(pk__in=[row.pk for row in rows]).update(currency="INR")


def statuses(tenant):
    return sorted(BillingCycle.objects.of(tenant).values_list("status", flat=True))


def test_one_list_shows_what_was_billed_and_what_failed(tenant, broken):
    failed = BillingCycle.objects.of(tenant).filter(status="failed")

    assert statuses(tenant) == ["billed", "failed", "failed"]
    assert {one.subscription_id for one in failed} == {one.pk for one in broken}
    run = BillingRun.objects.get()
    assert {(one.code, one.run_id, one.starts_at) for one in failed} == {
        ("missing_price", run.pk, local("2026-04-01 09:00")),
    }
    assert (run.billed_count, run.failed_count, run.status) == (1, 2, "done")


def test_one_is_taken_up_again(tenant, broken):
    mend(broken[:1])
    cycle = FailedCycle.objects.get(subscription=broken[0])

    retry_cycle(organisation=tenant, cycle_id=cycle.pk, actor=CLERK, reason="mended")

    assert [len(invoices_of(one)) for one in broken] == [1, 0]
    assert statuses(tenant) == ["billed", "billed", "failed", "retried"]
    assert AuditRecord.objects.filter(action="subscription.taken_up_again", reason="mended").count() == 1


def test_what_fails_again_is_another_failed_cycle(tenant, broken):
    cycle = FailedCycle.objects.get(subscription=broken[0])

    found = retry_cycle(organisation=tenant, cycle_id=cycle.pk, actor=CLERK)

    assert found.failure.startswith("missing_price: ")
    assert statuses(tenant) == ["billed", "failed", "failed", "retried"]


def test_all_of_a_run_are_taken_up_by_a_new_run(tenant, broken):
    mend(broken)
    first = BillingRun.objects.get()

    second = retry_run(organisation=tenant, run_id=first.pk, actor=CLERK, reason="mended")
    report = billing_run.work_on(run_id=second.pk)

    assert (second.due_count, report.billed, report.failed) == (2, 2, 0)
    assert [len(invoices_of(one)) for one in broken] == [1, 1]
    assert statuses(tenant) == ["billed", "billed", "billed", "retried", "retried"]


def test_nothing_is_retried_twice(tenant, broken):
    mend(broken)
    first, cycle = BillingRun.objects.get(), FailedCycle.objects.first()
    retry_run(organisation=tenant, run_id=first.pk, actor=CLERK)

    with pytest.raises(NothingToRetry):
        retry_run(organisation=tenant, run_id=first.pk, actor=CLERK)
    with pytest.raises(NothingToRetry):
        retry_cycle(organisation=tenant, cycle_id=cycle.pk, actor=CLERK)
    assert BillingRun.objects.count() == 2


def test_what_is_billed_since_counts_as_taken_up(tenant, broken):
    """However its note was cleared: by a change of plan, say."""
    mend(broken)
    Subscription.objects.filter(pk=broken[0].pk).update(failure="")

    run_billing(organisation=tenant)

    assert fresh(broken[0]).failure == ""
    assert statuses(tenant) == ["billed", "billed", "failed", "retried"]


def test_filters_of_the_list(tenant, broken):
    from billing.services import organisations
    from tests.e2e.api_world import House

    _, secret = organisations.create_api_key(organisation=tenant, name="all", scopes=["billing_run.view"])
    client = House(tenant, secret).client()
    run = BillingRun.objects.get()

    def found(query):
        answer = client.get(f"/api/v1/billing-cycles?{query}")
        assert answer.status_code == 200, answer.content
        return len(answer.json()["results"])

    one = broken[0]
    assert found("") == 3
    assert found("status=failed") == 2
    assert found(f"run={run.pk}&status=billed") == 1
    assert found(f"customer={one.customer.external_id}") == found(f"customer={one.customer_id}") == 1
    assert found(f"plan={one.plan_version.plan.code}") == 3
    assert found("plan=other") == 0
    assert found("starts_from=2026-04-02T00:00:00Z") == 0
    assert found("starts_until=2026-04-02T00:00:00Z&draft=false") == 3
    assert found("draft=true") == 0
