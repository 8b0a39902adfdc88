"""A script: what people do on which day of the year."""

from collections import defaultdict
from collections.abc import Callable
from datetime import date, timedelta

Action = Callable[[], object]


class Script:
    """Actions by day, in the order in which they were written."""

    def __init__(self, first_day: date) -> None:
        self.first_day = first_day
        self._actions: dict[date, list[Action]] = defaultdict(list)

    def day(self, number: int) -> date:
        """The day ``number`` days after the first."""
        return self.first_day + timedelta(days=number)

    def on(self, number: int, action: Action) -> None:
        """Do ``action`` on day ``number``."""
        self._actions[self.day(number)].append(action)

    def play(self, day: date) -> None:
        """Do what stands for ``day``; an action may write more actions for later days."""
        for action in self._actions.pop(day, ()):
            action()
