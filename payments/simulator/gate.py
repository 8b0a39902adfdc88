"""The world's lock: whoever gives it back for good has what was changed kept first."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Gate:
    """A lock that its holder may take again; ``leave`` runs before the last release."""

    def __init__(self, leave: Callable[[], None]) -> None:
        self._lock = threading.RLock()
        self._depth = 0
        self._leave = leave

    def __enter__(self) -> None:
        self._lock.acquire()
        self._depth += 1

    def close(self) -> None:
        """Keep the lock for ever: nothing may change any more."""
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        try:
            if self._depth == 1:
                self._leave()
        finally:
            self._depth -= 1
            self._lock.release()
