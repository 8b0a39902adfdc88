"""The statement that the billing run is measured against writes the very rows that the run writes."""

from decimal import Decimal

import pytest
from django.db import connection
from django.db.models import Count, Q, Sum

from bench import population
from bench.billing_run import KINDS
from bench.limits import bill_set_based
from bench.same_rows import differences, written
from billing.models import UsageEvent, UsageWindow
from invoices.models import Invoice, InvoiceLine
from subscriptions.models import AppliedCoupon, CouponUse
from subscriptions.services.billing_run import run_billing

pytestmark = pytest.mark.django_db
MIXED = KINDS["usage, proration, tax and coupons"]


def by_statement(customers, **kind):
    population.build(customers=customers, code="by-statement", **kind)
    connection.ensure_connection()
    assert bill_set_based(connection.connection, "by-statement") == customers


def by_product(customers, **kind):
    organisation = population.build(customers=customers, code="by-product", **kind)
    report = run_billing(organisation=organisation, chunk_size=25)
    assert (report.invoices, report.failed) == (customers, 0)
    return organisation


@pytest.mark.parametrize("kind", KINDS)
def test_product_and_statement_write_the_same(kind):
    by_statement(60, **KINDS[kind])
    by_product(60, **KINDS[kind])

    assert differences("by-statement", "by-product") == {}


def test_a_difference_of_a_paisa_and_a_missing_row_are_seen():
    by_statement(3, **MIXED)
    by_product(3, **MIXED)
    use = CouponUse.objects.filter(invoice__organisation__code="by-product").order_by("id")[0]
    CouponUse.objects.filter(pk=use.pk).update(amount=use.amount + Decimal("0.01"))
    UsageWindow.objects.filter(organisation__code="by-product").first().delete()

    assert set(differences("by-statement", "by-product")) == {
        "subscriptions_couponuse", "coupon uses", "billing_usagewindow",
    }  # fmt: skip


def test_every_subscription_of_the_mixed_kind_has_usage_a_part_period_a_coupon_and_tax():
    organisation = by_product(30, **MIXED)

    mine = Invoice.objects.of(organisation)
    lines = InvoiceLine.objects.filter(invoice__in=mine)
    assert UsageEvent.objects.filter(organisation=organisation).count() == 30 * 50
    assert UsageWindow.objects.of(organisation).filter(parts__0__events=50, changes=50).count() == 30
    assert lines.filter(code="calls", amount__gt=0, tax__gt=0).count() == 30
    assert (
        lines.filter(code="seat", details__0__kind="part", details__0__of=31, details__1__kind="discount").count() == 30
    )
    counts = mine.aggregate(n=Count("id"), discounted=Count("id", filter=Q(coupon_uses__amount__gt=0, tax__gt=0)))
    assert counts == {"n": 30, "discounted": 30}
    assert dict(AppliedCoupon.objects.of(organisation).values_list("status").annotate(n=Count("id"))) == {
        "active": 20, "used_up": 10,
    }  # fmt: skip
    taken_off = CouponUse.objects.filter(invoice__in=mine).aggregate(all=Sum("amount"))["all"]
    assert written("by-product")["coupons"] == (30, taken_off, 20)
