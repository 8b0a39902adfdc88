"""The whole state: merchant accounts, clock, faults, outboxes. One lock guards it."""

from __future__ import annotations

import itertools
import json
import random
import threading
from collections import deque
from dataclasses import dataclass, field, fields
from datetime import date
from typing import Any

from payments.simulator import workdays
from payments.simulator.clock import VirtualClock
from payments.simulator.faults import Faults
from payments.simulator.idempotency import IdempotencyStore
from payments.simulator.ids import Ids
from payments.simulator.instruments import Instrument
from payments.simulator.truth import TruthLedger
from payments.simulator.webhooks import GIVE_UP_AFTER, Endpoint, Event, Outbox

Json = dict[str, Any]


@dataclass
class Options:
    """How one merchant account is set up at the gateway. Amounts in smallest units."""

    auto_capture: bool = True
    settlement_days: int = 2
    settlement_on_hold: bool = False
    holidays: tuple[date, ...] = ()
    afa_limit: int | None = 1_500_000  # recurring card and UPI debits above it need the customer
    debit_seconds: dict[str, int] = field(default_factory=dict)  # recurring debits that end later, by method
    refund_seconds: int = 0  # a refund stays pending so long
    mandate_seconds: int = 0  # a mandate stays initiated so long
    dispute_fee: int | None = None  # None: the provider's usual one
    opening_balance: int = 0  # of the bank account


@dataclass
class BankLine:
    """One booking on the merchant's bank account; ``amount`` is negative for money that left."""

    on: date
    amount: int
    currency: str
    reference: str
    text: str


@dataclass
class SettlementRow:
    """One line of money waiting for, or paid out by, a settlement."""

    parent: str
    net: int
    currency: str
    due: int
    data: Json


@dataclass
class Account:
    """One merchant at one provider. Nothing here is shared with another account."""

    id: str
    provider: str
    key_id: str
    key_secret: str
    name: str
    currency: str
    outbox: Outbox
    opened: int
    options: Options = field(default_factory=Options)
    truth: TruthLedger = field(default_factory=TruthLedger)
    keys: IdempotencyStore = field(default_factory=IdempotencyStore)
    store: dict[str, dict[str, Json]] = field(default_factory=dict)  # kind -> id -> object as told on the wire
    hidden: dict[str, Json] = field(default_factory=dict)  # id -> what the gateway knows and does not tell
    instruments: dict[str, Instrument] = field(default_factory=dict)  # token or payment method id
    behaviours: dict[str, deque[str]] = field(default_factory=dict)
    index: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    unsettled: list[SettlementRow] = field(default_factory=list)
    settled: dict[str, list[SettlementRow]] = field(default_factory=dict)  # settlement or payout id
    bank: list[BankLine] = field(default_factory=list)

    @property
    def endpoint(self) -> Endpoint:
        """Where its webhooks go."""
        return self.outbox.endpoint

    @property
    def zone(self) -> int:
        """Seconds east of UTC of the provider's working day."""
        return workdays.IST if self.provider == "razorpay" else 0

    def of(self, kind: str) -> dict[str, Json]:
        """All objects of one kind, oldest first."""
        return self.store.setdefault(kind, {})

    def indexed(self, field_name: str, value: str) -> list[str]:
        """Ids filed under a value, oldest first."""
        return self.index.setdefault((field_name, value), [])

    def is_workday(self, day: date) -> bool:
        """Whether the provider's bank works on that day."""
        rule = workdays.indian_workday if self.provider == "razorpay" else workdays.western_workday
        return rule(day, self.options.holidays)

    def next_behaviour(self, token: str) -> str:
        """What the next charge of a token does: the programmed list first, then ``ok``."""
        queue = self.behaviours.get(token)
        return queue.popleft() if queue else "ok"


class World:
    """Everything behind the server. Callers hold ``lock`` while they touch it."""

    def __init__(self, *, seed: int, now: int) -> None:
        self.lock = threading.RLock()
        self.seed = seed
        self._start(now)

    def _start(self, now: int) -> None:
        self.clock = VirtualClock(now)
        self.ids = Ids(self.seed)
        self.faults = Faults(self.seed)
        self.random = random.Random(self.seed)
        self.accounts: dict[str, Account] = {}
        self.by_key: dict[str, Account] = {}
        self.serial = itertools.count(1)

    def reset(self, *, seed: int | None = None, now: int | None = None) -> None:
        """Forget everything, merchant accounts included."""
        for account in self.accounts.values():
            account.outbox.clear()
        self.seed = self.seed if seed is None else seed
        self._start(self.clock.now if now is None else now)

    def register(self, *, provider: str, key_id: str, key_secret: str, name: str, currency: str) -> Account:
        """A new merchant account, or the present one with the same key."""
        known = self.by_key.get(key_id)
        if known is not None and known.provider == provider:
            return known
        account_id = self.ids.new("acc" if provider == "razorpay" else "acct", 14 if provider == "razorpay" else 16)
        outbox = Outbox(endpoint=Endpoint(), seed=self.seed, now=lambda: self.clock.now,
                        on_failure=lambda event: self._retry_later(account, event))  # fmt: skip
        account = Account(account_id, provider, key_id, key_secret, name, currency, outbox, self.clock.now)
        self.accounts[account_id] = account
        self.by_key[key_id] = account
        if provider == "stripe":
            self.by_key[key_secret] = account
        return account

    def find_account(self, name: str) -> Account | None:
        """By account id or key id."""
        return self.accounts.get(name) or self.by_key.get(name)

    def emit(self, account: Account, *, kind: str, body: Json, event_id: str) -> Event:
        """Freeze ``body`` as it is now and hand it to the account's outbox."""
        raw = json.dumps(body, separators=(",", ":")).encode()
        now = self.clock.now
        event = Event(event_id, account.id, account.provider, kind, raw, now, account.endpoint.secret, since=now)
        account.outbox.emit(event)
        return event

    def replay(self, account: Account, event: Event) -> None:
        """Send an old event again, signed with the present secret."""
        event.secret, event.since = account.endpoint.secret, self.clock.now
        account.outbox.push(event)

    def _retry_later(self, account: Account, event: Event) -> None:
        """Back off on the virtual clock: 1, 2, 4 … minutes, at most 6 hours; give up after 24 h or 3 days."""
        with self.lock:
            if self.accounts.get(account.id) is not account:
                return
            if self.clock.now - event.since >= GIVE_UP_AFTER[account.provider]:
                event.state = "given_up"
                account.endpoint.enabled = False
                return
            wait = min(60 * 2 ** min(event.attempts, 10), 21_600)
            self.clock.after(wait, lambda: self._retry(account, event))

    def _retry(self, account: Account, event: Event) -> None:
        if event.state == "waiting" and account.endpoint.enabled:
            account.outbox.push(event)


def set_options(options: Options, raw: Json) -> None:
    """Change known options; raises ValueError for an unknown one."""
    known = {item.name for item in fields(Options)}
    for name, value in raw.items():
        if name not in known:
            raise ValueError(f"unknown option {name!r}; known: {', '.join(sorted(known))}")
        days = name == "holidays"
        setattr(options, name, tuple(date.fromisoformat(day) for day in value) if days else value)
