"""The rules of dunning: which stage an unpaid invoice has reached, and what is done there. Pure."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from billing.errors import InvalidInput

MAILS = ("reminder_1", "reminder_2", "final_notice")
SUSPEND, CANCEL, WRITE_OFF = "suspend", "cancel", "write_off"
ACTIONS = frozenset({SUSPEND, CANCEL, WRITE_OFF, *(f"mail:{kind}" for kind in MAILS)})
MAX_STAGES = 20
MAX_DAYS = 3650

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
    """What is done once an invoice is ``after_days`` days overdue."""

    after_days: int
    actions: tuple[str, ...]


def parse_stages(raw: object) -> tuple[Stage, ...]:
    """Read stages as they are stored. Raises ``InvalidDunningPolicy`` naming the stage that is wrong.

    Days ascend strictly; a write-off ends the chase, so it stands in the last stage only.
    """
    if not isinstance(raw, Sequence) or isinstance(raw, str) or not 1 <= len(raw) <= MAX_STAGES:
        raise InvalidDunningPolicy(f"Give 1 to {MAX_STAGES} stages.", field="stages")
    stages = tuple(_parse_stage(index, item) for index, item in enumerate(raw))
    for index, (before, after) in enumerate(itertools.pairwise(stages), start=1):
        if after.after_days <= before.after_days:
            raise InvalidDunningPolicy("after_days must grow from stage to stage.", field=f"stages[{index}].after_days")
        if WRITE_OFF in before.actions:
            raise InvalidDunningPolicy("write_off ends the chase: only the last stage may hold it.", field="stages")
    return stages


def _parse_stage(index: int, item: object) -> Stage:
    field = f"stages[{index}]"
    if not isinstance(item, Mapping) or set(item) != {"after_days", "actions"}:
        raise InvalidDunningPolicy("Each stage has after_days and actions.", field=field)
    days, actions = item["after_days"], item["actions"]
    if not isinstance(days, int) or isinstance(days, bool) or not 1 <= days <= MAX_DAYS:
        raise InvalidDunningPolicy(f"after_days is a whole number from 1 to {MAX_DAYS}.", field=f"{field}.after_days")
    if not isinstance(actions, Sequence) or isinstance(actions, str) or not actions:
        raise InvalidDunningPolicy("actions is a list with at least one action.", field=f"{field}.actions")
    if any(not isinstance(action, str) or action not in ACTIONS for action in actions):
        raise InvalidDunningPolicy(f"Actions are {', '.join(sorted(ACTIONS))}.", field=f"{field}.actions")
    if len(set(actions)) != len(actions):
        raise InvalidDunningPolicy("An action stands once in a stage.", field=f"{field}.actions")
    return Stage(after_days=days, actions=tuple(actions))


def reached(stages: Sequence[Stage], days_overdue: int) -> int:
    """How many stages an invoice that is ``days_overdue`` days overdue has reached."""
    return sum(stage.after_days <= days_overdue for stage in stages)


def actions_between(stages: Sequence[Stage], taken: int, now_at: int) -> list[str]:
    """What is to be done when a case moves from ``taken`` stages to ``now_at``, each action once, in order.

    After an outage several stages may be reached at once: every measure is taken, but only the last letter is sent.
    """
    wanted = list(dict.fromkeys(action for stage in stages[taken:now_at] for action in stage.actions))
    letters = [action for action in wanted if action.startswith("mail:")]
    return [action for action in wanted if action not in letters[:-1]]


def next_stage_on(stages: Sequence[Stage], taken: int, overdue_since: date) -> date | None:
    """The day on which the next stage is reached; None after the last one. Day 0 is the day the invoice was due."""
    if taken >= len(stages):
        return None
    return overdue_since + timedelta(days=stages[taken].after_days)
