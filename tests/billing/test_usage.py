"""Usage: each event id counts once, each event of a batch has its own verdict, windows add up."""

import itertools
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, connection, transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rest_framework.test import APIClient

from billing.models import Customer, Meter, Organisation, UsageEvent, UsageKey
from billing.selectors.usage import Window, aggregate
from billing.services import customers, meters, usage
from billing.services.organisations import SYSTEM
from tests.billing.conftest import START

Clients = Callable[..., APIClient]
AT = "2026-04-01T05:00:00Z"


@pytest.fixture
def calls(organisation: Organisation, customer: Customer) -> Meter:
    return meters.create_meter(organisation=organisation, code="calls", name="Calls", aggregation="sum", actor=SYSTEM)


def event(event_id: str = "e-1", **changes: Any) -> dict[str, Any]:
    return {"event_id": event_id, "meter": "calls", "customer": "c-1", "quantity": "2.5", "occurred_at": AT} | changes


def verdicts(organisation: Organisation, *events: Any) -> list[tuple[str, str]]:
    return [(one.status, one.field) for one in usage.ingest(organisation=organisation, events=events)]


def test_an_event_counts_once(organisation: Organisation, calls: Meter) -> None:
    assert verdicts(organisation, event(), event("e-2", quantity=3)) == [("accepted", ""), ("accepted", "")]
    assert verdicts(organisation, event(quantity="99"), event("e-3"), event("e-3")) == [
        ("duplicate", ""), ("accepted", ""), ("duplicate", ""),
    ]  # fmt: skip

    assert sorted(UsageEvent.objects.values_list("event_id", "quantity")) == [
        ("e-1", Decimal("2.5")), ("e-2", Decimal(3)), ("e-3", Decimal("2.5")),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"event_id": ""}, "event_id"),
        ({"event_id": "x" * 101}, "event_id"),
        ({"event_id": "a\x00"}, "event_id"),
        ({"event_id": 7}, "event_id"),
        ({"meter": "unknown"}, "meter"),
        ({"meter": None}, "meter"),
        ({"customer": "nobody"}, "customer"),
        ({"customer": str(uuid.uuid4())}, "customer"),
        ({"customer": ["c-1"]}, "customer"),
        ({"quantity": 1.5}, "quantity"),
        ({"quantity": "NaN"}, "quantity"),
        ({"quantity": "1e400"}, "quantity"),
        ({"quantity": "-1"}, "quantity"),
        ({"quantity": "1e-13"}, "quantity"),
        ({"quantity": True}, "quantity"),
        ({"quantity": "x"}, "quantity"),
        ({"occurred_at": "2026-04-01T05:00:00"}, "occurred_at"),
        ({"occurred_at": "2026-13-01T05:00:00Z"}, "occurred_at"),
        ({"occurred_at": "0001-01-01T00:00:00+14:00"}, "occurred_at"),
        ({"occurred_at": "2026-04-02T06:30:00Z"}, "occurred_at"),
        ({"occurred_at": 7}, "occurred_at"),
        ({"properties": []}, "properties"),
        ({"properties": {"a": "\x00"}}, "properties"),
        ({"properties": {"a": "\ud800"}}, "properties"),
        ({"properties": {"a": "x" * 3000}}, "properties"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_bad_event_is_named_and_does_not_stop_the_others(
    organisation: Organisation, calls: Meter, change: dict[str, Any], field: str
) -> None:
    assert verdicts(organisation, event() | change, event("good")) == [("rejected", field), ("accepted", "")]
    assert UsageEvent.objects.count() == 1


def test_a_customer_is_named_by_id_too_but_not_anothers(
    organisation: Organisation, other: Organisation, calls: Meter, customer: Customer
) -> None:
    stranger = customers.create_customer(organisation=other, external_id="s-1", name="Stranger")

    found = verdicts(
        organisation, event(customer=str(customer.pk)), event("e-2", customer=str(stranger.pk)), "text", None
    )

    assert found == [("accepted", ""), ("rejected", "customer"), ("rejected", "event"), ("rejected", "event")]


@pytest.mark.parametrize(("aggregation", "expected"), [("sum", "6.5"), ("max", "4"), ("count", "3")])
def test_windows_add_up_by_the_meters_rule(
    organisation: Organisation, customer: Customer, aggregation: str, expected: str
) -> None:
    meter = meters.create_meter(
        organisation=organisation, code="calls", name="C", aggregation=aggregation, actor=SYSTEM
    )
    usage.ingest(organisation=organisation, events=[
        event("1", quantity="4", occurred_at="2026-03-01T00:00:00Z"), event("2", quantity="1.5", occurred_at="2026-03-15T00:00:00Z"),
        event("3", quantity="1", occurred_at="2026-03-31T23:59:59Z"), event("4", quantity="100", occurred_at="2026-04-01T00:00:00Z"),
    ])  # fmt: skip
    march = Window(customer.pk, meter.pk, datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC))
    empty = Window(customer.pk, meter.pk, datetime(2025, 3, 1, tzinfo=UTC), datetime(2025, 4, 1, tzinfo=UTC))

    assert aggregate([march, empty, march]) == {march: Decimal(expected)}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 200), st.decimals(0, 1000, places=4)), max_size=30),
    st.lists(st.integers(0, 200), max_size=3, unique=True),
)
def test_a_time_cut_anywhere_into_windows_loses_nothing(
    organisation: Organisation, customer: Customer, calls: Meter, measured: list[tuple[int, Decimal]], cuts: list[int]
) -> None:
    with transaction.atomic():
        start = START - timedelta(hours=201)
        events = [
            event(str(index), quantity=str(quantity), occurred_at=(start + timedelta(hours=hour)).isoformat())
            for index, (hour, quantity) in enumerate(measured)
        ]
        usage.ingest(organisation=organisation, events=events)
        edges = [start + timedelta(hours=hour) for hour in [0, *sorted(cuts), 201]]
        windows = [Window(customer.pk, calls.pk, a, b) for a, b in itertools.pairwise(edges)]

        assert sum(aggregate(windows).values()) == sum(quantity for _, quantity in measured)
        transaction.set_rollback(True)


def test_usage_through_the_api(organisation: Organisation, customer: Customer, client_of: Clients) -> None:
    client = client_of(organisation)
    meter = {"code": "calls", "name": "API calls", "aggregation": "sum", "unit": "call"}

    assert client.post("/api/v1/meters", meter).status_code == 201
    assert client.post("/api/v1/meters", meter).json()["code"] == "meter_exists"
    assert client.post("/api/v1/usage-events", event()).status_code == 201
    assert client.post("/api/v1/usage-events", event()).status_code == 200
    refused = client.post("/api/v1/usage-events", event("e-2", quantity=1.5))
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "quantity")
    batch = client.post(
        "/api/v1/usage-events/batch", {"events": [event(), event("e-3"), event("e-4", meter="none")]}
    ).json()
    assert (batch["accepted"], batch["duplicates"], batch["rejected"]) == (1, 1, 1)
    assert batch["verdicts"][2] == {
        "event_id": "e-4", "status": "rejected", "field": "meter", "reason": "There is no meter with this code.",
    }  # fmt: skip
    rows = client.get("/api/v1/usage-events", {"customer": str(customer.pk), "meter": "calls"}).json()["results"]
    assert [row["event_id"] for row in rows] == ["e-3", "e-1"]
    assert client.get("/api/v1/usage-events", {"customer": "x\x00"}).status_code == 422
    for wrong in (
        [],
        {},
        {"events": []},
        {"events": {}},
        {"events": [event()] * 1001},
        {"events": [], "x": 1},
        "text",
        7,
        None,
    ):
        assert client.post("/api/v1/usage-events/batch", wrong).status_code == 422


@pytest.mark.parametrize("statement", ["UPDATE billing_usageevent SET quantity = 9", "DELETE FROM billing_usageevent"])
def test_measurements_are_immutable(organisation: Organisation, calls: Meter, statement: str) -> None:
    usage.ingest(organisation=organisation, events=[event()])

    with pytest.raises(IntegrityError, match="append only"), transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(statement)


@pytest.mark.django_db(transaction=True)
def test_repeats_from_sixteen_senders_count_once(make_organisation: Callable[..., Organisation]) -> None:
    organisation = make_organisation()
    customer = customers.create_customer(organisation=organisation, external_id="c-1", name="C")
    meter = meters.create_meter(organisation=organisation, code="calls", name="Calls", aggregation="sum", actor=SYSTEM)
    accepted: list[str] = []
    trouble: list[Exception] = []

    def send(first: int) -> None:
        try:
            batch = [
                event(str(number % 40), quantity="1", occurred_at="2026-01-01T00:00:00Z")
                for number in range(first, first + 40)
            ]
            accepted.extend(
                one.event_id
                for one in usage.ingest(organisation=organisation, events=batch)
                if one.status == "accepted"
            )
        except Exception as exc:
            trouble.append(exc)
        finally:
            connection.close()

    threads = [threading.Thread(target=send, args=(number * 3,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    year = Window(customer.pk, meter.pk, datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC))
    assert trouble == []
    assert sorted(accepted, key=int) == [str(number) for number in range(40)]
    assert aggregate([year]) == {year: Decimal(40)}  # by hours
    assert UsageEvent.objects.count() == UsageKey.objects.count() == 40
