"""One line per step of a start, with the seconds it took."""

import contextlib
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TextIO


@dataclass
class Progress:
    """Tells a person what is happening and how long it took."""

    out: TextIO = field(default_factory=lambda: sys.stderr)
    started: float = field(default_factory=time.monotonic)

    @contextlib.contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Announce a step and, when it is done, its seconds."""
        begun = time.monotonic()
        self._write(f"  {name:<34}")
        try:
            yield
        except BaseException:
            self._write("failed\n")
            raise
        self._write(f"{time.monotonic() - begun:6.1f} s\n")

    def say(self, text: str) -> None:
        """Write one line."""
        self._write(f"{text}\n")

    def elapsed(self) -> float:
        """Return the seconds since the first step."""
        return time.monotonic() - self.started

    def _write(self, text: str) -> None:
        self.out.write(text)
        self.out.flush()
