"""The matching ladder between settlements and bank lines. Pure: values in, decisions out; never a guess.

A line goes down the ladder and stops at the first step that gives exactly one answer. Two answers at a step make it
ambiguous and a person decides. Steps: our or the gateway's reference in the text with the amount; the reference with
another amount (a difference to explain); the amount within the banking days in which the money can have come.
"""

import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta

REFERENCE, AMOUNT_AND_DAY, RETURNED = "reference", "amount_and_day", "returned"

DAYS_BEFORE, DAYS_AFTER = 1, 4  # banking days around the day of the payout in which it can be on the statement

_SATURDAY, _SUNDAY = 5, 6


def is_banking_day(day: date, *, country: str, holidays: Collection[date] = ()) -> bool:
    """Whether banks book on ``day``: not on Sundays, nor on Saturdays (in India only the second and fourth)."""
    if day.weekday() == _SUNDAY or day in holidays:
        return False
    if day.weekday() == _SATURDAY:
        return country == "IN" and (day.day - 1) // 7 not in (1, 3)
    return True


def add_banking_days(day: date, count: int, *, country: str, holidays: Collection[date] = ()) -> date:
    """The banking day ``count`` banking days after (before, when negative) ``day``."""
    step = timedelta(days=1 if count >= 0 else -1)
    left = abs(count)
    for _ in range(60 + 8 * left):  # holidays without end would be a mistake in the settings
        if not left:
            break
        day += step
        left -= is_banking_day(day, country=country, holidays=holidays)
    return day


def arrival_window(settled_on: date, *, country: str, holidays: Collection[date] = ()) -> tuple[date, date]:
    """First and last day on which a payout of ``settled_on`` can be booked by the bank."""
    return (
        add_banking_days(settled_on, -DAYS_BEFORE, country=country, holidays=holidays),
        add_banking_days(settled_on, DAYS_AFTER, country=country, holidays=holidays),
    )


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A bank line and a settlement of the same currency that have something in common.

    ``arrived``: the settlement is on the statement already. ``reverse``: the line takes back what the settlement paid.
    """

    line: uuid.UUID
    settlement: uuid.UUID
    reference_agrees: bool
    amount_agrees: bool
    in_window: bool = False
    arrived: bool = False
    reverse: bool = False
    order: tuple[date, int] = (date.min, 0)


@dataclass(frozen=True, kw_only=True)
class Decisions:
    """What the ladder found: ``matched`` line → (settlement, rule); the other three want a person."""

    matched: dict[uuid.UUID, tuple[uuid.UUID, str]] = field(default_factory=dict)
    differing: dict[uuid.UUID, uuid.UUID] = field(default_factory=dict)
    duplicate: dict[uuid.UUID, uuid.UUID] = field(default_factory=dict)
    ambiguous: dict[uuid.UUID, tuple[uuid.UUID, ...]] = field(default_factory=dict)


def decide(candidates: Sequence[Candidate]) -> Decisions:
    """Walk all lines down the ladder together. The result does not depend on the order of ``candidates``."""
    decisions = Decisions()
    _by_return(candidates, decisions)
    _by_reference(candidates, decisions)
    _by_amount(candidates, decisions)
    return decisions


def _by_return(candidates: Sequence[Candidate], decisions: Decisions) -> None:
    """The bank sent a failed payout back: its reference with the negative amount."""
    for pair in sorted((c for c in candidates if c.reverse and c.reference_agrees), key=_rank):
        if pair.line not in decisions.matched:
            decisions.matched[pair.line] = (pair.settlement, RETURNED)


def _by_reference(candidates: Sequence[Candidate], decisions: Decisions) -> None:
    """Reference and amount: the first line in the order of the statement takes it, a second one is a duplicate."""
    named = defaultdict(list)
    for pair in candidates:
        if pair.reference_agrees and not pair.reverse and pair.line not in decisions.matched:
            named[pair.line].append(pair)
    taken: set[uuid.UUID] = set()
    for line, pairs in sorted(named.items(), key=lambda item: min(map(_rank, item[1]))):
        exact = [pair for pair in pairs if pair.amount_agrees]
        if len(exact) > 1 or (not exact and len(pairs) > 1):
            decisions.ambiguous[line] = _settlements(exact or pairs)
        elif not exact:
            decisions.differing[line] = pairs[0].settlement
        elif exact[0].arrived or exact[0].settlement in taken:
            decisions.duplicate[line] = exact[0].settlement
        else:
            decisions.matched[line] = (exact[0].settlement, REFERENCE)
            taken.add(exact[0].settlement)


def _by_amount(candidates: Sequence[Candidate], decisions: Decisions) -> None:
    """Amount within the window, when it fits one settlement and that settlement fits no other line."""
    settled = {settlement for settlement, _ in decisions.matched.values()} | set(decisions.differing.values())
    decided = (
        decisions.matched.keys() | decisions.differing.keys() | decisions.duplicate.keys() | decisions.ambiguous.keys()
    )
    of_line, of_settlement = defaultdict(list), defaultdict(list)
    for pair in candidates:
        if not pair.amount_agrees or not pair.in_window or pair.arrived or pair.reverse:
            continue
        if pair.line not in decided and pair.settlement not in settled:
            of_line[pair.line].append(pair)
            of_settlement[pair.settlement].append(pair)
    for line, pairs in of_line.items():
        if len(pairs) == 1 and len(of_settlement[pairs[0].settlement]) == 1:
            decisions.matched[line] = (pairs[0].settlement, AMOUNT_AND_DAY)
        else:
            decisions.ambiguous[line] = _settlements(pairs)


def _rank(pair: Candidate) -> tuple[date, int, str, str]:
    return (*pair.order, str(pair.line), str(pair.settlement))


def _settlements(pairs: Sequence[Candidate]) -> tuple[uuid.UUID, ...]:
    return tuple(sorted({pair.settlement for pair in pairs}))
