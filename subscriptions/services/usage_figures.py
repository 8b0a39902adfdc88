"""What a customer uses and what it costs: now, in the past, and where it is heading. Priced by the billing's own functions."""

import uuid
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

from moneyed import Money

from billing import clock, money
from billing.metering import Used, Window
from billing.models import Customer, Meter, Organisation, UsageWindow
from billing.selectors.usage import aggregate_parts
from subscriptions import late_usage
from subscriptions.lines import Component, PriceBook
from subscriptions.metering import windows_of
from subscriptions.models import Subscription
from subscriptions.selectors import price_books, subscriptions_of

CURRENT, PAST, PROJECTED = "current", "past", "projected"
GROWING = frozenset({"count", "sum"})
"""Aggregations whose quantity grows with time, unless they are recurring; levels are taken to stay as they are."""
WEIGHTED = "weighted"
MAX_WINDOWS = 200
_TWELVE = Decimal(1).scaleb(-12)
_TICK = timedelta(microseconds=1)


@dataclass(frozen=True, kw_only=True)
class UsedPart:
    """One filter and group of a component: what was used, and what it costs by itself."""

    component: str
    name: str
    meter: str
    unit: str
    service: str
    segment: str
    group: tuple[str, ...]
    quantity: Decimal
    events: int
    amount: Money


@dataclass(frozen=True, kw_only=True)
class UsageFigure:
    """The usage of one subscription in [starts_at, ends_at), without minimums, discounts and tax."""

    subscription_id: uuid.UUID
    external_id: str
    starts_at: datetime
    ends_at: datetime
    parts: tuple[UsedPart, ...]
    amount: Money


def usage_of(*, organisation: Organisation, customer: Customer, when: str = CURRENT) -> list[UsageFigure]:
    """Usage and cost of a customer, by subscription and window, the newest first.

    ``current``: since the last bill until now. ``projected``: the same at the end of the period, when it goes on as it went.
    ``past``: the last periods that were billed (``MAX_WINDOWS`` of their components at most), as they are billed by now.
    """
    rows = list(subscriptions_of(organisation).filter(customer=customer).order_by("-id"))
    meters = {meter.pk: meter for meter in Meter.objects.of(organisation)}
    if when == PAST:
        return _past(organisation, rows, meters)
    return _open(organisation, rows, meters, clock.now(organisation), projected=when == PROJECTED)


def _open(
    organisation: Organisation,
    rows: Sequence[Subscription],
    meters: dict[Any, Meter],
    now: datetime,
    *,
    projected: bool,
) -> list[UsageFigure]:
    running = [row for row in rows if row.usage_from is not None and row.usage_from < now]
    version_of = {row.pk: row.usage_version_id or row.plan_version_id for row in running}
    books = price_books(organisation, set(version_of.values()))
    asked: list[Any] = []
    windows: list[Window] = []
    for row in running:
        assert row.usage_from is not None
        is_present = version_of[row.pk] == row.plan_version_id
        book = books.get(version_of[row.pk], row.currency, row.add_ons if is_present else None)
        end = max(row.next_billing_at or now, now) if projected else now
        found = windows_of(
            book=book, customer_id=row.customer_id, subscription_id=row.pk, start=row.usage_from, end=now
        )
        for code, window in found.items():
            if meters[window.meter_id].aggregation == WEIGHTED:  # the present level stands until the end
                found[code] = window._replace(end=end)
        asked.append((row, book, found, end))
        windows += found.values()
    used = aggregate_parts(windows)
    figures = []
    for row, book, found, end in asked:
        assert row.usage_from is not None
        factor = Decimal((end - row.usage_from) // _TICK) / Decimal((now - row.usage_from) // _TICK)
        parts = [
            part
            for component in book.metered
            for part in _parts(component, used.get(found[component.code], ()), meters, factor)
        ]
        figures.append(_figure(row, book.currency, row.usage_from, end, parts))
    return figures


def _past(organisation: Organisation, rows: Sequence[Subscription], meters: dict[Any, Meter]) -> list[UsageFigure]:
    known = {row.pk: row for row in rows}
    windows = _last_windows(known)
    books = price_books(organisation, {window.price_ref for window in windows})
    together: dict[tuple[uuid.UUID, datetime, datetime], list[UsedPart]] = {}
    for window in windows:
        row = known[window.subscription_ref]
        component = _component(books.get(window.price_ref, row.currency), window.component)
        if component is not None:
            used = late_usage.loaded(window.parts).values()
            together.setdefault(_period(window), []).extend(_parts(component, used, meters, Decimal(1)))
    return [_figure(known[pk], known[pk].currency, start, end, parts) for (pk, start, end), parts in together.items()]


def _last_windows(known: Collection[uuid.UUID]) -> list[UsageWindow]:
    """The last windows that were billed; a period of which not all components fit is left out, for its amount would be too small."""
    rows = UsageWindow.objects.filter(subscription_ref__in=known)
    rows = rows.order_by("-ends_at", "subscription_ref", "-starts_at", "component")
    found = list(rows[: MAX_WINDOWS + 1])
    if len(found) <= MAX_WINDOWS:
        return found
    cut = _period(found[-1])
    return [window for window in found if _period(window) != cut]


def _period(window: UsageWindow) -> tuple[uuid.UUID, datetime, datetime]:
    return window.subscription_ref, window.starts_at, window.ends_at


def _component(book: PriceBook, code: str) -> Component | None:
    return next((one for one in book.metered if one.code == code), None)


def _parts(component: Component, used: Iterable[Used], meters: dict[Any, Meter], factor: Decimal) -> Iterable[UsedPart]:
    meter = meters[component.meter_id]
    grows = meter.aggregation in GROWING and not meter.recurring
    for one in used:
        scaled = _scaled(one, factor) if grows else one
        amount = component.price_used(scaled).amount
        if one.values and factor != 1 and grows:  # priced event by event: more events like these
            amount = money.round_money(component.price_used(one).amount * factor)
        yield UsedPart(
            component=component.code, name=component.name_of(one), meter=meter.code, unit=component.unit,
            service=meter.service, segment=one.segment, group=one.group, quantity=scaled.quantity, events=scaled.events,
            amount=amount,
        )  # fmt: skip


def _scaled(used: Used, factor: Decimal) -> Used:
    if factor == 1:
        return used

    def grown(value: Decimal) -> Decimal:
        return (value * factor).quantize(_TWELVE, ROUND_HALF_UP)

    return used._replace(
        quantity=grown(used.quantity), events=int((used.events * factor).to_integral_value(ROUND_HALF_UP)),
        amount=grown(used.amount),
    )  # fmt: skip


def _figure(row: Subscription, currency: str, start: datetime, end: datetime, parts: Sequence[UsedPart]) -> UsageFigure:
    return UsageFigure(
        subscription_id=row.pk, external_id=row.external_id, starts_at=start, ends_at=end, parts=tuple(parts),
        amount=sum((part.amount for part in parts), start=money.zero(currency)),
    )  # fmt: skip
