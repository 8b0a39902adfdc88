"""Bad input over HTTP: every answer names what is wrong and where, and nothing at all is written."""

import json
from decimal import Decimal

import pytest
from django.apps import apps

from billing.models import ApiKey, IdempotencyRecord
from billing.services import meters, usage_policy
from subscriptions.services.coupons import create_coupon
from tests.subscriptions.house import (
    CLERK,
    flat,
    local,
    make_customer,
    make_organisation,
    make_plan,
    run,
    seats,
    subscribe,
    turn,
    use,
)
from tests.subscriptions.test_api import API, client_of

pytestmark = pytest.mark.django_db
OWN = (ApiKey, IdempotencyRecord)
"""What a request itself leaves behind: when the key was used, and its idempotency key."""


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


@pytest.fixture
def customer(tenant):
    return make_customer(tenant)


@pytest.fixture
def calls(tenant):
    return meters.create_meter(organisation=tenant, code="calls", name="Calls", aggregation="sum", actor=CLERK)


@pytest.fixture
def client(tenant):
    return client_of(tenant)


def everything():
    """All rows of all tables, but what a request itself leaves behind."""
    return {
        model: list(model._base_manager.order_by("pk").values_list())
        for model in apps.get_models()
        if model._meta.managed and not model._meta.proxy and model not in OWN
    }


def refused(client, method, path, body):
    """Status, code and the fields that the answer names; asserts that it says why and that nothing was written."""
    before = everything()
    answer = client.generic(method, f"{API}{path}", *([] if body is None else [json.dumps(body), "application/json"]))
    assert everything() == before
    problem = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    fields = [one["field"] for one in problem.get("errors", ())]
    assert problem["detail"]
    assert all(one["message"] for one in problem.get("errors", ()))
    return answer.status_code, problem["code"], fields


def tiers(*bounds, price="1"):
    return [{"up_to": bound, "unit_price": price} for bound in bounds]


TIERS = "prices[0].tiers"


@pytest.mark.parametrize(
    ("price", "field"),
    [
        ({"tiers": tiers("100", "50", None)}, f"{TIERS}[1].up_to"),  # overlap
        ({"tiers": tiers("100", "100", None)}, f"{TIERS}[1].up_to"),  # the same twice
        ({"tiers": tiers("10", None, None)}, f"{TIERS}[1].up_to"),  # two without an end
        ({"tiers": tiers("10", None, "20")}, f"{TIERS}[1].up_to"),  # a gap, in a way: what comes after the end
        ({"tiers": tiers("10", "20")}, f"{TIERS}[1].up_to"),  # a gap: nothing is said of the 21st
        ({"tiers": tiers("-5", None)}, f"{TIERS}[0].up_to"),  # a negative step
        ({"tiers": tiers("0", None)}, f"{TIERS}[0].up_to"),  # a step of nothing
        ({"tiers": tiers("10", None, price="-1")}, f"{TIERS}[0].unit_price"),
        ({"tiers": []}, TIERS),
    ],
    ids=str,
)
@pytest.mark.parametrize("model", ["graduated", "volume"])
def test_tiers_that_do_not_fit_together(client, calls, model, price, field):
    given = {"code": "calls", "name": "Calls", "currency": "INR", "model": model, "meter": "calls"} | price
    plan = {"code": "team", "name": "Team", "interval": "month", "versions": [{"prices": [given]}]}

    status, code, fields = refused(client, "POST", "/plans", plan)

    assert (status, fields) == (422, [field]), code
    alone = {"currency": "INR", "model": model} | price
    quoted = refused(client, "POST", "/prices/quote", {"quantity": "5", "price": alone})
    assert (quoted[0], [one.rpartition("tiers")[2] for one in quoted[2]]) == (422, [field.rpartition("tiers")[2]])


def test_a_refusal_says_which_of_several_prices_it_is_about(client, calls):
    """The field by its place in the list, the words by component and currency; in a filter of a price too."""
    good = {"code": "base", "name": "Base", "model": "flat", "unit_price": "10"}
    calls = {"code": "calls", "name": "Calls", "model": "graduated", "meter": "calls", "tiers": tiers("100", None)}
    gap = {"tiers": tiers("100", "90", None)}
    filtered = {"filters": [{"key": "eu", "conditions": {"region": ["eu"]}, **gap}]}

    def prices(**changes):
        """Two components in two currencies; ``changes`` are of the calls in euros, the last one."""
        same = [one | {"currency": currency} for currency in ("INR", "EUR") for one in (good, calls)]
        return [*same[:3], same[3] | changes]

    for changes, field, words in (
        (gap, "prices[3].tiers[1].up_to", "'calls' in EUR: Bounds must ascend: 90 does not come after 100."),
        (filtered, "prices[3].filters[0].tiers[1].up_to", "'calls' in EUR: Bounds must ascend: 90 does not come after 100."),
        ({"meter": "nobody"}, "prices[3].meter", "'calls' in EUR: There is no meter 'nobody' in this organisation."),
        ({"model": "flat", "tiers": []}, "prices[3].meter",
         "'calls' in EUR: It is flat: usage cannot change it; leave the meter out."),
        ({"currency": "INR"}, "prices[3].code",
         "The component 'calls' has two prices in INR; a component has one price per currency."),
        ({"meter": None}, "prices[3].meter", "The component 'calls' is metered, an add-on or one-off in every currency, or in none."),
        ({"kind": "add_on"}, "prices[3].kind", "The component 'calls' is metered, an add-on or one-off in every currency, or in none."),
    ):  # fmt: skip
        version = {"prices": prices(**changes)}
        plan = {"code": "team", "name": "Team", "interval": "month", "versions": [version]}
        before = everything()
        answer = client.post(f"{API}/plans", plan, format="json")
        assert everything() == before
        told = [(one["field"], one["message"]) for one in answer.json()["errors"]]
        assert (answer.status_code, told) == (422, [(field, words)])


def test_currencies_that_do_not_match(tenant, client, calls, customer):
    make_plan(tenant, flat("10.00", currency="EUR"), code="euros")
    rupees = make_plan(tenant, flat("100.00"), code="rupees")
    subscription = subscribe(customer, rupees)
    create_coupon(
        organisation=tenant, code="five", name="Five", kind="fixed", amount=Decimal(5), currency="EUR", actor=CLERK
    )
    here = f"/subscriptions/{subscription.pk}"

    for path, body, expected in (
        ("/subscriptions", {"customer": str(customer.pk), "plan": "euros"}, (409, "missing_price", ["currency"])),
        ("/subscriptions", {"customer": str(customer.pk), "plan": "rupees", "currency": "USD"},
         (409, "missing_price", ["currency"])),
        ("/subscriptions/preview", {"new": {"customer": str(customer.pk), "plan": "euros"}}, (409, "missing_price", ["currency"])),
        (f"{here}/change", {"plan": "euros"}, (409, "missing_price", ["currency"])),
        ("/applied-coupons", {"customer": str(customer.pk), "coupon": "five"}, (422, "currency_mismatch", ["coupon"])),
    ):  # fmt: skip
        assert refused(client, "POST", path, body) == expected, path


def test_changes_to_a_cancelled_subscription(tenant, client, calls, customer):
    plan = make_plan(tenant, flat("100.00"), seats("10.00"), code="team")
    make_plan(tenant, flat("200.00"), code="big")
    subscription = subscribe(customer, plan, quantity=2)
    run(tenant)
    here = f"/subscriptions/{subscription.pk}"
    assert client.post(f"{API}{here}/cancel", {}, format="json").status_code == 200

    for action, body in (
        ("change", {"quantity": 3}), ("change", {"plan": "big"}), ("change", {"quantity": 3, "when": "period_end"}),
        ("pause", {}), ("resume", {}), ("cancel", {}), ("uncancel", {}), ("suspend", {"reason": "late"}),
        ("add-ons", {"add_ons": {}}),
    ):  # fmt: skip
        status, code, _ = refused(client, "POST", f"{here}/{action}", body)
        assert (status, code) == (409, "transition_refused"), action


def test_a_quantity_below_the_seats_in_use(tenant, client, customer):
    meter = meters.create_meter(organisation=tenant, code="in-use", name="In use", aggregation="max", actor=CLERK)
    subscription = subscribe(
        customer, make_plan(tenant, seats("10.00"), rules={"seats_meter": "in-use"}), quantity=9
    )  # fmt: skip
    run(tenant)
    use(customer, meter, "6", local("2026-04-02 10:00"))
    turn(tenant, local("2026-04-03 10:00"))

    for body in ({"quantity": 5}, {"quantity": 5, "when": "period_end"}, {"quantity": 1, "on": "2026-04-20T00:00:00Z"}):
        found = refused(client, "POST", f"/subscriptions/{subscription.pk}/change", body)
        assert found == (409, "quantity_below_use", ["quantity"])
    assert (
        client.post(f"{API}/subscriptions/{subscription.pk}/change", {"quantity": 6}, format="json").status_code == 200
    )


def event(**change):
    return {"event_id": "e-1", "meter": "calls", "customer": "c", "occurred_at": "2026-04-01T03:00:00Z"} | change


@pytest.mark.parametrize(
    "occurred_at",
    ["2026-04-02T06:30:00Z", "2027-04-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-01-31T00:00:00Z", "1970-01-01T00:00:00Z"],
)  # fmt: skip
def test_events_in_the_future_or_beyond_retention(tenant, client, calls, customer, occurred_at):
    usage_policy.change_policy(organisation=tenant, actor=CLERK, retention_months=2)
    body = event(customer=customer.external_id, occurred_at=occurred_at)

    assert refused(client, "POST", "/usage-events", body) == (422, "usage_event_rejected", ["occurred_at"])
    before = everything()
    answer = client.post(f"{API}/usage-events/batch", {"events": [body]}, format="json")
    [verdict] = answer.json()["verdicts"]
    assert (answer.status_code, verdict["status"], verdict["field"]) == (200, "rejected", "occurred_at")
    assert verdict["reason"]
    assert everything() == before


@pytest.mark.parametrize(
    "expression",
    ["1 +", "bytes / ", "open('x')", "bytes[0]", "bytes ** 2", "lambda: 1", "__import__('os')", "if(bytes)", "(" * 300, "9" * 499,
     "bytes; 1", "bytes / 0", "round(bytes, 20)", "bytes + 'eu'"],
)  # fmt: skip
def test_expressions_that_cannot_be_read(client, expression):
    meter = {"code": "m", "name": "M", "aggregation": "sum", "expression": expression}

    assert refused(client, "POST", "/meters", meter) == (422, "invalid_expression", ["expression"])
    assert refused(client, "POST", "/meters/evaluate", {"expression": expression}) == (
        422, "invalid_expression", ["expression"],
    )  # fmt: skip


@pytest.mark.parametrize(
    ("properties", "field"),
    [({}, "bytes"), ({"bytes": "much"}, "bytes"), ({"bytes": 5, "parts": 0}, "properties"),
     ({"bytes": "1e400", "parts": 1}, "bytes"), ({"bytes": -5, "parts": 1}, "properties")],
)  # fmt: skip
def test_events_that_an_expression_cannot_be_computed_of(tenant, client, customer, properties, field):
    meters.create_meter(
        organisation=tenant, code="calls", name="Calls", aggregation="sum", expression="bytes / parts", actor=CLERK
    )

    found = refused(client, "POST", "/usage-events", event(customer=customer.external_id, properties=properties))

    assert found == (422, "usage_event_rejected", [field])
