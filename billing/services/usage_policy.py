"""What an organisation does with usage that is unknown, late or old: read from its settings, changed with an audit record."""

from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction

from billing.context import Actor
from billing.errors import InvalidInput
from billing.models import Organisation
from billing.services import audit

REFUSE, PARK = "refuse", "park"
MAX_LATE_DAYS = 366
MAX_MONTHS = 240


@dataclass(frozen=True, slots=True, kw_only=True)
class UsagePolicy:
    """``unknown``, ``too_late``: refuse or park. ``late_days`` after its end a billed window is closed.

    ``retention_months``: whole months that are kept beside the present one; 0 keeps everything.
    """

    unknown: str = REFUSE
    too_late: str = REFUSE
    late_days: int = 30
    retention_months: int = 24

    @property
    def lateness(self) -> timedelta:
        """How long after its end a billed window takes in late usage."""
        return timedelta(days=self.late_days)

    def earliest(self, now: datetime) -> datetime:
        """The oldest moment that is kept, the start of a month in UTC."""
        if not self.retention_months:
            return datetime(2000, 1, 1, tzinfo=UTC)
        now = now.astimezone(UTC)
        months = max(now.year * 12 + now.month - 1 - self.retention_months, 2000 * 12)
        return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)


def policy_of(organisation: Organisation) -> UsagePolicy:
    """The organisation's choices; what is missing or unreadable has its default."""
    given = organisation.settings.get("usage")
    known = {name: given[name] for name in asdict(UsagePolicy()) if name in given} if isinstance(given, dict) else {}
    try:
        policy = UsagePolicy(**known)
        _check(policy)
    except (InvalidInput, TypeError):
        return UsagePolicy()
    return policy


def drafted(organisation: Organisation, **changes: Any) -> UsagePolicy:
    """The policy as it would be with ``changes``. Raises ``InvalidInput`` naming the field."""
    policy = replace(policy_of(organisation), **changes)
    _check(policy)
    return policy


@transaction.atomic
def change_policy(*, organisation: Organisation, actor: Actor, reason: str = "", **changes: Any) -> UsagePolicy:
    """Set some of the choices. Raises ``InvalidInput`` naming the field."""
    row = Organisation.objects.select_for_update().get(pk=organisation.pk)
    before = asdict(policy_of(row))
    policy = drafted(row, **changes)
    row.settings = {**row.settings, "usage": asdict(policy)}
    row.save(update_fields=["settings"])
    organisation.settings = row.settings
    audit.record(
        actor=actor, action="usage_policy.changed", target=row, before=before, after=asdict(policy), reason=reason
    )
    return policy


def _check(policy: UsagePolicy) -> None:
    for name in ("unknown", "too_late"):
        if getattr(policy, name) not in (REFUSE, PARK):
            raise InvalidInput("Expected refuse or park.", field=name)
    for name, most in (("late_days", MAX_LATE_DAYS), ("retention_months", MAX_MONTHS)):
        value = getattr(policy, name)
        if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= most:
            raise InvalidInput(f"Expected a whole number from 0 to {most}.", field=name)
    if 0 < policy.retention_months * 28 < policy.late_days:
        raise InvalidInput("Usage has to be kept at least as long as late usage is billed.", field="retention_months")
