"""The whole state: merchant accounts, clock, faults, outboxes. One lock guards it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, fields
from datetime import date
from typing import Any, Protocol

from payments.simulator import instruments, workdays
from payments.simulator.clock import HANDLERS, VirtualClock, job
from payments.simulator.faults import Faults
from payments.simulator.gate import Gate
from payments.simulator.idempotency import IdempotencyStore
from payments.simulator.ids import Ids
from payments.simulator.instruments import Instrument
from payments.simulator.parts import Facts, Log, Marks, Part, Table
from payments.simulator.truth import TruthLedger
from payments.simulator.webhooks import GIVE_UP_AFTER, Delivery, Endpoint, Event, Outbox

Json = dict[str, Any]

OBJECTS = "objects of "  # begins the name of a piece that holds objects as told on the wire


class State(Protocol):
    """Where the world is kept (``state.py``)."""

    def take_up(self, world: World) -> None:
        """Put back what is kept, if anything is."""

    def save(self, world: World) -> None:
        """Write what has changed since the last time."""

    def forget(self) -> None:
        """Begin anew with the next ``save``."""


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

    def kept(self) -> list[Any]:
        """What a state file has to hold."""
        return [self.on.isoformat(), self.amount, self.currency, self.reference, self.text]

    @classmethod
    def taken_up(cls, raw: list[Any]) -> BankLine:
        """The line that ``kept`` told."""
        return cls(date.fromisoformat(raw[0]), *raw[1:])


@dataclass
class SettlementRow:
    """One line of money waiting for, or paid out by, a settlement."""

    parent: str
    net: int
    currency: str
    due: int
    data: Json
    number: int = 0
    settled_in: str = ""  # settlement or payout


class Account:
    """One merchant at one provider. Nothing here is shared with another account."""

    def __init__(self, *, name: str, id: str, provider: str, key_id: str, key_secret: str, currency: str,
                 opened: int, outbox: Outbox, marks: Marks) -> None:  # fmt: skip
        self.id, self.provider, self.key_id, self.key_secret = id, provider, key_id, key_secret
        self.name, self.currency, self.opened, self.outbox = name, currency, opened, outbox
        self.options = Options()
        self.truth = TruthLedger(marks)
        self.keys = IdempotencyStore(marks)
        self.store: dict[str, Table[Json]] = {}  # kind -> id -> object as told on the wire
        self.hidden: Table[Json] = Table(marks, "hidden")  # id -> what the gateway knows and does not tell
        self.instruments: Facts[Instrument] = Facts(marks, "instruments", asdict, instruments.taken_up)
        self.behaviours: Table[list[str]] = Table(marks, "behaviours", _filled)  # token or payment method id
        self.index: Table[list[str]] = Table(marks, "index", _filled)
        self.bank: Log[BankLine] = Log(marks, "bank", BankLine.kept, BankLine.taken_up)
        self.rows: Table[SettlementRow] = Table(marks, "rows", self._kept_row, lambda raw: SettlementRow(**raw))
        self.unsettled: list[SettlementRow] = []
        self.settled: dict[str, list[SettlementRow]] = {}  # settlement or payout id
        self._rows_made = 0
        self._marks = marks
        self._fixed: dict[str, Part] = {part.kind: self._own(part) for part in (
            self.truth.entries, self.truth.objects, self.keys.slots, self.hidden, self.instruments, self.behaviours,
            self.index, self.bank, self.rows, outbox.events, outbox.bodies, outbox.deliveries)}  # fmt: skip

    @property
    def endpoint(self) -> Endpoint:
        """Where its webhooks go."""
        return self.outbox.endpoint

    @property
    def zone(self) -> int:
        """Seconds east of UTC of the provider's working day."""
        return workdays.IST if self.provider == "razorpay" else 0

    def of(self, kind: str) -> Table[Json]:
        """All objects of one kind, oldest first."""
        table = self.store.get(kind)
        if table is None:
            table = self.store[kind] = Table(self._marks, OBJECTS + kind)
            self._own(table)
        return table

    def indexed(self, field_name: str, value: str) -> list[str]:
        """Ids filed under a value, oldest first."""
        return self.index.setdefault(f"{field_name} {value}", [])

    def owe(self, *, parent: str, net: int, currency: str, due: int, data: Json) -> None:
        """Put a line up for the next settlement from ``due`` on."""
        self._wait(SettlementRow(parent, net, currency, due, data))

    def settle(self, rows: list[SettlementRow], into: str) -> None:
        """Take lines out of what waits: they are paid by that settlement or payout."""
        taken = {row.number for row in rows}
        self.unsettled = [row for row in self.unsettled if row.number not in taken]
        self.settled[into] = rows
        for row in rows:
            row.settled_in = into
            self.rows.touch(str(row.number))

    def unsettle(self, payout: str) -> list[SettlementRow]:
        """The payout came back: its lines wait again, behind the others."""
        rows = self.settled.pop(payout)
        for row in rows:
            del self.rows[str(row.number)]
            row.settled_in = ""
            self._wait(row)
        return rows

    def _wait(self, row: SettlementRow) -> None:
        self._rows_made += 1
        row.number = self._rows_made
        self.rows[str(row.number)] = row
        self.unsettled.append(row)

    def is_workday(self, day: date) -> bool:
        """Whether the provider's bank works on that day."""
        rule = workdays.indian_workday if self.provider == "razorpay" else workdays.western_workday
        return rule(day, self.options.holidays)

    def next_behaviour(self, token: str) -> str:
        """What the next charge of a token does: the programmed list first, then ``ok``."""
        queue = self.behaviours.get(token)
        return queue.pop(0) if queue else "ok"

    def kept(self) -> Json:
        """How the account is set up, for the state file."""
        point = {name: value for name, value in self.endpoint.__dict__.items() if name != "made"}
        holidays = [day.isoformat() for day in self.options.holidays]
        return {"id": self.id, "provider": self.provider, "key_id": self.key_id, "key_secret": self.key_secret,
                "name": self.name, "currency": self.currency, "opened": self.opened, "endpoint": point,
                "options": {**self.options.__dict__, "holidays": holidays}}  # fmt: skip

    def part(self, kind: str) -> Part:
        """A piece of the state by its name; raises KeyError for one that there never was."""
        return self.of(kind.removeprefix(OBJECTS)) if kind.startswith(OBJECTS) else self._fixed[kind]

    def parts(self) -> list[Part]:
        """All pieces."""
        return [*self.store.values(), *self._fixed.values()]

    def rebuild(self) -> None:
        """Derive the rest after the pieces were taken up from a state file."""
        for row in self.rows.values():
            if isinstance(row.data, str):
                row.data = self.of("balance_transactions")[row.data]
            waiting = self.settled.setdefault(row.settled_in, []) if row.settled_in else self.unsettled
            waiting.append(row)
            self._rows_made = max(self._rows_made, row.number)
        self.keys.rebuild()
        self.outbox.rebuild()

    def _kept_row(self, row: SettlementRow) -> Json:
        shared = self.provider == "stripe"  # then ``data`` is the balance transaction itself
        return {**row.__dict__, "data": row.data["id"] if shared else row.data}

    def _own(self, part: Part) -> Part:
        part.owner = self.id
        return part


class World:
    """Everything behind the server. Callers hold ``lock`` while they touch it; giving it back keeps the changes."""

    def __init__(self, *, seed: int, now: int, state: State | None = None) -> None:
        self.lock = Gate(self._leave)
        self.seed = seed
        self.state = state
        self._start(now)
        if state is not None:
            state.take_up(self)

    def _start(self, now: int) -> None:
        self.marks = Marks()
        self.clock = VirtualClock(now, self._run, self.marks)
        self.ids = Ids(self.seed)
        self.faults = Faults(self.seed)
        self.accounts: Table[Account] = Table(self.marks, "accounts", Account.kept, self._known)
        self.by_key: dict[str, Account] = {}
        self.serial = 0

    def reset(self, *, seed: int | None = None, now: int | None = None) -> None:
        """Forget everything, merchant accounts included."""
        for account in self.accounts.values():
            account.outbox.clear()
        self.seed = self.seed if seed is None else seed
        self._start(self.clock.now if now is None else now)
        if self.state is not None:
            self.state.forget()

    def next_serial(self) -> int:
        """1, 2, 3 …"""
        self.serial += 1
        return self.serial

    def register(self, *, provider: str, key_id: str, key_secret: str, name: str, currency: str) -> Account:
        """A new merchant account, or the present one with the same key."""
        known = self.by_key.get(key_id)
        if known is not None and known.provider == provider:
            self.accounts.touch(known.id)
            return known
        account_id = self.ids.new("acc" if provider == "razorpay" else "acct", 14 if provider == "razorpay" else 16)
        account = self._account(id=account_id, provider=provider, key_id=key_id, key_secret=key_secret, name=name,
                                currency=currency, opened=self.clock.now)  # fmt: skip
        self.accounts[account_id] = account
        return account

    def _account(self, *, provider: str, key_id: str, key_secret: str, **given: Any) -> Account:
        outbox = Outbox(endpoint=Endpoint(), seed=self.seed, marks=self.marks, now=lambda: self.clock.now,
                        on_failure=lambda event, delivery: self._retry_later(account, event, delivery),
                        tell=self._tell)  # fmt: skip
        account = Account(provider=provider, key_id=key_id, key_secret=key_secret, outbox=outbox, marks=self.marks,
                          **given)  # fmt: skip
        self.by_key[key_id] = account
        if provider == "stripe":
            self.by_key[key_secret] = account
        return account

    def _known(self, raw: Json) -> Account:
        """An account as the state file knows it."""
        endpoint, options = raw.pop("endpoint"), raw.pop("options")
        account = self._account(**raw)
        account.outbox.endpoint = Endpoint(**{**endpoint, "events": tuple(endpoint["events"])})
        set_options(account.options, options)
        return account

    def find_account(self, name: str) -> Account | None:
        """By account id or key id."""
        account = self.accounts.get(name) or self.by_key.get(name)
        if account is not None:
            self.accounts.touch(account.id)
        return account

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

    def parts(self) -> list[Part]:
        """All pieces of the state."""
        return [self.accounts, self.clock.jobs, *(part for each in self.accounts.values() for part in each.parts())]

    def counters(self) -> Json:
        """What is neither an object nor a job: the time, and how far every numbering has come."""
        outboxes = {
            account.id: [account.endpoint.made, account.outbox.dice.thrown] for account in self.accounts.values()
        }
        return {"now": self.clock.now, "seed": self.seed, "ids": self.ids.dice.thrown, "serial": self.serial,
                "jobs": self.clock.made, "faults": self.faults.kept(), "outboxes": outboxes}  # fmt: skip

    def restart(self, counters: Json) -> None:
        """Begin again where ``counters`` says; pieces are put back afterwards."""
        self.seed = counters["seed"]
        self._start(counters["now"])
        self.ids.dice.thrown, self.serial, self.clock.made = counters["ids"], counters["serial"], counters["jobs"]
        self.faults.restore(counters["faults"])

    def rebuild(self, counters: Json) -> None:
        """Derive the rest after the pieces were put back, and send what had not been sent."""
        self.clock.rebuild()
        for account in self.accounts.values():
            account.endpoint.made, account.outbox.dice.thrown = counters["outboxes"][account.id]
            account.rebuild()

    def _leave(self) -> None:
        """The lock is about to be given back: keep what has changed, then let the news of it go."""
        if self.state is None:
            self.marks.clear()
        else:
            self.state.save(self)
        for account in self.accounts.values():
            account.outbox.release()

    def _tell(self) -> None:
        """A webhook's outcome is known."""
        if self.state is not None:
            with self.lock:
                pass  # giving the lock back keeps it

    def _run(self, name: str, arguments: tuple[Any, ...]) -> None:
        account = self.accounts.get(arguments[0])
        if account is not None:
            HANDLERS[name](self, account, *arguments[1:])

    def _retry_later(self, account: Account, event: Event, delivery: Delivery) -> None:
        """Back off on the virtual clock: 1, 2, 4 … minutes, at most 6 hours; give up after 24 h or 3 days."""
        with self.lock:
            if self.accounts.get(account.id) is not account:
                return
            account.outbox.note(event, delivery, done=True)
            if self.clock.now - event.since >= GIVE_UP_AFTER[account.provider]:
                event.state = "given_up"
                account.endpoint.enabled = False
                return
            wait = min(60 * 2 ** min(event.attempts, 10), 21_600)
            self.clock.after(wait, "webhook.retry", account.id, event.id)


@job("webhook.retry")
def _retry(_world: World, account: Account, event_id: str) -> None:
    event = account.outbox.events.get(event_id)
    if event is not None and event.state == "waiting" and account.endpoint.enabled:
        account.outbox.push(event)


def _filled(items: list[str]) -> list[str] | None:
    return items or None


def set_options(options: Options, raw: Json) -> None:
    """Change known options; raises ValueError for an unknown one."""
    known = {item.name for item in fields(Options)}
    for name, value in raw.items():
        if name not in known:
            raise ValueError(f"unknown option {name!r}; known: {', '.join(sorted(known))}")
        days = name == "holidays"
        setattr(options, name, tuple(date.fromisoformat(day) for day in value) if days else value)
