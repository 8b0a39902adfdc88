"""One virtual clock: it stands still until somebody moves it forward, and runs what falls due on the way."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from payments.simulator.parts import Marks, Table

Handler = Callable[..., None]
Job = tuple[int, str, tuple[Any, ...]]  # when, the handler's name, its arguments (what JSON can hold)

HANDLERS: dict[str, Handler] = {}


def job(name: str) -> Callable[[Handler], Handler]:
    """Let the clock call this function as ``name``: jobs are kept by name, so that they outlive the process."""

    def register(handler: Handler) -> Handler:
        HANDLERS[name] = handler
        return handler

    return register


class ClockWentBack(Exception):
    """Somebody asked for a time before the present one."""


class VirtualClock:
    """Seconds since 1970, and the jobs that wait for their time; ``run`` gets a job's name and arguments."""

    def __init__(self, now: int, run: Callable[[str, tuple[Any, ...]], None], marks: Marks) -> None:
        self.now = now
        self.jobs: Table[Job] = Table(marks, "jobs", list, lambda raw: (raw[0], raw[1], tuple(raw[2])))
        self.made = 0
        self._run = run
        self._heap: list[tuple[int, int]] = []

    def at(self, due: int, name: str, *arguments: Any) -> None:
        """Run the job when the clock reaches ``due`` (at the next move if that is past)."""
        self.made += 1
        self.jobs[str(self.made)] = (due, name, arguments)
        heapq.heappush(self._heap, (due, self.made))

    def after(self, seconds: int, name: str, *arguments: Any) -> None:
        """Run the job ``seconds`` from now."""
        self.at(self.now + seconds, name, *arguments)

    def advance_to(self, target: int) -> int:
        """Move forward to ``target``, running due jobs each at its own time; returns how many ran."""
        if target < self.now:
            raise ClockWentBack(f"the clock stands at {iso(self.now)} and only goes forward")
        ran = 0
        while self._heap and self._heap[0][0] <= target:
            due, number = heapq.heappop(self._heap)
            _, name, arguments = self.jobs.pop(str(number))
            self.now = max(self.now, due)
            self._run(name, arguments)
            ran += 1
        self.now = target
        return ran

    def rebuild(self) -> None:
        """Put the jobs in order after they were taken up from a state file."""
        self._heap = [(due, int(number)) for number, (due, _, _) in self.jobs.items()]
        heapq.heapify(self._heap)

    @property
    def next_due(self) -> int | None:
        """When the next job waits, or None."""
        return self._heap[0][0] if self._heap else None


def iso(seconds: int) -> str:
    """``2025-04-01T00:00:00Z`` for Unix seconds."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_iso(text: str) -> int:
    """Unix seconds of an ISO 8601 text; without an offset it is UTC."""
    moment = datetime.fromisoformat(text)
    return int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
