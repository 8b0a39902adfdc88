"""The audit trail: one row for every decision about money or access."""

from typing import Any

from django.db import models

from billing import clock
from billing.context import Actor, correlation_id
from billing.models import AuditRecord


def record(
    *,
    actor: Actor,
    action: str,
    target: models.Model,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    reason: str = "",
    organisation_id: Any = None,
) -> AuditRecord:
    """Write who did ``action`` to ``target`` and why, in the caller's transaction."""
    owner = organisation_id or getattr(target, "organisation_id", None) or target.pk
    return AuditRecord.objects.create(
        organisation_id=owner,
        actor_type=actor.type,
        actor_id=actor.id,
        actor_label=actor.label,
        action=action,
        target_type=target._meta.label_lower,
        target_id=str(target.pk),
        before=before or {},
        after=after or {},
        reason=reason,
        correlation_id=correlation_id(),
        address=actor.address,
        occurred_at=clock.now(owner),
    )
