"""Plans side by side: what each costs for a quantity, the price of each component in words, and what each gives. Reads only."""

from collections.abc import Sequence
from dataclasses import dataclass

from moneyed import Money

from billing import clock
from billing.errors import InvalidInput
from billing.models import Organisation
from subscriptions import recurring
from subscriptions.entitlements.comparison import features_of_versions
from subscriptions.lines import ONE_OFF, Component
from subscriptions.models import Plan, PlanVersion
from subscriptions.pricing import Rule
from subscriptions.pricing import words as price_words
from subscriptions.selectors import PriceBooks, plan_named, price_books
from subscriptions.services import catalog
from subscriptions.services.quoting import Quote, quote_book

MAX_PLANS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One plan of a comparison: its version now, and what a period costs for the quantity, without usage and tax."""

    plan: Plan
    version: PlanVersion
    quote: Quote
    per_month: Money


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What one plan says in a row."""

    plan: str
    words: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One component or feature, and what each plan says about it; plans without it say nothing."""

    code: str
    name: str
    kind: str
    cells: tuple[Cell, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Plans side by side."""

    currency: str
    quantity: int
    columns: tuple[Column, ...]
    components: tuple[Line, ...]
    features: tuple[Line, ...]


def compare(
    *, organisation: Organisation, names: Sequence[str] = (), currency: str = "", quantity: int = 1
) -> Comparison:
    """Compare plans by code or id; without names, all that are offered today with a price in the currency.

    Raises ``NotFound`` for a plan that does not exist, ``PlanUnavailable`` or ``MissingPrice`` for one that was named and
    cannot be taken.
    """
    currency = currency or organisation.currency
    if len(names) > MAX_PLANS:
        raise InvalidInput(f"At most {MAX_PLANS} plans at once.", field="plans")
    if names:
        found = [
            version_now(organisation, plan_named(organisation, name, field="plans")) for name in dict.fromkeys(names)
        ]
    else:
        found = offered(organisation)
    books = price_books(organisation, [version.pk for version in found])
    if not names:
        found = [version for version in found if books.has(version.pk, currency)][:MAX_PLANS]
    columns = tuple(_column(version, books, currency, quantity) for version in found)
    return Comparison(
        currency=currency,
        quantity=quantity,
        columns=columns,
        components=_components(found, books, currency),
        features=_features(organisation, found),
    )


def version_now(organisation: Organisation, plan: Plan) -> PlanVersion:
    """The version a new subscriber gets now. Raises ``PlanUnavailable``."""
    return catalog.version_at(plan=plan, at=clock.now(organisation), on=clock.today(organisation))


def offered(organisation: Organisation) -> list[PlanVersion]:
    """The versions that new subscribers get now, of every plan that is offered, by code."""
    now, today = clock.now(organisation), clock.today(organisation)
    plans = Plan.objects.of(organisation).filter(archived_at=None).exclude(available_from__gt=today)
    plans = plans.exclude(available_until__lt=today)
    versions = PlanVersion.objects.filter(plan__in=plans, effective_from__lte=now).select_related("plan")
    return list(versions.order_by("plan__code", "plan_id", "-number").distinct("plan__code", "plan_id"))


def _column(version: PlanVersion, books: PriceBooks, currency: str, quantity: int) -> Column:
    book = books.get(version.pk, currency)
    return Column(
        plan=version.plan,
        version=version,
        quote=quote_book(book=book, quantity=quantity, version=version),
        per_month=recurring.least_a_month(book=book, quantity=quantity),
    )


def _components(versions: Sequence[PlanVersion], books: PriceBooks, currency: str) -> tuple[Line, ...]:
    found: dict[str, list[tuple[PlanVersion, Component]]] = {}
    for version in versions:
        for component in books.all(version.pk, currency):
            found.setdefault(component.code, []).append((version, component))
    return tuple(
        Line(
            code=code,
            name=rows[0][1].name,
            kind="metered" if rows[0][1].meter_id else rows[0][1].kind,
            cells=tuple(Cell(plan=version.plan.code, words=words_of(component)) for version, component in rows),
        )
        for code, rows in found.items()
    )


def words_of(component: Component) -> tuple[str, ...]:
    """A component's price as people read it, its filters and minimum below."""
    said = _said(component, Rule(component.unit_price, component.tiers, component.parameters))
    more = [f"{one.name or one.key}: {'; '.join(_said(component, one.rule))}" for one in component.filters]
    if component.min_commitment is not None:
        more.append(f"at least {component.min_commitment.normalize() + 0:,f} {component.currency} a period")
    if component.group_by:
        more.append(f"by {', '.join(component.group_by)}")
    return (*said, *more)


def _said(component: Component, rule: Rule) -> tuple[str, ...]:
    return price_words.say(
        model=component.model, rule=rule, currency=component.currency, unit=component.unit, once=component.kind == ONE_OFF
    )  # fmt: skip


def _features(organisation: Organisation, versions: Sequence[PlanVersion]) -> tuple[Line, ...]:
    found = features_of_versions(organisation=organisation, version_ids=[version.pk for version in versions])
    return tuple(
        Line(
            code=feature.code,
            name=feature.name,
            kind=feature.kind,
            cells=tuple(Cell(plan=version.plan.code, words=(feature.given[version.pk].text,)) for version in versions),
        )
        for feature in found
    )
