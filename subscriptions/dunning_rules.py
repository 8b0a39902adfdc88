"""The rules of dunning: which stage an unpaid invoice has reached, and what is done there. Pure."""

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

from billing.errors import InvalidInput

LETTERS = ("reminder_1", "reminder_2", "final_notice")
RETRY, RESTRICT, SUSPEND, CANCEL, WRITE_OFF = "retry", "restrict", "suspend", "cancel", "write_off"
MEASURES = (RETRY, RESTRICT, SUSPEND, CANCEL, WRITE_OFF)
CHANNELS = ("mail", "sms")
ACTIONS = frozenset({*MEASURES, *(f"{channel}:{kind}" for channel in CHANNELS for kind in LETTERS)})
MAX_STAGES = 20
MAX_DAYS = 3650
MAX_ATTEMPTS = 50
MAX_GRACE = 90
ANY, ALL = "any", "all"

COUNTED_DECLINES = frozenset({"soft", "authentication", "customer_action"})
"""A debit refused for now is a try. A refusal for good, a fault on the way and our own mistakes use none up."""

DEFAULT_STAGES: list[dict[str, Any]] = [
    {"after_days": 1, "actions": ["mail:reminder_1"]},
    {"after_days": 5, "actions": ["mail:reminder_2"]},
    {"after_days": 10, "actions": ["mail:final_notice", SUSPEND]},
    {"after_days": 21, "actions": [CANCEL, WRITE_OFF]},
]


class InvalidDunningPolicy(InvalidInput):
    """The stages of a policy are malformed."""

    code = "invalid_dunning_policy"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What is done once an invoice is ``after_days`` days overdue, or was tried ``after_attempts`` times in vain.

    ``match``: ``any`` of the two (the first that comes), or ``all`` of them.
    """

    actions: tuple[str, ...]
    after_days: int | None = None
    after_attempts: int | None = None
    match: str = ANY

    @property
    def comes_by_itself(self) -> bool:
        """Whether time alone brings it."""
        return self.after_days is not None and (self.match == ANY or self.after_attempts is None)

    def is_reached(self, *, days: int, attempts: int) -> bool:
        """Whether it is reached ``days`` days after the grace ended, after ``attempts`` attempts."""
        said = []
        if self.after_days is not None:
            said.append(days >= self.after_days)
        if self.after_attempts is not None:
            said.append(attempts >= self.after_attempts)
        return all(said) if self.match == ALL else any(said)

    def stored(self) -> dict[str, Any]:
        """As a policy keeps it and the API shows it."""
        shown: dict[str, Any] = {"after_days": self.after_days, "actions": list(self.actions)}
        if self.after_attempts is not None:
            shown["after_attempts"] = self.after_attempts
        if self.match != ANY:
            shown["match"] = self.match
        return {name: value for name, value in shown.items() if value is not None}


def parse_stages(raw: object) -> tuple[Stage, ...]:
    """Read stages as they are stored. Raises ``InvalidDunningPolicy`` naming the stage that is wrong.

    Days and attempts ascend strictly; a write-off ends the chase, so it stands in the last stage only; the last stage
    comes by time alone, so that every chase ends.
    """
    if not isinstance(raw, Sequence) or isinstance(raw, str) or not 1 <= len(raw) <= MAX_STAGES:
        raise InvalidDunningPolicy(f"Give 1 to {MAX_STAGES} stages.", field="stages")
    stages = tuple(_parse_stage(index, item) for index, item in enumerate(raw))
    for name in ("after_days", "after_attempts"):
        _refuse_disorder(stages, name)
    if any(WRITE_OFF in stage.actions for stage in stages[:-1]):
        raise InvalidDunningPolicy("write_off ends the chase: only the last stage may hold it.", field="stages")
    if not stages[-1].comes_by_itself:
        raise InvalidDunningPolicy(
            "The last stage needs after_days and is not to wait for attempts: attempts may never come, and the chase "
            "would not end.",
            field=f"stages[{len(stages) - 1}].after_days",
        )
    return stages


def _refuse_disorder(stages: Sequence[Stage], name: str) -> None:
    given = [(index, getattr(stage, name)) for index, stage in enumerate(stages) if getattr(stage, name) is not None]
    for (_, before), (index, after) in itertools.pairwise(given):
        if after <= before:
            raise InvalidDunningPolicy(f"{name} must grow from stage to stage.", field=f"stages[{index}].{name}")


def _parse_stage(index: int, item: object) -> Stage:
    field = f"stages[{index}]"
    if not isinstance(item, Mapping) or not {"actions"} <= set(item) <= STAGE_FIELDS:
        raise InvalidDunningPolicy(
            "Each stage has actions and after_days, after_attempts or both; with both, match may be any or all.",
            field=field,
        )
    days = _whole(item.get("after_days"), field=f"{field}.after_days", most=MAX_DAYS)
    attempts = _whole(item.get("after_attempts"), field=f"{field}.after_attempts", most=MAX_ATTEMPTS)
    if days is None and attempts is None:
        raise InvalidDunningPolicy("Give after_days, after_attempts or both.", field=field)
    match = item.get("match", ANY)
    if match not in (ANY, ALL):
        raise InvalidDunningPolicy("match is any or all.", field=f"{field}.match")
    return Stage(
        after_days=days,
        after_attempts=attempts,
        match=match,
        actions=_parse_actions(item["actions"], field=f"{field}.actions"),
    )


STAGE_FIELDS = {"after_days", "after_attempts", "match", "actions"}


def _whole(value: object, *, field: str, most: int) -> int | None:
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= most:
        raise InvalidDunningPolicy(f"{field.rpartition('.')[2]} is a whole number from 1 to {most}.", field=field)
    return value


def _parse_actions(actions: object, *, field: str) -> tuple[str, ...]:
    if not isinstance(actions, Sequence) or isinstance(actions, str) or not actions:
        raise InvalidDunningPolicy("actions is a list with at least one action.", field=field)
    if any(not isinstance(action, str) or action not in ACTIONS for action in actions):
        raise InvalidDunningPolicy(f"Actions are {', '.join(sorted(ACTIONS))}.", field=field)
    if len(set(actions)) != len(actions):
        raise InvalidDunningPolicy("An action stands once in a stage.", field=field)
    return tuple(actions)


def reached(stages: Sequence[Stage], *, days: int, attempts: int = 0) -> int:
    """How many stages are reached: the last one whose condition holds, and with it all before it."""
    held = (
        number
        for number, stage in reversed(list(enumerate(stages, start=1)))
        if stage.is_reached(days=days, attempts=attempts)
    )
    return next(held, 0)


def actions_between(stages: Sequence[Stage], taken: int, now_at: int) -> list[str]:
    """What is to be done when a case moves from ``taken`` stages to ``now_at``, each action once, in order.

    Several stages may be taken at once (``dunning_waits`` says which): every measure is taken, but only the last letter and the
    last text are sent.
    """
    wanted = list(dict.fromkeys(action for stage in stages[taken:now_at] for action in stage.actions))
    stale = {
        action
        for channel in CHANNELS
        for action in [action for action in wanted if action.startswith(f"{channel}:")][:-1]
    }
    return [action for action in wanted if action not in stale]


Times = Iterable[tuple[date, date]]
"""Times of whole days: the first day, and the first day after."""


def merged(times: Times) -> list[tuple[date, date]]:
    """The same days as times that do not overlap, in order."""
    found: list[tuple[date, date]] = []
    for first, until in sorted(times):
        if found and first <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], until))
        elif first < until:
            found.append((first, until))
    return found


def days_within(times: Times, *, since: date, on: date) -> int:
    """How many days of ``times``, which do not overlap, lie between ``since`` and before ``on``."""
    return sum(max((min(on, until) - max(since, first)).days, 0) for first, until in times)


def counted_days(*, overdue_since: date, on: date, grace_days: int, pauses: Times = ()) -> int:
    """Days that count towards the stages on the day ``on``: since the due date, less grace and days of a pause.

    ``pauses`` do not overlap.
    """
    return (on - overdue_since).days - grace_days - days_within(pauses, since=overdue_since, on=on)


def day_of(*, days: int, overdue_since: date, grace_days: int, pauses: Times = ()) -> date:
    """The day on which ``days`` days count: the inverse of ``counted_days``. Not a day of a pause itself."""
    on = overdue_since + timedelta(days=days + grace_days)
    for start, end in sorted(pauses):
        if end > overdue_since and start <= on:
            on += timedelta(days=(end - max(start, overdue_since)).days)
    return on


def next_day(stages: Sequence[Stage], taken: int) -> int | None:
    """After how many counted days time reaches a further stage; None after the last one."""
    return min((stage.after_days for stage in stages[taken:] if stage.after_days is not None), default=None)


def next_attempts(stages: Sequence[Stage], taken: int) -> int | None:
    """After how many attempts a further stage may be reached; None where attempts reach none."""
    return min((stage.after_attempts for stage in stages[taken:] if stage.after_attempts is not None), default=None)


def level(stages: Sequence[Stage], taken: int) -> frozenset[str]:
    """The measures in force after ``taken`` stages: what a customer with this debt is cut down to."""
    return frozenset(action for stage in stages[:taken] for action in stage.actions if action in (RESTRICT, SUSPEND))


def with_money(by_stage: Mapping[str, str], *, stage: int, amount: Decimal) -> dict[str, str]:
    """What came by stage (decimal strings), with ``amount`` more at ``stage``; a negative one takes the latest back first."""
    sums = {int(name): Decimal(value) for name, value in by_stage.items()}
    if amount > 0:
        sums[stage] = sums.get(stage, Decimal(0)) + amount
    for latest in sorted(sums, reverse=True):
        if amount < 0:
            taken = min(sums[latest], -amount)
            sums[latest] -= taken
            amount += taken
    return {str(name): f"{value:f}" for name, value in sorted(sums.items()) if value}
