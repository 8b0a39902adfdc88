"""The seeded world of the API tests: built once per module, every test leaves it as it was."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection, transaction
from pytest_django import DjangoDbBlocker

from billing.api.throttling import WindowThrottle
from payments.gateways import registry
from tests.e2e.api_world import CLOSED_PORT, House, build


@pytest.fixture(scope="module")
def world(django_db_setup: None, django_db_blocker: DjangoDbBlocker) -> Iterator[tuple[House, House]]:
    """Ours and somebody else's; all of it is rolled back after the module."""
    with django_db_blocker.unblock(), transaction.atomic():
        houses = build("acme"), build("other")
        connection.check_constraints()  # once, here: what is deferred would be checked again after each test
        yield houses
        transaction.set_rollback(True)


@pytest.fixture
def _apart(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No gateway is reachable, and no limit or cached row of another test counts."""
    settings.RAZORPAY_API_BASE = settings.STRIPE_API_BASE = CLOSED_PORT
    monkeypatch.setattr(WindowThrottle, "THROTTLE_RATES", dict.fromkeys(WindowThrottle.THROTTLE_RATES, "1000000/min"))
    cache.clear()
    registry.forget()
    yield
    registry.forget()


@pytest.fixture
def house(world: tuple[House, House], db: None, _apart: None) -> House:
    """Our organisation."""
    return world[0]


@pytest.fixture
def other(world: tuple[House, House], db: None, _apart: None) -> House:
    """Somebody else's organisation."""
    return world[1]
