"""Plans side by side, and the plan that would have suited a customer's real usage best."""

from decimal import Decimal

import pytest

from billing.models import Meter
from subscriptions import errors
from subscriptions.models import Feature
from subscriptions.services import catalog, comparison, recommending
from subscriptions.services.catalog import FilterInput, PriceInput
from subscriptions.services.entitlements import features
from subscriptions.services.entitlements.terms import TermsInput, set_plan_entitlements
from tests.subscriptions.house import (
    CLERK,
    flat,
    live,
    local,
    make_customer,
    make_meter,
    make_organisation,
    make_plan,
    run,
    seats,
    subscribe,
    use,
)  # fmt: skip
from tests.subscriptions.test_api import API, client_of

pytestmark = pytest.mark.django_db
TIERS = [{"up_to": "1000", "unit_price": "0"}, {"up_to": None, "unit_price": "0.02", "flat_fee": "5"}]


@pytest.fixture
def tenant():
    organisation = make_organisation(local("2026-04-01 00:00"))
    make_meter(organisation)
    return organisation


def calls(model="per_unit", **extra):
    return PriceInput(code="calls", name="Calls", currency="INR", model=model, meter="calls", **extra)


def give(organisation, plan, code, *, limit="10", per_unit=False):
    if not Feature.objects.of(organisation).filter(code=code).exists():
        features.create_feature(organisation=organisation, code=code, name=code.title(), kind="quota", actor=CLERK)
    terms = TermsInput(feature=code, limit=None if limit is None else Decimal(limit), per_unit=per_unit)
    set_plan_entitlements(plan_id=plan.pk, actor=CLERK, entitlements=[terms])


def test_plans_stand_side_by_side_with_prices_in_words_and_features(tenant):
    europe = FilterInput(key="eu", name="In Europe", conditions={"region": ["eu"]}, unit_price=Decimal("0.5"))
    small = make_plan(tenant, seats("499.00"), calls("graduated", tiers=TIERS), code="small")
    big = make_plan(
        tenant, flat("90000.00"), flat("500.00", code="setup", name="Setup", kind="one_off"),
        calls(unit_price=Decimal("0.0125"), filters=[europe], min_commitment=Decimal("100.00"), group_by=["team"]),
        code="big", interval="year", min_commitment={"INR": "120000.00"},
    )  # fmt: skip
    make_plan(tenant, flat("9.00", currency="USD"), code="dollars")
    catalog.archive_plan(plan_id=make_plan(tenant, flat("9.00"), code="old").pk, actor=CLERK)
    give(tenant, small, "exports")
    give(tenant, big, "exports", limit=None)
    give(tenant, big, "support", limit="3", per_unit=True)

    body = client_of(tenant).get(f"{API}/plans/compare", {"quantity": "3"}).json()

    assert [(one["code"], one["price"]["amount"], one["per_month"]["amount"], one["one_off"]["amount"]) for one in body["plans"]] == [
        ("big", "120000.00", "10000.00", "500.00"), ("small", "1497.00", "1497.00", "0.00"),
    ]  # fmt: skip
    words = {(row["code"], cell["plan"]): cell["words"] for row in body["components"] for cell in row["cells"]}
    assert words["seats", "small"] == ["499.00 INR per seat"]
    assert words["setup", "big"] == ["500.00 INR once"]
    assert words["calls", "small"] == ["up to 1,000: 0.00 INR per call", "above: 0.02 INR per call + 5.00 INR"]
    assert words["calls", "big"] == [
        "0.0125 INR per call", "In Europe: 0.50 INR per call", "at least 100 INR a period", "by team",
    ]  # fmt: skip
    given = {(row["code"], cell["plan"]): cell["words"] for row in body["features"] for cell in row["cells"]}
    assert given == {
        ("exports", "big"): ["unlimited"], ("exports", "small"): ["10"],
        ("support", "big"): ["3 per unit"], ("support", "small"): ["not included"],
    }  # fmt: skip


def test_named_plans_are_compared_or_refused(tenant):
    make_plan(tenant, flat("1.00"), code="a")
    make_plan(tenant, flat("1.00", currency="USD"), code="b")
    client, path = client_of(tenant), f"{API}/plans/compare"

    assert [one["code"] for one in client.get(path, {"plans": "a"}).json()["plans"]] == ["a"]
    for query, status, code in [
        ({"plans": "a,nothing"}, 404, "not_found"),
        ({"plans": "a,b"}, 409, "missing_price"),
        ({"quantity": "0"}, 422, "invalid_input"),
        ({"quantity": "x"}, 422, "invalid_input"),
        ({"more": "1"}, 422, "invalid_input"),
        ({"plans": ",".join(map(str, range(30)))}, 422, "invalid_input"),
    ]:
        answer = client.get(path, query)
        assert (answer.status_code, answer.json()["code"]) == (status, code), answer.content
    assert client.get(path, {"currency": "EUR"}).json()["plans"] == []
    gone = make_plan(tenant, flat("1.00"), code="gone")
    catalog.archive_plan(plan_id=gone.pk, actor=CLERK)
    with pytest.raises(errors.PlanUnavailable):
        comparison.compare(organisation=tenant, names=["gone"])


def lived(tenant, plan, *, months=3, quantity="2000", **agreed):
    customer = make_customer(tenant)
    meter = tenant_meter(tenant)
    subscription = subscribe(customer, plan, **agreed)
    run(tenant)
    for month in range(4, 4 + months):
        use(customer, meter, quantity, local(f"2026-{month:02}-10 00:00"))
    live(tenant, local(f"2026-{4 + months:02}-02 00:00"))
    return subscription


def tenant_meter(tenant):
    return Meter.objects.of(tenant).get(code="calls")


def test_the_plan_that_would_have_cost_least_for_what_was_used_is_recommended(tenant):
    present = make_plan(tenant, flat("100.00"), calls(unit_price=Decimal("0.50")), code="payg")
    make_plan(tenant, flat("500.00"), calls("graduated", tiers=TIERS), code="bundle")
    make_plan(tenant, flat("6000.00"), calls(unit_price=Decimal("0.10")), code="annual", interval="year")
    make_plan(tenant, flat("10.00"), code="blind")  # does not measure calls at all
    subscription = lived(tenant, present)

    body = client_of(tenant).get(f"{API}/subscriptions/{subscription.pk}/recommendation", {"periods": "2"}).json()

    assert [one["starts_at"][:10] for one in body["periods"]] == ["2026-04-30", "2026-05-31"]
    assert [(one["plan"], one["total"]["amount"], one["saving"]["amount"], one["lacks"]) for one in body["candidates"]] == [
        ("blind", "20.00", "2180.00", ["does not measure Calls"]),
        ("bundle", "1050.00", "1150.00", []),
        ("annual", "1400.00", "800.00", []),
        ("payg", "2200.00", "0.00", []),
    ]  # fmt: skip
    assert body["recommended"] == "bundle"
    assert [one["amount"] for one in body["candidates"][1]["costs"]] == ["525.00", "525.00"]


def test_a_plan_that_takes_something_away_is_shown_and_not_recommended(tenant):
    storage = seats("10.00", code="storage", kind="add_on")
    present = make_plan(tenant, flat("100.00"), storage, code="full")
    cheap = make_plan(tenant, flat("50.00"), code="cheap")
    give(tenant, present, "exports")
    give(tenant, cheap, "exports", limit="5")
    subscription = lived(tenant, present, months=1, add_ons={"storage": 2})

    found = recommending.recommend(subscription=subscription)

    assert [(one.version.plan.code, one.total.amount, one.lacks) for one in found.candidates] == [
        ("cheap", Decimal("50.00"), ("has no add-on storage", "gives less of Exports")), ("full", Decimal("120.00"), ()),
    ]  # fmt: skip
    assert found.recommended is None


def test_without_a_finished_period_nothing_is_recommended(tenant):
    plan = make_plan(tenant, flat("100.00"), code="one")
    make_plan(tenant, flat("50.00"), code="two")
    subscription = subscribe(make_customer(tenant), plan)
    run(tenant)

    found = recommending.recommend(subscription=subscription)

    assert (found.periods, found.recommended) == ((), None)
    other = client_of(make_organisation(local("2026-04-01 00:00")))
    assert other.get(f"{API}/subscriptions/{subscription.pk}/recommendation").status_code == 404


def test_a_plans_figures_by_version(tenant):
    plan = make_plan(tenant, seats("100.00"), seats("10.00", code="storage", kind="add_on"), code="team")
    for quantity in (1, 2):
        subscribe(make_customer(tenant), plan, quantity=quantity, add_ons={"storage": 3})
    subscribe(make_customer(tenant), plan, trial_days=14)
    run(tenant)
    catalog.add_version(plan_id=plan.pk, prices=[seats("120.00")], actor=CLERK)
    subscribe(make_customer(tenant), plan)
    run(tenant)

    body = client_of(tenant).get(f"{API}/plans/{plan.pk}/figures").json()

    assert [(one["version"], one["running"], one["paying"], one["mrr"]["amount"]) for one in body["versions"]] == [
        (2, 1, 1, "120.00"), (1, 3, 2, "360.00"),
    ]  # fmt: skip
