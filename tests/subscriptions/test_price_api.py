"""Prices of every model through the API: what is stored, what is quoted, and what is refused by name."""

import pytest

from subscriptions.models import Plan, PlanVersion, Price, PriceFilter
from tests.subscriptions.house import local, make_customer, make_meter, make_organisation
from tests.subscriptions.test_api import API, client_of

pytestmark = pytest.mark.django_db
METERED = {"code": "calls", "name": "Calls", "currency": "INR", "meter": "calls"}
BASE = {"code": "base", "name": "Base", "currency": "INR", "model": "flat", "unit_price": "100.00"}
TIERS = [{"up_to": "10", "unit_price": "2", "flat_fee": "5"}, {"up_to": None, "unit_price": "1"}]


@pytest.fixture
def tenant():
    organisation = make_organisation(local("2026-04-01 09:00"))
    make_meter(organisation)
    return organisation


@pytest.fixture
def client(tenant):
    return client_of(tenant)


def plan_of(*prices, **version):
    return {"code": "all", "name": "All", "interval": "month", "versions": [{"prices": list(prices), **version}]}


def add(client, *prices, **version):
    return client.post(f"{API}/plans", plan_of(*prices, **version), format="json")


def test_a_price_keeps_everything_it_says(tenant, client):
    full = METERED | {
        "model": "percentage", "properties": {"rate": "2.50", "fixed_fee": "0.3", "free_events": "2"}, "min_commitment": "50.00",
        "group_by": ["team"],
        "filters": [{"key": "eu", "conditions": {"region": ["eu", "uk"]}, "properties": {"rate": "3"}}],
    }  # fmt: skip

    answer = add(client, BASE | {"pay_in_advance": False, "prorated": False}, full, min_commitment={"INR": "250.00"})

    assert answer.status_code == 201, answer.content
    [version] = answer.json()["versions"]
    assert version["min_commitment"] == {"INR": "250.00"}
    base, calls = version["prices"]
    assert (base["pay_in_advance"], base["prorated"], base["kind"]) == (False, False, "recurring")
    assert calls["properties"] == {"rate": "2.50", "fixed_fee": "0.3", "free_events": "2"}
    assert (calls["min_commitment"], calls["group_by"], calls["pay_in_advance"]) == ("50.0000", ["team"], False)
    assert calls["filters"] == [
        {"key": "eu", "name": "eu", "conditions": {"region": ["eu", "uk"]}, "unit_price": None, "tiers": [],
         "properties": {"rate": "3"}}
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("price", "quantity", "measured", "amount", "parts"),
    [
        ({"model": "flat", "unit_price": "9.99"}, "7", None, "9.99", []),
        ({"model": "per_unit", "unit_price": "0.335"}, "3", None, "1.01", []),
        ({"model": "graduated", "tiers": TIERS}, "12", None, "27.00", ["25", "2"]),
        ({"model": "volume", "tiers": TIERS}, "12", None, "12.00", ["12"]),
        ({"model": "volume", "tiers": TIERS}, "10", None, "25.00", ["25"]),
        ({"model": "package", "unit_price": "7", "properties": {"package_size": "10", "free_units": "5"}}, "16", None, "14.00",
         ["0", "14"]),
        ({"model": "percentage", "properties": {"rate": "2.5", "fixed_fee": "3"}}, "5000", {"events": 2}, "131.00", ["125", "6"]),
        ({"model": "percentage", "properties": {"rate": "2.5", "fixed_fee": "3", "max_per_event": "50"}}, "5000",
         {"values": ["1000", "4000"]}, "78.00", ["125", "6", "-53"]),
        ({"model": "graduated_percentage", "tiers": [{"up_to": "1000", "rate": "2"}, {"up_to": None, "rate": "0.5"}]}, "3000",
         None, "30.00", ["20", "10"]),
        ({"model": "dynamic"}, "3", {"amount": "12.345"}, "12.35", []),
    ],
)  # fmt: skip
def test_a_quote_prices_every_model_and_says_how(client, price, quantity, measured, amount, parts):
    body = {"price": {"currency": "INR", **price}, "quantity": quantity}
    if measured:
        body["measured"] = measured

    answer = client.post(f"{API}/prices/quote", body, format="json")

    assert answer.status_code == 200, answer.content
    [component] = answer.json()["components"]
    assert component["amount"] == answer.json()["total"] == {"amount": amount, "currency": "INR"}
    assert [tier["amount"] for tier in component["tiers"]] == parts


def test_a_quote_of_a_plan_takes_add_ons_filters_minimums_and_one_off_charges(client):
    storage = {
        "code": "storage",
        "name": "Storage",
        "currency": "INR",
        "model": "per_unit",
        "unit_price": "20",
        "kind": "add_on",
    }
    setup = BASE | {"code": "setup", "name": "Setup", "unit_price": "500", "kind": "one_off"}
    calls = METERED | {
        "model": "per_unit", "unit_price": "1",
        "filters": [{"key": "eu", "name": "In Europe", "conditions": {"region": ["eu"]}, "unit_price": "2"}],
    }  # fmt: skip
    assert add(client, BASE, storage, setup, calls, min_commitment={"INR": "400.00"}).status_code == 201
    usage = [{"component": "calls", "quantity": "10"},
             {"component": "calls", "quantity": "20", "properties": {"region": "eu"}}]  # fmt: skip

    answer = client.post(
        f"{API}/prices/quote", {"plan": "all", "add_ons": {"storage": 3}, "usage": usage}, format="json"
    )

    body = answer.json()
    assert [(one["name"], one["kind"], one["filter"], one["amount"]["amount"]) for one in body["components"]] == [
        ("Base", "recurring", "", "100.00"), ("Storage", "add_on", "", "60.00"), ("Setup", "one_off", "", "500.00"),
        ("Calls", "recurring", "", "10.00"), ("In Europe", "recurring", "eu", "40.00"),
    ]  # fmt: skip
    assert (body["minimum"]["amount"], body["total"]["amount"], body["one_off"]["amount"]) == (
        "190.00",
        "400.00",
        "500.00",
    )


REFUSED = [
    ({"model": "per_unit", "unit_price": "-1"}, "prices[0].unit_price"),
    ({"model": "volume", "unit_price": "1", "tiers": TIERS}, "prices[0].unit_price"),
    ({"model": "per_unit", "unit_price": "1", "tiers": TIERS}, "prices[0].tiers"),
    ({"model": "volume"}, "prices[0].tiers"),
    ({"model": "volume", "tiers": [{"up_to": "10", "unit_price": "1"}]}, "prices[0].tiers[0].up_to"),
    ({"model": "volume", "tiers": [{"up_to": "10", "unit_price": "1"}, {"up_to": "9", "unit_price": "1"},
                                   {"up_to": None, "unit_price": "1"}]}, "prices[0].tiers[1].up_to"),
    ({"model": "volume", "tiers": [{"up_to": None, "unit_price": "1"}, {"up_to": None, "unit_price": "1"}]},
     "prices[0].tiers[0].up_to"),
    ({"model": "volume", "tiers": [{"up_to": None, "unit_price": "-0.01"}]}, "prices[0].tiers[0].unit_price"),
    ({"model": "volume", "tiers": [{"up_to": None, "unit_price": "1", "flat_fee": "-2"}]}, "prices[0].tiers[0].flat_fee"),
    ({"model": "volume", "tiers": [{"up_to": None, "rate": "1"}]}, "prices[0].tiers[0]"),
    ({"model": "graduated_percentage", "tiers": [{"up_to": None, "rate": "1001"}]}, "prices[0].tiers[0].rate"),
    ({"model": "package", "unit_price": "1"}, "prices[0].properties.package_size"),
    ({"model": "package", "unit_price": "1", "properties": {"package_size": "0"}}, "prices[0].properties.package_size"),
    ({"model": "package", "unit_price": "1", "properties": {"package_size": "1", "rate": "1"}}, "prices[0].properties"),
    ({"model": "percentage"}, "prices[0].properties.rate"),
    ({"model": "percentage", "properties": {"rate": "1", "free_events": "1.5"}}, "prices[0].properties.free_events"),
    ({"model": "percentage", "properties": {"rate": "1", "min_per_event": "2", "max_per_event": "1"}},
     "prices[0].properties.min_per_event"),
    ({"model": "percentage", "properties": {"rate": "1"}, "meter": None}, "prices[0].meter"),
    ({"model": "dynamic", "unit_price": "1"}, "prices[0].unit_price"),
    ({"model": "flat", "unit_price": "1"}, "prices[0].meter"),
    ({"model": "volume", "tiers": [{"up_to": None, "unit_price": "1"}], "pay_in_advance": True}, "prices[0].pay_in_advance"),
    ({"model": "per_unit", "unit_price": "1", "kind": "add_on"}, "prices[0].kind"),
    ({"model": "per_unit", "unit_price": "1", "meter": None, "group_by": ["a"]}, "prices[0].group_by"),
    ({"model": "per_unit", "unit_price": "1", "meter": None, "min_commitment": "5"}, "prices[0].min_commitment"),
    ({"model": "per_unit", "unit_price": "1", "min_commitment": "5.001"}, "prices[0].min_commitment"),
    ({"model": "per_unit", "unit_price": "1", "min_commitment": "0"}, "prices[0].min_commitment"),
    ({"model": "per_unit", "unit_price": "1", "group_by": ["a", "a"]}, "prices[0].group_by"),
    ({"model": "per_unit", "unit_price": "1", "filters": [{"key": "x", "conditions": {"r": ["eu"]}}]},
     "prices[0].filters[0].unit_price"),
    ({"model": "per_unit", "unit_price": "1", "filters": [{"key": "x", "conditions": {}, "unit_price": "1"}]},
     "prices[0].filters[0].conditions"),
    ({"model": "per_unit", "unit_price": "1", "filters": [
        {"key": "x", "conditions": {"r": ["eu", "us"]}, "unit_price": "1"},
        {"key": "y", "conditions": {"r": ["us", "eu"]}, "unit_price": "2"}]}, "prices[0].filters"),
    ({"model": "per_unit", "unit_price": "1", "currency": "XXX"}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("price", "field"), REFUSED)
def test_bad_prices_are_refused_by_field_and_leave_nothing(client, price, field):
    answer = add(client, METERED | price)

    assert answer.status_code == 422, answer.content
    assert field in {error["field"].removeprefix("versions[0].") for error in answer.json()["errors"]} | {""}, (
        answer.content
    )
    assert [model.objects.count() for model in (Plan, PlanVersion, Price, PriceFilter)] == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("commitment", "prices"),
    [({"USD": "5.00"}, [BASE]), ({"INR": "5.00"}, [BASE, BASE | {"currency": "USD"}]), ({"INR": "0"}, [BASE]),
     ({"INR": "5.005"}, [BASE]), (None, [BASE | {"kind": "add_on"}]),
     (None, [BASE | {"kind": "add_on"}, BASE | {"currency": "USD"}, BASE | {"code": "b"}, BASE | {"code": "b", "currency": "USD"}])],
)  # fmt: skip
def test_versions_whose_parts_do_not_fit_are_refused(client, commitment, prices):
    answer = add(client, *prices, **({"min_commitment": commitment} if commitment else {}))

    assert answer.status_code == 422, answer.content
    assert Plan.objects.count() == 0


def test_add_ons_are_offered_taken_and_refused(tenant, client):
    storage = {
        "code": "storage",
        "name": "Storage",
        "currency": "INR",
        "model": "per_unit",
        "unit_price": "20",
        "kind": "add_on",
    }
    add(client, BASE, storage)
    customer = make_customer(tenant)
    made = client.post(
        f"{API}/subscriptions",
        {"customer": customer.external_id, "plan": "all", "add_ons": {"storage": 2}},
        format="json",
    ).json()
    path = f"{API}/subscriptions/{made['id']}/add-ons"
    asked = {"add_ons": {"subscription": made["id"], "add_ons": {"storage": 5}}, "count": 1}

    seen = client.post(f"{API}/subscriptions/preview", asked, format="json").json()
    taken = client.post(path, {"add_ons": {"storage": 5}}, format="json")

    assert made["add_ons"] == {"storage": 2}
    assert taken.json()["offers"] == [
        {"code": "storage", "name": "Storage", "unit": "", "quantity": 5, "amount": {"amount": "100.00", "currency": "INR"}}
    ]  # fmt: skip
    assert taken.json()["documents"]["invoice"]["total"]["amount"] == "60.00"
    assert seen["invoices"][0]["total"]["amount"] == "60.00"
    assert client.get(path).json()["documents"] is None
    assert client.post(path, {"add_ons": {"none": 5}}, format="json").json()["code"] == "add_on_not_offered"
    assert client.post(path, {"add_ons": {"storage": 5}}, format="json").json()["code"] == "nothing_to_change"
    assert client_of(make_organisation(local("2026-04-01 09:00"))).get(path).status_code == 404
