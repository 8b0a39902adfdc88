"""What a plan migration does to one subscription's row: the same for the worker that moves it and for who only looks ahead."""

from datetime import datetime, timedelta

from subscriptions.models import PlanMigration, Subscription
from subscriptions.services import changing, rows
from subscriptions.services.desk import Desk

WHEN = PlanMigration.When
INSTANT = timedelta(microseconds=1)


def last_old(migration: PlanMigration) -> datetime | None:
    """The last moment at which a period may begin at the old prices; None: now."""
    return migration.starts_at - INSTANT if migration.when == WHEN.DATE else None


def move_row(migration: PlanMigration, subscription: Subscription, desk: Desk) -> bool:
    """Move a row; the caller saves it. Returns whether the new terms hold now; else they are planned. Raises as a change does."""
    is_now = migration.when == WHEN.NOW or subscription.status == rows.Status.PENDING
    changing.change_row(
        subscription,
        desk,
        version=migration.to_version,
        when=changing.NOW if is_now else changing.PERIOD_END,
        prorate=migration.prorate,
        running_at=last_old(migration),
        migrates=True,
        reason=migration.reason or "New prices",
    )
    return is_now


def passed_over(migration: PlanMigration, subscription: Subscription) -> str | None:
    """Why a subscription that was chosen is left alone: it ended, or somebody has moved it since."""
    if subscription.has_ended:
        return "ended before it was moved"
    version = subscription.plan_version
    if version.pk == migration.to_version_id:
        return "has these prices already"
    wrong = migration.from_version_id not in (None, version.pk)
    if version.plan_id != migration.from_plan_id or wrong:
        return "was changed to other prices before"
    return None
