"""Minimums of billed windows whose usage changed: what makes up for them is worked out anew, on the same invoice as the change."""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db.models import Q
from moneyed import Money

from billing.models import UsageWindow
from subscriptions import late_usage
from subscriptions.arrears import MINIMUM, minimum_category
from subscriptions.late_usage import Correction, Held
from subscriptions.lines import Component, PriceBook
from subscriptions.periods import local_date
from subscriptions.selectors import PriceBooks

_TICK = timedelta(microseconds=1)
Changed = tuple[UsageWindow, Component, Correction]
Time = tuple[uuid.UUID, datetime, datetime]


def days_of(row: UsageWindow, zone: Any) -> tuple[date, date]:
    """The first and the last local day of a window."""
    return local_date(row.starts_at, zone), local_date(row.ends_at - _TICK, zone)


def work_out(found: Sequence[Changed], *, books: PriceBooks, zone: Any) -> None:
    """Add lines to the corrections for minimums that come to something else by them. One query, where a version has one."""
    held: dict[uuid.UUID, Held] = {}
    for row, component, one in found:
        mine = held[row.pk] = Held(component, row.least, late_usage.loaded(one.before), late_usage.loaded(one.after))
        if change := mine.own_change():
            about = {"name": component.name, "code": component.code, "tax_category": component.tax_category}
            one.lines = [*one.lines, _line(row, change, component.currency, zone, **about)]
    together: dict[Time, list[Changed]] = defaultdict(list)
    for changed in found:
        if "all" in changed[0].least and changed[2].before != changed[2].after:
            together[_time(changed[0])].append(changed)
    beside = _windows_of(together)
    for time, group in together.items():
        row, component, _ = group[0]
        book = books.get(row.price_ref, component.currency)
        everything = [held.get(one.pk) or _unchanged(one, book) for one in beside[time]]
        change = late_usage.shared_change([one for one in everything if one is not None])
        if change and all(one is not None for one in everything):
            category = minimum_category(book)
            host = next((one for one in group if one[1].tax_category == category), group[0])
            line = _line(host[0], change, component.currency, zone, name="Plan", code=MINIMUM, tax_category=category)
            host[2].lines = [*host[2].lines, line]


def _windows_of(times: Iterable[Time]) -> dict[Time, list[UsageWindow]]:
    """All windows of the billed times, those that did not change included."""
    asked = Q(pk=None)
    for subscription_id, starts_at, ends_at in times:
        asked |= Q(subscription_ref=subscription_id, starts_at=starts_at, ends_at=ends_at)
    found: dict[Time, list[UsageWindow]] = defaultdict(list)
    for row in UsageWindow.objects.filter(asked).order_by("component") if times else ():
        found[_time(row)].append(row)
    return found


def _time(row: UsageWindow) -> Time:
    return row.subscription_ref, row.starts_at, row.ends_at


def _unchanged(row: UsageWindow, book: PriceBook) -> Held | None:
    component = next((one for one in book.metered if one.code == row.component), None)
    parts = late_usage.loaded(row.parts)
    return Held(component, row.least, parts, parts) if component else None


def _line(row: UsageWindow, change: Decimal, currency: str, zone: Any, **about: Any) -> Any:
    first_on, last_on = days_of(row, zone)
    return late_usage.minimum_line(
        change=Money(change, currency), first_on=first_on, last_on=last_on, window_id=row.pk, **about
    )
