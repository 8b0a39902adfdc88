"""What is counted, and how."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any

from django.db import IntegrityError, transaction

from billing import expressions, parties
from billing.context import Actor
from billing.errors import Conflict, InvalidInput, NotFound
from billing.measurements import Rejected, measured
from billing.metering import MeterRule, rounded
from billing.models import Meter, Organisation
from billing.services import audit, meter_costs, outbox
from billing.services.usage import spec_of

MAX_PROPERTIES = 30
PROPERTY = re.compile(r"[A-Za-z_][A-Za-z0-9_.]{0,59}")
RECURRING = frozenset(
    {Meter.Aggregation.SUM, Meter.Aggregation.UNIQUE, Meter.Aggregation.LATEST, Meter.Aggregation.WEIGHTED}
)


class MeterExists(Conflict):
    code = "meter_exists"
    message = "There is a meter '{meter}' already."


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """What a meter makes of one event: its quantity, the same as a bill would round it, and the value a unique count counts."""

    quantity: Decimal
    rounded: Decimal
    subject: str = ""


def draft_meter(
    *,
    organisation: Organisation,
    code: str,
    name: str,
    aggregation: str,
    unit: str = "",
    recurring: bool = False,
    expression: str = "",
    unique_property: str = "",
    rounding: str = "",
    rounding_decimals: int = 0,
    properties: Sequence[Mapping[str, Any]] = (),
    service: str = "",
) -> Meter:
    """A meter that is checked and not saved. Raises ``InvalidInput`` (``InvalidExpression``) naming the field."""
    meter = Meter(
        organisation=organisation,
        code=code,
        name=parties.clean_text(name, field="name", limit=120, required=True),
        aggregation=Meter.Aggregation(aggregation),
        unit=parties.clean_text(unit, field="unit", limit=40),
        recurring=recurring,
        expression=parties.clean_text(expression, field="expression", limit=expressions.MAX_LENGTH),
        unique_property=unique_property,
        rounding=rounding,
        rounding_decimals=rounding_decimals,
        properties=[_declared(one) for one in properties],
        service=parties.clean_text(service, field="service", limit=60),
    )
    _check(meter)
    if meter.expression:
        expressions.require_value(expressions.parse(meter.expression))
    return meter


@transaction.atomic
def create_meter(
    *,
    organisation: Organisation,
    code: str,
    name: str,
    aggregation: str,
    actor: Actor,
    unit_cost: Decimal | None = None,
    unit_cost_from: date | None = None,
    **choices: Any,
) -> Meter:
    """Begin to count something; ``choices`` are those of ``draft_meter``. Raises ``InvalidInput`` naming the field, ``MeterExists``.

    What a unit costs counts from the beginning, unless a day is named.
    """
    _check_cost({"unit_cost": unit_cost} if unit_cost is not None else {}, unit_cost_from)
    meter = draft_meter(organisation=organisation, code=code, name=name, aggregation=aggregation, **choices)
    try:
        with transaction.atomic():
            meter.save(force_insert=True)
    except IntegrityError as exc:
        raise MeterExists(meter=code, field="code") from exc
    if unit_cost is not None:
        meter_costs.set_cost(meter, unit_cost=unit_cost, effective_on=unit_cost_from or meter_costs.BEGINNING)
    audit.record(actor=actor, action="meter.created", target=meter, after=_choices(meter))
    outbox.publish("meter.created", meter, meter_id=str(meter.pk), code=code)
    return meter


def try_event(meter: Meter, *, properties: Mapping[str, Any], quantity: Decimal | None = None) -> Trial:
    """What ``meter``, saved or not, makes of an event; nothing is taken in.

    Raises ``InvalidInput`` naming ``event`` with the reason for which such an event would be refused.
    """
    event: dict[str, Any] = {"properties": dict(properties)}
    if quantity is not None:
        event["quantity"] = f"{quantity:f}"
    try:
        text, subject = measured(event, spec_of(meter))
    except Rejected as exc:
        raise InvalidInput(f"Such an event is refused. {exc.field}: {exc.reason}", field="event") from exc
    found = Decimal(1) if meter.aggregation == Meter.Aggregation.COUNT else Decimal(text)
    rule = MeterRule(meter.aggregation, meter.recurring, meter.rounding, meter.rounding_decimals)
    return Trial(quantity=found, rounded=rounded(found, rule), subject=subject)


@transaction.atomic
def update_meter(
    *,
    organisation: Organisation,
    meter_id: Any,
    actor: Actor,
    reason: str = "",
    unit_cost_from: date | None = None,
    **changes: Any,
) -> Meter:
    """Change what does not alter counted quantities: name, unit, declared properties, service, unit cost.

    A unit cost counts from ``unit_cost_from`` on, today if left out; earlier days keep theirs. The way of counting stays: begin
    a new meter for another one. Raises ``NotFound``, ``InvalidInput``.
    """
    _check_cost(changes, unit_cost_from)
    meter = Meter.objects.of(organisation).select_for_update().filter(pk=meter_id).first()
    if meter is None:
        raise NotFound("No such meter in this organisation.", field="id")
    before = _choices(meter)
    if "name" in changes:
        meter.name = parties.clean_text(changes["name"], field="name", limit=120, required=True)
    for field, limit in (("unit", 40), ("service", 60)):
        if field in changes:
            setattr(meter, field, parties.clean_text(changes[field], field=field, limit=limit))
    if "properties" in changes:
        meter.properties = [_declared(one) for one in changes["properties"]]
    _check(meter)
    meter.save()
    if "unit_cost" in changes:
        meter_costs.set_cost(meter, unit_cost=changes["unit_cost"], effective_on=unit_cost_from)
    audit.record(actor=actor, action="meter.updated", target=meter, before=before, after=_choices(meter), reason=reason)
    outbox.publish("meter.updated", meter, meter_id=str(meter.pk), code=meter.code)
    return meter


def reads(meter: Meter) -> list[str]:
    """What the meter reads of an event: names of properties, and ``quantity``. Raises ``InvalidExpression``."""
    if meter.unique_property:
        return [meter.unique_property]
    if meter.expression:
        return sorted(expressions.names(expressions.parse(meter.expression)))
    return [] if meter.aggregation == Meter.Aggregation.COUNT else ["quantity"]


def _check(meter: Meter) -> None:
    if meter.recurring and meter.aggregation not in RECURRING:
        raise InvalidInput(
            f"A {meter.aggregation} begins anew in every window; it cannot be recurring.", field="recurring"
        )
    if (meter.aggregation == Meter.Aggregation.UNIQUE) != bool(meter.unique_property):
        raise InvalidInput("A unique count, and only that, names the property it counts.", field="unique_property")
    if meter.unique_property and not PROPERTY.fullmatch(meter.unique_property):
        raise InvalidInput("Expected the name of a property: letters, digits, _ and dots.", field="unique_property")
    if meter.expression and meter.aggregation in (Meter.Aggregation.COUNT, Meter.Aggregation.UNIQUE):
        raise InvalidInput(f"A {meter.aggregation} counts events; it needs no expression.", field="expression")
    if meter.rounding not in Meter.Rounding.values:
        raise InvalidInput("Expected round, ceil, floor or nothing.", field="rounding")
    if not -6 <= meter.rounding_decimals <= 12:
        raise InvalidInput("Expected -6 to 12 decimals.", field="rounding_decimals")
    _check_names(meter)


def _check_cost(given: Mapping[str, Any], effective_on: date | None) -> None:
    """Before anything is written."""
    if effective_on is not None and "unit_cost" not in given:
        raise InvalidInput("Say what a unit costs from then on.", field="unit_cost")
    meter_costs.checked(given.get("unit_cost"), effective_on)


def _check_names(meter: Meter) -> None:
    names = [one["name"] for one in meter.properties]
    if len(names) > MAX_PROPERTIES or len(set(names)) != len(names):
        raise InvalidInput(f"Expected at most {MAX_PROPERTIES} different properties.", field="properties")
    read = reads(meter)  # what cannot be read is refused, declared or not
    if names and (missing := [one for one in read if one not in names and one != "quantity"]):
        raise InvalidInput(f"Declare the property '{missing[0]}' too: it is what is counted.", field="properties")


def _declared(one: Mapping[str, Any]) -> dict[str, Any]:
    name, kind = one.get("name"), one.get("kind", "text")
    if not isinstance(name, str) or not PROPERTY.fullmatch(name):
        raise InvalidInput("Expected the name of a property: letters, digits, _ and dots.", field="properties")
    if kind not in ("text", "number"):
        raise InvalidInput("Expected the kind text or number.", field="properties")
    return {"name": name, "required": bool(one.get("required", False)), "kind": kind}


def _choices(meter: Meter) -> dict[str, Any]:
    fields = (
        "code", "name", "aggregation", "unit", "recurring", "expression", "unique_property", "rounding", "rounding_decimals",
        "properties", "service",
    )  # fmt: skip
    return {field: getattr(meter, field) for field in fields} | {"unit_costs": meter_costs.told(meter)}
