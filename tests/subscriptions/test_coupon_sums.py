"""The migration that makes the sums of coupons anew from their uses."""

from decimal import Decimal

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor
from django.test.utils import CaptureQueriesContext

from billing.models import Organisation
from subscriptions.models import AppliedCoupon, CouponUse
from subscriptions.services.coupons import create_coupon, redeem
from tests.subscriptions.house import CLERK, flat, local, make_customer, make_organisation, make_plan, run, subscribe

BEFORE, REPAIRED = ("subscriptions", "0019_dunning_held"), ("subscriptions", "0020_coupon_sums")
D = Decimal


def migrate_to(node):
    MigrationExecutor(connection).migrate([node])


def ten_percent(tenant, code):
    return create_coupon(
        organisation=tenant, code=code, name=code, kind="percent", percent=D(10), duration="forever", actor=CLERK
    )


def give(customer, coupon):
    return redeem(organisation=customer.organisation, customer_id=customer.pk, coupon=coupon.code, actor=CLERK)


@pytest.fixture
def back_at_the_latest(transactional_db):
    """Whatever becomes of the test, the others find every migration applied."""
    yield
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


@pytest.mark.usefixtures("back_at_the_latest")
def test_sums_that_mixed_currencies_are_made_of_the_uses_again():
    tenant = make_organisation(local("2026-04-01 09:00"))
    plan = make_plan(tenant, flat("1000"), flat("50", currency="EUR"))
    coupon = ten_percent(tenant, "ten")
    mixed, right, unused = (make_customer(tenant) for _ in range(3))
    applied = {customer.pk: give(customer, coupon) for customer in (mixed, right, unused)}
    subscribe(mixed, plan)
    subscribe(mixed, plan, currency="EUR")
    subscribe(right, plan)
    run(tenant)
    only_euros = make_customer(tenant)
    foreign = give(only_euros, ten_percent(tenant, "euro"))
    subscribe(only_euros, plan, currency="EUR")
    run(tenant)
    migrate_to(BEFORE)
    AppliedCoupon.objects.filter(pk=applied[mixed.pk].pk).update(discounted="105.0000")  # INR 100 and EUR 5
    AppliedCoupon.objects.filter(pk=foreign.pk).update(discounted="5.0000")
    AppliedCoupon.objects.filter(pk=applied[unused.pk].pk).update(discounted="7.0000")
    uses = list(CouponUse.objects.order_by("id").values())
    others = list(AppliedCoupon.objects.order_by("id").values("id", "uses", "left_over", "periods_left", "status"))

    with CaptureQueriesContext(connection) as seen:
        migrate_to(REPAIRED)

    def sums():
        found = {row.pk: row.discounted for row in AppliedCoupon.objects.all()}
        return [found[applied[customer.pk].pk] for customer in (mixed, right, unused)] + [found[foreign.pk]]

    assert sums() == [D(100), D(100), D(0), D(0)]
    assert list(CouponUse.objects.order_by("id").values()) == uses
    assert (
        list(AppliedCoupon.objects.order_by("id").values("id", "uses", "left_over", "periods_left", "status")) == others
    )
    assert len([one for one in seen.captured_queries if "UPDATE subscriptions_appliedcoupon" in one["sql"]]) == 1
    migrate_to(BEFORE)  # back: nothing to undo
    migrate_to(REPAIRED)  # and again: nothing to repair
    assert sums() == [D(100), D(100), D(0), D(0)]
    assert Organisation.objects.count() == 1
