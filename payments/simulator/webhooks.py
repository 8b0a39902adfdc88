"""Sending events: signatures, duplicates, losses, order, retries. Sending never holds the world's lock."""

from __future__ import annotations

import hashlib
import heapq
import hmac
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from payments.simulator.ids import Dice
from payments.simulator.parts import Facts, Marks, Table
from payments.simulator.sender import Sender

Json = dict[str, Any]

GIVE_UP_AFTER = {"razorpay": 86_400, "stripe": 3 * 86_400}
KEEP_EVENTS_FOR = 30 * 86_400
TELL_EVERY = 0.05  # seconds between two notes of outcomes while there is more to send


@dataclass
class Endpoint:
    """Where one merchant account wants its events, and how badly they travel."""

    url: str = ""
    secret: str = ""
    old_secret: str = ""
    old_secret_until: int = 0
    enabled: bool = True
    events: tuple[str, ...] = ()  # empty = all; "payment.*" allowed
    duplicate: int = 1  # how often an event is sent
    duplicate_every: int = 1  # every n-th event is sent so often, the others once
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
class Delivery:
    """One event to be sent once."""

    not_before: float
    number: int
    event_id: str = field(compare=False)
    spoil: str = field(compare=False, default="")
    tries: int = field(compare=False, default=0)

    def kept(self) -> list[Any]:
        """What a state file has to hold."""
        return [self.number, self.event_id, self.spoil, self.tries]


def _kept_event(event: Event) -> list[Any]:
    return [event.id, event.account_id, event.provider, event.kind, event.at, event.secret, event.since, event.state,
            event.attempts, event.answers]  # fmt: skip


def _taken_up(raw: list[Any]) -> Event:
    name, account_id, provider, kind, at, secret, since, state, attempts, answers = raw
    return Event(name, account_id, provider, kind, b"", at, secret, since, state, attempts, answers)


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

    def __init__(self, *, endpoint: Endpoint, seed: int, marks: Marks, now: Callable[[], int],
                 on_failure: Callable[[Event, Delivery], None], tell: Callable[[], None]) -> None:  # fmt: skip
        self.endpoint = endpoint
        self.events: Table[Event] = Table(marks, "events", _kept_event, _taken_up)
        self.bodies: Facts[bytes] = Facts(marks, "bodies", bytes.decode, str.encode)
        self.deliveries: Table[Delivery] = Table(marks, "deliveries", Delivery.kept, lambda raw: Delivery(0.0, *raw))
        self.dice = Dice(f"order {seed}")
        self._age: deque[tuple[int, str]] = deque()
        self._heap: list[Delivery] = []
        self._held: list[Delivery] = []
        self._made = 0
        self._ready = threading.Condition()
        self._threads = 0
        self._in_flight = 0
        self._on_failure = on_failure
        self._tell = tell
        self._told_at = 0.0
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
        copies = point.duplicate if self._hits(point.duplicate_every) else 1
        for copy in range(max(1, copies)):
            self.push(event, spoil=spoil if copy == 0 else "")

    def push(self, event: Event, *, spoil: str = "", delay: float = 0.0) -> None:
        """Queue one delivery; it is sent when the world's lock is given back."""
        point = self.endpoint
        delay += point.delay_ms / 1000
        if point.reorder:
            delay += self.dice.random() * 0.03
        event.state = "queued"
        self.events.touch(event.id)
        self._made += 1
        delivery = Delivery(time.monotonic() + delay, self._made, event.id, spoil)
        self.deliveries[str(self._made)] = delivery
        self._held.append(delivery)

    def release(self) -> None:
        """Let go what was queued: the caller has written down what it tells about."""
        if self._held:
            with self._ready:
                for delivery in self._held:
                    heapq.heappush(self._heap, delivery)
                    self._wake()
            self._held.clear()

    def rebuild(self) -> None:
        """Queue again what was not sent when the state file was written for the last time."""
        for name, body in self.bodies.items():
            event = self.events.peek(name)
            if event is not None:
                event.body = body
        self._age = deque((event.at, event.id) for event in self.events.values())
        self._held = list(self.deliveries.values())
        self._made = max((delivery.number for delivery in self._held), default=0)

    def pending(self) -> int:
        """Queued or being sent now; deliveries that wait for the virtual clock are not counted."""
        with self._ready:
            return len(self._heap) + len(self._held) + self._in_flight

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
            self._held.clear()
        self.events.clear()
        self._age.clear()

    def _hits(self, every: int) -> bool:
        return bool(every) and self.endpoint.made % every == 0

    def _remember(self, event: Event) -> None:
        self.events[event.id] = event
        self.bodies[event.id] = event.body
        self._age.append((event.at, event.id))
        while self._age and self._age[0][0] < event.at - KEEP_EVENTS_FOR:
            old = self._age.popleft()[1]
            self.events.pop(old, None)
            self.bodies.pop(old, None)

    def _wake(self) -> None:
        if self._threads < max(1, self.endpoint.workers):
            self._threads += 1
            threading.Thread(target=self._work, daemon=True, name="webhooks").start()
        self._ready.notify()

    def _work(self) -> None:
        sender = Sender()
        while (delivery := self._next()) is not None:
            event, ok = self.events.peek(delivery.event_id), False
            try:
                ok = event is not None and self._send(sender, event, delivery)
            finally:
                self._after(event, delivery, ok=ok)
        sender.close()

    def _next(self) -> Delivery | None:
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

    def _send(self, sender: Sender, event: Event, delivery: Delivery) -> bool:
        point = self.endpoint
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

    def _after(self, event: Event | None, delivery: Delivery, *, ok: bool) -> None:
        """Note the outcome: sent, to be tried again soon, or given to the virtual clock."""
        delivery.tries += 1
        fail = False
        with self._ready:
            if event is None:
                ok = True  # forgotten meanwhile: nothing to send
            elif ok:
                event.state = "delivered"
            elif delivery.tries <= self.endpoint.quick_retries:
                delivery.not_before = time.monotonic() + 0.3 * delivery.tries
                heapq.heappush(self._heap, delivery)
            elif event.state != "delivered":
                event.state = "waiting"
                fail = True
            else:
                ok = True  # another copy arrived
        if fail and event is not None:
            self._on_failure(event, delivery)  # takes the world's lock: not while we hold ours
        else:
            self.note(event, delivery, done=ok)
            if not self._heap or time.monotonic() - self._told_at > TELL_EVERY:
                self._told_at = time.monotonic()
                self._tell()
        with self._ready:
            self._in_flight -= 1

    def note(self, event: Event | None, delivery: Delivery, *, done: bool) -> None:
        """Mark what has changed for the state file."""
        if event is not None:
            self.events.touch(event.id)
        if done:
            self.deliveries.pop(str(delivery.number), None)
        else:
            self.deliveries.touch(str(delivery.number))
