"""What happened in the year, as the API tells it: one table, and whether the books are right."""

from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from typing import Any

from rich.table import Table

from config.demo.household import House


@dataclass
class Outcome:
    """The year of one organisation in figures. Amounts are by currency."""

    name: str
    customers: int = 0
    invoices: int = 0
    invoiced: dict[str, Decimal] = field(default_factory=dict)
    collected: dict[str, Decimal] = field(default_factory=dict)
    refunded: dict[str, Decimal] = field(default_factory=dict)
    settled: dict[str, Decimal] = field(default_factory=dict)
    credited: dict[str, Decimal] = field(default_factory=dict)
    in_bank: dict[str, Decimal] = field(default_factory=dict)
    in_transit: dict[str, Decimal] = field(default_factory=dict)
    unexplained: dict[str, Decimal] = field(default_factory=dict)
    credit_notes: int = 0
    refunds: int = 0
    disputes: dict[str, int] = field(default_factory=dict)  # by what became of them
    late: int = 0  # refused at first, authorised all the same
    failed: int = 0
    recovered: int = 0
    exceptions_open: int = 0
    exceptions_resolved: int = 0
    mails: int = 0
    balanced: bool = False

    @property
    def is_sound(self) -> bool:
        """The ledger balances and no money is unexplained."""
        return self.balanced and not any(self.unexplained.values())


def outcome_of(house: House, *, name: str, first_day: date, last_day: date) -> Outcome:
    """Ask the API for everything the table shows."""
    overview = house.api.get("/analytics/overview")
    found = Outcome(
        name=name,
        customers=overview["customers"],
        invoices=sum(count for status, count in overview["invoices"].items() if status != "draft"),
        failed=overview["payments"]["failed"],
        recovered=overview["payments"]["recovered"],
    )
    invoiced: dict[str, Decimal] = defaultdict(Decimal)
    for row in house.api.get("/analytics/collection")["months"]:
        invoiced[row["currency"]] += Decimal(row["invoiced"])
    found.invoiced = dict(invoiced)
    summary = house.api.get("/reconciliation/summary", **{"from": first_day.isoformat(), "to": last_day.isoformat()})
    for row in summary["currencies"]:
        for name_of, amount in _amounts(row).items():
            getattr(found, name_of)[row["currency"]] = amount
    _note_corrections(house, found)
    found.exceptions_open = len(house.api.pages("/reconciliation-exceptions", status="open"))
    found.exceptions_resolved = len(house.api.pages("/reconciliation-exceptions", status="resolved"))
    found.mails = len(house.api.pages("/mails", status="sent"))
    found.balanced = house.api.get("/ledger/trial-balance")["balanced"]
    return found


def _note_corrections(house: House, found: Outcome) -> None:
    """What was given back, contested, or came late."""
    notes = house.api.pages("/credit-notes")
    credited: dict[str, Decimal] = defaultdict(Decimal)
    for note in notes:
        credited[note["total"]["currency"]] += Decimal(note["total"]["amount"])
    found.credited, found.credit_notes = dict(credited), len(notes)
    found.refunds = sum(1 for refund in house.api.pages("/refunds") if refund["status"] == "succeeded")
    found.disputes = dict(Counter(dispute["status"] for dispute in house.api.pages("/disputes")))
    refused = {event["payload"]["payment_id"] for event in house.api.pages("/events", type="payment.declined")}
    tries = [attempt for pk in sorted(refused) for attempt in house.api.get(f"/payments/{pk}")["attempts"]]
    found.late = sum(1 for attempt in tries if attempt["status"] == "captured" and attempt["decline_code"])


def _amounts(row: dict[str, Any]) -> dict[str, Decimal]:
    names = ("collected", "refunded", "settled", "in_bank", "in_transit", "unexplained")
    keys = {"collected": "captured"}
    return {name: Decimal(row[keys.get(name, name)]["amount"]) for name in names}


def table(outcomes: list[Outcome]) -> Table:
    """The table that `make demo` prints: one column for each organisation."""
    drawn = Table(title="A year of billing", title_style="bold", header_style="bold")
    drawn.add_column("")
    for one in outcomes:
        drawn.add_column(one.name, justify="right")
    for label, value in (
        ("Customers", lambda o: f"{o.customers:,}"),
        ("Invoices", lambda o: f"{o.invoices:,}"),
        ("Invoiced", lambda o: money(o.invoiced)),
        ("Collected", lambda o: money(o.collected)),
        ("Payments recovered after a refusal", lambda o: f"{o.recovered:,}"),
        ("Payments failed for good", lambda o: f"{o.failed:,}"),
        ("Authorised late, after a refusal", lambda o: f"{o.late:,}"),
        ("Credit notes", lambda o: f"{o.credit_notes:,}"),
        ("Credited", lambda o: money(o.credited)),
        ("Refunds", lambda o: f"{o.refunds:,}"),
        ("Refunded", lambda o: money(o.refunded)),
        ("Disputes", lambda o: ", ".join(f"{n} {name}" for name, n in sorted(o.disputes.items())) or "–"),
        ("Settled by the gateway, net", lambda o: money(o.settled)),
        ("Reconciled to the bank", lambda o: money(o.in_bank)),
        ("On its way to the bank", lambda o: money(o.in_transit)),
        ("Unexplained", lambda o: money(o.unexplained)),
        ("Exceptions open / resolved", lambda o: f"{o.exceptions_open} / {o.exceptions_resolved}"),
        ("Mails sent", lambda o: f"{o.mails:,}"),
        ("Ledger balanced", lambda o: "yes" if o.balanced else "[red]NO[/red]"),
    ):
        drawn.add_row(label, *(value(one) for one in outcomes))
    return drawn


def money(amounts: dict[str, Decimal]) -> str:
    """Amounts by currency, one a line."""
    return "\n".join(f"{amount:,.2f} {currency}" for currency, amount in sorted(amounts.items())) or "–"
