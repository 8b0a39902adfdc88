"""The waits of dunning: who is cut off was written to before, and had the days that the policy puts between. Pure.

Days are counted days (grace, pauses and times in which nothing was owed are no days), as in ``dunning_rules``.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from subscriptions.dunning_rules import ANY, CANCEL, CHANNELS, SUSPEND, WRITE_OFF, Stage

FINAL = frozenset({SUSPEND, CANCEL, WRITE_OFF})
NOTICE_DAYS = 3
"""From a letter to a stage that cuts off, where the policy's days do not say how many lie between them."""
AFTER_ATTEMPTS = 1
"""The same for a stage that attempts bring: they come one by one, also after an outage."""


@dataclass(frozen=True, kw_only=True)
class Taken:
    """Stages that were taken together, up to ``stage``, when ``days`` days counted.

    ``letter``: the stage whose letter or text went out with them, 0 where none did; ``letter_days`` counted then, None while
    it has not left.
    """

    stage: int
    days: int
    letter: int = 0
    letter_days: int | None = None


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How far a case may go now, and what the next stage that it has reached waits for, if any.

    ``not_before``: the counted day on which ``waiting`` may be taken; None while a letter before it has not left.
    """

    stage: int
    waiting: int = 0
    not_before: int | None = None


def is_final(stage: Stage) -> bool:
    """Whether it cuts the customer off: suspended, cancelled, or the debt given up."""
    return bool(FINAL & {*stage.actions})


def letter_between(stages: Sequence[Stage], taken: int, now_at: int) -> int:
    """The stage whose letter or text is sent when a case moves from ``taken`` stages to ``now_at``; 0 where none is."""
    written = (number for number in range(now_at, taken, -1) if _writes(stages[number - 1]))
    return next(written, 0)


def reach(
    stages: Sequence[Stage], history: Sequence[Taken], *, taken: int, reached: int, days: int, attempts: int
) -> Reach:
    """How many of the ``reached`` stages may be taken on the counted day ``days``.

    Of those that cut off at most one is taken in a step; whatever else was missed is taken together.
    """
    for at in range(taken, reached):
        letter = letter_between(stages, taken, at)
        now = Taken(stage=at, days=days, letter=letter, letter_days=days if letter else None)
        done = history if at == taken else [*history, now]
        free, first = not_before(stages, at + 1, done, attempts=attempts)
        if not free or (first is not None and first > days):
            return Reach(stage=at, waiting=at + 1, not_before=first)
    return Reach(stage=reached)


def not_before(
    stages: Sequence[Stage], number: int, history: Sequence[Taken], *, attempts: int
) -> tuple[bool, int | None]:
    """From which counted day stage ``number`` may be taken, as far as waits are concerned; None: from the first.

    False: not yet, however long it takes, because no letter before it has left. Only a stage that cuts off waits: for an
    earlier letter, for the earlier stage that its days follow, and for the one before it that cuts off.
    """
    stage, waits = stages[number - 1], []
    if not is_final(stage):
        return True, None
    early = stage.match == ANY and stage.after_attempts is not None and attempts >= stage.after_attempts
    written = [one for one in history if 0 < one.letter < number]
    left = [
        one.letter_days + _between(stages, one.letter, number, early=early)
        for one in written
        if one.letter_days is not None
    ]
    if written and not left:
        return False, None
    if left:
        waits.append(min(left))
    before = list(enumerate(stages[: number - 1], start=1))
    followed = [at for at, one in before if is_final(one)][-1:]
    if stage.after_days is not None and not early:
        followed += [at for at, one in before if one.after_days is not None][-1:]
    for at in followed:
        waits += [one.days + _between(stages, at, number, early=early) for one in history if one.stage >= at][:1]
    return True, max(waits, default=None)


def _between(stages: Sequence[Stage], earlier: int, later: int, *, early: bool = False) -> int:
    """The days that the policy puts between two of its stages; ``early``: attempts bring the later one."""
    first, then = stages[earlier - 1].after_days, stages[later - 1].after_days
    if early:
        return AFTER_ATTEMPTS
    return NOTICE_DAYS if first is None or then is None else then - first


def _writes(stage: Stage) -> bool:
    return any(action.partition(":")[0] in CHANNELS for action in stage.actions)
