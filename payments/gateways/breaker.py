"""A circuit breaker per gateway account: after repeated silence, calls fail at once for a while.

Kept here rather than taken from a library because the one at hand holds a lock during the call, which would make all
threads of a process wait for one slow gateway.

What is known about a gateway is shared by all processes through Redis: one script per question, atomic there, nothing
held during the call. While Redis is away each process goes by what it sees itself; it asks Redis again after some seconds.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Protocol, TypeVar

import structlog
from redis.exceptions import RedisError

from payments.gateways.faults import GatewayOutcomeUnknown, GatewayUnavailable

log = structlog.get_logger(__name__)
Result = TypeVar("Result")
FAIL_MAX, REST_SECONDS = 5, 30.0
FORGET_SECONDS = 600
"""Faults further apart than this are not in a row."""
PROBE_SECONDS = 60
"""Longer than a call can take: a process that died while it probed is not waited for any longer."""
REDIS_PAUSE_SECONDS = 5.0


class State(Protocol):
    """What is known about one gateway."""

    def enter(self) -> bool:
        """Whether a call may be made now; one that may after a rest is a probe, and only one gets it."""

    def failed(self) -> None:
        """A call met silence."""

    def answered(self) -> None:
        """A call was answered, whatever the answer."""

    def is_open(self) -> bool:
        """Whether calls are refused at present."""


class LocalState:
    """What this process has seen."""

    def __init__(
        self,
        *,
        fail_max: int = FAIL_MAX,
        rest_seconds: float = REST_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._fail_max, self._rest_seconds, self._clock = fail_max, rest_seconds, clock
        self._lock = threading.Lock()
        self._faults = 0
        self._opened_at: float | None = None
        self._probed_at: float | None = None

    def enter(self) -> bool:
        """Whether a call may be made now."""
        with self._lock:
            if self._opened_at is None:
                return True
            now = self._clock()
            probing = self._probed_at is not None and now - self._probed_at < PROBE_SECONDS
            if probing or now - self._opened_at < self._rest_seconds:
                return False
            self._probed_at = now
            return True

    def failed(self) -> None:
        """A call met silence."""
        with self._lock:
            self._faults += 1
            self._probed_at = None
            if self._faults >= self._fail_max:
                self._opened_at = self._clock()

    def answered(self) -> None:
        """A call was answered."""
        with self._lock:
            self._faults, self._opened_at, self._probed_at = 0, None, None

    def is_open(self) -> bool:
        """Whether calls are refused at present."""
        return self._opened_at is not None


_ENTER = """
if redis.call('EXISTS', KEYS[1] .. ':open') == 0 then return 1 end
if redis.call('EXISTS', KEYS[1] .. ':rest') == 1 then return 0 end
if redis.call('SET', KEYS[1] .. ':probe', '1', 'NX', 'PX', ARGV[1]) then return 1 end
return 0
"""
_FAILED = """
redis.call('DEL', KEYS[1] .. ':probe')
local faults = redis.call('INCR', KEYS[1] .. ':faults')
redis.call('PEXPIRE', KEYS[1] .. ':faults', ARGV[3])
if faults >= tonumber(ARGV[1]) then
    redis.call('SET', KEYS[1] .. ':open', '1', 'PX', ARGV[3])
    redis.call('SET', KEYS[1] .. ':rest', '1', 'PX', ARGV[2])
end
return faults
"""


class SharedState:
    """What all processes have seen, in Redis under ``name``; raises ``RedisError`` when it is away."""

    def __init__(self, redis: Any, name: str, *, fail_max: int = FAIL_MAX, rest_seconds: float = REST_SECONDS) -> None:
        self._redis, self._name = redis, f"munim:breaker:{name}"
        self._fail_max, self._rest_ms = fail_max, int(rest_seconds * 1000)
        self._enter, self._failed = redis.register_script(_ENTER), redis.register_script(_FAILED)

    def enter(self) -> bool:
        """Whether a call may be made now."""
        return bool(self._enter(keys=[self._name], args=[PROBE_SECONDS * 1000]))

    def failed(self) -> None:
        """A call met silence."""
        self._failed(keys=[self._name], args=[self._fail_max, self._rest_ms, FORGET_SECONDS * 1000])

    def answered(self) -> None:
        """A call was answered."""
        self._redis.delete(*(f"{self._name}:{part}" for part in ("faults", "open", "rest", "probe")))

    def is_open(self) -> bool:
        """Whether calls are refused at present."""
        return bool(self._redis.exists(f"{self._name}:open"))


class Fallback:
    """The shared state while Redis answers, else this process's own; both are told what happens."""

    def __init__(self, shared: State, local: State, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._shared, self._local, self._clock = shared, local, clock
        self._away_until = 0.0

    def enter(self) -> bool:
        """Whether a call may be made now."""
        found = self._ask(self._shared.enter)
        return self._local.enter() if found is None else found

    def failed(self) -> None:
        """A call met silence."""
        self._local.failed()
        self._ask(self._shared.failed)

    def answered(self) -> None:
        """A call was answered."""
        self._local.answered()
        self._ask(self._shared.answered)

    def is_open(self) -> bool:
        """Whether calls are refused at present."""
        found = self._ask(self._shared.is_open)
        return self._local.is_open() if found is None else found

    def _ask(self, question: Callable[[], Result]) -> Result | None:
        if self._clock() < self._away_until:
            return None
        try:
            return question()
        except (RedisError, OSError) as exc:
            self._away_until = self._clock() + REDIS_PAUSE_SECONDS
            log.warning("breaker.redis_away", error=type(exc).__name__)
            return None


class CircuitBreaker:
    """Opens after ``FAIL_MAX`` faults in a row; lets one call through after ``REST_SECONDS`` to see whether it is well."""

    def __init__(self, state: State | None = None) -> None:
        self._state = state or LocalState()

    @property
    def is_open(self) -> bool:
        """Whether calls are refused at present."""
        return self._state.is_open()

    def call(self, work: Callable[[], Result]) -> Result:
        """Run ``work`` unless the circuit is open, then ``GatewayUnavailable``. Only silence counts as a fault."""
        if not self._state.enter():
            raise GatewayUnavailable("The payment gateway did not answer several times; it is left alone for a moment.")
        try:
            result = work()
        except (GatewayUnavailable, GatewayOutcomeUnknown):
            self._state.failed()
            raise
        except BaseException:
            self._state.answered()  # a refusal is an answer
            raise
        self._state.answered()
        return result
