"""A circuit breaker per gateway account: after repeated silence, calls fail at once for a while.

Kept here rather than taken from a library because the one at hand holds a lock during the call, which would make all
threads of a process wait for one slow gateway.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

from payments.gateways.base import GatewayOutcomeUnknown, GatewayUnavailable

Result = TypeVar("Result")


class CircuitBreaker:
    """Opens after ``fail_max`` faults in a row; lets one call through after ``rest_seconds`` to see whether it is well."""

    def __init__(
        self, *, fail_max: int = 5, rest_seconds: float = 30, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._fail_max = fail_max
        self._rest_seconds = rest_seconds
        self._clock = clock
        self._lock = threading.Lock()
        self._faults = 0
        self._opened_at: float | None = None
        self._probing = False

    @property
    def is_open(self) -> bool:
        """Whether calls are refused at present."""
        return self._opened_at is not None

    def call(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` unless the circuit is open, then ``GatewayUnavailable``. Only silence counts as a fault."""
        self._enter()
        try:
            result = work()
        except (GatewayUnavailable, GatewayOutcomeUnknown):
            self._failed()
            raise
        except BaseException:
            self._answered()  # a refusal is an answer
            raise
        self._answered()
        return result

    def _enter(self) -> None:
        with self._lock:
            if self._opened_at is None:
                return
            if self._probing or self._clock() - self._opened_at < self._rest_seconds:
                raise GatewayUnavailable(
                    "The payment gateway did not answer several times; it is left alone for a moment."
                )
            self._probing = True

    def _failed(self) -> None:
        with self._lock:
            self._faults += 1
            self._probing = False
            if self._faults >= self._fail_max:
                self._opened_at = self._clock()

    def _answered(self) -> None:
        with self._lock:
            self._faults, self._opened_at, self._probing = 0, None, False
