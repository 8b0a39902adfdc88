"""A later word on a measurement: another quantity, or that it does not count. The measurement itself stays as it came."""

from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Q

from billing import clock, measurements, parties
from billing.context import Actor
from billing.errors import Conflict, InvalidInput, NotFound
from billing.measurements import NO_SUBSCRIPTION, Rejected
from billing.models import Organisation, UsageEvent, UsageKey, UsageRevision, UsageWindow
from billing.services import audit, outbox
from billing.services.usage import spec_of
from billing.services.usage_policy import policy_of

Kind = UsageRevision.Kind


class AlreadyVoid(Conflict):
    """The measurement does not count already."""

    code = "usage_already_void"
    message = "The event '{event_id}' is void already."


class WindowClosed(Conflict):
    """The measurement's time was billed, and its window takes in no changes any more."""

    code = "usage_window_closed"
    message = "The time of '{event_id}' was billed and is closed since {closed}; credit the invoice instead."


@transaction.atomic
def void_event(*, organisation: Organisation, event_id: str, reason: str, actor: Actor) -> UsageRevision:
    """The measurement does not count. Raises ``NotFound``, ``AlreadyVoid``, ``WindowClosed``.

    What was billed of it already is given back on the next invoice.
    """
    return _revise(organisation, event_id, Kind.VOID, None, reason, actor)


@transaction.atomic
def replace_quantity(
    *, organisation: Organisation, event_id: str, quantity: Any, reason: str, actor: Actor
) -> UsageRevision:
    """The measurement counts with another quantity, also when it was void. Raises as ``void_event``, and ``InvalidInput``.

    A billed window's difference is on the next invoice.
    """
    return _revise(organisation, event_id, Kind.REPLACE, quantity, reason, actor)


def _revise(
    organisation: Organisation, event_id: str, kind: UsageRevision.Kind, quantity: Any, reason: str, actor: Actor
) -> UsageRevision:
    event = _locked(organisation, event_id)
    reason = parties.clean_text(reason, field="reason", limit=300, required=True)
    number = None if kind == Kind.VOID else _quantity(event, quantity)
    current = UsageRevision.objects.filter(event_ref=event.pk, is_current=True).first()
    if kind == Kind.VOID and current is not None and current.kind == Kind.VOID:
        raise AlreadyVoid(event_id=event_id)
    now = clock.now(organisation)
    _refuse_closed(organisation, event, now)
    if current is not None:
        UsageRevision.objects.filter(pk=current.pk).update(is_current=False)
    revision = UsageRevision.objects.create(
        organisation=organisation,
        event_ref=event.pk,
        event_id=event.event_id,
        meter_id=event.meter_id,
        customer_id=event.customer_id,
        subscription_ref=event.subscription_ref,
        occurred_at=event.occurred_at,
        kind=kind,
        quantity=number,
        number=current.number + 1 if current else 1,
        reason=reason,
        made_by=actor.label[:200] or actor.type,
        made_at=now,
    )
    before = {"quantity": f"{event.quantity if current is None else current.quantity or 0:f}"}
    after = {"event_id": event_id, "kind": kind.value, "quantity": None if number is None else f"{number:f}"}
    audit.record(actor=actor, action="usage.revised", target=revision, before=before, after=after, reason=reason)
    outbox.publish(
        "usage.revised", revision, event_id=event_id, kind=kind.value, customer_id=str(event.customer_id),
        meter_id=str(event.meter_id),
    )  # fmt: skip
    return revision


def _locked(organisation: Organisation, event_id: str) -> UsageEvent:
    """The measurement, its key locked until the commit: revisions of one event come one after the other."""
    key = measurements.key_of(organisation.pk, event_id)
    known = UsageKey.objects.select_for_update().filter(pk=key).first()
    event = None
    if known is not None:
        events = UsageEvent.objects.of(organisation).select_related("meter")
        event = events.filter(pk=known.event_ref, occurred_at=known.occurred_at).first()
    if event is None:
        raise NotFound("No event with this id was taken in.", field="event_id")
    return event


def _quantity(event: UsageEvent, quantity: Any) -> Decimal:
    spec = spec_of(event.meter)
    if spec.aggregation == "unique":
        raise InvalidInput(
            "A unique count has no quantities: void the event, or send an add or remove.", field="quantity"
        )
    try:
        return Decimal(measurements.quantity_text(quantity, signed=spec.signed))
    except Rejected as exc:
        raise InvalidInput(exc.reason, field=exc.field) from exc


def _refuse_closed(organisation: Organisation, event: UsageEvent, now: Any) -> None:
    """The same rule as for late events: refused once every billed window the event falls into is closed."""
    windows = UsageWindow.objects.filter(
        customer=event.customer_id,
        meter=event.meter_id,
        starts_at__lte=event.occurred_at,
        ends_at__gt=event.occurred_at,
    )
    if str(event.subscription_ref) != NO_SUBSCRIPTION:
        windows = windows.filter(subscription_ref=event.subscription_ref)
    lateness = policy_of(organisation).lateness
    closing = Q(closed_at__isnull=False) | Q(ends_at__lt=now - lateness)
    found = list(
        windows.select_for_update(no_key=True)
        .order_by("pk")
        .annotate(is_shut=closing)
        .values_list("is_shut", "ends_at")
    )
    if found and all(shut for shut, _ in found):
        closed = max(ends_at for _, ends_at in found) + lateness
        raise WindowClosed(event_id=event.event_id, closed=f"{closed:%Y-%m-%d %H:%M}")
