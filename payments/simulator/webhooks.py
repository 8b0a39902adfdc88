"""Sending events: signatures, duplicates, losses, order, retries. Sending never holds the world's lock."""

from __future__ import annotations

import hashlib
import heapq
import hmac
import http.client
import itertools
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

Json = dict[str, Any]

ANSWER_SECONDS = 5.0
GIVE_UP_AFTER = {"razorpay": 86_400, "stripe": 3 * 86_400}
KEEP_EVENTS_FOR = 30 * 86_400


@dataclass
class Endpoint:
    """Where one merchant account wants its events, and how badly they travel."""

    url: str = ""
    secret: str = ""
    old_secret: str = ""
    old_secret_until: int = 0
    enabled: bool = True
    events: tuple[str, ...] = ()  # empty = all; "payment.*" allowed
    duplicate: int = 1  # how often each event is sent
    lose: int = 0  # every n-th event is never sent
    tamper: int = 0  # every n-th event is changed after signing, on its first try
    stale: int = 0  # every n-th Stripe event carries an old time on its first try
    twin: int = 0  # every n-th Stripe fact is told by two Event objects
    reorder: bool = False
    delay_ms: int = 0
    workers: int = 1
    quick_retries: int = 2  # retries in real time before the virtual clock rules
    made: int = 0

    def wants(self, kind: str) -> bool:
        """Whether the endpoint subscribed to this kind of event."""
        return not self.events or any(
            kind == want or (want.endswith("*") and kind.startswith(want[:-1])) for want in self.events
        )


@dataclass
class Event:
    """One fact, with the bytes that tell it."""

    id: str
    account_id: str
    provider: str
    kind: str
    body: bytes
    at: int
    secret: str
    since: int = 0  # when sending began: counts towards giving up
    state: str = "new"  # new | queued | delivered | waiting | lost | given_up | unsent
    attempts: int = 0
    answers: list[int] = field(default_factory=list)

    def as_json(self) -> Json:
        """For the control API."""
        return {"id": self.id, "account": self.account_id, "type": self.kind, "created": self.at,
                "state": self.state, "attempts": self.attempts, "answers": self.answers}  # fmt: skip


@dataclass(order=True)
class _Delivery:
    not_before: float
    seq: int
    event: Event = field(compare=False)
    spoil: str = field(compare=False, default="")
    tries: int = field(compare=False, default=0)


def razorpay_headers(*, event: Event, secret: str, body: bytes) -> dict[str, str]:
    """Signature over the raw body and the event id."""
    return {
        "X-Razorpay-Signature": hmac.new(secret.encode(), body, hashlib.sha256).hexdigest(),
        "x-razorpay-event-id": event.id,
        "User-Agent": "Razorpay-Webhook/v1",
    }


def stripe_headers(*, body: bytes, secrets: list[str], at: int) -> dict[str, str]:
    """``t=…,v1=…`` with one v1 per valid secret; ``at`` is real time, as receivers check its age."""
    signed = f"{at}.".encode() + body
    marks = [f"v1={hmac.new(s.encode(), signed, hashlib.sha256).hexdigest()}" for s in secrets]
    return {"Stripe-Signature": ",".join([f"t={at}", *marks]), "User-Agent": "Stripe/1.0"}


class Outbox:
    """Queue and threads of one account's endpoint."""

    def __init__(self, *, endpoint: Endpoint, seed: int, on_failure: Callable[[Event], None],
                 now: Callable[[], int]) -> None:  # fmt: skip
        self.endpoint = endpoint
        self.events: dict[str, Event] = {}
        self._age: deque[tuple[int, str]] = deque()
        self._heap: list[_Delivery] = []
        self._order = itertools.count()
        self._random = random.Random(seed)
        self._ready = threading.Condition()
        self._threads = 0
        self._in_flight = 0
        self._on_failure = on_failure
        self._now = now

    def emit(self, event: Event) -> None:
        """Store the event and queue it as the endpoint's knobs say."""
        self._remember(event)
        point = self.endpoint
        if not (point.url and point.enabled and point.wants(event.kind)):
            event.state = "unsent"
            return
        point.made += 1
        if point.lose and point.made % point.lose == 0:
            event.state = "lost"
            return
        spoil = next((name for name in ("tamper", "stale") if self._hits(getattr(point, name))), "")
        for copy in range(max(1, point.duplicate)):
            self.push(event, spoil=spoil if copy == 0 else "")

    def push(self, event: Event, *, spoil: str = "", delay: float = 0.0) -> None:
        """Queue one delivery."""
        point = self.endpoint
        delay += point.delay_ms / 1000
        with self._ready:
            if point.reorder:
                delay += self._random.random() * 0.03
            event.state = "queued"
            heapq.heappush(self._heap, _Delivery(time.monotonic() + delay, next(self._order), event, spoil))
            self._wake()

    def pending(self) -> int:
        """Queued or being sent now; deliveries that wait for the virtual clock are not counted."""
        with self._ready:
            return len(self._heap) + self._in_flight

    def counts(self) -> dict[str, int]:
        """Events by state."""
        result: dict[str, int] = {}
        for event in list(self.events.values()):
            result[event.state] = result.get(event.state, 0) + 1
        return result

    def clear(self) -> None:
        """Forget everything that was not sent."""
        with self._ready:
            self._heap.clear()
        self.events.clear()
        self._age.clear()

    def _hits(self, every: int) -> bool:
        return bool(every) and self.endpoint.made % every == 0

    def _remember(self, event: Event) -> None:
        self.events[event.id] = event
        self._age.append((event.at, event.id))
        while self._age and self._age[0][0] < event.at - KEEP_EVENTS_FOR:
            self.events.pop(self._age.popleft()[1], None)

    def _wake(self) -> None:
        if self._threads < max(1, self.endpoint.workers):
            self._threads += 1
            threading.Thread(target=self._work, daemon=True, name="webhooks").start()
        self._ready.notify()

    def _work(self) -> None:
        sender = _Sender()
        while (delivery := self._next()) is not None:
            ok = False
            try:
                ok = self._send(sender, delivery)
            finally:
                self._after(delivery, ok=ok)
        sender.close()

    def _next(self) -> _Delivery | None:
        """The next delivery whose time has come; None after two idle seconds (the thread ends)."""
        idle_until = time.monotonic() + 2.0
        with self._ready:
            while True:
                now = time.monotonic()
                if self._heap and self._heap[0].not_before <= now:
                    self._in_flight += 1
                    return heapq.heappop(self._heap)
                if not self._heap and now >= idle_until:
                    self._threads -= 1
                    return None
                until = self._heap[0].not_before if self._heap else idle_until
                self._ready.wait(max(0.0, until - now))

    def _send(self, sender: _Sender, delivery: _Delivery) -> bool:
        event, point = delivery.event, self.endpoint
        body = event.body
        if event.provider == "razorpay":
            headers = razorpay_headers(event=event, secret=event.secret, body=body)
        else:
            secrets = [point.secret]
            if point.old_secret and self._now() < point.old_secret_until:
                secrets.append(point.old_secret)
            stale = 400 if delivery.spoil == "stale" and not delivery.tries else 0
            headers = stripe_headers(body=body, secrets=secrets, at=int(time.time()) - stale)
        if delivery.spoil == "tamper" and not delivery.tries:
            body = body.replace(b'"amount":', b'"amount":9', 1)
        status = sender.post(point.url, body, headers)
        event.attempts += 1
        event.answers.append(status)
        return 200 <= status < 300

    def _after(self, delivery: _Delivery, *, ok: bool) -> None:
        event = delivery.event
        delivery.tries += 1
        fail = False
        with self._ready:
            if ok:
                event.state = "delivered"
            elif delivery.tries <= self.endpoint.quick_retries:
                delivery.not_before = time.monotonic() + 0.3 * delivery.tries
                heapq.heappush(self._heap, delivery)
            elif event.state != "delivered":
                event.state = "waiting"
                fail = True
        if fail:
            self._on_failure(event)  # takes the world's lock: not while we hold ours
        with self._ready:
            self._in_flight -= 1


class _Sender:
    """A kept connection to one host."""

    def __init__(self) -> None:
        self._connection: http.client.HTTPConnection | None = None
        self._place: tuple[str, str] = ("", "")

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> int:
        """Status of the answer; 0 when there was none within five seconds."""
        parts = urlsplit(url)
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        headers = {"Content-Type": "application/json", **headers}
        for fresh in (False, True):  # a kept connection may have been closed by the other side
            connection = self._open(parts.scheme, parts.netloc, fresh=fresh)
            reused = connection.sock is not None
            try:
                connection.request("POST", path, body, headers)
                answer = connection.getresponse()
                answer.read()
                return answer.status
            except (OSError, http.client.HTTPException) as error:
                self.close()
                if not reused or isinstance(error, TimeoutError):
                    return 0
        return 0

    def close(self) -> None:
        """Drop the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _open(self, scheme: str, place: str, *, fresh: bool) -> http.client.HTTPConnection:
        if fresh or self._place != (scheme, place):
            self.close()
        if self._connection is None:
            kind = http.client.HTTPSConnection if scheme == "https" else http.client.HTTPConnection
            self._connection = kind(place, timeout=ANSWER_SECONDS)
            self._place = (scheme, place)
        return self._connection
