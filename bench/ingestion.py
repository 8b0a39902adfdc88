"""Usage ingestion: events a second through the service beside COPY into the same table."""

from datetime import timedelta
from typing import Any

from django.db import connection

from bench import population
from bench.database import connect
from bench.limits import copy_usage
from bench.measuring import Line, compare, rate
from billing.models import Customer, Meter, Organisation
from billing.services import usage

BATCH = 500
CUSTOMERS = 500


def measure(scale: float) -> list[Line]:
    """Batches of 500 new events, each with its verdict."""
    events = int(20_000 * scale)
    organisation = population.build(customers=CUSTOMERS, code="ingestion", events_each=0)
    meter = Meter.objects.of(organisation).get()
    buyers = list(Customer.objects.of(organisation).values_list("external_id", "id"))

    def limit(number: int) -> float:
        rows = list(_rows(organisation, meter, buyers, number, events))
        with connect() as plain:

            def copy() -> int:
                for start in range(0, len(rows), BATCH):
                    copy_usage(plain, rows[start : start + BATCH])
                return len(rows)

            return rate(copy)

    def product(number: int) -> float:
        batches = _batches(buyers, number, events)
        connection.ensure_connection()
        return rate(lambda: sum(_accepted(organisation, batch) for batch in batches))

    return [
        compare(
            name="usage ingestion, batches of 500",
            unit="events/s",
            limit_is="COPY of the same rows by 500 into the same table",
            aim=0.3,
            product=product,
            limit=limit,
        )
    ]


def _accepted(organisation: Organisation, batch: list[dict[str, Any]]) -> int:
    verdicts = usage.ingest(organisation=organisation, events=batch)
    accepted = sum(verdict.status == "accepted" for verdict in verdicts)
    assert accepted == len(batch), [verdict for verdict in verdicts if verdict.status != "accepted"][:3]
    return accepted


def _batches(buyers: list[Any], number: int, events: int) -> list[list[dict[str, Any]]]:
    found = [
        {
            "event_id": f"product-{number}-{n}",
            "meter": "calls",
            "customer": buyers[n % len(buyers)][0],
            "quantity": f"{1 + n % 97}.5",
            "occurred_at": (population.PERIOD_START + timedelta(seconds=n)).isoformat(),
            "properties": {"region": "south"},
        }
        for n in range(events)
    ]
    return [found[start : start + BATCH] for start in range(0, events, BATCH)]


def _rows(organisation: Organisation, meter: Meter, buyers: list[Any], number: int, events: int) -> Any:
    for n in range(events):
        at = population.PERIOD_START + timedelta(seconds=n)
        yield (
            organisation.pk, f"limit-{number}-{n}", meter.pk, buyers[n % len(buyers)][1], f"{1 + n % 97}.5",
            '{"region": "south"}', at, population.NOW,
        )  # fmt: skip
