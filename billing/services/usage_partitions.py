"""The months of the table of events: made ahead, filled from the default one, dropped when they have served their time.

The tables are named ``billing_usageevent_y2026m04``; their bounds are months in UTC.
"""

import re
from datetime import UTC, datetime, timedelta

import structlog
from django.db import OperationalError, connection, transaction
from django.db.backends.utils import CursorWrapper

from billing.clock import wall_now
from billing.models import TestClock

log = structlog.get_logger(__name__)
TABLE = "billing_usageevent"
NAME = re.compile(rf"{TABLE}_y(\d{{4}})m(\d{{2}})")
AHEAD = 3
"""Months that are made before their time."""
WORTH_A_TABLE = 10_000
"""Events of one month in the default table from which on they get a table of their own."""
PATIENCE = "2s"
"""How long a change of the table waits for its senders; then it is left for the next time."""

FORGET_KEYS = """
DELETE FROM billing_usagekey k USING {} e
WHERE k.key = encode(substr(sha256(convert_to(e.organisation_id::text || ':' || e.event_id, 'UTF8')), 1, 16), 'hex')::uuid
"""
WAITING = """
SELECT date_trunc('month', occurred_at, 'UTC') FROM billing_usageevent_default GROUP BY 1 HAVING count(*) >= %s
"""


def months_of(moment: datetime, *, ahead: int = AHEAD) -> list[datetime]:
    """The month of ``moment``, the one before, and those ahead: their first instants in UTC."""
    moment = moment.astimezone(UTC)
    first = moment.year * 12 + moment.month - 2
    return [datetime(n // 12, n % 12 + 1, 1, tzinfo=UTC) for n in range(first, first + ahead + 2)]


def partitions() -> dict[datetime, str]:
    """First instant of each month that has a table of its own, and the table's name."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", [TABLE])
        found = [NAME.fullmatch(name) for (name,) in cursor.fetchall()]
    return {datetime(int(one[1]), int(one[2]), 1, tzinfo=UTC): one[0] for one in found if one}


def prepare() -> list[str]:
    """Make the months ahead of real time and of every test clock, and those the default table has events of.

    Returns the names made. What senders hold for too long is left for the next time.
    """
    wanted = set(months_of(wall_now()))
    for (now,) in TestClock.objects.values_list("now"):
        wanted.update(months_of(now, ahead=1))
    wanted.update(_waiting_months(least=WORTH_A_TABLE))
    return _make(sorted(wanted - partitions().keys()))


def drop(month: datetime) -> bool:
    """Drop a whole month with the keys of its events. The caller has made sure that nothing needs them.

    False: senders held the table for too long, and nothing happened.
    """
    if month not in partitions() and not _make([month]):
        return False
    name = partitions()[month]
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{PATIENCE}'")
            cursor.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
            cursor.execute(FORGET_KEYS.format(name))
            cursor.execute("DELETE FROM billing_usagehour WHERE hour >= %s AND hour < %s", [month, next_month(month)])
            cursor.execute(f"ALTER TABLE {TABLE} DETACH PARTITION {name}")
            cursor.execute(f"DROP TABLE {name}")
    except OperationalError as exc:
        log.warning("usage_partitions.not_dropped", month=f"{month:%Y-%m}", error=str(exc))
        return False
    return True


def months_with_events() -> list[datetime]:
    """Months that have events, in a table of their own or in the default one."""
    return sorted(partitions().keys() | _waiting_months(least=1))


def _make(months: list[datetime]) -> list[str]:
    if not months:
        return []
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"SET LOCAL lock_timeout = '{PATIENCE}'")
            # The default table is taken out meanwhile: a new month may not overlap with what it holds.
            cursor.execute(f"LOCK TABLE {TABLE} IN ACCESS EXCLUSIVE MODE")
            cursor.execute(f"ALTER TABLE {TABLE} DETACH PARTITION {TABLE}_default")
            cursor.execute(f"ALTER TABLE {TABLE}_default RENAME TO {TABLE}_waiting")
            cursor.execute(f"CREATE TABLE {TABLE}_default PARTITION OF {TABLE} DEFAULT")
            names = [_create(cursor, month) for month in months]
            # Straight into the month, past the table's own trigger: these events were added up when they came in.
            for month, name in zip(months, names, strict=True):
                cursor.execute(_move(name), [month, next_month(month)])
            cursor.execute(_move(f"{TABLE}_default", rest=True), [months])
            cursor.execute(f"DROP TABLE {TABLE}_waiting")
    except OperationalError as exc:
        log.warning("usage_partitions.postponed", months=[f"{month:%Y-%m}" for month in months], error=str(exc))
        return []
    return names


def _create(cursor: CursorWrapper, month: datetime) -> str:
    name = f"{TABLE}_y{month:%Y}m{month:%m}"
    cursor.execute(f"CREATE TABLE {name} PARTITION OF {TABLE} FOR VALUES FROM (%s) TO (%s)", [month, next_month(month)])
    return name


def _move(name: str, *, rest: bool = False) -> str:
    columns = (
        "id, organisation_id, event_id, meter_id, customer_id, subscription_ref, quantity, amount, subject, properties, "
        "occurred_at, recorded_at"
    )
    which = "date_trunc('month', occurred_at, 'UTC') <> ALL (%s)" if rest else "occurred_at >= %s AND occurred_at < %s"
    return f"INSERT INTO {name} ({columns}) SELECT {columns} FROM {TABLE}_waiting WHERE {which}"  # noqa: S608 - own names


def _waiting_months(*, least: int) -> set[datetime]:
    with connection.cursor() as cursor:
        cursor.execute(WAITING, [least])
        return {month.astimezone(UTC) for (month,) in cursor.fetchall()}


def next_month(month: datetime) -> datetime:
    """First instant of the month after."""
    return (month + timedelta(days=32)).replace(day=1)
