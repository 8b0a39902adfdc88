"""What every Stripe handler gets: parameters, look-ups, lists and expansion."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from payments.simulator.stripe_api.errors import StripeError, missing, no_such, wrong
from payments.simulator.stripe_api.params import ALLOWED
from payments.simulator.wire import Request
from payments.simulator.world import Account, World

Json = dict[str, Any]

KINDS = {  # id prefix: kind of object
    "pi": "payment_intents", "ch": "charges", "cus": "customers", "pm": "payment_methods",
    "txn": "balance_transactions", "re": "refunds", "po": "payouts", "dp": "disputes",
    "seti": "setup_intents", "mandate": "mandates", "cs_test": "sessions",
}  # fmt: skip
TRUE = frozenset({"true", "1", "one_off", "recurring"})
CHOICES = {
    "capture_method": {"automatic", "automatic_async", "manual"},
    "confirmation_method": {"automatic", "manual"},
    "setup_future_usage": {"off_session", "on_session"},
    "usage": {"off_session", "on_session"},
    "reason": {"duplicate", "fraudulent", "requested_by_customer"},
    "cancellation_reason": {"abandoned", "duplicate", "fraudulent", "requested_by_customer"},
}


@dataclass
class Call:
    """An authenticated request."""

    world: World
    account: Account
    request: Request
    path: dict[str, str]
    params: Json

    def only(self, name: str) -> None:
        """Refuse parameters that the call does not have, and values outside a fixed choice."""
        extra = sorted(set(self.params) - ALLOWED[name])
        if extra:
            many = "s" if len(extra) > 1 else ""
            raise StripeError(f"Received unknown parameter{many}: {', '.join(extra)}",
                              code="parameter_unknown", param=extra[0])  # fmt: skip
        for key, allowed in CHOICES.items():
            value = self.params.get(key)
            if value not in (None, "") and value not in allowed:
                raise wrong(f"Invalid {key}: must be one of {', '.join(sorted(allowed))}", key, "parameter_invalid")

    def find(self, kind: str, name: str | None = None) -> Json:
        """The object that the path, or a parameter value, names."""
        wanted = self.path["id"] if name is None else name
        entity = self.account.of(kind).get(wanted)
        if entity is None:
            raise no_such(kind.rstrip("s"), wanted, "id" if name is None else kind.rstrip("s"),
                          404 if name is None else 400)  # fmt: skip
        return entity

    def text(self, name: str) -> str | None:
        """A parameter; the empty string counts as absent."""
        value = self.params.get(name)
        if isinstance(value, (dict, list)):
            raise wrong(f"Invalid string: {value}", name, "parameter_invalid_string")
        return value or None

    def flag(self, name: str) -> bool:
        """A boolean parameter."""
        return str(self.params.get(name, "")).lower() in TRUE

    def number(self, name: str, *, required: bool = False, least: int | None = None) -> int | None:
        """A whole-number parameter."""
        raw = self.params.get(name)
        if raw in (None, ""):
            if required:
                raise missing(name)
            return None
        try:
            value = int(str(raw))
        except ValueError as error:
            raise wrong(f"Invalid integer: {raw}", name, "parameter_invalid_integer") from error
        if least is not None and value < least:
            raise wrong(f"This value must be greater than or equal to {least}.", name, "parameter_invalid_integer")
        return value

    def metadata(self) -> dict[str, str]:
        """Metadata as given, checked against the documented limits."""
        raw = self.params.get("metadata") or {}
        if not isinstance(raw, dict) or len(raw) > 50:
            raise wrong("Metadata has at most 50 keys.", "metadata", "parameter_invalid")
        for key, value in raw.items():
            if len(key) > 40 or len(str(value)) > 500:
                raise wrong(f"Metadata key {key} is longer than 40, or its value than 500, characters.",
                            f"metadata[{key}]", "parameter_invalid")  # fmt: skip
        return {key: str(value) for key, value in raw.items() if value != ""}

    def expanded(self, entity: Json) -> Json:
        """The answer with the ``expand`` paths filled in."""
        paths = self.params.get("expand") or []
        for path in paths if isinstance(paths, list) else list(paths.values()):
            entity = expand(self.account, entity, str(path).split("."), str(path))
        return entity

    def listed(self, items: list[Json]) -> Json:
        """``limit``, ``starting_after``, ``ending_before`` and ``created`` over objects kept oldest first."""
        for name in ("created", "arrival_date"):
            items = [item for item in items if _in_range(item, name, self.params.get(name))]
        newest = items[::-1]
        limit = self.number("limit", least=1) or 10
        if limit > 100:
            raise wrong("This value must be less than or equal to 100.", "limit", "parameter_invalid_integer")
        ids = [item["id"] for item in newest]
        after, before = self.text("starting_after"), self.text("ending_before")
        if after or before:
            name = "starting_after" if after else "ending_before"
            if (after or before) not in ids:
                raise no_such("object", str(after or before), name, 400)
        if before and not after:
            end = ids.index(before)
            page, more = newest[max(0, end - limit) : end], end - limit > 0
        else:
            start = ids.index(after) + 1 if after else 0
            page, more = newest[start : start + limit], len(newest) > start + limit
        return self.expanded({"object": "list", "url": self.request.path, "has_more": more, "data": page})


def _in_range(item: Json, name: str, wanted: Any) -> bool:
    if not wanted:
        return True
    if not isinstance(wanted, dict):
        return int(item[name]) == int(wanted)
    checks = {"gt": item[name].__gt__, "gte": item[name].__ge__, "lt": item[name].__lt__, "lte": item[name].__le__}
    return all(checks[key](int(value)) for key, value in wanted.items() if key in checks)


def expand(account: Account, entity: Json, keys: list[str], path: str) -> Json:
    """A copy of ``entity`` with the object instead of the id at ``keys``."""
    key, rest = keys[0], keys[1:]
    if key == "refunds" and entity.get("object") == "charge":
        ids = account.indexed("refunds", entity["id"])
        data = [account.of("refunds")[name] for name in reversed(ids)]
        return {**entity, "refunds": {"object": "list", "url": f"/v1/charges/{entity['id']}/refunds",
                                      "has_more": False, "data": data}}  # fmt: skip
    if key not in entity:
        raise StripeError(f"This property cannot be expanded ({path}).")
    value = entity[key]
    if isinstance(value, str):
        target = account.of(KINDS.get(value.rsplit("_", 1)[0], "")).get(value)
        if target is None:
            raise StripeError(f"This property cannot be expanded ({path}).")
        value = target
    if rest:
        if isinstance(value, list):
            value = [expand(account, item, rest, path) for item in value]
        elif isinstance(value, dict):
            value = expand(account, value, rest, path)
    return {**entity, key: value}
