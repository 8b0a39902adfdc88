"""Who may do what: every address of the API for strangers, other organisations, narrow keys and each role."""

import re
from collections.abc import Iterator
from datetime import timedelta
from functools import cache
from typing import Any, NamedTuple

import pytest
from django.urls import URLPattern, URLResolver, get_resolver
from rest_framework.test import APIClient

from billing import permissions
from billing.models import Membership, Role, User
from billing.services import sessions
from tests.e2e.api_bodies import body_for
from tests.e2e.api_world import House, changed, fingerprint, forgotten
from tests.e2e.test_api_schema import document

PREFIX = "/api/v1/"
OPEN = {"auth_login", "auth_refresh", "auth_logout"}
KEYS = "billing_idempotencyrecord"


class Route(NamedTuple):
    """One method of one address, the view behind it, and its name in the schema."""

    method: str
    path: str
    view: Any
    action: str
    name: str

    @property
    def permission(self) -> str:
        return self.view.required_permissions[self.action]

    @property
    def handler(self) -> Any:
        return getattr(self.view, self.action)


def _patterns(resolver: Any, prefix: str = "/") -> Iterator[tuple[str, Any]]:
    for entry in resolver.url_patterns:
        path = prefix + str(entry.pattern)
        if isinstance(entry, URLResolver):
            yield from _patterns(entry, path)
        elif isinstance(entry, URLPattern) and path.startswith(PREFIX):
            yield re.sub(r"<(uuid:pk|slug:id)>", "{id}", path), entry.callback


@cache
def routes() -> list[Route]:
    """Every route of the API, from the URL resolver."""
    found = []
    for path, callback in _patterns(get_resolver()):
        view = callback.cls
        actions = getattr(callback, "actions", None) or {
            name: name for name in ("get", "post", "put", "patch", "delete") if hasattr(view, name)
        }
        described = document()["paths"].get(path, {})
        for method, action in actions.items():
            if method != "head":
                found.append(Route(method, path, view, action, described.get(method, {}).get("operationId", "")))
    return sorted(found, key=lambda route: (route.path, route.method))


CLOSED = [route for route in routes() if route.name not in OPEN]
WITH_ID = [route for route in CLOSED if "{id}" in route.path]
WITH_BODY = [route for route in CLOSED if "requestBody" in document()["paths"][route.path][route.method]]
REPEATABLE = [route for route in CLOSED if getattr(route.handler, "is_idempotent", False)]


def each(chosen: list[Route]) -> Any:
    return pytest.mark.parametrize("route", chosen, ids=[f"{one.method} {one.path}" for one in chosen])


def ask(client: APIClient, route: Route, address: str, body: Any, **headers: str) -> Any:
    return getattr(client, route.method)(address, body, **headers) if body is not None else getattr(
        client, route.method)(address, **headers)  # fmt: skip


def query(route: Route) -> str:
    """What an address needs besides its path."""
    needed = {"reconciliation/summary": "?from=2026-01-01&to=2026-12-31", "entitlements": "?customer=family-1",
              "entitlements/check": "?customer=family-1&feature=exports"}  # fmt: skip
    return needed.get(route.path.removeprefix(PREFIX), "") if route.method == "get" else ""


def test_every_route_is_in_the_schema() -> None:
    assert {(route.path, route.method) for route in routes()} == {
        (path, method) for path, item in document()["paths"].items() for method in item
    }


def test_every_route_names_a_permission() -> None:
    assert {route.permission for route in CLOSED} <= permissions.ALL


@each(CLOSED)
def test_strangers_are_sent_away(house: House, route: Route) -> None:
    before = fingerprint()
    for client in (APIClient(), APIClient(HTTP_AUTHORIZATION="Bearer mk_wrong"), APIClient(HTTP_X_API_KEY="mk_wrong")):
        answer = ask(client, route, house.address(route.path), body_for(house, route.name))
        assert answer.status_code == 401
        assert answer["WWW-Authenticate"].startswith("Bearer")
        assert answer["Content-Type"] == "application/problem+json"
    assert not changed(before)


@each(WITH_ID)
def test_rows_of_others_do_not_exist(house: House, other: House, route: Route) -> None:
    client = house.client()
    client.get("/api/v1/organisation")
    before = fingerprint()
    answer = ask(client, route, other.address(route.path), body_for(house, route.name))
    assert answer.status_code == 404
    assert answer.json()["code"] == "not_found"
    assert other.organisation.name not in answer.content.decode()
    assert not changed(before)


@each([route for route in CLOSED if route.method == "get" and "{id}" not in route.path])
def test_lists_and_sums_show_only_our_own(house: House, other: House, route: Route) -> None:
    ours = house.client().get(route.path + query(route))
    assert ours.status_code == 200
    text = ours.content.decode()
    theirs = {value for values in other.rows.values() for value in values} | {str(other.organisation.pk)}
    assert not {value for value in theirs if value in text}


@each(CLOSED)
def test_a_key_without_the_permission_is_refused(house: House, route: Route) -> None:
    client = house.client_with(*sorted(permissions.ALL - {route.permission}))
    client.get("/api/v1/organisation")
    before = fingerprint()
    answer = ask(client, route, house.address(route.path) + query(route), body_for(house, route.name))
    assert answer.status_code == 403
    assert answer.json()["code"] == "permission_denied"
    assert route.permission in answer.json()["detail"]
    assert not changed(before)


@each(CLOSED)
def test_a_key_with_just_the_permission_may(house: House, route: Route) -> None:
    client = house.client_with(route.permission)
    with forgotten():
        answer = ask(client, route, house.address(route.path) + query(route), body_for(house, route.name))
        if route.name in NEEDS_MORE:
            assert answer.json()["code"] == NEEDS_MORE[route.name]
        else:
            assert answer.status_code in (200, 201, 202, 204), answer.content


NEEDS_MORE = {  # what keeps a good request from being done in a world without a gateway, and without what was refused
    "credit_notes_refund_again_create": "nothing_to_send_again",
    "installment_plans_retry_create": "conflict",
    "payment_methods_create": "setup_failed",
    "payment_methods_detach_create": "gateway_unavailable",
    "payment_methods_setup_create": "gateway_unavailable",
    "payments_checkout_create": "gateway_unavailable",
}


# --- roles ----------------------------------------------------------------------------------------
STAFF = {"clerk", "manager", "auditor", "developer"}
OPERATORS = STAFF | {"admin"}
EVERYBODY = STAFF | {"support"}
OFFICE, BUILDERS, BOSS = {"clerk", "manager"}, {"admin", "developer"}, {"manager"}


def _table(*rows: tuple[str, set[str]]) -> dict[str, set[str]]:
    return {resource: roles for resources, roles in rows for resource in resources.split()}


READERS = _table(
    ("audit-records", {"manager", "auditor", "admin"}),
    ("api-keys", BUILDERS),
    (
        "organisation gateway-accounts webhook-endpoints webhook-deliveries inbound-webhooks events test-clocks",
        OPERATORS,
    ),
    ("customers subscriptions invoices credit-notes installment-plans tax-rates plans prices", EVERYBODY),
    ("plan-migrations experiments", EVERYBODY),
    ("coupons promotion-codes applied-coupons", EVERYBODY),
    (
        "features plan-entitlements entitlement-grants entitlement-consumptions entitlement-alerts entitlements",
        EVERYBODY,
    ),
    ("entitlement-policy", EVERYBODY),
    ("payments payment-methods meters usage-events usage-revisions parked-usage usage-imports usage-policy", EVERYBODY),
    ("usage-thresholds interim-invoices draft-edits", EVERYBODY),
)
WRITERS = _table(
    ("entitlement-grants", OFFICE),
    ("text-opt-outs applied-coupons", OFFICE | {"developer"}),
    ("coupons promotion-codes", BOSS | {"developer"}),
    ("entitlements", OFFICE | {"developer"}),
    ("features plan-entitlements entitlement-policy", BOSS | {"developer"}),
    ("customers subscriptions usage-events usage-revisions parked-usage usage-imports", OFFICE | {"developer"}),
    ("experiments/{id}/assign", OFFICE | {"developer"}),
    ("experiments", BOSS | {"developer"}),
    ("analytics plans plan-migrations meters usage-policy", BOSS | {"developer"}),
    ("billing-runs billing-cycles billing-terms usage-thresholds", BOSS | {"developer"}),
    ("draft-edits", OFFICE),
    ("payments payment-methods invoices installment-plans bank-accounts reconciliation", OFFICE),
    ("tax-rates dunning-policies dunning-pauses dunning reconciliation-exceptions", BOSS),
    ("payments/{id}/refunds invoices/{id}/void invoices/{id}/write-off invoices/{id}/credit-notes", BOSS),
    ("credit-notes", BOSS),
    ("invoices/{id}/send", OFFICE | {"support"}),
    ("api-keys webhook-endpoints test-clocks", BUILDERS),
    ("webhook-deliveries inbound-webhooks", BOSS | BUILDERS),
    ("gateway-accounts organisation", {"admin"}),
)
LOOKING = {
    "entitlements/check", "meters/evaluate", "invoices/preview", "subscriptions/preview", "plan-migrations/preview",
    "prices/quote", "experiments/sample",
}  # fmt: skip


def who_may(route: Route) -> set[str]:
    """The roles, by this table rather than by the product's own."""
    path = route.path.removeprefix(PREFIX)
    resource = path.split("/")[0]
    if route.method == "get" or path in LOOKING:
        return READERS.get(resource, STAFF)
    return WRITERS.get(path) or WRITERS[resource]


@pytest.fixture
def as_role(house: House) -> Any:
    def sign_in(role: str) -> APIClient:
        user = User.objects.create_user(f"{role}@example.com", "a long password")
        Membership.objects.create(organisation=house.organisation, user=user, role=role)
        token = sessions.issue_token(user=user, kind="access", lifetime=timedelta(minutes=5))
        return APIClient(HTTP_AUTHORIZATION=f"Bearer {token}")

    return sign_in


@pytest.mark.parametrize("role", Role.values)
def test_each_role_may_what_the_table_says(house: House, as_role: Any, role: str) -> None:
    client = as_role(role)
    wrong = []
    for route in CLOSED:
        with forgotten():
            answer = ask(client, route, house.address(route.path) + query(route), body_for(house, route.name))
        if (answer.status_code != 403) != (role in who_may(route)):
            wrong.append((route.method, route.path, answer.status_code))
    assert wrong == []


def test_nobody_moves_money_by_looking(house: House, as_role: Any) -> None:
    client = as_role("auditor")
    before = fingerprint()
    for route in CLOSED:
        answer = ask(client, route, house.address(route.path) + query(route), body_for(house, route.name))
        if route.method != "get" and route.path.removeprefix(PREFIX) not in LOOKING:
            assert answer.status_code == 403, route
    assert not changed(before)


# --- fields nobody may set ------------------------------------------------------------------------
PROTECTED = {
    "id": "01a1f9fa-3745-75cd-95a3-0972f95b5e1c", "organisation": "01a1f9fa-3745-75cd-95a3-0972f95b5e1c",
    "organisation_id": "01a1f9fa-3745-75cd-95a3-0972f95b5e1c", "status": "paid", "state": "matched", "number": "X/1",
    "paid": {"amount": "1.00", "currency": "INR"}, "refunded": {"amount": "0.00", "currency": "INR"}, "secret": "mine",
    "created_at": "2020-01-01T00:00:00Z", "recorded_at": "2020-01-01T00:00:00Z", "is_superuser": True, "actor": "root",
    "captured_at": "2020-01-01T00:00:00Z", "__class__": "x", "permissions": ["*"],
}  # fmt: skip


@each(WITH_BODY)
def test_fields_nobody_may_set_are_refused(house: House, route: Route) -> None:
    body = body_for(house, route.name) or {}
    client = house.client()
    client.get("/api/v1/organisation")
    before = fingerprint()
    answer = ask(client, route, house.address(route.path), body | PROTECTED)
    assert answer.status_code == 422, answer.content
    fields = {error["field"] for error in answer.json()["errors"]}
    assert fields >= set(PROTECTED) or route.name.startswith("usage_events"), fields
    assert not changed(before)


# --- repeated requests ----------------------------------------------------------------------------
MOVES_MONEY = {
    "payments_create", "payments_retry_create", "payments_cancel_create", "payments_checkout_create",
    "payments_offline_create", "payments_refunds_create", "payment_methods_create", "invoices_create",
    "invoices_finalize_create", "invoices_void_create", "invoices_write_off_create", "invoices_apply_credit_create",
    "invoices_credit_notes_create", "installment_plans_create", "installment_plans_cancel_create", "subscriptions_create",
    "installment_plans_retry_create",
    "subscriptions_add_ons_create",
    "subscriptions_change_create", "subscriptions_cancel_create", "subscriptions_resume_create", "billing_runs_create",
    "billing_runs_retry_create", "billing_cycles_retry_create", "draft_edits_create",
    "bank_accounts_statements_create", "reconciliation_exceptions_resolve_create",
}  # fmt: skip


# What these send carries its own name for each thing, or is the sign-in itself; the rest of them looks and writes nothing.
BY_THEIR_OWN_IDS = {"usage_events_create", "usage_events_batch_create"} | OPEN


def test_every_post_that_writes_can_be_repeated() -> None:
    posts = {route for route in routes() if route.method == "post" and route.path.removeprefix(PREFIX) not in LOOKING}

    assert {route.name for route in posts - set(REPEATABLE)} == BY_THEIR_OWN_IDS


PASSING = {"gateway_unavailable", "busy"}


def test_what_moves_money_can_be_repeated() -> None:
    assert MOVES_MONEY - {route.name for route in REPEATABLE} == set()


@each(REPEATABLE)
def test_the_same_key_is_answered_alike_and_done_once(house: House, route: Route) -> None:
    client, address, body = house.client(), house.address(route.path), body_for(house, route.name)
    headers = {"HTTP_IDEMPOTENCY_KEY": "once-only"}
    first = ask(client, route, address, body, **headers)
    before = fingerprint()

    again = ask(client, route, address, body, **headers)

    assert first.status_code < 500
    if first.status_code == 409 and first.json()["code"] in PASSING:  # not kept: the key is free for another try
        assert (again.status_code, again.json()["code"]) == (409, first.json()["code"])
        assert "Idempotent-Replayed" not in again.headers
        return
    assert (again.status_code, again.content) == (first.status_code, first.content)
    assert again["Idempotent-Replayed"] == "true"
    assert not changed(before)
    different = ask(client, route, address, {**(body or {}), "more": 1}, **headers)
    assert (different.status_code, different.json()["code"]) == (422, "idempotency_key_reused")
    assert not changed(before)


def test_the_key_of_one_organisation_is_free_for_another(house: House, other: House) -> None:
    answers = [
        one.client().post("/api/v1/customers", {"external_id": "x", "name": "X"}, HTTP_IDEMPOTENCY_KEY="same")
        for one in (house, other)
    ]
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json()["id"] != answers[1].json()["id"]
