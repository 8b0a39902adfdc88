"""What a usage event has to look like, and what a meter makes of it. Pure: values in, a row or a named refusal out."""

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from billing.expressions import ExpressionFailed, Node, evaluate

MAX_QUANTITY = Decimal(10) ** 17
MAX_PROPERTIES = 2000
MAX_SUBJECT = 200
EARLIEST_YEAR = 2000
AHEAD = timedelta(hours=1)
"""How far a sender's clock may be ahead of the organisation's."""
FIELDS = frozenset({"event_id", "meter", "customer", "subscription", "quantity", "amount", "occurred_at", "properties"})
OPERATION = "operation"
"""Property of unique counts: ``add`` (default) or ``remove``."""
_ZERO = Decimal(0)


class Rejected(Exception):
    """An event that is not taken in; the others of its batch are. ``waits``: it may become right without being changed."""

    def __init__(self, field: str, reason: str, *, waits: bool = False) -> None:
        self.field, self.reason, self.waits = field, reason, waits
        super().__init__(reason)


class Declared(NamedTuple):
    """A property that a meter's events have."""

    name: str
    required: bool = False
    kind: str = "text"


@dataclass(frozen=True, slots=True, kw_only=True)
class MeterSpec:
    """What ingestion knows of a meter."""

    id: str
    aggregation: str = "sum"
    recurring: bool = False
    expression: Node | None = None
    unique_property: str = ""
    declared: Mapping[str, Declared] = field(default_factory=dict)

    @property
    def signed(self) -> bool:
        """Whether a quantity may be below zero: where events raise and lower a level."""
        return self.aggregation == "weighted" or (self.aggregation == "sum" and self.recurring)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What the events of one batch refer to. Customers and subscriptions by every name they may be called."""

    key_prefix: str
    """Of the organisation."""
    meters: Mapping[str, MeterSpec]
    customers: Mapping[str, str]
    subscriptions: Mapping[str, tuple[str, str]]
    """Name to (subscription, customer)."""
    naming: frozenset[tuple[str, str]]
    """(customer, meter) whose events have to name a subscription."""
    earliest: datetime
    """The oldest moment that is kept."""
    latest: datetime


class Row(NamedTuple):
    """A measurement as it is stored."""

    key: str
    event_id: str
    meter_id: str
    customer_id: str
    subscription_id: str
    quantity: str
    amount: str | None
    subject: str
    properties: str
    occurred_at: datetime


PLAIN = re.compile(r"[0-9]{1,17}(\.[0-9]{1,12})?", re.ASCII)
"""A quantity that needs no further look: the usual case."""
NO_SUBSCRIPTION = str(uuid.UUID(int=0))


def key_of(organisation_id: uuid.UUID, event_id: str) -> str:
    """Key of an event id: 128 bits of SHA-256, in hexadecimal digits."""
    return _key(f"{organisation_id}:{event_id}")


def _key(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def row_of(event: Any, known: Known) -> Row:
    """The row of an event. Raises ``Rejected``."""
    if not isinstance(event, Mapping):
        raise Rejected("event", "Expected an object.")
    if unknown := event.keys() - FIELDS:
        raise Rejected(min(map(str, unknown))[:60], "This field is not known here.")
    event_id = _text(event, "event_id", 100)
    moment = _moment(event.get("occurred_at"), known)
    code, name = _text(event, "meter", 60), _text(event, "customer", 100)
    properties, text = _properties(event.get("properties"))
    meter = known.meters.get(code)
    if meter is None:
        raise Rejected("meter", "There is no meter with this code.", waits=True)
    customer = known.customers.get(name)
    if customer is None:
        raise Rejected("customer", "There is no customer with this id or external id.", waits=True)
    if meter.declared:
        _declared(meter, properties)
    quantity, subject = _measured(event, meter, properties)
    return Row(
        _key(known.key_prefix + event_id),
        event_id,
        meter.id,
        customer,
        _subscription(event, customer, meter, known),
        quantity,
        _amount(event.get("amount")),
        subject,
        text,
        moment,
    )


def _text(event: Mapping[str, Any], field: str, limit: int) -> str:
    value = event.get(field)
    if type(value) is str and 0 < len(value) <= limit and value.isprintable():
        return value
    if not isinstance(value, str) or not 1 <= len(value) <= limit:
        raise Rejected(field, f"Expected a text of 1 to {limit} characters.")
    if not value.isprintable():
        raise Rejected(field, "Control characters are not accepted.")
    return value


def measured(event: Mapping[str, Any], meter: MeterSpec) -> tuple[str, str]:
    """Quantity and counted subject of an event that is only tried: ``quantity`` and ``properties`` count. Raises ``Rejected``."""
    properties, _ = _properties(event.get("properties"))
    if meter.declared:
        _declared(meter, properties)
    return _measured(event, meter, properties)


def _measured(event: Mapping[str, Any], meter: MeterSpec, properties: Mapping[str, Any]) -> tuple[str, str]:
    """Quantity and subject by the meter's rules."""
    if meter.aggregation == "unique":
        return _operation(properties), _subject(meter.unique_property, properties)
    if meter.expression is None:
        return _quantity(event.get("quantity", 1), signed=meter.signed), ""
    given = {**properties, "quantity": event["quantity"]} if "quantity" in event else properties
    try:
        value = evaluate(meter.expression, given)
    except ExpressionFailed as exc:
        raise Rejected(exc.field or "properties", str(exc)[:300], waits=True) from exc
    if value < 0 and not meter.signed:
        raise Rejected("properties", "The meter's expression comes to less than zero.")
    return f"{value:f}", ""


def _operation(properties: Mapping[str, Any]) -> str:
    found = properties.get(OPERATION, "add")
    if found not in ("add", "remove"):
        raise Rejected(OPERATION, "Expected add or remove.")
    return "1" if found == "add" else "0"


def _subject(name: str, properties: Mapping[str, Any]) -> str:
    value = properties.get(name)
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value)
    if not isinstance(value, str) or not 1 <= len(value) <= MAX_SUBJECT or not value.isprintable():
        raise Rejected(name, f"The meter counts this property: expected a text of 1 to {MAX_SUBJECT} characters.")
    return value


def _declared(meter: MeterSpec, properties: Mapping[str, Any]) -> None:
    for name in properties:
        if name not in meter.declared and name != OPERATION:
            raise Rejected(str(name)[:60], "The meter declares no such property.", waits=True)
    for one in meter.declared.values():
        value = properties.get(one.name)
        if value is None:
            if one.required:
                raise Rejected(one.name, "The meter requires this property.", waits=True)
        elif one.kind == "number":
            _quantity(value if not isinstance(value, float) else repr(value), signed=True, field=one.name)
        elif not isinstance(value, str):
            raise Rejected(one.name, "Expected a text.")


def _subscription(event: Mapping[str, Any], customer: str, meter: MeterSpec, known: Known) -> str:
    if event.get("subscription") is None:
        if known.naming and (customer, meter.id) in known.naming:
            raise Rejected(
                "subscription",
                "The customer has several subscriptions on this meter: name the one it was used on.",
                waits=True,
            )
        return NO_SUBSCRIPTION
    found = known.subscriptions.get(_text(event, "subscription", 100))
    if found is None or found[1] != customer:
        raise Rejected("subscription", "The customer has no subscription with this id or external id.", waits=True)
    return found[0]


def quantity_text(value: Any, *, signed: bool = False) -> str:
    """``value`` as a plain decimal text. Raises ``Rejected``."""
    return _quantity(value, signed=signed)


def _quantity(value: Any, *, signed: bool = False, field: str = "quantity") -> str:
    if type(value) is str and PLAIN.fullmatch(value):
        return value
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise Rejected(field, "Give the quantity as a decimal string such as '12.5'.")
    try:
        number = Decimal(value)
    except (InvalidOperation, ValueError) as exc:
        raise Rejected(field, "This is not a decimal number.") from exc
    if not number.is_finite() or abs(number) >= MAX_QUANTITY:
        raise Rejected(field, f"Expected a number below {MAX_QUANTITY:f}.")
    if number < 0 and not signed:
        raise Rejected(field, f"Expected a number from 0 to below {MAX_QUANTITY:f}.")
    exponent: Any = number.as_tuple().exponent
    if exponent < -12 and number != round(number, 12):
        raise Rejected(field, "At most 12 decimals.")
    return f"{number:f}"


def _amount(value: Any) -> str | None:
    return None if value is None else _quantity(value, field="amount")


def _properties(value: Any) -> tuple[Mapping[str, Any], str]:
    if not value and (value is None or isinstance(value, Mapping)):
        return {}, "{}"
    if not isinstance(value, Mapping):
        raise Rejected("properties", "Expected an object.")
    text = json.dumps(value)
    if len(text) > MAX_PROPERTIES:
        raise Rejected("properties", f"At most {MAX_PROPERTIES} characters of JSON.")
    if "\\u" in text or "NaN" in text or "Infinity" in text:
        _must_be_storable(value)
    return value, text


def _must_be_storable(value: Any) -> None:
    """PostgreSQL keeps neither NUL nor half characters nor NaN in JSON."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False)
        text.encode()
    except (ValueError, UnicodeEncodeError) as exc:
        raise Rejected("properties", "Numbers must be finite and texts valid Unicode.") from exc
    if "\\u0000" in text:
        raise Rejected("properties", "Control characters are not accepted.")


def _moment(value: Any, known: Known) -> datetime:
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) and len(value) <= 40 else None
        if moment is not None and (moment.tzinfo is None or not EARLIEST_YEAR <= moment.year <= 9000):
            moment = None
    except ValueError:
        moment = None
    if moment is None:
        raise Rejected(
            "occurred_at", f"Expected a time with offset since {EARLIEST_YEAR} such as 2026-04-01T12:00:00Z."
        )
    if moment > known.latest:
        raise Rejected("occurred_at", "This is in the future.")
    if moment < known.earliest:
        raise Rejected("occurred_at", "This is older than usage is kept.")
    return moment
