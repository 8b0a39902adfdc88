"""Two organisations, and what tests of the foundation need of them."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from rest_framework.test import APIClient

from billing import permissions
from billing.models import Customer, Organisation, TestClock
from billing.services import customers, organisations
from billing.services.outbox import consumers

START = datetime(2026, 4, 1, 6, 30, tzinfo=UTC)


@pytest.fixture
def make_organisation() -> Callable[..., Organisation]:
    def make(code: str = "acme", **changes: Any) -> Organisation:
        values = {"name": code.title(), "currency": "INR", "country": "IN", "region": "29", "time_zone": "Asia/Kolkata"}
        return organisations.create_organisation(code=code, **(values | changes))

    return make


@pytest.fixture
def organisation(db: None, make_organisation: Callable[..., Organisation]) -> Organisation:
    clock = TestClock.objects.create(name="April", now=START)
    return make_organisation("acme", test_clock=clock)


@pytest.fixture
def other(db: None, make_organisation: Callable[..., Organisation]) -> Organisation:
    return make_organisation("other")


@pytest.fixture
def customer(organisation: Organisation) -> Customer:
    return customers.create_customer(
        organisation=organisation, external_id="c-1", name="Asha Verma", email="asha@example.com", phone="+919845012345"
    )


@pytest.fixture
def client_of() -> Callable[..., APIClient]:
    """An API client of an organisation, with a key that has the named permissions (all of them if none are named)."""

    def make(organisation: Organisation, *scopes: str) -> APIClient:
        _, secret = organisations.create_api_key(
            organisation=organisation, name="test", scopes=scopes or sorted(permissions.ALL)
        )
        return APIClient(HTTP_AUTHORIZATION=f"Bearer {secret}")

    return make


@pytest.fixture
def listening() -> Iterator[Callable[..., Any]]:
    """Register consumers that are gone after the test."""
    before = {key: list(value) for key, value in consumers._consumers.items()}
    yield consumers.handles
    consumers._consumers.clear()
    consumers._consumers.update(before)
