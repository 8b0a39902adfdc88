"""Usage: ingestion through the service and over HTTP, and the preview of one customer among very many events."""

import http.client
import itertools
import json
import statistics
import threading
from collections.abc import Callable, Iterable
from datetime import timedelta
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

from bench import population
from bench.api import HOST, serving
from bench.database import analyze, connect
from bench.limits import PLAIN_USAGE, stage_usage
from bench.measuring import Line, compare, rate
from billing.models import Customer, Meter, Organisation
from billing.selectors.usage import Window, aggregate_parts
from billing.services import usage
from billing.services.organisations import create_api_key

BATCH = 500
CUSTOMERS = 500
CONNECTIONS = 4
PREVIEWS = 200
AT = population.NOW - timedelta(days=3)


def measure(scale: float) -> list[Line]:
    """All lines of usage."""
    organisation = population.build(customers=CUSTOMERS, code="usage", events_each=0)
    return [*_service(organisation, scale), _http(organisation, scale), *_previews(scale)]


def _service(organisation: Organisation, scale: float) -> list[Line]:
    """Batches of 500 new events, each with its verdict, beside SQL alone on rows that are known to be right."""
    events = int(20_000 * scale)

    def product(number: int) -> float:
        batches = [_batch(organisation, f"product-{number}", start) for start in range(0, events, BATCH)]
        connection.ensure_connection()
        return rate(lambda: sum(_accepted(organisation, batch) for batch in batches))

    def limit(number: int, *, into: str) -> float:
        rows = [_rows(organisation, f"limit-{into}-{number}", start) for start in range(0, events, BATCH)]
        with connect() as plain:
            plain.execute(PLAIN_USAGE)
            return rate(lambda: sum(stage_usage(plain, organisation.pk, batch, into=into) for batch in rows))

    return [
        compare(
            name="usage ingestion, batches of 500", unit="events/s", aim=0.7, product=product,
            limit_is="staged COPY with de-duplication into the same tables, no checks, no verdicts",
            limit=lambda number: limit(number, into="product"),
        ),
        compare(
            name="usage ingestion, batches of 500", unit="events/s", aim=0.7,
            product=lambda number: product(number + 10),
            limit_is="staged COPY with de-duplication into one table of events alone: no hours, no months",
            limit=lambda number: limit(number + 10, into="plain"),
        ),
    ]  # fmt: skip


def _http(organisation: Organisation, scale: float) -> Line:
    """Batches of 500 over HTTP, four connections that are kept."""
    batches = max(int(40 * scale), 8)
    _, key = create_api_key(organisation=organisation, name="bench", scopes=["usage.ingest"])
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    with serving("config.wsgi:application") as product, serving("bench.bare_wsgi:application") as bare:
        ready = itertools.count()

        def send(port: int, path: str, said: str) -> float:
            bodies = [
                json.dumps({"events": _batch(organisation, f"{said}-{next(ready)}", n * BATCH)}).encode()
                for n in range(batches)
            ]
            return rate(lambda: _post_all(port, path, headers, bodies) * BATCH)

        _post_all(
            product,
            "/api/v1/usage-events/batch",
            headers,
            [json.dumps({"events": _batch(organisation, "warm", 0)}).encode()] * 4,
        )
        return compare(
            name="usage over HTTP, batches of 500", unit="events/s", aim=0.45,
            limit_is="a bare view: JSON to staged COPY with de-duplication, no authentication, no checks, no verdicts",
            product=lambda _: send(product, "/api/v1/usage-events/batch", "http"),
            limit=lambda _: send(bare, "/usage", "bare"),
        )  # fmt: skip


def _previews(scale: float) -> list[Line]:
    """The usage of one customer's month, of 1,000,000 events by ``scale`` in all."""
    customers, each = 5000, int(200 * scale)
    organisation = population.build(customers=customers, code="many", events_each=0)
    meter = Meter.objects.of(organisation).get()
    with connection.cursor() as cursor:
        for first in range(0, each, 40):
            cursor.execute(MANY, {"organisation": organisation.pk, "meter": meter.pk, "from": population.PERIOD_START,
                                  "first": first, "last": min(first + 40, each) - 1})  # fmt: skip
    analyze()
    buyers = list(Customer.objects.of(organisation).order_by("id").values_list("pk", flat=True)[:PREVIEWS])
    windows = [Window(one, meter.pk, population.PERIOD_START, population.DUE_AT) for one in buyers]
    split = [one._replace(group_by=("region",)) for one in windows]

    def previews(asked: list[Window]) -> float:
        """How many a second the database alone would answer: planning and execution of all statements, as it says itself."""
        return 1000 / statistics.median(_server_ms(lambda window=window: aggregate_parts([window])) for window in asked)

    total = f"{customers * each:,}"
    return [
        compare(
            name=f"usage preview of one customer, {said}, among {total} events", unit="previews/s", aim=1.0,
            limit_is="2 ms of SQL each", product=lambda _, asked=asked: previews(asked), limit=lambda _: 500.0,
        )
        for said, asked in (("whole", windows), ("grouped by a property", split))
    ]  # fmt: skip


MANY = """
INSERT INTO billing_usageevent (organisation_id, event_id, meter_id, customer_id, quantity, properties, occurred_at)
SELECT c.organisation_id, c.external_id || '-' || k, %(meter)s, c.id, 1 + k, '{"region": "south"}',
       %(from)s + k * interval '31 minutes'
FROM billing_customer c CROSS JOIN generate_series(%(first)s, %(last)s) AS k WHERE c.organisation_id = %(organisation)s
"""


def _server_ms(work: Callable[[], Any]) -> float:
    """Milliseconds the database takes for the statements of ``work``, asked for one by one."""
    with CaptureQueriesContext(connection) as seen:
        work()
    total = 0.0
    with connection.cursor() as cursor:
        for query in seen.captured_queries:
            cursor.execute("EXPLAIN (ANALYZE, SUMMARY, FORMAT JSON, TIMING OFF) " + query["sql"])
            [plan] = cursor.fetchone()[0]
            total += plan["Planning Time"] + plan["Execution Time"]
    return total


def _accepted(organisation: Organisation, batch: list[dict[str, Any]]) -> int:
    verdicts = usage.ingest(organisation=organisation, events=batch)
    accepted = sum(verdict.status == "accepted" for verdict in verdicts)
    assert accepted == len(batch), [verdict for verdict in verdicts if verdict.status != "accepted"][:3]
    return accepted


def _batch(organisation: Organisation, said: str, start: int) -> list[dict[str, Any]]:
    return [
        {
            "event_id": f"{said}-{n}",
            "meter": "calls",
            "customer": f"customer-{n % CUSTOMERS:07}",
            "quantity": f"{1 + n % 97}.5",
            "occurred_at": (AT + timedelta(seconds=n)).isoformat(),
            "properties": {"region": "south"},
        }
        for n in range(start, start + BATCH)
    ]


def _rows(organisation: Organisation, said: str, start: int) -> list[tuple[Any, ...]]:
    meter = Meter.objects.of(organisation).get().pk
    buyers = list(Customer.objects.of(organisation).order_by("external_id").values_list("pk", flat=True))
    return [
        (f"{said}-{n}", meter, buyers[n % len(buyers)], f"{1 + n % 97}.5", '{"region": "south"}',
         AT + timedelta(seconds=n))
        for n in range(start, start + BATCH)
    ]  # fmt: skip


def _post_all(port: int, path: str, headers: dict[str, str], bodies: Iterable[bytes]) -> int:
    """Send every body once over a few connections; returns how many. Raises on any answer but 200."""
    waiting, lock, done, trouble = iter(bodies), threading.Lock(), [0], list[str]()

    def work() -> None:
        link = http.client.HTTPConnection(HOST, port, timeout=60)
        while not trouble:
            with lock:
                body = next(waiting, None)
            if body is None:
                break
            link.request("POST", path, body, headers)
            answer = link.getresponse()
            text = answer.read()
            with lock:
                done[0] += 1
            if answer.status != 200:
                trouble.append(text[:300].decode(errors="replace"))
        link.close()

    threads = [threading.Thread(target=work) for _ in range(CONNECTIONS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if trouble:
        raise RuntimeError(trouble[0])
    return done[0]
