"""Settlements: stored with every row, explained from gross to net, posted once. ``fetching`` brings them here."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction

from billing.models import JournalEntry
from billing.money import zero
from billing.services import ledger, outbox
from payments.bridge import ADJUSTMENT, Bridge, bridge_of
from payments.gateways.base import SettlementLineRecord, SettlementRecord, SettlementStatus
from payments.models import GatewayAccount, Settlement, SettlementLine

PATIENCE = timedelta(days=3)  # so long a gateway may take to list all rows of a settlement
Status, State = Settlement.Status, SettlementLine.State


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What storing one settlement did."""

    settlement: Settlement
    created: bool
    changed: bool
    lines: int


@transaction.atomic
def record_settlement(
    *, account: GatewayAccount, record: SettlementRecord, lines: Sequence[SettlementLineRecord] | None, at: datetime
) -> Recorded:
    """Store what the gateway says about one settlement, and post it once its rows are known. Safe to repeat.

    ``lines`` is None when they were not asked for (known in full already). ``at``: the organisation's time.
    """
    created = _ensure(account, record)
    settlement = Settlement.objects.select_for_update(of=("self",)).get(
        gateway_account=account, gateway_ref=record.gateway_ref
    )
    added = _add_lines(settlement, lines or ())
    if added and not settlement.lines_complete:
        _explain(settlement)
    if lines is not None and not settlement.lines_complete:
        late = at - record.created_at >= PATIENCE
        settlement.lines_complete = bool(settlement.lines.exists() and (not settlement.unexplained or late)) or late
    moved = _follow(settlement, account, record, at=at)
    settlement.utr = record.utr or settlement.utr
    settlement.save()
    if created:
        outbox.publish("settlement.received", settlement, **wire_of(settlement))
    return Recorded(settlement=settlement, created=created, changed=bool(moved or added) and not created, lines=added)


def wire_of(settlement: Settlement) -> dict[str, Any]:
    """A settlement as events tell it."""
    return {
        "settlement_id": str(settlement.pk),
        "gateway_ref": settlement.gateway_ref,
        "amount": str(settlement.amount.amount),
        "currency": settlement.amount.currency.code,
        "unexplained": str(settlement.unexplained.amount),
        "status": settlement.status,
    }


def _ensure(account: GatewayAccount, record: SettlementRecord) -> bool:
    """Insert the settlement unless it is there; whether this call did."""
    nothing = zero(record.amount.currency.code)
    row = Settlement(
        organisation_id=account.organisation_id, gateway_account=account, gateway_ref=record.gateway_ref, utr=record.utr,
        amount=record.amount, gross=nothing, refunds=nothing, fees=nothing, tax=nothing, disputes=nothing,
        adjustments=nothing, unexplained=-record.amount, settled_on=record.settled_on, created_at=record.created_at,
    )  # fmt: skip
    Settlement.objects.bulk_create([row], ignore_conflicts=True)
    return Settlement.objects.filter(pk=row.pk).exists()


def _add_lines(settlement: Settlement, records: Sequence[SettlementLineRecord]) -> int:
    known = set(settlement.lines.values_list("line_ref", flat=True))
    rows = [_line(settlement, record) for record in records if record.line_ref not in known]
    SettlementLine.objects.bulk_create(rows, ignore_conflicts=True, batch_size=2000)
    return len(rows)


def _line(settlement: Settlement, record: SettlementLineRecord) -> SettlementLine:
    return SettlementLine(
        organisation_id=settlement.organisation_id, settlement=settlement, line_ref=record.line_ref, kind=record.kind,
        gateway_ref=record.gateway_ref, order_ref=record.order_ref, charge_ref=record.charge_ref,
        amount=record.amount, fee=record.fee, tax=record.tax,
        net=record.net, occurred_at=record.occurred_at, raw=dict(record.raw),
    )  # fmt: skip


def _explain(settlement: Settlement) -> Bridge:
    """Compute the bridge columns from the rows."""
    bridge = bridge_of(settlement.lines.exclude(state=State.RETURNED), net=settlement.amount)
    for name in ("gross", "refunds", "fees", "tax", "disputes", "adjustments", "unexplained"):
        setattr(settlement, name, getattr(bridge, name))
    return bridge


def _follow(settlement: Settlement, account: GatewayAccount, record: SettlementRecord, *, at: datetime) -> bool:
    """Move to the state the gateway tells, and post what that means. Whether anything moved."""
    if record.status == SettlementStatus.FAILED:
        if settlement.status == Status.FAILED:
            return False
        if _postings(settlement, "settlement_paid"):
            _post_sent_back(settlement, account, at=at)
        settlement.fail()
        return True
    if record.status == SettlementStatus.PAID and settlement.lines_complete:
        if settlement.status == Status.CREATED:
            _supersede(settlement, account, at=at)
            _post_paid(settlement, account)
            settlement.pay()
            return True
        if settlement.status == Status.FAILED:
            _post_paid_after_all(settlement, account, at=at)
            settlement.pay()
            return True
    return False


def _postings(settlement: Settlement, kind: str) -> int:
    return JournalEntry.objects.of(settlement.organisation_id).filter(source_id=settlement.pk, kind=kind).count()


def _entry(settlement: Settlement, *, kind: str, key: str, at: datetime, lines: Sequence[ledger.Line]) -> None:
    entry = ledger.Entry(
        kind=kind, source_type="settlement", source_id=settlement.pk, occurred_at=at, key=f"settlement:{settlement.pk}:{key}",
        lines=lines, description=f"Settlement {settlement.gateway_ref}",
    )  # fmt: skip
    ledger.post(organisation=settlement.organisation_id, entry=entry)


def _post_paid(settlement: Settlement, account: GatewayAccount) -> None:
    """Fees, their tax and the net leave clearing; adjustments and what no row explains rest in suspense.

    So clearing is what was captured and not yet settled, whatever else the gateway put into the payout.
    """
    returned = _returned_here(settlement, account)
    bridge = _explain(settlement)
    _entry(settlement, kind="settlement_paid", key="paid", at=settlement.created_at, lines=[
        ledger.debit(f"settlement_in_transit:{account.code}", bridge.net),
        ledger.debit("gateway_fees", bridge.fees),
        ledger.debit("input_tax", bridge.tax),
        ledger.debit("suspense", bridge.unexplained),
        ledger.credit("suspense", bridge.adjustments - returned),
        ledger.credit(f"gateway_clearing:{account.code}", bridge.from_clearing + returned),
    ])  # fmt: skip


def _returned_here(settlement: Settlement, account: GatewayAccount) -> Any:
    """Failed payouts whose net comes again as an adjustment row of this one: it went back to clearing when they failed."""
    rows = settlement.lines.filter(kind=ADJUSTMENT)
    failed = {
        (known.gateway_ref, known.amount)
        for known in Settlement.objects.filter(
            gateway_account=account, status=Status.FAILED, gateway_ref__in=rows.values("gateway_ref")
        )
    }
    total = zero(settlement.amount.currency.code)
    for row in rows:
        if (row.gateway_ref, row.amount) in failed:
            total += row.amount
            SettlementLine.objects.filter(pk=row.pk).update(state=State.MATCHED, rule="failed_payout")
    return total


def _post_sent_back(settlement: Settlement, account: GatewayAccount, *, at: datetime) -> None:
    """The transfer failed: the net is at the gateway again."""
    number = _postings(settlement, "settlement_failed") + 1
    _entry(settlement, kind="settlement_failed", key=f"failed:{number}", at=at, lines=[
        ledger.debit(f"gateway_clearing:{account.code}", settlement.amount),
        ledger.credit(f"settlement_in_transit:{account.code}", settlement.amount),
    ])  # fmt: skip


def _post_paid_after_all(settlement: Settlement, account: GatewayAccount, *, at: datetime) -> None:
    """A failed settlement was transferred after all (Razorpay may do so)."""
    if not _postings(settlement, "settlement_paid"):
        _post_paid(settlement, account)
        return
    number = _postings(settlement, "settlement_paid_again") + 1
    _entry(settlement, kind="settlement_paid_again", key=f"paid_again:{number}", at=at, lines=[
        ledger.debit(f"settlement_in_transit:{account.code}", settlement.amount),
        ledger.credit(f"gateway_clearing:{account.code}", settlement.amount),
    ])  # fmt: skip


def _supersede(settlement: Settlement, account: GatewayAccount, *, at: datetime) -> None:
    """Rows of failed settlements that come again here: their fees are taken back there, and posted here."""
    again = SettlementLine.objects.select_for_update(of=("self",)).filter(
        settlement__gateway_account=account, settlement__status=Status.FAILED,
        line_ref__in=settlement.lines.values("line_ref"),
    ).exclude(state=State.RETURNED)  # fmt: skip
    by_settlement: dict[uuid.UUID, list[SettlementLine]] = {}
    for row in again.order_by("pk"):
        by_settlement.setdefault(row.settlement_id, []).append(row)
    for failed in Settlement.objects.select_for_update(of=("self",)).filter(pk__in=by_settlement).order_by("pk"):
        rows = by_settlement[failed.pk]
        if _postings(failed, "settlement_paid"):
            _post_taken_back(
                failed, account, bridge_of(rows, net=zero(failed.amount.currency.code)), by=settlement, at=at
            )
        SettlementLine.objects.filter(pk__in=[row.pk for row in rows]).update(state=State.RETURNED)


def _post_taken_back(
    failed: Settlement, account: GatewayAccount, bridge: Bridge, *, by: Settlement, at: datetime
) -> None:
    """Undo fees, tax and adjustments of the failed settlement; its net went back to clearing when it failed."""
    taken = bridge.fees + bridge.tax - bridge.adjustments
    _entry(failed, kind="settlement_taken_back", key=f"taken_back:{by.pk}", at=at, lines=[
        ledger.credit("gateway_fees", bridge.fees),
        ledger.credit("input_tax", bridge.tax),
        ledger.debit("suspense", bridge.adjustments),
        ledger.debit(f"gateway_clearing:{account.code}", taken),
    ])  # fmt: skip
