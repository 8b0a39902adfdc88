"""What a customer may do with a feature. Pure: no database, no clock.

1. Each subscription that entitles (``standing``) contributes its plan version's terms; limits that count per unit are multiplied
   by its quantity. An override of the subscription stands instead of them. What its add-ons give, and its grants, are added to them.
2. Several contributions are combined: quotas add up or the most generous one holds (the organisation's choice); of everything
   else the most generous holds.
3. An override of the customer stands instead of the result, as long as at least one subscription entitles. Grants of the
   customer are added last, and hold by themselves: somebody decided them, for a time.

Adding is by kind: a limit grows, what is off is on, a value becomes the more generous one. Nothing (``None``) is no terms at all.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal, InvalidOperation

BOOLEAN, QUOTA, STATIC, METERED = "boolean", "quota", "static", "metered"
COUNTED = frozenset({QUOTA, METERED})
ADD_UP, MOST_GENEROUS = "add_up", "most_generous"
DEFAULT_THRESHOLDS = (75, 90, 100)
ZERO = Decimal(0)

FULL, PAID_PERIOD, NONE = "full", "paid_period", "none"
DEFAULT_STATUSES = {
    "pending": NONE,
    "incomplete": NONE,
    "trialing": FULL,
    "active": FULL,
    "past_due": FULL,  # in its grace: dunning decides when it is over
    "paused": PAID_PERIOD,
    "suspended": NONE,
    "restricted": NONE,  # live and billed, but cut down by dunning
    "cancelled": NONE,
    "expired": NONE,
}


@dataclass(frozen=True, slots=True)
class Terms:
    """What is given of a feature. ``limit`` None: unlimited. ``soft``: beyond the limit is allowed, as overage."""

    enabled: bool = True
    limit: Decimal | None = None
    value: str = ""
    soft: bool = False
    per_unit: bool = False


Merge = Callable[["Rule", Terms, Terms], Terms]
OFF = Terms(enabled=False, limit=ZERO)


@dataclass(frozen=True, slots=True)
class Rule:
    """A feature as the rules see it."""

    kind: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Contribution:
    """One subscription's part: its plan's terms (None: nothing), quantity, override and grants; ``extras``: of its add-ons."""

    plan: Terms | None
    quantity: int = 1
    override: Terms | None = None
    grants: tuple[Terms, ...] = ()
    extras: tuple[Terms, ...] = ()


@dataclass(frozen=True, slots=True)
class Verdict:
    """The answer to "may I?". ``remaining`` None: unlimited, or not counted. ``why`` is a stable code."""

    allowed: bool
    why: str
    limit: Decimal | None = None
    used: Decimal | None = None
    remaining: Decimal | None = None
    overage: Decimal = ZERO
    value: str = ""


def entitles(*, access: str, ends_at: datetime | None, paid_until: datetime | None, at: datetime) -> bool:
    """Whether a subscription whose status gives ``access`` entitles at ``at``. An end counts when its time has come."""
    if access == PAID_PERIOD:
        return paid_until is not None and at < paid_until
    return access == FULL and (ends_at is None or at < ends_at)


def combined(
    rule: Rule,
    contributions: Sequence[Contribution],
    *,
    override: Terms | None = None,
    grants: Iterable[Terms] = (),
    several: str = ADD_UP,
) -> Terms | None:
    """What the customer has of the feature; None when nothing gives it. ``override`` and ``grants`` are the customer's own."""
    found = [terms for one in contributions if (terms := _contributed(rule, one)) is not None]
    merge = add if several == ADD_UP and rule.kind in COUNTED else best
    total = _folded(merge, rule, found)
    if override is not None and contributions:
        total = override
    return _with_grants(rule, total, grants)


def _contributed(rule: Rule, one: Contribution) -> Terms | None:
    own = one.override if one.override is not None else one.plan
    return _with_grants(
        rule,
        None if own is None else multiplied(own, one.quantity),
        [*one.extras, *(multiplied(grant, one.quantity) for grant in one.grants)],
    )


def multiplied(terms: Terms, quantity: int) -> Terms:
    """The terms for so many units, of the subscription or of an add-on."""
    if not terms.per_unit:
        return terms
    return replace(terms, limit=None if terms.limit is None else terms.limit * quantity, per_unit=False)


def _with_grants(rule: Rule, terms: Terms | None, grants: Iterable[Terms]) -> Terms | None:
    return _folded(add, rule, ([] if terms is None else [terms]) + list(grants))


def _folded(merge: Merge, rule: Rule, found: Sequence[Terms]) -> Terms | None:
    total: Terms | None = None
    for terms in found:
        total = terms if total is None else merge(rule, total, terms)
    return total


def add(rule: Rule, one: Terms, other: Terms) -> Terms:
    """Both together: limits add up; everything else as the more generous of the two. What is off adds nothing."""
    if not one.enabled or not other.enabled:
        return one if one.enabled else other
    if rule.kind not in COUNTED:
        return best(rule, one, other)
    limit = None if one.limit is None or other.limit is None else one.limit + other.limit
    return Terms(limit=limit, soft=one.soft or other.soft)


def best(rule: Rule, one: Terms, other: Terms) -> Terms:
    """The more generous of the two in every respect."""
    if not one.enabled or not other.enabled:
        return one if one.enabled else other
    if rule.kind in COUNTED:
        limit = None if one.limit is None or other.limit is None else max(one.limit, other.limit)
        return Terms(limit=limit, soft=one.soft or other.soft)
    if rule.kind == STATIC:
        value = max(one.value, other.value, key=lambda each: (worth(rule, each), each))
        return Terms(value=value, soft=one.soft or other.soft)
    return one


def worth(rule: Rule, value: str) -> tuple[int, Decimal]:
    """How generous a value is: by its place among the choices, else as a number; a word that is neither is worth least."""
    if value in rule.choices:
        return (2, Decimal(rule.choices.index(value)))
    number = as_number(value)
    return (0, ZERO) if number is None else (1, number)


def at_least(rule: Rule, new: Terms | None, old: Terms | None) -> bool:
    """Whether ``new`` takes nothing away from what ``old`` promised, whatever the quantity of a subscription is."""
    if old is None or not old.enabled:
        return True
    if new is None or not new.enabled or (old.soft and not new.soft):
        return False
    if rule.kind in COUNTED:
        wider = new.limit is None or (old.limit is not None and new.limit >= old.limit)
        return wider and (new.per_unit or not old.per_unit or new.limit is None)
    return rule.kind != STATIC or worth(rule, new.value) >= worth(rule, old.value)


def decide(rule: Rule, terms: Terms | None, *, used: Decimal = ZERO, quantity: Decimal = Decimal(1)) -> Verdict:
    """Whether ``quantity`` more may be used on top of ``used``.

    A static value that is a number is a limit of what the application itself counts: ``quantity`` is then the total it wants.
    """
    if terms is None or not terms.enabled:
        return Verdict(allowed=False, why="not_included", used=used if rule.kind in COUNTED else None)
    if rule.kind == BOOLEAN:
        return Verdict(allowed=True, why="included")
    if rule.kind == STATIC:
        return _decide_static(terms, quantity)
    if terms.limit is None:
        return Verdict(allowed=True, why="unlimited", used=used)
    beyond = max(used + quantity - terms.limit, ZERO)
    remaining = max(terms.limit - used, ZERO)
    why = "within_limit" if not beyond else "overage" if terms.soft else "limit_reached"
    return Verdict(
        allowed=not beyond or terms.soft, why=why, limit=terms.limit, used=used, remaining=remaining,
        overage=min(beyond, quantity) if terms.soft else ZERO,
    )  # fmt: skip


def _decide_static(terms: Terms, quantity: Decimal) -> Verdict:
    limit = as_number(terms.value)
    if limit is None or quantity <= limit:
        return Verdict(allowed=True, why="included", limit=limit, value=terms.value)
    return Verdict(
        allowed=terms.soft, why="overage" if terms.soft else "limit_reached", limit=limit, value=terms.value,
        overage=quantity - limit if terms.soft else ZERO,
    )  # fmt: skip


def crossed(*, used: Decimal, limit: Decimal | None, thresholds: Iterable[int]) -> list[int]:
    """Thresholds (percent of the limit) that ``used`` has reached, lowest first; none of an unlimited or empty one."""
    if limit is None or limit <= 0:
        return []
    return [percent for percent in sorted(set(thresholds)) if used * 100 >= limit * percent]


def as_number(value: str) -> Decimal | None:
    """The finite number that ``value`` spells, if it does."""
    try:
        number = Decimal(value)
    except InvalidOperation:
        return None
    return number if number.is_finite() and abs(number.adjusted()) < 24 else None
