"""The only place that asks what time it is. An organisation on a test clock lives at the clock's time."""

from __future__ import annotations

import uuid
from datetime import date, datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from django.utils import timezone

if TYPE_CHECKING:
    from billing.models import Organisation


def wall_now() -> datetime:
    """Real time in UTC: for locks, back-off, signatures and log lines, never for a rule of billing."""
    return timezone.now()


def now(organisation: Organisation | uuid.UUID) -> datetime:
    """Time of ``organisation`` in UTC: its test clock's, else real time. One query; read it once per use case."""
    from billing.models import TestClock

    organisation_id = getattr(organisation, "pk", organisation)
    stands_at = TestClock.objects.filter(organisations=organisation_id).values_list("now", flat=True).first()
    return stands_at or wall_now()


def zone(organisation: Organisation) -> ZoneInfo:
    """The organisation's time zone."""
    return ZoneInfo(organisation.time_zone)


def today(organisation: Organisation) -> date:
    """The organisation's date, in its own time zone."""
    return now(organisation).astimezone(zone(organisation)).date()
