"""Coupons in the console: offered, worded, given to a customer."""

from datetime import datetime
from decimal import Decimal

import pytest
from django.urls import reverse

from billing.models import Role
from subscriptions.models import AppliedCoupon, Coupon, PromotionCode
from tests.e2e.console_world import signed_in
from tests.subscriptions.house import KOLKATA, flat, local, make_customer, make_organisation, make_plan, subscribe
from tests.subscriptions.test_dunning_console import Somebody

pytestmark = pytest.mark.django_db
ADDRESS = "admin:subscriptions_coupon_"


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


def test_an_amount_is_offered_for_two_plans_gets_a_word_and_is_given(tenant):
    client, customer = signed_in(Somebody(tenant), Role.MANAGER), make_customer(tenant)
    plans = [make_plan(tenant, flat("100.00")) for _ in range(2)]
    subscription = subscribe(customer, plans[0])
    address = reverse(f"{ADDRESS}offer")
    assert address in client.get(reverse(f"{ADDRESS}changelist")).content.decode()

    client.post(address, {
        "organisation": tenant.pk, "code": "spring", "name": "Spring", "amount": "25.00", "currency": "inr", "duration": "periods",
        "periods": "3", "carries_over": "on", "expires_at_0": "2026-05-01", "expires_at_1": "00:00", "max_redemptions": "9",
        "max_per_customer": "1", "plans": ", ".join(plan.code for plan in plans),
    })  # fmt: skip

    made = Coupon.objects.get()
    assert (made.kind, made.amount, made.currency, made.periods, made.carries_over, made.max_redemptions) == (
        "fixed", Decimal("25.00"), "INR", 3, True, 9,
    )  # fmt: skip
    assert made.expires_at == datetime(2026, 5, 1, tzinfo=KOLKATA)
    assert {plan.code for plan in made.plans.all()} == {plan.code for plan in plans}

    client.post(
        reverse(f"{ADDRESS}add_word", args=[made.pk]), {"confirm": "yes", "code": "hello", "max_redemptions": "2"}
    )
    assert PromotionCode.objects.values_list("code", "max_redemptions").get() == ("HELLO", 2)

    give = reverse(f"{ADDRESS}give", args=[made.pk])
    client.post(give, {"confirm": "yes", "customer": "nobody"})
    client.post(give, {"confirm": "yes", "customer": customer.external_id, "subscription": "nothing"})
    assert not AppliedCoupon.objects.exists()
    client.post(give, {"confirm": "yes", "customer": customer.external_id, "subscription": subscription.external_id})
    applied = AppliedCoupon.objects.get()
    assert (applied.customer, applied.subscription, applied.periods_left) == (customer, subscription, 3)


def test_what_does_not_fit_is_said_and_nothing_is_written(tenant):
    client, address = signed_in(Somebody(tenant), Role.MANAGER), reverse(f"{ADDRESS}offer")
    given = {"organisation": tenant.pk, "code": "x", "name": "X", "duration": "once", "max_per_customer": "1"}

    for wrong, text in (
        ({}, "A fixed amount needs amount and currency."),
        ({"percent": "10", "amount": "5", "currency": "INR"}, "A percentage has no amount and no currency."),
        ({"percent": "101"}, "percent is more than 0 and at most 100"),
        ({"percent": "10", "plans": "nothing"}, "There is no &#x27;nothing&#x27; in this organisation."),
        ({"percent": "10", "duration": "periods"}, "Say for how many periods"),
    ):
        assert text in client.post(address, given | wrong).content.decode()

    assert not Coupon.objects.exists()
    assert signed_in(Somebody(tenant), Role.AUDITOR).get(address).status_code == 403
