"""Entitlements over HTTP: what is answered, what is refused, what happens once."""

from decimal import Decimal

import pytest
from rest_framework.test import APIClient

from billing import permissions
from billing.models import AuditRecord
from billing.services import organisations
from subscriptions.entitlements.comparison import features_of_versions
from subscriptions.models import Consumption, PlanEntitlement, QuotaCounter
from tests.subscriptions.house import flat, local, make_customer, make_organisation, make_plan, seats, subscribe
from tests.subscriptions.test_entitlements import feature, gives, plan_with

pytestmark = pytest.mark.django_db


@pytest.fixture
def tenant():
    return make_organisation(local("2026-04-01 09:00"))


@pytest.fixture
def client(tenant):
    _, secret = organisations.create_api_key(organisation=tenant, name="app", scopes=sorted(permissions.ALL))
    return APIClient(HTTP_AUTHORIZATION=f"Bearer {secret}")


def test_a_feature_is_given_checked_and_consumed(tenant, client):
    assert client.post("/api/v1/features", {"code": "exports", "name": "Exports", "kind": "quota"}).status_code == 201
    small, large = make_plan(tenant, flat("100.00"), code="small"), make_plan(tenant, flat("300.00"), code="large")
    for plan, limit in ((small, "10"), (large, None)):
        body = {"plan": plan.code, "entitlements": [{"feature": "exports", "limit": limit}]}
        assert client.post("/api/v1/plan-entitlements", body).json()["entitlements"][0]["limit"] == limit
    customer = make_customer(tenant)
    subscribe(customer, small)
    used = {"customer": customer.external_id, "feature": "exports", "quantity": "8", "key": "one"}

    first = client.post("/api/v1/entitlements/consume", used, HTTP_IDEMPOTENCY_KEY="a").json()
    again = client.post("/api/v1/entitlements/consume", used).json()
    checked = client.get(
        f"/api/v1/entitlements/check?customer={customer.external_id}&feature=exports&quantity=3"
    ).json()
    refused = client.post("/api/v1/entitlements/consume", used | {"key": "two"}).json()

    assert (first["consumed"], first["used"], first["remaining"], first["replayed"]) == (True, "8", "2", False)
    assert (again["consumption"], again["replayed"]) == (first["consumption"], True)
    assert checked == {
        "customer": customer.external_id, "feature": "exports", "name": "Exports", "kind": "quota", "unit": "", "allowed": False,
        "why": "limit_reached", "quantity": "3", "limit": "10", "used": "8", "remaining": "2", "overage": "0", "value": "",
        "resets_at": "2026-04-30T18:30:00Z",
        "upgrade_to": {"plan": "large", "name": checked["upgrade_to"]["name"], "version": 1,
                       "monthly": {"amount": "300.00", "currency": "INR"}},
    }  # fmt: skip
    assert (refused["consumed"], refused["consumption"], refused["upgrade_to"]["plan"]) == (False, None, "large")
    assert (Consumption.objects.count(), QuotaCounter.objects.get().used) == (1, 8)
    listed = client.get(f"/api/v1/entitlements?customer={customer.pk}").json()["entitlements"]
    assert [(one["feature"], one["used"]) for one in listed] == [("exports", "8")]


def test_an_add_on_gives_over_the_api(tenant, client):
    client.post("/api/v1/features", {"code": "exports", "name": "Exports", "kind": "quota"})
    make_plan(tenant, flat("100.00"), seats("20.00", code="storage", kind="add_on"), code="team")
    given = {"feature": "exports", "add_on": "storage", "limit": "50", "per_unit": True}
    customer = make_customer(tenant)
    new = {"customer": customer.external_id, "plan": "team", "add_ons": {"storage": 2}}

    answer = client.post("/api/v1/plan-entitlements", {"plan": "team", "entitlements": [given]})
    wrong = client.post("/api/v1/plan-entitlements", {"plan": "team", "entitlements": [given | {"add_on": "seats"}]})
    assert client.post("/api/v1/subscriptions", new).status_code == 201
    checked = client.get(f"/api/v1/entitlements/check?customer={customer.pk}&feature=exports").json()
    compared = client.get("/api/v1/plans/compare?plans=team").json()

    assert answer.json()["entitlements"][0]["add_on"] == "storage"
    assert (wrong.status_code, [one["field"] for one in wrong.json()["errors"]]) == (422, ["add_on"])
    assert (checked["allowed"], checked["limit"]) == (True, "100")
    assert compared["features"][0]["cells"][0]["words"] == ["not included; with storage: 50 per unit"]


def test_a_batch_answers_each_question(tenant, client):
    feature(tenant)
    customer = make_customer(tenant)
    subscribe(customer, plan_with(tenant, 10))
    stranger = make_customer(make_organisation(local("2026-04-01 09:00")))
    names = [(customer.external_id, "exports"), (str(customer.pk), "exports"), (str(stranger.pk), "exports"), ("nobody", "exports"),
             (customer.external_id, "nothing")]  # fmt: skip

    body = {"questions": [{"customer": name, "feature": code} for name, code in names]}
    found = client.post("/api/v1/entitlements/check", body).json()["answers"]

    assert [one["why"] for one in found] == ["within_limit"] * 2 + ["unknown_customer"] * 2 + ["unknown_feature"]


@pytest.mark.parametrize(
    ("query", "status", "field"),
    [("customer=c&feature=exports", 404, "customer"), ("feature=exports", 422, "customer"), ("customer={customer}", 422, "feature"),
     ("customer={customer}&feature=nothing", 404, "feature"), ("customer={customer}&feature=exports&quantity=-1", 422, "quantity"),
     ("customer={customer}&feature=exports&quantity=NaN", 422, "quantity"), ("customer={customer}&feature=exports&more=1", 422, "more"),
     ("customer={customer}&feature=exports&quantity=1e3", 422, "quantity"), ("customer=%00&feature=exports", 422, "customer")],
)  # fmt: skip
def test_questions_that_are_none(tenant, client, query, status, field):
    feature(tenant)
    answer = client.get(f"/api/v1/entitlements/check?{query.format(customer=make_customer(tenant).external_id)}")
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (status, field)


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [({"quantity": "0"}, 422, "invalid_input"), ({"quantity": "-1"}, 422, "invalid_input"), ({"key": ""}, 422, "invalid_input"),
     ({"feature": "sso"}, 422, "not_consumable"), ({"feature": "nothing"}, 404, "not_found"), ({"customer": "x"}, 404, "not_found"),
     ({"quantity": "0.0000001"}, 422, "invalid_input")],
)  # fmt: skip
def test_consumption_that_is_none_leaves_nothing(tenant, client, body, status, code):
    feature(tenant)
    feature(tenant, "sso", "boolean")
    customer = make_customer(tenant)
    subscribe(customer, plan_with(tenant, 10))
    given = {"customer": customer.external_id, "feature": "exports", "key": "one"} | body
    answer = client.post("/api/v1/entitlements/consume", given)
    assert (answer.status_code, answer.json()["code"]) == (status, code)
    assert not Consumption.objects.exists()
    assert not PlanEntitlement.objects.filter(feature__code="sso").exists()


def test_plans_are_compared_by_what_they_give(tenant, django_assert_num_queries):
    for code, kind in (("exports", "quota"), ("sso", "boolean"), ("unused", "boolean")):
        feature(tenant, code, kind)
    small, large = plan_with(tenant, 10), plan_with(tenant, None)
    gives(large, "sso")
    versions = [plan.versions.get().pk for plan in (small, large)]

    with django_assert_num_queries(2):
        found = features_of_versions(organisation=tenant, version_ids=versions)

    assert [(row.code, [row.given[one].text for one in versions], row.differs) for row in found] == [
        ("exports", ["10", "unlimited"], True), ("sso", ["not included", "included"], True)]  # fmt: skip
    assert found[0].given[versions[0]].terms.limit == Decimal(10)


def test_choices_are_changed_by_name_and_refused_by_name(tenant, client):
    before = client.get("/api/v1/entitlement-policy").json()
    assert (before["thresholds"], before["sold_versions"], before["statuses"]["paused"]) == (
        [75, 90, 100], "more_generous", "paid_period",
    )  # fmt: skip

    for body, field in (
        ({"thresholds": [0]}, "thresholds[0]"),
        ({"thresholds": []}, "thresholds"),
        ({"statuses": {"asleep": "none"}}, "statuses.asleep"),
        ({"statuses": {"paused": "some"}}, "statuses.paused"),
        ({"several_subscriptions": "best"}, "several_subscriptions"),
        ({"grace": 1}, "grace"),
    ):
        refused = client.patch("/api/v1/entitlement-policy", body)
        assert refused.status_code == 422
        assert [error["field"] for error in refused.json()["errors"]] == [field]
    assert client.get("/api/v1/entitlement-policy").json() == before
    after = client.patch("/api/v1/entitlement-policy", {"thresholds": [90, 50], "statuses": {"paused": "none"}}).json()

    assert after == before | {"thresholds": [50, 90], "statuses": before["statuses"] | {"paused": "none"}}
    assert client.get("/api/v1/entitlement-policy").json() == after
    client.patch("/api/v1/entitlement-policy", {"thresholds": [50, 90]})
    assert AuditRecord.objects.filter(action="organisation.choices_changed").count() == 1
