"""Dashboard, API figures and the MRR kept from events, on real rows."""

import uuid
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest
from django.urls import reverse
from moneyed import Money

from analytics import selectors
from analytics.models import MrrLevel, MrrMovement
from analytics.services.mrr import record_level
from billing.models import Event, TestClock
from billing.services import customers, organisations
from payments.models import GatewayAccount, Payment, PaymentAttempt

pytestmark = pytest.mark.django_db
START = datetime(2026, 3, 10, 9, tzinfo=UTC)


@pytest.fixture
def house():
    clock = TestClock.objects.create(name="analytics", now=START)
    return organisations.create_organisation(
        code="figures",
        name="Figures",
        currency="INR",
        country="IN",
        region="29",
        time_zone="Asia/Kolkata",
        test_clock=clock,
    )


@pytest.fixture
def customer(house):
    return customers.create_customer(organisation=house, external_id="c-1", name="Asha", currency="INR")


@pytest.fixture
def subscription(house, customer):
    from subscriptions.models import Plan, PlanVersion, Subscription

    plan = Plan.objects.create(organisation=house, code="p", name="P", interval="month", created_at=START)
    version = PlanVersion.objects.create(
        organisation=house, plan=plan, number=1, effective_from=START, created_at=START
    )
    return Subscription.objects.create(
        organisation=house, customer=customer, external_id="s-1", plan_version=version, currency="INR",
        started_at=START, anchor_on=START.date(), created_at=START,
    )  # fmt: skip


def tell(subscription, kind, status, amount, *, days=0):
    event = Event.objects.create(
        uid=uuid.uuid4(),
        organisation_id=subscription.organisation_id,
        type=kind,
        aggregate_type="subscriptions.subscription",
        aggregate_id=subscription.pk,
        occurred_at=START + timedelta(days=days),
        payload={
            "subscription_id": str(subscription.pk),
            "customer_id": str(subscription.customer_id),
            "status": status,
            "mrr": {"amount": amount, "currency": "INR"},
        },
    )
    record_level(event=event)
    return event


def test_a_trial_moves_nothing_and_its_end_is_new_business(house, subscription):
    tell(subscription, "subscription.changed", "trialing", "500.00")
    assert MrrMovement.objects.count() == 0

    tell(subscription, "subscription.activated", "active", "500.00", days=7)

    move = MrrMovement.objects.get()
    assert (move.kind, move.amount, move.month) == ("new_business", Money("500.00", "INR"), date(2026, 3, 1))


def test_the_same_event_twice_is_one_level(subscription):
    event = tell(subscription, "subscription.activated", "active", "500.00")

    record_level(event=event)

    assert MrrLevel.objects.count() == 1
    assert MrrMovement.objects.count() == 1


def test_months_close_where_they_should(house, subscription):
    tell(subscription, "subscription.activated", "active", "500.00", days=-40)
    tell(subscription, "subscription.changed", "active", "800.00", days=-5)

    rows = selectors.mrr_table(organisation=house, months=3)["INR"]

    assert [(row.month, row.closing) for row in rows] == [
        (date(2026, 1, 1), Decimal(500)),
        (date(2026, 2, 1), Decimal(500)),
        (date(2026, 3, 1), Decimal(800)),
    ]


def make_payment(house, customer, account, *, status, attempts, number):
    nothing = Money(0, "INR")
    payment = Payment.objects.create(
        organisation=house, customer=customer, reference=f"ref-{number}", amount=Money(100, "INR"), refunded=nothing,
        disputed=nothing, status=status, attempts_made=len(attempts), created_at=START,
    )  # fmt: skip
    for index, (outcome, code) in enumerate(attempts, 1):
        PaymentAttempt.objects.create(
            organisation=house, payment=payment, number=index, gateway_account=account, amount=Money(100, "INR"),
            idempotency_key=f"{number}-{index}", status=outcome, decline_code=code, started_at=START,
        )  # fmt: skip


def test_success_and_recovery_are_counted_by_payment_and_attempt(house, customer):
    account = GatewayAccount.objects.create(organisation=house, provider="razorpay", code="rzp")
    make_payment(house, customer, account, status="succeeded", attempts=[("captured", "")], number=1)
    make_payment(
        house, customer, account, status="succeeded",
        attempts=[("declined", "insufficient_funds"), ("captured", "")], number=2,
    )  # fmt: skip
    make_payment(house, customer, account, status="failed", attempts=[("declined", "lost_card")], number=3)

    figures = selectors.payment_figures(organisation=house)

    assert (figures.payments, figures.succeeded, figures.recovered, figures.failed) == (3, 2, 1, 1)
    assert figures.success_rate == Decimal("66.67")
    assert figures.first_attempt_rate == Decimal("50.00")
    assert figures.declines == [("insufficient_funds", 1), ("lost_card", 1)]


def test_the_dashboard_opens_for_who_may_see_figures_and_for_nobody_else(client, house, subscription):
    tell(subscription, "subscription.activated", "active", "500.00")
    seen = organisations.add_member(
        organisation=house, email="auditor@figures.example", role="auditor", password="long-enough-2026"
    )
    stranger = organisations.add_member(
        organisation=house, email="support@figures.example", role="support", password="long-enough-2026"
    )
    url = reverse("admin:analytics_dashboard")

    client.force_login(seen.user, backend="django.contrib.auth.backends.ModelBackend")
    page = client.get(url)
    client.force_login(stranger.user, backend="django.contrib.auth.backends.ModelBackend")
    refused = client.get(url)

    assert page.status_code == 200
    assert "500.00" in page.content.decode()
    assert "<svg" in page.content.decode()
    assert refused.status_code == 403


def test_figures_over_the_api(client, house, subscription):
    tell(subscription, "subscription.activated", "active", "500.00")
    _, key = organisations.create_api_key(organisation=house, name="t", scopes=["analytics.view"])
    headers = {"HTTP_AUTHORIZATION": f"Bearer {key}"}

    months = client.get("/api/v1/analytics/mrr?months=1", **headers).json()["currencies"][0]["months"]
    refused = client.get("/api/v1/analytics/mrr?months=0", **headers)
    wrong_day = client.get("/api/v1/analytics/collection?from=2026-02-31", **headers)

    assert (months[0]["new"], months[0]["closing"]) == ("500.00", "500.00")
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "months")
    assert (wrong_day.status_code, wrong_day.json()["errors"][0]["field"]) == (422, "from")
