"""No route of the API shows or changes what belongs to another organisation: walked from the URL resolver itself."""

import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest
from django.core.cache import cache
from django.urls import URLPattern, URLResolver, get_resolver
from moneyed import Money
from rest_framework.test import APIClient

from billing.api.base import TenantViewMixin
from billing.models import AuditRecord, Customer, Event, EventHandling, IdempotencyRecord, Organisation, TestClock
from billing.services import customers, ledger, meters, organisations, outbox, usage, webhooks
from billing.services.ledger import Entry, credit, debit
from billing.services.organisations import SYSTEM
from tests.billing.conftest import START

OPEN = {"/api/v1/auth/login", "/api/v1/auth/refresh", "/api/v1/auth/logout"}
NOT_CHANGED = (AuditRecord, Customer, Event)


@dataclass(frozen=True)
class Route:
    """One address of the API and the view behind it."""

    path: str
    view: Any
    actions: tuple[str, ...]

    def __str__(self) -> str:
        return self.path


def walk(patterns: Any, prefix: str = "/") -> Iterator[Route]:
    for pattern in patterns:
        path = prefix + str(pattern.pattern)
        if isinstance(pattern, URLResolver):
            yield from walk(pattern.url_patterns, path)
        elif isinstance(pattern, URLPattern):
            callback: Any = pattern.callback
            view = getattr(callback, "cls", None) or getattr(callback, "view_class", None)
            methods = getattr(callback, "actions", None) or {
                m: m for m in ("get", "post", "patch", "delete") if hasattr(view, m)
            }
            yield Route(path, view, tuple(sorted(methods)))


ROUTES = [route for route in walk(get_resolver().url_patterns) if route.path.startswith("/api/v1/")]
TENANT_ROUTES = [route for route in ROUTES if route.path not in OPEN and route.view is not None]
WITH_ID = [route for route in TENANT_ROUTES if "<" in route.path]


@pytest.fixture
def world(organisation: Organisation, other: Organisation, settings: Any) -> Organisation:
    """One row of every kind of the foundation, owned by ``other``."""
    settings.WEBHOOK_ALLOW_PRIVATE = True
    other.test_clock = TestClock.objects.create(name="other", now=START)
    other.save()
    theirs = customers.create_customer(organisation=other, external_id="theirs-secret", name="Their Customer")
    customers.create_beneficiary(organisation=other, customer_id=theirs.pk, external_id="theirs-secret-b", name="B")
    meters.create_meter(organisation=other, code="theirs-secret-m", name="M", aggregation="sum", actor=SYSTEM)
    usage.ingest(organisation=other, events=[
        {"event_id": "theirs-secret-e", "meter": "theirs-secret-m", "customer": "theirs-secret", "occurred_at": "2026-03-01T00:00:00Z"}
    ])  # fmt: skip
    lines = [
        debit("bank:theirs-secret", Money("5", "INR"), customer_id=theirs.pk),
        credit("revenue", Money("5", "INR")),
    ]
    ledger.post(organisation=other, entry=Entry(kind="theirs-secret", source_type="t", source_id=theirs.pk, occurred_at=START, key="k", lines=lines))  # fmt: skip  # noqa: E501
    webhooks.create_endpoint(organisation=other, url="http://127.0.0.1:9/theirs-secret", actor=SYSTEM)
    customers.update_customer(organisation=other, customer_id=theirs.pk, name="Their Customer")
    organisations.create_api_key(organisation=other, name="theirs-secret", scopes=["customer.view"])
    outbox.dispatch(other.pk)
    cache.clear()
    return other


def foreign_id(route: Route, owner: Organisation) -> str:
    """Id of a row of ``owner`` that the route's view could show; any id where there is none."""
    model = getattr(getattr(route.view, "queryset", None), "model", None)
    rows = model.objects.all() if model is not None else []
    if model is TestClock:
        return str(owner.test_clock_id)
    found = rows.filter(organisation=owner).first() if model is not None and hasattr(model, "organisation") else None
    return str(found.pk) if found is not None and isinstance(found.pk, uuid.UUID) else str(uuid.uuid4())


def address(route: Route, value: str) -> str:
    before, _, rest = route.path.partition("<")
    return before + value + rest.partition(">")[2]


def counts() -> list[int]:
    return [model.objects.count() for model in NOT_CHANGED]


def test_every_route_belongs_to_a_tenant_or_is_open_on_purpose() -> None:
    assert len(TENANT_ROUTES) > 15
    for route in TENANT_ROUTES:
        assert issubclass(route.view, TenantViewMixin), route
        assert route.view.required_permissions, route


@pytest.mark.parametrize("route", TENANT_ROUTES, ids=str)
def test_nobody_passes_without_credentials(db: None, route: Route) -> None:
    cache.clear()
    for method in route.actions:
        response = getattr(APIClient(), method)(address(route, str(uuid.uuid4())) if "<" in route.path else route.path)
        assert response.status_code == 401, (method, route.path, response.status_code)


def test_the_id_of_another_organisations_row_is_unknown_here(
    world: Organisation, organisation: Organisation, client_of: Callable[..., APIClient]
) -> None:
    client = client_of(organisation)
    before = counts()

    for route in WITH_ID:
        for method in route.actions:
            response = getattr(client, method)(address(route, foreign_id(route, world)), {})
            # 422: the empty body was refused before anything was looked up
            assert response.status_code in (404, 422), (
                method,
                route.path,
                response.status_code,
                response.content[:300],
            )

    assert counts() == before


def test_no_list_shows_another_organisations_rows(
    world: Organisation, organisation: Organisation, client_of: Callable[..., APIClient]
) -> None:
    client = client_of(organisation)
    lists = [route for route in TENANT_ROUTES if "<" not in route.path and "get" in route.actions]

    for route in lists:
        answer = client.get(route.path)
        assert answer.status_code in (200, 422), (route.path, answer.status_code, answer.content[:300])
        assert "theirs-secret" not in answer.content.decode(), route.path
        assert str(world.pk) not in answer.content.decode(), route.path


def test_a_filter_by_another_organisations_id_finds_nothing(
    world: Organisation, organisation: Organisation, client_of: Callable[..., APIClient]
) -> None:
    client = client_of(organisation)
    theirs = Customer.objects.of(world).get()

    for path, name in (("usage-events", "customer"), ("events", "aggregate_id"), ("ledger/entries", "source_id")):
        answer = client.get(f"/api/v1/{path}", {name: str(theirs.pk)})
        assert (answer.status_code, answer.json()["results"]) == (200, []), path


def test_rows_that_no_route_serves_are_kept_apart_as_well() -> None:
    """Idempotency records and handlings have no route; should one be added, this reminds whoever adds it."""
    served = {getattr(getattr(route.view, "queryset", None), "model", None) for route in TENANT_ROUTES}

    assert not served & {IdempotencyRecord, EventHandling}
