"""Which plan would have suited a customer best: the last periods, priced again under every plan that is offered. Reads only.

What was really used is priced as each plan would have priced it, at the subscription's present quantity, without tax and
discounts, and the present plan is priced the same way, so that the difference is the plan's and nothing else's. A plan of
another interval counts with its recurring price's share of the period; its usage is priced period by period.

A plan is recommended when it is cheaper and takes nothing away: it measures everything that was used, gives at least the
features of the present one, and offers the add-ons that were taken.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from fractions import Fraction

from moneyed import Money

from billing import clock, money
from billing.errors import DomainError
from billing.metering import Used, Window
from billing.selectors.usage import aggregate_parts
from subscriptions.arrears import Elapsed, Stretch, arrears_lines
from subscriptions.entitlements.comparison import features_of_versions
from subscriptions.entitlements.rules import at_least
from subscriptions.lines import PriceBook
from subscriptions.metering import UsageByComponent, by_component, windows_of
from subscriptions.models import BilledPeriod, PlanVersion, Subscription
from subscriptions.periods import local_date
from subscriptions.proration import Part
from subscriptions.recurring import PER_YEAR
from subscriptions.selectors import PriceBooks, price_books
from subscriptions.services.comparison import offered

MAX_PERIODS = 12
WHOLE = Part(0, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A plan, what each period would have cost under it, and what it lacks."""

    version: PlanVersion
    costs: tuple[Money, ...]
    total: Money
    saving: Money
    lacks: tuple[str, ...] = ()
    is_present: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Recommendation:
    """Candidates from the cheapest to the dearest; ``recommended`` is the best that takes nothing away, if any is cheaper."""

    subscription: Subscription
    periods: tuple[tuple[datetime, datetime], ...]
    candidates: tuple[Candidate, ...]
    recommended: Candidate | None


def recommend(*, subscription: Subscription, periods: int = 3) -> Recommendation:
    """Price the subscription's last ``periods`` finished periods under every plan that is offered in its currency."""
    organisation, currency = subscription.organisation, subscription.currency
    spans = _finished(subscription, clock.now(organisation), min(periods, MAX_PERIODS))
    present = subscription.plan_version
    others = [version for version in offered(organisation) if version.plan_id != present.plan_id]
    books = price_books(organisation, [present.pk, *(version.pk for version in others)])
    priced = {version: book for version in (present, *others) if (book := _book(books, version, subscription))}
    used = _used(subscription, priced, spans)
    zone = clock.zone(organisation)
    days = [(local_date(start, zone), local_date(end, zone)) for start, end in spans]
    costs = {
        version: tuple(
            _cost(book, priced[present], subscription.quantity, used[version][n], days[n]) for n in range(len(spans))
        )
        for version, book in priced.items()
    }
    zero = money.zero(currency)
    was = sum(costs[present], start=zero)
    lacking = _lacking(subscription, priced, books, used)
    found = sorted(
        (
            Candidate(
                version=version, costs=each, total=(total := sum(each, start=zero)), saving=was - total,
                lacks=lacking[version], is_present=version.pk == present.pk,
            )
            for version, each in costs.items()
        ),
        key=lambda one: (one.total.amount, not one.is_present, one.version.plan.code),
    )  # fmt: skip
    best = next((one for one in found if one.saving.amount > 0 and not one.lacks), None)
    return Recommendation(subscription=subscription, periods=spans, candidates=tuple(found), recommended=best)


def _finished(subscription: Subscription, now: datetime, count: int) -> tuple[tuple[datetime, datetime], ...]:
    """The last periods that were billed and are over, oldest first."""
    rows = BilledPeriod.objects.filter(subscription=subscription, ends_at__lte=now, kind="cycle")
    spans = list(rows.order_by("-starts_at").values_list("starts_at", "ends_at")[:count])
    return tuple(reversed(spans))


def _book(books: PriceBooks, version: PlanVersion, subscription: Subscription) -> PriceBook | None:
    """The version's prices with the add-ons it offers; None when it has none in the currency, or they are broken."""
    try:
        kept = books.kept(version.pk, subscription.currency, subscription.add_ons)
        return books.get(version.pk, subscription.currency, kept)
    except DomainError:
        return None


def _used(
    subscription: Subscription, priced: Mapping[PlanVersion, PriceBook], spans: Sequence[tuple[datetime, datetime]]
) -> dict[PlanVersion, list[UsageByComponent]]:
    """What every plan would have been asked to price, period by period. One query for all of them."""
    windows: dict[PlanVersion, list[dict[str, Window]]] = {
        version: [
            windows_of(
                book=book, customer_id=subscription.customer_id, subscription_id=subscription.pk, start=start, end=end
            )
            for start, end in spans
        ]
        for version, book in priced.items()
    }
    found: Mapping[Window, Sequence[Used]] = aggregate_parts(
        window for each in windows.values() for asked in each for window in asked.values()
    )
    return {version: [by_component(asked, found) for asked in each] for version, each in windows.items()}


def _cost(book: PriceBook, present: PriceBook, quantity: int, used: UsageByComponent, days: tuple[date, date]) -> Money:
    """What one period of the present plan would have cost under ``book``."""
    pace = Fraction(PER_YEAR[book.interval], book.interval_count) / Fraction(
        PER_YEAR[present.interval], present.interval_count
    )
    span = Elapsed(days[0], max(days), (Stretch(WHOLE, book, quantity),))
    if pace == 1:
        lines = arrears_lines(elapsed=span, book=book, used=used)
        advance = (component.price(quantity).amount for component in book.licensed)
        return sum((line.amount for line in lines), start=sum(advance, start=money.zero(book.currency)))
    plain = replace(book, licensed=(), arrears=(), one_off=(), min_commitment=None)
    usage = arrears_lines(elapsed=replace(span, stretches=(Stretch(WHOLE, plain, quantity),)), book=plain, used=used)
    exact = sum((Fraction(component.price(quantity).exact) for component in book.recurring), start=Fraction(0)) * pace
    total = sum((Fraction(line.amount.amount) for line in usage), start=Fraction(0)) + exact
    if book.min_commitment is not None:
        total = max(total, Fraction(book.min_commitment) * pace)
    minor = total * 10 ** money.exponent(book.currency)
    half_up = (2 * minor.numerator + minor.denominator) // (2 * minor.denominator)
    return money.from_minor_units(half_up, book.currency)


def _lacking(
    subscription: Subscription,
    priced: Mapping[PlanVersion, PriceBook],
    books: PriceBooks,
    used: Mapping[PlanVersion, Sequence[UsageByComponent]],
) -> dict[PlanVersion, tuple[str, ...]]:
    """What each plan does not have of what the subscription has or has used, in words."""
    present = subscription.plan_version
    metered = {component.code: component for component in priced[present].metered}
    measured: dict[uuid.UUID | None, str] = {
        metered[code].meter_id: metered[code].name for found in used[present] for code in found
    }
    features = features_of_versions(
        organisation=subscription.organisation, version_ids=[version.pk for version in priced]
    )
    found = {}
    for version, book in priced.items():
        lacks = [f"does not measure {name}" for meter, name in measured.items() if meter not in book.meter_ids]
        kept = books.kept(version.pk, subscription.currency, subscription.add_ons)
        lacks += [f"has no add-on {code}" for code in sorted(subscription.add_ons.keys() - kept.keys())]
        lacks += [
            f"gives less of {feature.name}"
            for feature in features
            if not at_least(feature.rule, feature.given[version.pk].terms, feature.given[present.pk].terms)
        ]
        found[version] = tuple(lacks)
    return found
