"""What a price list asks of the meters: a window for each metered component, split by its filters and groups. Pure."""

import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from billing.metering import Segment, Used, Window
from subscriptions import pricing
from subscriptions.lines import Component, PriceBook

UsageByComponent = Mapping[str, Sequence[Used]]


def windows_of(
    *, book: PriceBook, customer_id: uuid.UUID, subscription_id: uuid.UUID | None, start: datetime, end: datetime
) -> dict[str, Window]:
    """The windows whose usage prices the book's metered components in [start, end), by component code."""
    return {
        component.code: Window(
            customer_id=customer_id,
            meter_id=component.meter_id,
            start=start,
            end=end,
            segments=tuple(Segment(one.key, one.conditions) for one in component.filters),
            group_by=component.group_by,
            with_values=_needs_values(component),
            subscription_id=subscription_id,
            at_peak=component.pay_in_advance,
        )
        for component in book.metered
        if component.meter_id is not None
    }


def by_component(windows: Mapping[str, Window], used: Mapping[Window, Sequence[Used]]) -> dict[str, Sequence[Used]]:
    """What was found, by component code; components without usage are left out."""
    return {code: used[window] for code, window in windows.items() if window in used}


def _needs_values(component: Component) -> bool:
    return component.model == pricing.PERCENTAGE and any(map(pricing.needs_values, _parameters(component)))


def _parameters(component: Component) -> Iterable[pricing.Parameters]:
    yield component.parameters
    for one in component.filters:
        yield one.rule.parameters
