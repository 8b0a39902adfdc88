"""What quantities cost by a price list, without tax: the same pricing that bills. Writes nothing."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from moneyed import Money

from billing import money
from billing.metering import Used
from billing.models import Organisation
from subscriptions import pricing
from subscriptions.errors import InvalidSubscription
from subscriptions.lines import Component, PriceBook
from subscriptions.models import PlanVersion
from subscriptions.pricing import PricedComponent
from subscriptions.pricing.commitments import true_up
from subscriptions.proration import Part
from subscriptions.selectors import price_books
from subscriptions.services import changing

WHOLE = Part(0, 1, 1)


@dataclass(frozen=True, kw_only=True)
class Measured:
    """Usage to be priced: a quantity, and where the model needs it the events behind it and what they carry."""

    component: str
    quantity: Decimal
    events: int | None = None
    amount: Decimal | None = None
    values: tuple[Decimal, ...] = ()
    properties: Mapping[str, str] = field(default_factory=dict)


def measured(*, component: str, quantity: Decimal, values: Sequence[Decimal] = (), **more: Any) -> Measured:
    """Usage to be priced; listed events have to add up to the quantity. Raises ``InvalidQuantity``."""
    events = more.pop("events", None)
    if values:
        if sum(values, start=Decimal(0)) != quantity:
            raise pricing.InvalidQuantity("The values must add up to the quantity.", field="values")
        if events is not None and events != len(values):
            raise pricing.InvalidQuantity(f"{len(values)} values are not {events} events.", field="events")
        events = len(values)
    return Measured(component=component, quantity=quantity, events=events, values=tuple(values), **more)


@dataclass(frozen=True, kw_only=True)
class QuotedLine:
    """A component's price; ``missing`` is a line that makes up for a minimum."""

    code: str
    name: str
    model: str
    priced: PricedComponent
    kind: str = "recurring"
    filter: str = ""


@dataclass(frozen=True, kw_only=True)
class Quote:
    """What quantities cost by a price list, without tax: a first period, and what is charged once beside it."""

    currency: str
    lines: tuple[QuotedLine, ...]
    minimum: Money
    version: PlanVersion | None = None
    variant: str = ""

    @property
    def total(self) -> Money:
        """Of one period, with what is missing to the minimum."""
        periodic = (line.priced.amount for line in self.lines if line.kind != "one_off")
        return sum(periodic, start=self.minimum)

    @property
    def one_off(self) -> Money:
        """What is charged once, with the first bill."""
        return sum(
            (line.priced.amount for line in self.lines if line.kind == "one_off"), start=money.zero(self.currency)
        )


def quote(
    *,
    organisation: Organisation,
    plan_id: uuid.UUID,
    currency: str = "",
    quantity: int = 1,
    add_ons: Mapping[str, int] | None = None,
    usage: Sequence[Measured] = (),
    version: PlanVersion | None = None,
) -> Quote:
    """Price a whole period of a plan: components by ``quantity``, add-ons by their own, metered ones by ``usage``.

    Takes the version effective now unless another is given. Raises ``PlanUnavailable``, ``MissingPrice``, ``AddOnNotOffered``.
    """
    version = version or changing.version_for(organisation=organisation, plan_id=plan_id)
    book = price_books(organisation, [version.pk]).get(version.pk, currency or organisation.currency, add_ons)
    return quote_book(book=book, quantity=quantity, usage=usage, version=version)


def quote_book(
    *, book: PriceBook, quantity: int = 1, usage: Sequence[Measured] = (), version: PlanVersion | None = None
) -> Quote:
    """Price a whole period of a price book. Raises ``InvalidSubscription`` for usage of what it does not meter."""
    metered = {component.code: component for component in book.metered}
    unknown = sorted({one.component for one in usage} - metered.keys())
    if unknown:
        raise InvalidSubscription(f"The plan has no metered component '{unknown[0]}'.", field="usage")
    lines = [_line(component, component.price(quantity)) for component in (*book.recurring, *book.one_off)]
    for component in book.metered:
        lines += _metered(component, [one for one in usage if one.component == component.code])
    return Quote(currency=book.currency, lines=tuple(lines), minimum=_missing(book, lines), version=version)


def quote_component(*, component: Component, quantity: Decimal, measured: Measured | None = None) -> Quote:
    """Price one component that is on no plan yet."""
    lines = _metered(component, [measured or Measured(component=component.code, quantity=quantity)])
    return Quote(currency=component.currency, lines=tuple(lines), minimum=money.zero(component.currency))


def _metered(component: Component, usage: Sequence[Measured]) -> list[QuotedLine]:
    """The lines of a metered component; usage whose properties fit a filter takes that filter's price."""
    lines = []
    for one in usage or [Measured(component=component.code, quantity=Decimal(0), amount=Decimal(0), events=0)]:
        fits = pricing.most_specific(component.filters, one.properties)
        rule = fits.rule if fits else pricing.Rule(component.unit_price, component.tiers, component.parameters)
        used = Used(fits.key if fits else "", (), one.quantity, one.events or 0, one.amount or Decimal(0), one.values)
        priced = pricing.price_component(
            model=component.model, quantity=one.quantity, currency=component.currency, unit_price=rule.unit_price,
            tiers=rule.tiers, parameters=rule.parameters,
            usage=pricing.Usage(one.quantity, one.events, one.amount, one.values),
        )  # fmt: skip
        lines.append(_line(component, priced, name=component.name_of(used), key=used.segment))
    if component.min_commitment is not None:
        charged = sum((line.priced.amount for line in lines), start=money.zero(component.currency))
        missing = true_up(minimum=component.min_commitment, part=WHOLE, charged=charged)
        if missing.amount:
            amount = missing.amount
            topped = PricedComponent(Decimal(1), amount, amount, missing)
            lines.append(_line(component, topped, name=f"{component.name}: up to the minimum"))
    return lines


def _missing(book: PriceBook, lines: Sequence[QuotedLine]) -> Money:
    if book.min_commitment is None:
        return money.zero(book.currency)
    charged = sum((line.priced.amount for line in lines if line.kind != "one_off"), start=money.zero(book.currency))
    return true_up(minimum=book.min_commitment, part=WHOLE, charged=charged)


def _line(component: Component, priced: PricedComponent, *, name: str = "", key: str = "") -> QuotedLine:
    return QuotedLine(
        code=component.code, name=name or component.name, model=component.model, priced=priced, kind=component.kind,
        filter=key,
    )  # fmt: skip
