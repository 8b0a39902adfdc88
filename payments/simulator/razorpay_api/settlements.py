"""Settlements: once every working day, what is due goes to the merchant's bank."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from payments.simulator import workdays
from payments.simulator.clock import job
from payments.simulator.razorpay_api import shapes
from payments.simulator.razorpay_api.errors import invalid
from payments.simulator.razorpay_api.events import tell
from payments.simulator.world import Account, BankLine, SettlementRow, World

Json = dict[str, Any]

SETTLES_AT = 11 * 3600  # local time of day
BANK_TAKES = 3 * 3600


def schedule(world: World, account: Account) -> None:
    """Book the next daily run."""
    today = workdays.start_of(workdays.local_date(world.clock.now, account.zone), account.zone)
    due = today + SETTLES_AT
    world.clock.at(due if due > world.clock.now else due + workdays.DAY, "razorpay.settle", account.id)


@job("razorpay.settle")
def _daily(world: World, account: Account) -> None:
    run(world, account)
    schedule(world, account)


def run(world: World, account: Account) -> Json | None:
    """Settle every due row in one transfer; a sum that is not positive waits for more money."""
    today = workdays.local_date(world.clock.now, account.zone)
    if account.options.settlement_on_hold or not account.is_workday(today):
        return None
    due = [row for row in account.unsettled if row.due <= world.clock.now]
    amount = sum(row.net for row in due)
    if amount <= 0:
        return None
    utr = f"AXISN{today:%y%j}{world.next_serial() % 1_000_000:06d}"
    entity = shapes.settlement(world=world, amount=amount, fees=sum(row.data["fee"] for row in due),
                               tax=sum(row.data["tax"] for row in due), utr=utr)  # fmt: skip
    _book(world, account, entity, due)
    tell(world, account, "settlement.processed", settlement=entity)
    return entity


def _book(world: World, account: Account, entity: Json, rows: list[SettlementRow]) -> None:
    account.of("settlements")[entity["id"]] = entity
    account.settle(rows, entity["id"])
    for row in rows:
        row.data.update(settled=True, settled_at=world.clock.now, settlement_id=entity["id"],
                        settlement_utr=entity["utr"], on_hold=False)  # fmt: skip
    account.truth.settled(at=world.clock.now, ref=entity["id"], currency="INR", amount=entity["amount"],
                          parts=[(row.parent, row.net) for row in rows])  # fmt: skip
    arrives = workdays.local_date(world.clock.now + BANK_TAKES, account.zone)
    account.bank.append(BankLine(arrives, entity["amount"], "INR", entity["utr"],
                                 f"NEFT CR-{entity['utr']}-RAZORPAY SOFTWARE PVT LTD-{account.name}"))  # fmt: skip


def recon(account: Account, query: dict[str, str]) -> list[Json]:
    """Rows settled on a day, or in a month when no day is given (local calendar of the provider)."""
    try:
        year, month = int(query.get("year", "")), int(query.get("month", ""))
        day = int(query["day"]) if query.get("day") else None
    except ValueError as error:
        raise invalid("The year and month fields are required.", "year") from error
    rows: list[Json] = []
    for settlement_id, settled in account.settled.items():
        at = account.of("settlements")[settlement_id]["created_at"]
        on = datetime.fromtimestamp(at + account.zone, UTC)
        if (on.year, on.month) == (year, month) and day in (None, on.day):
            rows.extend(row.data for row in settled)
    return rows
