"""What every Razorpay handler gets, and the checks that several share."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from payments.simulator import fees
from payments.simulator.razorpay_api import shapes
from payments.simulator.razorpay_api.errors import invalid, missing, not_found
from payments.simulator.wire import Request
from payments.simulator.world import Account, World

Json = dict[str, Any]


@dataclass
class Call:
    """An authenticated request."""

    world: World
    account: Account
    request: Request
    path: dict[str, str]
    body: Json

    def find(self, kind: str, name: str = "id") -> Json:
        """The object that a path part names; refuses a foreign or unknown id."""
        entity = self.account.of(kind).get(self.path[name])
        if entity is None:
            raise not_found()
        return entity

    def only(self, allowed: Iterable[str]) -> None:
        """Refuse fields that the real API would refuse."""
        extra = sorted(set(self.body) - set(allowed))
        if extra:
            raise invalid(f"{', '.join(extra)} is/are not required and should not be sent", extra[0])

    def page(self, items: list[Json], *, most: int = 100, newest_first: bool = True) -> Json:
        """``from``, ``to``, ``count`` and ``skip`` applied to objects kept oldest first."""
        query = self.request.query
        count, skip = _number(query, "count", 10), _number(query, "skip", 0)
        if not 1 <= count <= most:
            raise invalid(f"The count must be between 1 and {most}.", "count")
        if "from" in query or "to" in query:
            start, end = _number(query, "from", 0), _number(query, "to", 2**62)
            items = [item for item in items if start <= item["created_at"] <= end]
        if newest_first:
            items = items[::-1]
        return shapes.collection(items[skip : skip + count])


def _number(query: dict[str, str], name: str, default: int) -> int:
    raw = query.get(name, "")
    if raw and not raw.isdigit():
        raise invalid(f"The {name} must be an integer.", name)
    return int(raw) if raw else default


def check_amount(body: Json, *, minimum: int) -> int:
    """A whole number of smallest units; three-decimal currencies end in 0."""
    raw = body.get("amount")
    if raw is None:
        raise missing("amount")
    if isinstance(raw, str) and raw.isdigit():
        raw = int(raw)
    if not isinstance(raw, int) or isinstance(raw, bool):
        raise invalid("The amount must be an integer.", "amount")
    if raw < minimum:
        raise invalid(f"Order amount less than minimum amount allowed ({minimum}).", "amount")
    if fees.exponent(str(body.get("currency", "INR"))) == 3 and raw % 10:
        raise invalid("The last digit of an amount in a three-decimal currency must be 0.", "amount")
    body["amount"] = raw
    return raw


def check_currency(body: Json, *, default: str | None = None) -> str:
    """A currency that the account can take."""
    currency = body.get("currency") or default
    if not currency:
        raise missing("currency")
    if currency != "INR" and currency not in fees.INR_PER_UNIT:
        raise invalid("The currency is not supported.", "currency")
    body["currency"] = currency
    return str(currency)


def check_notes(body: Json) -> None:
    """At most 15 pairs of at most 256 characters."""
    notes = body.get("notes")
    if notes and (not isinstance(notes, dict) or len(notes) > 15):
        raise invalid("The notes may have at most 15 key-value pairs.", "notes")
    if notes and any(len(str(value)) > 256 for value in notes.values()):
        raise invalid("A note may have at most 256 characters.", "notes")
