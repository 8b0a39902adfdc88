"""The simulator's own books: every movement of money as a balanced entry, and its sums per object.

Tests compare the product's ledger with this one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from payments.simulator.parts import Log, Marks, Table

Json = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """One movement. ``postings`` sum to zero; positive is money an account gained."""

    at: int
    kind: str
    ref: str
    parent: str
    currency: str
    postings: tuple[tuple[str, int], ...]


@dataclass
class ObjectTotals:
    """What happened to one payment or charge, in the settlement currency's smallest unit."""

    currency: str
    captured: int = 0
    refunded: int = 0
    fees: int = 0
    tax: int = 0
    disputed: int = 0
    settled: int = 0

    def as_json(self) -> Json:
        """A plain dictionary."""
        return dict(self.__dict__)


def _entry(raw: list[Any]) -> Entry:
    at, kind, ref, parent, currency, postings = raw
    return Entry(at, kind, ref, parent, currency, tuple((account, amount) for account, amount in postings))


class TruthLedger:
    """Entries of one merchant account at the gateway."""

    def __init__(self, marks: Marks) -> None:
        self.entries: Log[Entry] = Log(marks, "entries", lambda entry: list(entry.__dict__.values()), _entry)
        self.objects: Table[ObjectTotals] = Table(
            marks, "totals", ObjectTotals.as_json, lambda raw: ObjectTotals(**raw)
        )

    def post(self, *, at: int, kind: str, ref: str, parent: str, currency: str, moves: dict[str, int]) -> None:
        """Append an entry; refuses one that does not balance."""
        if sum(moves.values()) != 0:
            raise AssertionError(f"unbalanced {kind} of {ref}: {moves}")
        self.entries.append(Entry(at, kind, ref, parent, currency, tuple(moves.items())))

    def of(self, parent: str, currency: str) -> ObjectTotals:
        """Sums of one payment or charge, made on first use."""
        return self.objects.setdefault(parent, ObjectTotals(currency))

    def captured(self, *, at: int, ref: str, currency: str, amount: int, fee: int, tax: int) -> None:
        """The payer's money arrived; the gateway keeps its fee (tax included)."""
        self.post(at=at, kind="capture", ref=ref, parent=ref, currency=currency,
                  moves={"payers": -amount, "gateway": amount})  # fmt: skip
        if fee:
            self.post(at=at, kind="fee", ref=ref, parent=ref, currency=currency,
                      moves={"gateway": -fee, "fees": fee - tax, "tax": tax})  # fmt: skip
        totals = self.of(ref, currency)
        totals.captured += amount
        totals.fees += fee
        totals.tax += tax

    def refunded(self, *, at: int, ref: str, parent: str, currency: str, amount: int) -> None:
        """Money given back; a negative amount undoes a refund that failed."""
        self.post(at=at, kind="refund" if amount > 0 else "refund_failed", ref=ref, parent=parent,
                  currency=currency, moves={"gateway": -amount, "payers": amount})  # fmt: skip
        self.of(parent, currency).refunded += amount

    def disputed(self, *, at: int, ref: str, parent: str, currency: str, amount: int, fee: int = 0) -> None:
        """The bank took the money back; a negative amount is a dispute that was won."""
        self.post(at=at, kind="dispute" if amount > 0 else "dispute_won", ref=ref, parent=parent,
                  currency=currency, moves={"gateway": -amount - fee, "payers": amount, "fees": fee})  # fmt: skip
        totals = self.of(parent, currency)
        totals.disputed += amount
        totals.fees += fee

    def settled(self, *, at: int, ref: str, currency: str, amount: int, parts: list[tuple[str, int]]) -> None:
        """``amount`` left for the bank, made of (payment or charge, net) parts."""
        self.post(at=at, kind="settlement", ref=ref, parent=ref, currency=currency,
                  moves={"gateway": -amount, "bank": amount})  # fmt: skip
        for parent, net in parts:
            self.of(parent, currency).settled += net

    def totals(self) -> Json:
        """Per currency: sums of all objects, and ``balances`` of the accounts (they add up to zero)."""
        result: Json = {}
        for totals in self.objects.values():
            sums = result.setdefault(totals.currency, {"balances": {}})
            for name, value in totals.as_json().items():
                if name != "currency":
                    sums[name] = sums.get(name, 0) + value
        for entry in self.entries:
            balances = result.setdefault(entry.currency, {"balances": {}})["balances"]
            for account, amount in entry.postings:
                balances[account] = balances.get(account, 0) + amount
        return result
