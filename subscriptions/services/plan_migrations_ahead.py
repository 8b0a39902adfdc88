"""Plan migrations that are decided and not carried out yet, as they will reach a subscription. Reads only.

A preview walks a time line in memory; this says when a migration has its turn there, as a worker would come by in time: at its
date, before everything that happens then, or at once where its time has come. What is moved is decided by the row as it stands
then, by the same code (``plan_migration_rows``).
"""

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Q

from billing.errors import DomainError
from billing.models import Organisation
from subscriptions.models import PlanMigration, PlanMigrationItem, PlanVersion, Subscription
from subscriptions.services import changes, rows
from subscriptions.services.billing_run_rows import Due
from subscriptions.services.desk import Desk
from subscriptions.services.moments import KEPT
from subscriptions.services.plan_migration_rows import last_old, move_row, passed_over
from subscriptions.services.rows import Status
from subscriptions.services.sketch import Sketch

STATUS = PlanMigration.Status


class MigrationsAhead:
    """Those that may reach one subscription, in the order in which they are carried out."""

    def __init__(self, waiting: Iterable[PlanMigration], *, now: datetime) -> None:
        self.waiting, self.now = list(waiting), now
        self._until: datetime | None = None

    def next_at(self, subscription: Subscription, other_at: datetime | None) -> datetime | None:
        """When the first of them has its turn; None where there is none, or what happens at ``other_at`` comes first."""
        if not self.waiting:
            return None
        first = self.waiting[0]
        comes = max(first.starts_at, self.now)
        until = self._until or last_old(first) or comes
        if other_at is not None and other_at <= until:
            return None
        if until < comes and self._until is None and _begins(subscription):
            self._until = comes
            return self.next_at(subscription, other_at)
        return comes

    def carry_out(self, subscription: Subscription, desk: Desk) -> None:
        """Let the first of them move the row, or leave it alone where it would be passed over or refused."""
        first, self._until = self.waiting.pop(0), None
        if passed_over(first, subscription) is not None:
            return
        try:
            move_row(first, subscription, desk)
        except DomainError:  # noted on the item, and nothing is changed
            return


def migrations_for(subscription: Subscription, *, now: datetime, is_new: bool = False) -> MigrationsAhead:
    """What may reach the subscription: all that have not chosen yet, and what has chosen it and has not moved it."""
    waits = Q(status=STATUS.PLANNED, heartbeat_at=None)
    if not is_new:
        pending = PlanMigrationItem.objects.filter(subscription=subscription, status=PlanMigrationItem.Status.PENDING)
        waits |= Q(status__in=(STATUS.PLANNED, STATUS.RUNNING), pk__in=pending.values("migration"))
    found = PlanMigration.objects.of(subscription.organisation_id).filter(waits)
    return MigrationsAhead(found.select_related("to_version__plan").order_by("starts_at", "id"), now=now)


class MovedRows:
    """Due rows of a dry run, moved in memory by the migrations that will have been carried out before they are billed."""

    def __init__(self, organisation: Organisation, *, now: datetime, due_at: datetime) -> None:
        self.organisation, self.now = organisation, now
        at_renewal = PlanMigration.objects.of(organisation).exclude(when=PlanMigration.When.NOW)
        decided = at_renewal.filter(status=STATUS.PLANNED, heartbeat_at=None, starts_at__lte=due_at)
        self.decided = list(decided.select_related("to_version__plan").order_by("starts_at", "id"))
        plans = [one.from_plan_id for one in self.decided]
        self.versions = set(PlanVersion.objects.filter(plan__in=plans).values_list("pk", flat=True)) if plans else set()

    def of(self, due: list[Due]) -> list[Due]:
        """The rows as they will stand at their billing moments."""
        ids = [row.id for row in due if row.plan_version_id in self.versions]
        if not ids:
            return due
        found = Subscription.objects.of(self.organisation).select_related("plan_version__plan").in_bulk(ids)
        return [self._moved(row, found[row.id]) if row.id in found else row for row in due]

    def _moved(self, row: Due, subscription: Subscription) -> Due:
        for name in Due._fields:
            if name not in KEPT:
                setattr(subscription, name, getattr(row, name))
        subscription.organisation = self.organisation
        desk = Sketch(organisation=self.organisation, now=self.now, is_new=True)
        for change in rows.planned_changes(subscription) if row.next_change_at is not None else ():
            desk.plan(change)
        ahead = MigrationsAhead(self.decided, now=self.now)
        while (at := ahead.next_at(subscription, row.next_billing_at)) is not None:
            desk.now = at
            ahead.carry_out(subscription, desk)
        if not desk.planned(subscription):
            return row
        subscription.next_change_at = rows.next_change_at(subscription, desk.planned(subscription))
        while changes.is_due(subscription, row.next_billing_at):
            changes.apply_next(subscription, desk)
            subscription.next_change_at = rows.next_change_at(subscription, desk.planned(subscription))
        return Due(**{name: getattr(subscription, name) for name in Due._fields})


def _begins(subscription: Subscription) -> bool:
    """Whether its first period is not billed: that is billed as it was agreed, and not moved before."""
    return subscription.period_end is None and subscription.status != Status.TRIALING
