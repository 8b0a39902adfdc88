"""Plans: what is refused, and that versions never change."""

from datetime import date
from decimal import Decimal

import pytest
from django.db import IntegrityError, connection, transaction

from billing.errors import UnknownCurrency
from billing.ids import uuid7
from subscriptions import errors, pricing
from subscriptions.models import Plan, PlanVersion, Price
from subscriptions.services import catalog
from subscriptions.services.catalog import PriceInput
from tests.subscriptions.house import (
    CLERK,
    flat,
    local,
    make_customer,
    make_meter,
    make_organisation,
    make_plan,
    seats,
    subscribe,
    turn,
)  # fmt: skip

pytestmark = pytest.mark.django_db
TIERS = [{"up_to": "100", "unit_price": "0"}, {"up_to": None, "unit_price": "0.5"}]


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


def test_a_plan_keeps_its_prices_as_given(tenant):
    meter = make_meter(tenant)
    calls = PriceInput(code="calls", name="Calls", currency="INR", model="graduated", tiers=TIERS, meter=str(meter.pk))

    plan = make_plan(tenant, flat("99.00"), calls, interval="week", interval_count=2, trial_days=7)

    version = plan.versions.get()
    assert (version.number, version.effective_from) == (1, local("2026-04-01 09:00"))
    stored = list(version.prices.values_list("position", "code", "model", "unit_price", "tiers", "meter__code", "unit"))
    assert stored == [
        (1, "base", "flat", Decimal(99), [], None, ""),
        (
            2, "calls", "graduated", None,
            [{"up_to": "100", "unit_price": "0", "flat_fee": "0"}, {"up_to": None, "unit_price": "0.5", "flat_fee": "0"}],
            "calls", "call",
        ),
    ]  # fmt: skip


def price(**changes):
    return PriceInput(
        **({"code": "base", "name": "Base", "currency": "INR", "model": "flat", "unit_price": Decimal(1)} | changes)
    )


@pytest.mark.parametrize(
    ("prices", "refused"),
    [
        ([], errors.InvalidPlan),
        ([price()] * 61, errors.InvalidPlan),
        ([price(), price()], errors.DuplicatePrice),
        ([price(), price(currency="USD"), price(code="seats")], errors.UnevenPrices),
        ([price(code="not a slug")], pricing.InvalidPrice),
        ([price(code="nul\x00")], pricing.InvalidPrice),
        ([price(model="volume")], pricing.InvalidPrice),
        ([price(unit_price=None)], pricing.InvalidPrice),
        ([price(unit_price=Decimal(-1))], pricing.InvalidPrice),
        ([price(unit_price=Decimal("0.0000000000001"))], pricing.InvalidPrice),
        ([price(tiers=TIERS)], pricing.InvalidPrice),
        ([price(meter="calls")], pricing.InvalidPrice),
        ([price(model="graduated", tiers=TIERS)], pricing.InvalidPrice),
        ([price(model="graduated", unit_price=None, tiers=TIERS[:1])], pricing.InvalidTiers),
        ([price(model="per_unit", meter="nothing")], errors.UnknownMeter),
        ([price(currency="XXX")], UnknownCurrency),
    ],
)
def test_bad_prices_are_refused_and_leave_nothing(tenant, prices, refused):
    make_meter(tenant)

    with pytest.raises(refused):
        make_plan(tenant, *prices)

    assert (Plan.objects.count(), PlanVersion.objects.count(), Price.objects.count()) == (0, 0, 0)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"code": "a b"}, "code"),
        ({"interval": "fortnight"}, "interval"),
        ({"interval_count": 0}, "interval_count"),
        ({"interval_count": 37}, "interval_count"),
        ({"trial_days": -1}, "trial_days"),
        ({"trial_days": 10_000}, "trial_days"),
        ({"available_from": date(2026, 5, 1), "available_until": date(2026, 4, 1)}, "available_until"),
    ],
)
def test_bad_plans_are_refused(tenant, changes, field):
    with pytest.raises(errors.InvalidPlan) as refused:
        make_plan(tenant, flat("1.00"), **changes)

    assert refused.value.field == field


def test_a_code_is_used_once_per_tenant(tenant):
    make_plan(tenant, flat("1.00"), code="pro")

    with pytest.raises(errors.PlanCodeTaken):
        make_plan(tenant, flat("1.00"), code="pro")
    assert make_plan(make_organisation(local("2026-04-01 09:00")), flat("1.00"), code="pro").pk


def test_versions_take_effect_on_their_day_and_only_in_order(tenant):
    plan = make_plan(tenant, flat("1.00"))
    later = local("2026-06-01 00:00")
    second = catalog.add_version(plan_id=plan.pk, prices=[flat("2.00")], actor=CLERK, effective_from=later)

    def number_at(text):
        at = local(text)
        return catalog.version_at(plan=plan, at=at, on=at.date()).number

    assert [
        number_at(day) for day in ("2026-03-01 00:00", "2026-04-01 09:00", "2026-05-31 23:59", "2026-06-01 00:00")
    ] == [1, 1, 1, 2]
    assert second.number == 2
    with pytest.raises(errors.VersionOutOfOrder):
        catalog.add_version(plan_id=plan.pk, prices=[flat("3.00")], actor=CLERK)


def test_a_plan_is_offered_on_its_days_until_it_is_archived(tenant):
    customer = make_customer(tenant)
    plan = make_plan(tenant, flat("1.00"), available_from=date(2026, 4, 10), available_until=date(2026, 4, 20))
    with pytest.raises(errors.PlanUnavailable):
        subscribe(customer, plan)
    turn(tenant, local("2026-04-20 23:00"))
    subscribe(customer, plan)
    with pytest.raises(errors.PlanUnavailable):
        subscribe(customer, plan, start_at=local("2026-04-21 00:00"))

    catalog.archive_plan(plan_id=plan.pk, actor=CLERK)

    with pytest.raises(errors.PlanUnavailable):
        subscribe(customer, plan)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE subscriptions_price SET unit_price = 2",
        "UPDATE subscriptions_price SET tiers = '[]', currency = 'USD'",
        "UPDATE subscriptions_price SET pay_in_advance = NOT pay_in_advance",
        "UPDATE subscriptions_price SET prorated = NOT prorated",
        "UPDATE subscriptions_price SET kind = 'add_on'",
        "UPDATE subscriptions_price SET min_commitment = 5",
        "UPDATE subscriptions_price SET group_by = '[\"team\"]'",
        'UPDATE subscriptions_price SET properties = \'{"rate": "1"}\'',
        "UPDATE subscriptions_pricefilter SET unit_price = 9",
        "UPDATE subscriptions_pricefilter SET conditions = '{}'",
        "DELETE FROM subscriptions_pricefilter",
        'UPDATE subscriptions_planversion SET min_commitment = \'{"INR": "9.00"}\'',
        "DELETE FROM subscriptions_price",
        "UPDATE subscriptions_planversion SET effective_from = now()",
        "DELETE FROM subscriptions_planversion",
        "UPDATE subscriptions_plan SET \"interval\" = 'year'",
    ],
)
def test_the_database_refuses_to_change_a_version(tenant, statement):
    make_meter(tenant)
    eu = catalog.FilterInput(key="eu", conditions={"region": ["eu"]}, unit_price=Decimal(3))
    make_plan(tenant, flat("1.00"), seats("2.00"), price(code="calls", model="per_unit", meter="calls", filters=[eu]))

    with pytest.raises(IntegrityError, match="cannot be changed"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.parametrize("table", ["price", "pricefilter"])
def test_a_version_that_has_subscribers_takes_no_further_price(tenant, table):
    make_meter(tenant)
    eu = catalog.FilterInput(key="eu", conditions={"region": ["eu"]}, unit_price=Decimal(3))
    plan = make_plan(tenant, price(code="calls", model="per_unit", meter="calls", filters=[eu]))
    subscribe(make_customer(tenant), plan)
    changes = {"price": {"code": "more"}, "pricefilter": {"key": "us"}}[table]
    row = plan.versions.get().prices.get() if table == "price" else plan.versions.get().prices.get().filters.get()
    row.pk, row._state.adding = uuid7(), True
    for name, value in changes.items():
        setattr(row, name, value)

    with pytest.raises(IntegrityError, match="somebody has subscribed"), transaction.atomic():
        row.save(force_insert=True)
