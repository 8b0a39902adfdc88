"""How subscriptions live where the field's systems differ: the organisation chooses, a plan may differ from it. Pure.

Settings stand in ``Organisation.settings["subscriptions"]`` and ``Plan.rules`` under the same names; the plan's come first, then
the organisation's, then the defaults below. docs/settings.md lists them for people.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from decimal import Decimal
from typing import Any

from billing import money
from billing.errors import DomainError
from subscriptions import periods
from subscriptions.errors import InvalidPlan
from subscriptions.proration import DAY, NONE, SECOND

ANNIVERSARY, CALENDAR = "anniversary", "calendar"
ORGANISATION, CUSTOMER = "organisation", "customer"
RESTART, CONTINUE = "restart", "continue"
CHARGED, FREE = "charged", "free"
NOW, PERIOD_END, BY_VALUE = "now", "period_end", "by_value"
CHOICES: Mapping[str, tuple[str, ...]] = {
    "proration": (DAY, SECOND, NONE),
    "cycle": (ANNIVERSARY, CALENDAR),
    "time_zone": (ORGANISATION, CUSTOMER),
    "usage_after_change": (RESTART, CONTINUE),
    "last_day": (CHARGED, FREE),
    "change_when": (NOW, PERIOD_END, BY_VALUE),
}
TERM_END = "term_end"
CHANGE_WHEN, CANCEL_WHEN = [NOW, PERIOD_END, BY_VALUE], [NOW, PERIOD_END, TERM_END]
TERM_WHEN = [NOW, TERM_END]
MAX_GATE_DAYS, MAX_NOTICE_DAYS, MAX_RENEWALS, MAX_TERM = 60, 365, 1000, 120
MAX_HOURS = 31 * 24


@dataclass(frozen=True, slots=True, kw_only=True)
class Term:
    """A fixed term of ``count`` intervals that renews ``renewals`` times (None: for ever) unless it is cancelled in time."""

    interval: str
    count: int = 1
    renewals: int | None = None
    notice_days: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The choices that hold for a subscription, with their defaults."""

    proration: str = DAY
    cycle: str = ANNIVERSARY
    time_zone: str = ORGANISATION
    usage_after_change: str = RESTART
    last_day: str = CHARGED
    change_when: str = NOW
    payment_gate_days: int | None = None
    usage_in_advance_hours: int = 24
    seats_meter: str = ""
    trial_prices: Mapping[str, str] | None = None
    term: Term | None = None


NAMES = frozenset(field.name for field in fields(Rules))


def rules_of(settings: Mapping[str, Any], plan_rules: Mapping[str, Any]) -> Rules:
    """The choices for subscriptions to a plan. What an organisation's settings spell wrongly has the default."""
    found: dict[str, Any] = {}
    ours = settings.get("subscriptions")
    for source in (ours if isinstance(ours, Mapping) else {}, plan_rules):
        for name in NAMES & source.keys():
            try:
                found[name] = _checked(name, source[name])
            except DomainError:
                continue
    return Rules(**found)


def parse_rules(raw: object) -> dict[str, Any]:
    """The rules of a plan as they are stored; raises ``InvalidPlan`` that names the rule."""
    if not isinstance(raw, Mapping):
        raise InvalidPlan("rules is an object of names and values.", field="rules")
    unknown = sorted(str(name)[:40] for name in raw if name not in NAMES)
    if unknown:
        raise InvalidPlan(f"There is no rule '{unknown[0]}'; use {', '.join(sorted(NAMES))}.", field="rules")
    for name, value in raw.items():
        _checked(name, value)
    return dict(raw)


def _checked(name: str, value: object) -> Any:
    if name in CHOICES:
        if value not in CHOICES[name]:
            raise InvalidPlan(f"{name} is one of {', '.join(CHOICES[name])}.", field=f"rules.{name}")
        return value
    if name == "payment_gate_days":
        return _whole(value, name, 1, MAX_GATE_DAYS, empty=True)
    if name == "usage_in_advance_hours":
        return _whole(value, name, 0, MAX_HOURS)
    if name == "seats_meter":
        if not isinstance(value, str) or len(value) > 60 or not value.isprintable():
            raise InvalidPlan("seats_meter is a meter's code.", field="rules.seats_meter")
        return value
    return _trial_prices(value) if name == "trial_prices" else _term(value)


def _whole(value: object, name: str, least: int, most: int, *, empty: bool = False) -> int | None:
    if value is None and empty:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise InvalidPlan(f"{name} is a whole number from {least} to {most}.", field=f"rules.{name}")
    return value


def _trial_prices(value: object) -> Mapping[str, str] | None:
    """What a trial costs by currency: ``{"INR": "49.00"}``."""
    if value is None:
        return None
    if not isinstance(value, Mapping) or len(value) > 60:
        raise InvalidPlan('trial_prices is an object such as {"INR": "49.00"}.', field="rules.trial_prices")
    for code, amount in value.items():
        if not isinstance(code, str) or not isinstance(amount, str) or len(amount) > 24:
            raise InvalidPlan("A trial's price is a decimal string by currency.", field="rules.trial_prices")
        try:
            money.parse_amount(amount, code)
        except DomainError as exc:
            raise InvalidPlan(f"trial_prices: {exc}", field="rules.trial_prices") from exc
    return value


def trial_price_of(rules: Rules, currency: str) -> Decimal | None:
    """What a trial costs in a currency; None: nothing."""
    amount = (rules.trial_prices or {}).get(currency)
    return Decimal(amount) if amount is not None else None


def _term(value: object) -> Term | None:
    if value is None or isinstance(value, Term):
        return value
    names = {"interval", "count", "renewals", "notice_days"}
    if not isinstance(value, Mapping) or not set(value) <= names:
        raise InvalidPlan(f"term is an object of {', '.join(sorted(names))}.", field="rules.term")
    if value.get("interval") not in periods.INTERVALS:
        raise InvalidPlan(f"term.interval is one of {', '.join(periods.INTERVALS)}.", field="rules.term")
    return Term(
        interval=str(value["interval"]),
        count=_whole(value.get("count", 1), "term.count", 1, MAX_TERM) or 1,
        renewals=_whole(value.get("renewals"), "term.renewals", 0, MAX_RENEWALS, empty=True),
        notice_days=_whole(value.get("notice_days", 0), "term.notice_days", 0, MAX_NOTICE_DAYS) or 0,
    )
