"""Payouts: every working day, one per currency, of what has become available."""

from __future__ import annotations

from typing import Any

from payments.simulator import workdays
from payments.simulator.clock import job
from payments.simulator.stripe_api import charges, shapes
from payments.simulator.stripe_api.errors import StripeError
from payments.simulator.stripe_api.events import tell
from payments.simulator.world import Account, BankLine, SettlementRow, World

Json = dict[str, Any]

PAYS_AT = 6 * 3600
BANK_TAKES = 12 * 3600


def schedule(world: World, account: Account) -> None:
    """Book the next daily run."""
    today = workdays.start_of(workdays.local_date(world.clock.now, 0), 0)
    due = today + PAYS_AT
    world.clock.at(due if due > world.clock.now else due + workdays.DAY, "stripe.pay_out", account.id)


@job("stripe.pay_out")
def _daily(world: World, account: Account) -> None:
    run(world, account)
    schedule(world, account)


def run(world: World, account: Account) -> list[Json]:
    """Pay out what is available, one payout per currency with a positive sum."""
    now = world.clock.now
    due = [row for row in account.unsettled if row.due <= now]
    for row in due:
        if row.data["status"] != "available":
            account.of("balance_transactions")[row.data["id"]]["status"] = "available"
    if account.options.settlement_on_hold or not account.is_workday(workdays.local_date(now, 0)):
        return []
    made = []
    for currency in sorted({row.currency for row in due}):
        rows = [row for row in due if row.currency == currency]
        if sum(row.net for row in rows) > 0:
            made.append(_pay(world, account, currency, rows))
    return made


def _pay(world: World, account: Account, currency: str, rows: list[SettlementRow]) -> Json:
    amount = sum(row.net for row in rows)
    arrival = workdays.start_of(workdays.local_date(world.clock.now, 0), 0)
    entity = shapes.payout(world, amount=amount, currency=currency, arrival=arrival)
    account.of("payouts")[entity["id"]] = entity
    account.settle(rows, entity["id"])
    txn = charges.move(world, account, parent=entity["id"], amount=-amount, currency=currency, type="payout",
                       reporting_category="payout", source=entity["id"], description="STRIPE PAYOUT")  # fmt: skip
    entity["balance_transaction"] = txn["id"]
    account.truth.settled(at=world.clock.now, ref=entity["id"], currency=currency.upper(), amount=amount,
                          parts=[(row.parent, row.net) for row in rows])  # fmt: skip
    tell(world, account, "payout.created", entity)
    world.clock.after(BANK_TAKES, "stripe.arrive", account.id, entity["id"])
    return entity


@job("stripe.arrive")
def _arrive(world: World, account: Account, payout_id: str) -> None:
    payout = account.of("payouts")[payout_id]
    if payout["status"] != "in_transit":
        return
    payout.update(status="paid", reconciliation_status="completed",
                  trace_id={"status": "supported", "value": f"TRN{world.ids.digits(12)}"})  # fmt: skip
    on = workdays.local_date(world.clock.now, 0)
    account.bank.append(BankLine(on, payout["amount"], payout["currency"].upper(), payout["id"],
                                 f"STRIPE PAYOUT {payout['id']} {payout['trace_id']['value']}"))  # fmt: skip
    tell(world, account, "payout.paid", payout)
    tell(world, account, "payout.reconciliation_completed", payout)


def fail(world: World, account: Account, payout: Json) -> None:
    """The bank sent the money back: it is on the balance again and goes with a later payout."""
    if payout["status"] == "failed":
        raise StripeError("The payout has failed already.")
    if payout["status"] == "paid":
        on = workdays.local_date(world.clock.now, 0)
        account.bank.append(BankLine(on, -payout["amount"], payout["currency"].upper(), payout["id"],
                                     f"RETURN OF STRIPE PAYOUT {payout['id']}"))  # fmt: skip
    txn = charges.move(world, account, parent=payout["id"], amount=payout["amount"], currency=payout["currency"],
                       type="payout_failure", reporting_category="payout_reversal", source=payout["id"])  # fmt: skip
    rows = account.unsettle(payout["id"])
    account.truth.settled(at=world.clock.now, ref=payout["id"], currency=payout["currency"].upper(),
                          amount=-payout["amount"], parts=[(row.parent, -row.net) for row in rows])  # fmt: skip
    payout.update(status="failed", failure_code="account_closed", failure_balance_transaction=txn["id"],
                  failure_message="The bank account has been closed")  # fmt: skip
    tell(world, account, "payout.failed", payout)
