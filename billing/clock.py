"""The only place that asks what time it is. An organisation on a test clock lives at the clock's time."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from datetime import date, datetime
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from django.db.models import F, Q
from django.utils import timezone

if TYPE_CHECKING:
    from billing.models import Organisation


_standing: ContextVar[dict[uuid.UUID, datetime]] = ContextVar("standing_clocks", default={})  # noqa: B039 - never changed


def wall_now() -> datetime:
    """Real time in UTC: for locks, back-off, signatures and log lines, never for a rule of billing."""
    return timezone.now()


def now(organisation: Organisation | uuid.UUID) -> datetime:
    """Time of ``organisation`` in UTC: its test clock's, else real time. One query; read it once per use case."""
    from billing.models import TestClock

    organisation_id: Any = getattr(organisation, "pk", organisation)
    known = _standing.get().get(organisation_id)
    if known is not None:
        return known
    stands_at = TestClock.objects.filter(organisations=organisation_id).values_list("now", flat=True).first()
    return stands_at or wall_now()


@contextlib.contextmanager
def standing(organisation_ids: Iterable[uuid.UUID], at: datetime) -> Iterator[None]:
    """Time of these organisations stands at ``at`` meanwhile, without asking: only who turns their clock knows that."""
    token = _standing.set(dict.fromkeys(organisation_ids, at))
    try:
        yield
    finally:
        _standing.reset(token)


def has_come(column: str, *, wall: datetime) -> Q:
    """Rows of any organisation whose time in ``column`` has come: on its test clock, else in real time (``wall``).

    Two branches on purpose: a filter that compares with the clock's time alone joins the clock, and so finds nothing of
    an organisation that has none.
    """
    in_real_time = Q(organisation__test_clock=None, **{f"{column}__lte": wall})
    return in_real_time | Q(**{f"{column}__lte": F("organisation__test_clock__now")})


def zone(organisation: Organisation) -> ZoneInfo:
    """The organisation's time zone."""
    return ZoneInfo(organisation.time_zone)


def today(organisation: Organisation) -> date:
    """The organisation's date, in its own time zone."""
    return now(organisation).astimezone(zone(organisation)).date()
