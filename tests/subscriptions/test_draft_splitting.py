"""A subscription that cannot be priced does not hold up those it shares a draft with; it is billed alone once it is mended."""

from datetime import date
from decimal import Decimal

import pytest

from invoices.models import Invoice
from subscriptions.errors import DraftNotPriced
from subscriptions.models import AppliedCoupon, BilledPeriod, CouponUse, DraftCycle
from subscriptions.services import acting
from subscriptions.services.billing_terms import set_terms
from subscriptions.services.draft_editing import edit_draft
from subscriptions.services.draft_finalizing import finalize_due
from tests.subscriptions.house import (
    CLERK,
    flat,
    fresh,
    lines_of,
    local,
    make_customer,
    make_organisation,
    make_plan,
    run,
    subscribe,
    turn,
)
from tests.subscriptions.test_coupons import coupon, give
from tests.subscriptions.test_set_aside import mend, rate_until

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant():
    tenant = make_organisation(local("2026-04-01 09:00"))
    set_terms(organisation=tenant, actor=CLERK, grace_days=3, consolidate=True)
    return tenant


@pytest.fixture
def customer(tenant):
    return make_customer(tenant)


def shared(tenant, customer, *, good=2):
    """A draft of ``good`` subscriptions at 10.00 and one at 30.00 whose tax rate has ended when the grace is over."""
    rate = rate_until(tenant, date(2026, 4, 3))
    plan = make_plan(tenant, flat("10.00", tax_category="saas"))
    fine = [subscribe(customer, plan, external_id=f"fine-{n}") for n in range(good)]
    bad = subscribe(customer, make_plan(tenant, flat("30.00", tax_category="short")), external_id="bad")
    run(tenant)
    [draft] = Invoice.objects.of(tenant)
    return draft, fine, bad, rate


def after_grace(tenant):
    turn(tenant, local("2026-04-06 09:00"))
    finalize_due(organisation=tenant)


def waiting(subscription):
    return DraftCycle.objects.get(period__subscription=subscription)


def owners(invoice):
    return [line.subscription_ref or invoice.subscription_ref for line in invoice.lines.all()]


@pytest.mark.parametrize("good", [1, 2])
@pytest.mark.parametrize("poison", ["tax", "price"])
def test_the_others_are_issued_and_it_waits_with_its_reason(tenant, customer, good, poison):
    draft, fine, bad, rate = shared(tenant, customer, good=good)
    if poison == "price":
        mend(rate)
        one = waiting(bad)
        one.terms["currency"] = "EUR"
        one.save()

    after_grace(tenant)

    [invoice] = Invoice.objects.of(tenant)
    assert (invoice.pk, invoice.status, invoice.net.amount) == (draft.pk, "open", 10 * good)
    assert owners(invoice) == [one.pk for one in fine]
    held = waiting(bad)
    assert held.failure.partition(":")[0] == {"tax": "missing_tax_rate", "price": "missing_price"}[poison]
    assert (held.invoice_id, held.finalized_at, BilledPeriod.objects.get(subscription=bad).invoice_id) == (
        None,
        None,
        None,
    )
    assert all(waiting(one).finalized_at and not waiting(one).failure for one in fine)


def test_it_is_billed_by_itself_once_it_is_mended(tenant, customer):
    draft, _fine, bad, rate = shared(tenant, customer)
    after_grace(tenant)
    finalize_due(organisation=tenant)
    assert Invoice.objects.of(tenant).count() == 1
    mend(rate)

    for _ in range(2):
        finalize_due(organisation=tenant)

    [own] = Invoice.objects.of(tenant).exclude(pk=draft.pk)
    assert (own.status, own.subscription_ref, lines_of(own)) == ("open", bad.pk, [("Base fee", "30.00")])
    assert BilledPeriod.objects.get(subscription=bad).invoice_id == own.pk
    assert (waiting(bad).failure, waiting(bad).invoice_id) == ("", own.pk)


def test_a_percentage_holds_for_both_parts_and_costs_one_period(tenant, customer):
    coupon(tenant, "half", percent="50", duration="once")
    applied = give(customer, "half")
    draft, _fine, _bad, rate = shared(tenant, customer)
    after_grace(tenant)
    mend(rate)
    finalize_due(organisation=tenant)

    nets = {one.pk == draft.pk: one.net.amount for one in Invoice.objects.of(tenant)}
    assert nets == {True: Decimal(10), False: Decimal(15)}
    applied = AppliedCoupon.objects.get(pk=applied.pk)
    assert (applied.discounted, applied.periods_left, applied.uses) == (25, 0, 2)


@pytest.mark.parametrize(("carries_over", "own"), [(False, "25.00"), (True, "30.00")])
def test_the_rest_of_an_amount_is_not_lost_and_not_given_twice(tenant, customer, carries_over, own):
    """25.00 off: 20.00 of it on the two; the rest of 5.00 on the third, or kept for the next invoice."""
    coupon(tenant, "less", amount="25.00", currency="INR", duration="once", carries_over=carries_over)
    applied = give(customer, "less")
    draft, _fine, _bad, rate = shared(tenant, customer)
    after_grace(tenant)
    mend(rate)
    finalize_due(organisation=tenant)

    nets = {one.pk == draft.pk: f"{one.net.amount:.2f}" for one in Invoice.objects.of(tenant)}
    assert nets == {True: "0.00", False: own}
    applied = AppliedCoupon.objects.get(pk=applied.pk)
    assert (applied.discounted, applied.left_over) == ((25, 0) if not carries_over else (20, 5))


def test_a_credit_waits_for_what_was_set_aside(tenant, customer):
    _draft, fine, bad, _rate = shared(tenant, customer)
    after_grace(tenant)
    about = {"organisation": tenant, "actor": CLERK, "credit": "prorated"}

    with pytest.raises(DraftNotPriced, match="missing_tax_rate"):
        acting.cancel(**about, subscription_id=bad.pk)
    acting.cancel(**about, subscription_id=fine[0].pk)

    assert (fresh(bad).status, fresh(fine[0]).status) == ("active", "cancelled")


def test_an_edit_by_hand_of_what_cannot_be_priced_keeps_the_draft_together(tenant, customer):
    """The edit would be lost with the draft: all of it waits until that is mended, and the edit counts then."""
    draft, _fine, bad, rate = shared(tenant, customer)
    edit_draft(
        invoice_id=draft.pk, kind="set", code="base", subscription_id=bad.pk, amount=Decimal("12.00"), actor=CLERK,
        reason="Agreed by phone",
    )  # fmt: skip
    after_grace(tenant)
    assert [one.status for one in Invoice.objects.of(tenant)] == ["draft"]
    mend(rate)

    finalize_due(organisation=tenant)

    [invoice] = Invoice.objects.of(tenant)
    assert (invoice.status, invoice.net.amount) == ("open", 32)


def test_an_edit_of_the_only_one_that_is_left_counts(tenant, customer):
    draft, [fine], _bad, _rate = shared(tenant, customer, good=1)
    edit_draft(
        invoice_id=draft.pk, kind="set", code="base", subscription_id=fine.pk, amount=Decimal("7.00"), actor=CLERK,
        reason="Agreed by phone",
    )  # fmt: skip

    after_grace(tenant)

    [invoice] = Invoice.objects.of(tenant)
    assert (invoice.status, invoice.net.amount, owners(invoice)) == ("open", 7, [fine.pk])


def test_where_none_can_be_priced_the_draft_stays_whole(tenant, customer):
    draft, _fine, bad, _rate = shared(tenant, customer, good=0)
    after_grace(tenant)

    assert waiting(bad).invoice_id == draft.pk
    assert not CouponUse.objects.exists()
