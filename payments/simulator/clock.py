"""One virtual clock: it stands still until somebody moves it forward, and runs what falls due on the way."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from datetime import UTC, datetime

Job = Callable[[], None]


class ClockWentBack(Exception):
    """Somebody asked for a time before the present one."""


class VirtualClock:
    """Seconds since 1970, and the jobs that wait for their time."""

    def __init__(self, now: int) -> None:
        self.now = now
        self._jobs: list[tuple[int, int, Job]] = []
        self._order = itertools.count()

    def at(self, due: int, job: Job) -> None:
        """Run ``job`` when the clock reaches ``due`` (at the next move if that is past)."""
        heapq.heappush(self._jobs, (due, next(self._order), job))

    def after(self, seconds: int, job: Job) -> None:
        """Run ``job`` ``seconds`` from now."""
        self.at(self.now + seconds, job)

    def advance_to(self, target: int) -> int:
        """Move forward to ``target``, running due jobs each at its own time; returns how many ran."""
        if target < self.now:
            raise ClockWentBack(f"the clock stands at {iso(self.now)} and only goes forward")
        ran = 0
        while self._jobs and self._jobs[0][0] <= target:
            due, _, job = heapq.heappop(self._jobs)
            self.now = max(self.now, due)
            job()
            ran += 1
        self.now = target
        return ran

    @property
    def next_due(self) -> int | None:
        """When the next job waits, or None."""
        return self._jobs[0][0] if self._jobs else None


def iso(seconds: int) -> str:
    """``2025-04-01T00:00:00Z`` for Unix seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_iso(text: str) -> int:
    """Unix seconds of an ISO 8601 text; without an offset it is UTC."""
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
