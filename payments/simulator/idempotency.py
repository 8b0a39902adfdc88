"""Repeating a request by its key: replay, refuse another body, refuse while the first still runs."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Any

from payments.simulator.parts import Marks, Table
from payments.simulator.wire import Response


class KeyInUse(Exception):
    """The first request with this key has not ended."""


class KeyMismatch(Exception):
    """The key was used with another request."""


@dataclass
class _Slot:
    fingerprint: str
    expires: int
    response: Response | None = None


def _encode(slot: _Slot) -> Any:
    """A slot for the state file; a claim without an answer is not kept: its work was not done."""
    told = slot.response
    if told is None:
        return None
    return [slot.fingerprint, slot.expires, told.status, told.body.decode(), told.content_type, told.headers]


def _decode(raw: Any) -> _Slot:
    fingerprint, expires, status, body, content_type, headers = raw
    return _Slot(fingerprint, expires, Response(status, body.encode(), content_type, headers))


class IdempotencyStore:
    """Keys of one merchant account. The caller holds the world's lock."""

    def __init__(self, marks: Marks, keep_seconds: int = 86_400) -> None:
        self._keep = keep_seconds
        self.slots: Table[_Slot] = Table(marks, "keys", _encode, _decode)
        self._age: deque[tuple[int, str]] = deque()

    def rebuild(self) -> None:
        """Put the keys in order of age after they were taken up from a state file."""
        self._age = deque(sorted((slot.expires, key) for key, slot in self.slots.items()))

    def begin(self, *, key: str, fingerprint: str, now: int) -> Response | None:
        """Claim ``key``. Returns the stored answer when there is one; None means: run it, then ``finish``."""
        self._forget_old(now)
        slot = self.slots.get(key)
        if slot is None:
            self.slots[key] = _Slot(fingerprint, now + self._keep)
            self._age.append((now + self._keep, key))
            return None
        if slot.fingerprint != fingerprint:
            raise KeyMismatch(key)
        if slot.response is None:
            raise KeyInUse(key)
        return slot.response

    def finish(self, *, key: str, response: Response) -> None:
        """Keep the answer of the first request."""
        if key in self.slots:
            self.slots[key].response = response

    def release(self, key: str) -> None:
        """Forget the claim: the request was refused before it began."""
        self.slots.pop(key, None)

    def _forget_old(self, now: int) -> None:
        while self._age and self._age[0][0] <= now:
            _, key = self._age.popleft()
            slot = self.slots.get(key)
            if slot is not None and slot.expires <= now:
                del self.slots[key]
