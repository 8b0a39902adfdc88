"""What to say about rows, lines, payouts and payments that do not agree: class, sentence, and what they may belong to."""

import uuid
from datetime import date, datetime
from typing import Any

from moneyed import Money
from moneyed.l10n import format_money

from billing.api.base import wire
from payments.matching import Decisions
from payments.models import BankLine, Dispute, GatewayAccount, Payment, Refund, Settlement
from payments.services.exceptions import Finding


def said(money: Money) -> str:
    """An amount in a sentence, in the currency's own decimals: ``₹1,180.00``."""
    return format_money(money, locale="en_US")


def of_settlement_row(row: tuple[Any, ...]) -> Finding:
    """A row of a settlement that matched nothing (a row of ``matching_sql.LEFT_OVER``)."""
    row_id, kind, ref, amount, currency, *known, twice = row
    items: dict[str, Any] = {
        "payment": known[0:3],
        "refund": known[3:6],
        "dispute": known[6:9],
        "dispute_reversal": known[6:9],
    }
    item_id, item_amount, item_currency = items.get(kind, (None, None, None))
    money = Money(amount, currency)
    if kind == "adjustment":
        return _row(
            row_id,
            "unknown_reference",
            money,
            f"The gateway adjusted the payout by {said(money)} ({ref}); nothing here explains it.",
        )
    if item_id is None:
        return _unknown_item(row_id, kind, ref, money)
    details = {"item": str(item_id), "expected": wire(Money(item_amount, item_currency)), "found": wire(money)}
    if item_currency != currency:
        return _row(
            row_id, "currency_differs", money, f"{ref}: {item_currency} here, {currency} in the settlement.", details
        )
    if abs(item_amount) != abs(amount):
        expected = Money(item_amount, item_currency)
        return _row(
            row_id, "amount_differs", money, f"{ref}: {said(expected)} here, {said(money)} in the settlement.", details
        )
    if twice:
        return _row(row_id, "duplicate", money, f"{ref} is in a settlement already.", details)
    return _row(row_id, "unknown_reference", money, f"{ref} is known here in another state.", details)


def of_undecided(line: BankLine, decisions: Decisions, settlements: dict[uuid.UUID, Settlement]) -> Finding:
    """A bank line with a reference and another amount, a second line of the same payout, or several payouts that fit."""
    if line.pk in decisions.differing:
        settlement = settlements[decisions.differing[line.pk]]
        short = settlement.amount - line.amount
        details = {"settlement": str(settlement.pk), "expected": wire(settlement.amount), "found": wire(line.amount)}
        sentence = f"{settlement.gateway_ref} paid {said(settlement.amount)}, the bank shows {said(line.amount)}: {said(short)} differ."
        return _line(line, "amount_differs", sentence, details)
    if line.pk in decisions.duplicate:
        settlement = settlements[decisions.duplicate[line.pk]]
        return _line(
            line,
            "duplicate",
            f"{settlement.gateway_ref} is on the statement already.",
            {"settlement": str(settlement.pk)},
        )
    fitting = decisions.ambiguous[line.pk]
    names = ", ".join(settlements[pk].gateway_ref for pk in fitting[:5])
    return _line(
        line,
        "ambiguous",
        f"{len(fitting)} payouts fit this line: {names}.",
        {"candidates": [str(pk) for pk in fitting[:20]]},
    )


def of_unknown(line: BankLine) -> Finding:
    """A bank line that nothing here explains."""
    if line.amount.amount < 0:
        return _line(line, "unknown_reference", f"The bank took {said(-line.amount)}: {line.description[:150]}")
    return _line(
        line, "unknown_reference", f"{said(line.amount)} came in and belongs to no payout: {line.description[:150]}"
    )


def of_missing_in_bank(settlement: Settlement, last_day: date) -> Finding:
    """A payout that should have been on the statement."""
    return Finding(
        kind="missing_in_bank", source_type="settlement", source_id=settlement.pk, amount=settlement.amount,
        explanation=f"{settlement.gateway_ref} of {settlement.settled_on} should have come by {last_day} (UTR {settlement.utr or '-'}).",
    )  # fmt: skip


def of_unexplained(settlement: Settlement) -> Finding:
    """A payout whose rows do not add up to it."""
    return Finding(
        kind="amount_differs", source_type="settlement", source_id=settlement.pk, amount=settlement.unexplained,
        explanation=f"The rows of {settlement.gateway_ref} and its {said(settlement.amount)} differ by {said(settlement.unexplained)}.",
    )  # fmt: skip


def of_missing_in_gateway(payment: Payment) -> Finding:
    """A captured payment that no settlement carried in time."""
    return Finding(
        kind="missing_in_gateway", source_type="payment", source_id=payment.pk, amount=payment.amount,
        explanation=f"{payment.reference} was captured on {payment.captured_at:%Y-%m-%d} and is in no settlement.",
    )  # fmt: skip


def of_unanswered(dispute: Dispute) -> Finding:
    """A dispute that nobody has answered and that will be lost by silence."""
    return Finding(
        kind="dispute_unanswered", source_type="dispute", source_id=dispute.pk, amount=dispute.amount,
        explanation=f"{dispute.gateway_ref} over {said(dispute.amount)} must be answered by {dispute.respond_by:%Y-%m-%d %H:%M} UTC.",
    )  # fmt: skip


def of_refunded_twice(payment: Payment, dispute: Dispute) -> Finding:
    """A payment that was refunded and that its bank took back as well."""
    twice = payment.refunded + payment.disputed - payment.amount
    sentence = (
        f"{payment.reference}: {said(payment.refunded)} was refunded, and the bank took {said(dispute.amount)} as well."
    )
    return Finding(
        kind="refunded_and_disputed", source_type="dispute", source_id=dispute.pk, amount=twice, explanation=sentence[:300],
    )  # fmt: skip


def of_failed_refund(refund: Refund) -> Finding:
    """A refund that the gateway refused or the bank sent back: the money is still here."""
    sentence = f"{said(refund.amount)} of {refund.payment.reference} did not go back ({refund.reason}): {refund.error}"
    return Finding(
        kind="refund_failed",
        source_type="refund",
        source_id=refund.pk,
        amount=refund.amount,
        explanation=sentence[:300],
    )


def of_set_aside(
    *, account: GatewayAccount, gateway_ref: str, source_id: uuid.UUID, amount: Money, created_at: datetime, why: str
) -> Finding:
    """A payout that the gateway told and that could not be stored with its rows. ``created_at``: as the gateway says."""
    return Finding(
        kind="settlement_set_aside", source_type="payout", source_id=source_id, amount=amount,
        explanation=f"Payout {gateway_ref} of '{account.code}' could not be stored: {why}"[:300],
        details={"gateway_account": str(account.pk), "gateway_ref": gateway_ref, "created_at": created_at.isoformat()},
    )  # fmt: skip


def of_misconfigured(*, account: GatewayAccount, why: str, amount: Money) -> Finding:
    """A gateway account with which nothing can be collected. ``amount``: nothing, in the house's currency."""
    return Finding(
        kind="gateway_misconfigured", source_type="gateway_account", source_id=account.pk, amount=amount,
        explanation=f"Account '{account.code}': {why}"[:300],
    )  # fmt: skip


def of_refused_request(*, account: GatewayAccount, payment: Payment, why: str) -> Finding:
    """A payment whose request the gateway refused for what stands in it."""
    return Finding(
        kind="request_refused", source_type="payment", source_id=payment.pk, amount=payment.amount,
        explanation=f"{payment.reference} at '{account.code}': {why}"[:300],
    )  # fmt: skip


def _unknown_item(row_id: uuid.UUID, kind: str, ref: str, money: Money) -> Finding:
    if kind == "refund":
        return _row(
            row_id,
            "refund_without_payment",
            money,
            f"The gateway paid refund {ref} of {said(-money)}; it is not known here.",
        )
    if kind == "payment":
        return _row(
            row_id,
            "missing_in_books",
            money,
            f"The gateway settled {ref} over {said(money)}; no payment here knows it.",
        )
    return _row(
        row_id, "missing_in_books", money, f"The gateway moved {said(money)} for dispute {ref}; it is not known here."
    )


def _row(row_id: uuid.UUID, kind: str, money: Money, sentence: str, details: dict[str, Any] | None = None) -> Finding:
    return Finding(
        kind=kind,
        source_type="settlement_line",
        source_id=row_id,
        amount=money,
        explanation=sentence,
        details=details or {},
    )


def _line(line: BankLine, kind: str, sentence: str, details: dict[str, Any] | None = None) -> Finding:
    return Finding(
        kind=kind,
        source_type="bank_line",
        source_id=line.pk,
        amount=line.amount,
        explanation=sentence,
        details=details or {},
    )
