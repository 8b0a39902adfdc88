"""Moving subscribers to other prices: decided once, carried out by a worker subscription by subscription, each exactly once.

New prices reach nobody who has subscribed (grandfathering) until somebody decides a migration: of all versions of a plan, or of
one, to another version of it or of another plan; ``now`` with proration, at each one's ``renewal``, or from a ``date`` on: each
with its first period that begins then or later, also where the worker comes late and that period has begun unbilled. So a
billing run carries out first what is due (``settle_due``), and who is billed alone is moved first (``settle_due_of``). What a
migration would do is previewed by ``plan_migration_preview``; previews of subscriptions foresee it by ``plan_migrations_ahead``.

A subscription and its item are written in one transaction: killed anywhere, the next worker goes on with what is still pending.
What cannot be moved is refused with a reason, does not stop the others, and can be tried again.
"""

import uuid
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal

import structlog
from celery import current_app
from django.db import OperationalError, connection, transaction
from django.db.models import Q, QuerySet

from billing import clock
from billing.context import Actor
from billing.errors import DomainError, NotFound
from billing.ids import uuid7
from billing.models import Organisation
from billing.services import audit, outbox
from subscriptions import recurring
from subscriptions.errors import InvalidPlanMigration, MigrationState
from subscriptions.models import Plan, PlanMigration, PlanMigrationItem, PlanVersion, Subscription
from subscriptions.selectors import price_books
from subscriptions.services import catching_up, rows
from subscriptions.services.desk import Desk
from subscriptions.services.plan_migration_rows import last_old, move_row, passed_over

log = structlog.get_logger(__name__)
TASK = "subscriptions.tasks.carry_out_plan_migration"
STATUS, ITEM, WHEN = PlanMigration.Status, PlanMigrationItem.Status, PlanMigration.When
CHUNK = 50
STALE_AFTER = timedelta(minutes=5)
AHEAD_AT_MOST = timedelta(days=3 * 366)
RUNNING = ("pending", "incomplete", "trialing", "active", "past_due", "paused", "suspended")
ACTOR = Actor.system("plan migration")
Progress = Callable[[PlanMigration], None]

CHOOSE = """
INSERT INTO subscriptions_planmigrationitem
       (id, recorded_at, organisation_id, migration_id, subscription_id, status, reason, currency, mrr_before, mrr_after)
SELECT c.id, clock_timestamp(), s.organisation_id, %s, s.id, 'pending', '', s.currency, 0, 0
FROM unnest(%s::uuid[], %s::uuid[]) AS c (id, subscription_id)
JOIN subscriptions_subscription s ON s.id = c.subscription_id
ON CONFLICT (migration_id, subscription_id) DO NOTHING
"""


def chosen(*, from_plan: Plan, from_version: PlanVersion | None, to_version: PlanVersion) -> "QuerySet[Subscription]":
    """The running subscriptions that a migration would move."""
    found = Subscription.objects.of(from_plan.organisation_id).filter(status__in=RUNNING)
    found = found.filter(plan_version__plan=from_plan).exclude(plan_version=to_version)
    return found.filter(plan_version=from_version) if from_version is not None else found


def migrations_ahead(subscription: Subscription) -> "QuerySet[PlanMigration]":
    """Decided migrations that will choose the subscription as it is now, the next one first."""
    version = subscription.plan_version
    found = PlanMigration.objects.of(subscription.organisation_id).filter(status=STATUS.PLANNED, heartbeat_at=None)
    found = found.filter(Q(from_version=None) | Q(from_version=version), from_plan=version.plan_id)
    found = found.exclude(to_version=version).select_related("to_version__plan").order_by("starts_at", "id")
    return found if subscription.status in RUNNING else found.none()


@transaction.atomic
def plan_migration(
    *,
    organisation: Organisation,
    from_plan: Plan,
    to_version: PlanVersion,
    actor: Actor,
    from_version: PlanVersion | None = None,
    when: str = WHEN.RENEWAL,
    starts_at: datetime | None = None,
    prorate: bool = True,
    reason: str = "",
) -> PlanMigration:
    """Decide a migration; a worker carries it out at once, or from ``starts_at`` on. Raises ``InvalidPlanMigration``."""
    now = clock.now(organisation)
    check(organisation, from_plan=from_plan, from_version=from_version, to_version=to_version)
    if when not in WHEN.values:
        raise InvalidPlanMigration(f"Choose when from {', '.join(WHEN.values)}.", field="when")
    if (when == WHEN.DATE) != (starts_at is not None):
        raise InvalidPlanMigration("starts_at belongs to when=date, and only there.", field="starts_at")
    if starts_at is not None and not now < starts_at <= now + AHEAD_AT_MOST:
        raise InvalidPlanMigration("starts_at lies in the future, at most three years ahead.", field="starts_at")
    migration = PlanMigration.objects.create(
        organisation=organisation, from_plan=from_plan, from_version=from_version, to_version=to_version, when=when,
        starts_at=starts_at or now, prorate=prorate, reason=reason, actor=actor.label[:120], created_at=now,
    )  # fmt: skip
    audit.record(
        actor=actor, action="plan_migration.planned", target=migration, reason=reason,
        after={"from": from_plan.code, "to": str(to_version), "when": when, "starts_at": migration.starts_at.isoformat()},
    )  # fmt: skip
    if starts_at is None:
        transaction.on_commit(lambda: _wake(migration.pk), robust=True)
    return migration


def check(
    organisation: Organisation, *, from_plan: Plan, from_version: PlanVersion | None, to_version: PlanVersion
) -> None:
    """Raise ``InvalidPlanMigration`` or ``NotFound`` for a migration that makes no sense."""
    named = (from_plan, to_version, *([from_version] if from_version else []))
    if any(row.organisation_id != organisation.pk for row in named):
        raise NotFound("No such plan version in this organisation.", field="to_version")
    if from_version is not None and from_version.plan_id != from_plan.pk:
        raise InvalidPlanMigration("from_version is a version of from_plan.", field="from_version")
    if from_version is not None and from_version.pk == to_version.pk:
        raise InvalidPlanMigration("Source and target are the same version.", field="to_version")


@transaction.atomic
def cancel_migration(*, migration_id: uuid.UUID, actor: Actor, reason: str = "") -> PlanMigration:
    """Give a migration up that has not begun. Raises ``MigrationState``."""
    migration = PlanMigration.objects.select_for_update(of=("self",)).get(pk=migration_id)
    if migration.status != STATUS.PLANNED:
        raise MigrationState(status=migration.status, operation="cancelled")
    migration.cancel(at=clock.now(migration.organisation_id))
    migration.save()
    audit.record(actor=actor, action="plan_migration.cancelled", target=migration, reason=reason)
    return migration


@transaction.atomic
def retry_refused(*, migration_id: uuid.UUID, actor: Actor, reason: str = "") -> PlanMigration:
    """Try again what was refused, once its causes are mended. Raises ``MigrationState`` when nothing was."""
    migration = PlanMigration.objects.select_for_update(of=("self",)).get(pk=migration_id)
    refused = migration.items.filter(status=ITEM.REFUSED)
    if migration.status not in (STATUS.DONE, STATUS.FAILED) or not refused.update(status=ITEM.PENDING, reason=""):
        raise MigrationState(status=migration.status, operation="tried again: nothing was refused")
    migration.take_up_again()
    migration.failed_count = 0
    migration.save()
    audit.record(actor=actor, action="plan_migration.retried", target=migration, reason=reason)
    transaction.on_commit(lambda: _wake(migration.pk), robust=True)
    return migration


def due_migrations(organisation: Organisation | None = None) -> list[uuid.UUID]:
    """Migrations whose time has come, or whose worker died; of one organisation on its own clock, or of all on real time."""
    wall = clock.wall_now()
    now = clock.now(organisation) if organisation is not None else wall
    waiting = Q(status=STATUS.PLANNED, starts_at__lte=now)
    died = Q(status=STATUS.RUNNING, heartbeat_at__lt=wall - STALE_AFTER)
    found = PlanMigration.objects.filter(waiting | died)
    found = found.of(organisation) if organisation is not None else found.filter(organisation__test_clock=None)
    return list(found.order_by("starts_at", "id").values_list("pk", flat=True))


def settle_due(*, organisation: Organisation) -> int:
    """Carry out the migrations whose time has come, before what is due is billed: else it would be billed at the old prices.

    Takes part in those that other workers are busy with, and waits for what these hold. One that fails is noted on it and does
    not stop the billing. Returns how many were looked at.
    """
    found = _due_of(organisation)
    for migration in found:
        try:
            while carry_out(migration_id=migration.pk).status == STATUS.RUNNING:
                _wait_for_others(_pending(migration))
        except OperationalError:  # a deadlock, a database that is away: the next run tries again
            raise
        except Exception:
            log.exception("plan_migration.not_settled", migration=str(migration.pk))
    return len(found)


def settle_due_of(*, organisation: Organisation, subscription_id: uuid.UUID) -> None:
    """Carry out one subscription's part of the migrations whose time has come, before it is billed.

    What has not begun is begun by that, and a worker is told to go on with the others. What fails does not stop the billing.
    """
    for migration in _due_of(organisation):
        try:
            _settle_of(migration, subscription_id)
        except OperationalError:
            raise
        except Exception:  # the worker that goes on meets it too, and notes it on the migration
            log.exception("plan_migration.not_settled", migration=str(migration.pk), subscription=str(subscription_id))


def _due_of(organisation: Organisation) -> list[PlanMigration]:
    """Those whose time has come on the organisation's clock, in the order in which they are carried out."""
    due = Q(status=STATUS.PLANNED, starts_at__lte=clock.now(organisation)) | Q(status=STATUS.RUNNING)
    return list(PlanMigration.objects.of(organisation).filter(due).order_by("starts_at", "id"))


def _settle_of(migration: PlanMigration, subscription_id: uuid.UUID) -> None:
    if migration.status == STATUS.PLANNED:
        known = Subscription.objects.of(migration.organisation_id).select_related("plan_version")
        if migration.heartbeat_at is None and passed_over(migration, known.get(pk=subscription_id)):
            return
        migration = _begin(migration.pk)
        transaction.on_commit(lambda: _wake(migration.pk), robust=True)
    mine, moved = _pending(migration).filter(subscription=subscription_id), 0
    while item_id := mine.values_list("pk", flat=True).first():
        moved += _move(migration, item_id) or _wait_for_others(mine)
    if moved:
        _count(migration)
        _finish(migration)


@transaction.atomic
def _wait_for_others(pending: "QuerySet[PlanMigrationItem]") -> int:
    """Until the items that other workers hold at this moment are free again; returns 0: they are not moved by that."""
    list(pending.select_for_update().values_list("pk", flat=True))
    return 0


def carry_out(*, migration_id: uuid.UUID, progress: Progress | None = None) -> PlanMigration:
    """Do a migration, or what is left of it. Safe to repeat and to run twice at once: each item is moved once."""
    migration = _begin(migration_id)
    if migration.status != STATUS.RUNNING:
        return migration
    try:
        while pending := list(_pending(migration).values_list("pk", flat=True)[:CHUNK]):
            done = sum(_move(migration, item_id) for item_id in pending)
            _count(migration)
            if progress is not None:
                progress(migration)
            if not done:  # another worker holds all of them
                return migration
    except Exception as exc:
        _fail(migration, exc)
        raise
    return _finish(migration)


@transaction.atomic
def _begin(migration_id: uuid.UUID) -> PlanMigration:
    """Choose the subscribers, once; later calls go on with those."""
    migration = PlanMigration.objects.select_for_update(of=("self",)).get(pk=migration_id)
    now = clock.now(migration.organisation_id)
    if migration.status in (STATUS.DONE, STATUS.CANCELLED) or migration.starts_at > now:
        return migration
    if migration.heartbeat_at is None:
        of = chosen(from_plan=migration.from_plan, from_version=migration.from_version, to_version=migration.to_version)
        found = list(of.order_by("id").values_list("pk", flat=True))
        with connection.cursor() as cursor:
            cursor.execute(CHOOSE, [migration.pk, [uuid7() for _ in found], found])
        migration.total_count = len(found)
    migration.begin(heartbeat_at=clock.wall_now())
    migration.save()
    return migration


def _pending(migration: PlanMigration) -> "QuerySet[PlanMigrationItem]":
    return PlanMigrationItem.objects.filter(migration=migration, status=ITEM.PENDING).order_by("id")


def _move(migration: PlanMigration, item_id: uuid.UUID) -> int:
    """Move one subscription; 0 when another worker has it. A refusal is noted and is not an error."""
    item = PlanMigrationItem.objects.get(pk=item_id)
    try:
        _bill_first(migration, item.subscription_id)
        return _move_locked(migration, item_id)
    except DomainError as exc:
        return _refuse(item_id, f"{exc.code}: {exc}"[:300])


def _bill_first(migration: PlanMigration, subscription_id: uuid.UUID) -> None:
    """Bill what begins at the old prices: up to now, or before the date. A first period always: it was agreed at them."""
    until = last_old(migration)
    found = catching_up.catch_up(organisation=migration.organisation, subscription_id=subscription_id, due_at=until)
    if until is not None and found.period_end is None and found.status != rows.Status.TRIALING:
        catching_up.catch_up(organisation=migration.organisation, subscription_id=subscription_id)


@transaction.atomic
def _move_locked(migration: PlanMigration, item_id: uuid.UUID) -> int:
    item = PlanMigrationItem.objects.select_for_update(skip_locked=True).filter(pk=item_id, status=ITEM.PENDING).first()
    if item is None:
        return 0
    subscription = rows.lock(item.subscription_id)
    item.done_at = clock.now(migration.organisation_id)
    if (why := passed_over(migration, subscription)) is not None:
        item.status, item.reason = ITEM.SKIPPED, why
    else:
        item.mrr_before = _mrr(subscription, subscription.plan_version_id)
        item.mrr_after = _mrr(subscription, migration.to_version_id)
        holds = move_row(migration, subscription, Desk(organisation=subscription.organisation, actor=ACTOR))
        rows.save(subscription)
        item.status = ITEM.MOVED if holds else ITEM.PLANNED
    item.save()
    return 1


def _mrr(subscription: Subscription, version_id: uuid.UUID) -> Decimal:
    books = price_books(subscription.organisation_id, [version_id])
    add_ons = books.kept(version_id, subscription.currency, subscription.add_ons)
    book = books.get(version_id, subscription.currency, add_ons)
    return recurring.mrr(book=book, quantity=subscription.quantity, status=subscription.status).amount


@transaction.atomic
def _refuse(item_id: uuid.UUID, reason: str) -> int:
    refused = PlanMigrationItem.objects.filter(pk=item_id, status=ITEM.PENDING)
    return refused.update(status=ITEM.REFUSED, reason=reason)


@transaction.atomic
def _count(migration: PlanMigration) -> None:
    """Write the progress: counted, not added up, so that two workers cannot disagree."""
    locked = PlanMigration.objects.select_for_update(of=("self",)).get(pk=migration.pk)
    done = migration.items.filter(status__in=(ITEM.MOVED, ITEM.PLANNED, ITEM.SKIPPED)).count()
    locked.moved_count, locked.failed_count = done, migration.items.filter(status=ITEM.REFUSED).count()
    locked.heartbeat_at = clock.wall_now()
    locked.save(update_fields=["moved_count", "failed_count", "heartbeat_at"])
    migration.moved_count, migration.failed_count = locked.moved_count, locked.failed_count


@transaction.atomic
def _finish(migration: PlanMigration) -> PlanMigration:
    locked = PlanMigration.objects.select_for_update(of=("self",)).get(pk=migration.pk)
    if locked.status == STATUS.RUNNING and not _pending(locked).exists():
        locked.finish(at=clock.now(locked.organisation_id))
        locked.save(update_fields=["status", "finished_at"])
        outbox.publish(
            "plan_migration.finished", locked, migration_id=str(locked.pk), total=locked.total_count,
            moved=locked.moved_count, failed=locked.failed_count,
        )  # fmt: skip
    return locked


@transaction.atomic
def _fail(migration: PlanMigration, exc: Exception) -> None:
    log.error("plan_migration.failed", migration=str(migration.pk), exc_info=exc)
    locked = PlanMigration.objects.select_for_update(of=("self",)).get(pk=migration.pk)
    if locked.status == STATUS.RUNNING:
        locked.fail(at=clock.now(locked.organisation_id), error=f"{type(exc).__name__}: {exc}"[:2000])
        locked.save(update_fields=["status", "finished_at", "error"])


def _wake(migration_id: uuid.UUID) -> None:
    """Tell a worker that a migration waits. Losing the message loses nothing: ``due_migrations`` finds it."""
    try:
        current_app.send_task(TASK, args=[str(migration_id)], retry=False, ignore_result=True)
    except Exception:
        log.warning("plan_migration.broker_down", migration=str(migration_id))
