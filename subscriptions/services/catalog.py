"""Plans and their versions. A version never changes: a new price is a new version, subscribers stay on the one they took."""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any

from django.db import transaction

from billing import clock
from billing.context import Actor
from billing.models import Organisation
from billing.services import audit
from subscriptions import periods
from subscriptions.errors import InvalidPlan, PlanCodeTaken, PlanUnavailable, VersionOutOfOrder
from subscriptions.models import Plan, PlanVersion
from subscriptions.rules import parse_rules
from subscriptions.services.catalog_prices import MAX_PRICES, SLUG, FilterInput, PriceInput, checked_prices
from subscriptions.services.entitlements.terms import carry_over

__all__ = [
    "CHANGEABLE", "MAX_PRICES", "MAX_TRIAL_DAYS", "FilterInput", "PriceInput", "add_version", "archive_plan", "create_plan",
    "offer_again", "update_plan", "version_at",
]  # fmt: skip
CHANGEABLE = ("name", "description", "trial_days", "available_from", "available_until", "rules")
MAX_TRIAL_DAYS = 730
EARLIEST, LATEST = datetime(1990, 1, 1, tzinfo=UTC), datetime(2200, 1, 1, tzinfo=UTC)
MAX_COUNT = {periods.DAY: 365, periods.WEEK: 52, periods.MONTH: 36, periods.YEAR: 5}


@transaction.atomic
def create_plan(
    *,
    organisation: Organisation,
    code: str,
    name: str,
    interval: str,
    prices: Sequence[PriceInput],
    actor: Actor,
    interval_count: int = 1,
    trial_days: int = 0,
    description: str = "",
    available_from: date | None = None,
    available_until: date | None = None,
    effective_from: datetime | None = None,
    min_commitment: Mapping[str, Any] | None = None,
    prices_include_tax: bool = False,
    rules: Mapping[str, Any] | None = None,
) -> Plan:
    """Add a plan with its first version, effective now unless said otherwise.

    ``min_commitment`` maps a currency to what a period comes to at least; ``rules`` are those of ``subscriptions.rules``.
    Raises ``PlanCodeTaken``, ``InvalidPlan`` and
    what prices refuse.
    """
    _check_plan(code=code, interval=interval, interval_count=interval_count, trial_days=trial_days)
    _check_offered(available_from, available_until)
    now = clock.now(organisation)
    plan, is_new = Plan.objects.get_or_create(
        organisation=organisation,
        code=code,
        defaults={
            "name": name,
            "description": description,
            "interval": interval,
            "interval_count": interval_count,
            "trial_days": trial_days,
            "prices_include_tax": prices_include_tax,
            "rules": parse_rules(rules or {}),
            "available_from": available_from,
            "available_until": available_until,
            "created_at": now,
        },
    )
    if not is_new:
        raise PlanCodeTaken(plan=code, field="code")
    _write_version(
        plan=plan, number=1, prices=prices, min_commitment=min_commitment, effective_from=effective_from or now, now=now
    )
    audit.record(actor=actor, action="plan.created", target=plan, after={"code": code, "interval": interval})
    return plan


@transaction.atomic
def update_plan(*, plan_id: uuid.UUID, actor: Actor, changes: Mapping[str, Any], reason: str = "") -> Plan:
    """Change words, trial, days on which it is offered, or its rules as a whole (``CHANGEABLE``); code, interval and prices stay.

    What a subscription took when it began (its trial, term, proration, cycle, zone, gate) it keeps; docs/settings.md says which
    rules are asked later. Raises ``InvalidPlan`` that names the field.
    """
    plan = Plan.objects.select_for_update().get(pk=plan_id)
    if fixed := sorted(changes.keys() - {*CHANGEABLE}):
        raise InvalidPlan(f"'{fixed[0]}' of a plan does not change.", field=fixed[0])
    before = {name: getattr(plan, name) for name in CHANGEABLE}
    after = before | dict(changes)
    after["rules"] = parse_rules(after["rules"] or {})
    if not after["name"].strip():
        raise InvalidPlan("A plan has a name.", field="name")
    _check_plan(
        code=plan.code, interval=plan.interval, interval_count=plan.interval_count, trial_days=after["trial_days"]
    )
    _check_offered(after["available_from"], after["available_until"])
    changed = [name for name in CHANGEABLE if before[name] != after[name]]
    if changed:
        for name in changed:
            setattr(plan, name, after[name])
        plan.save(update_fields=changed)
        audit.record(
            actor=actor, action="plan.changed", target=plan, reason=reason,
            before={name: _plain(before[name]) for name in changed}, after={name: _plain(after[name]) for name in changed},
        )  # fmt: skip
    return plan


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, date) else value


@transaction.atomic
def add_version(
    *,
    plan_id: uuid.UUID,
    prices: Sequence[PriceInput],
    actor: Actor,
    effective_from: datetime | None = None,
    min_commitment: Mapping[str, Any] | None = None,
) -> PlanVersion:
    """Add a version that new subscribers get from ``effective_from`` (now) on. Raises ``VersionOutOfOrder``."""
    plan = Plan.objects.select_for_update().get(pk=plan_id)
    now = clock.now(plan.organisation_id)
    last = plan.versions.order_by("-number").first()
    effective_from = effective_from or now
    if last is not None and effective_from < last.effective_from:
        raise VersionOutOfOrder(number=last.number, last=last.effective_from.isoformat(), field="effective_from")
    number = last.number + 1 if last else 1
    version = _write_version(
        plan=plan, number=number, prices=prices, min_commitment=min_commitment, effective_from=effective_from, now=now
    )
    if last is not None:
        carry_over(source=last, target=version)
    audit.record(
        actor=actor, action="plan.version_added", target=plan,
        after={"number": number, "effective_from": effective_from.isoformat()},
    )  # fmt: skip
    return version


@transaction.atomic
def archive_plan(*, plan_id: uuid.UUID, actor: Actor, reason: str = "") -> Plan:
    """Offer the plan no more; running subscriptions stay as they are. Safe to repeat."""
    plan = Plan.objects.select_for_update().get(pk=plan_id)
    if plan.archived_at is None:
        plan.archived_at = clock.now(plan.organisation_id)
        plan.save(update_fields=["archived_at"])
        audit.record(actor=actor, action="plan.archived", target=plan, reason=reason)
    return plan


@transaction.atomic
def offer_again(*, plan_id: uuid.UUID, actor: Actor, reason: str = "") -> Plan:
    """Take an archived plan out again: from now on it is offered as it stands. Safe to repeat."""
    plan = Plan.objects.select_for_update().get(pk=plan_id)
    if plan.archived_at is not None:
        plan.archived_at = None
        plan.save(update_fields=["archived_at"])
        audit.record(actor=actor, action="plan.offered_again", target=plan, reason=reason)
    return plan


def version_at(*, plan: Plan, at: datetime, on: date) -> PlanVersion:
    """The version a new subscriber gets at ``at`` (local day ``on``); before the first version, the first one holds.

    Raises ``PlanUnavailable`` when the plan is archived or not offered on that day.
    """
    offered = (
        plan.archived_at is None
        and (plan.available_from is None or plan.available_from <= on)
        and (plan.available_until is None or on <= plan.available_until)
    )
    versions = PlanVersion.objects.filter(plan=plan)
    found = (
        versions.filter(effective_from__lte=at).order_by("-number").first()
        or versions.filter(effective_from__lte=clock.now(plan.organisation_id)).order_by("number").first()
    )
    if not offered or found is None:
        raise PlanUnavailable(plan=plan.code, on=on.isoformat(), field="plan")
    return found


def _check_offered(available_from: date | None, available_until: date | None) -> None:
    if available_from and available_until and available_until < available_from:
        raise InvalidPlan("available_until must not come before available_from.", field="available_until")


def _check_plan(*, code: str, interval: str, interval_count: int, trial_days: int) -> None:
    if not SLUG.match(code):
        raise InvalidPlan("A plan's code has 1 to 60 letters, digits, '-' or '_'.", field="code")
    if interval not in periods.INTERVALS:
        raise InvalidPlan(f"Choose the interval from {', '.join(periods.INTERVALS)}.", field="interval")
    if not 1 <= interval_count <= MAX_COUNT[interval]:
        raise InvalidPlan(f"interval_count of {interval} is 1 to {MAX_COUNT[interval]}.", field="interval_count")
    if not 0 <= trial_days <= MAX_TRIAL_DAYS:
        raise InvalidPlan(f"trial_days is 0 to {MAX_TRIAL_DAYS}.", field="trial_days")


def _write_version(
    *,
    plan: Plan,
    number: int,
    prices: Sequence[PriceInput],
    min_commitment: Mapping[str, Any] | None,
    effective_from: datetime,
    now: datetime,
) -> PlanVersion:
    if not EARLIEST <= effective_from <= LATEST:
        raise InvalidPlan("effective_from lies between 1990 and 2200.", field="effective_from")
    checked = checked_prices(organisation_id=plan.organisation_id, prices=prices, min_commitment=min_commitment)
    version = PlanVersion.objects.create(
        organisation_id=plan.organisation_id, plan=plan, number=number, effective_from=effective_from, created_at=now,
        min_commitment=checked.min_commitment,
    )  # fmt: skip
    checked.write(version)
    return version
