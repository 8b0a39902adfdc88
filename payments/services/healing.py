"""What a gateway settled and the books do not know yet: lost webhooks are made up for before anything becomes an exception.

Runs outside any transaction, because it may ask the gateway; each fact is recorded by the service that always records it.
"""

import uuid
from typing import Any

import structlog
from django.db import connection

from billing.errors import DomainError
from billing.models import Organisation
from payments.gateways.base import ChargeResult, Outcome, RefundOutcome, RefundResult
from payments.models import PaymentAttempt, Refund, SettlementLine
from payments.services import attempts, charging, disputes, matching_sql, refunds

log = structlog.get_logger(__name__)

AT_MOST = 500
LINE_KINDS = ("refund", "dispute", "dispute_reversal")


def record_settled(organisation: Organisation, *, ask: bool = True) -> int:
    """Record captures, refunds and disputes that rows of settlements prove; return how many.

    ``ask``: look up at the gateway what the row alone does not tell. Without it only what is known here is recorded.
    """
    done = _captures(organisation)
    done += _ask_for_open(organisation) if ask else 0
    rows = SettlementLine.objects.of(organisation).filter(state=SettlementLine.State.UNMATCHED, kind__in=LINE_KINDS)
    for row in rows.select_related("settlement__gateway_account").order_by("pk")[:AT_MOST]:
        try:
            done += _refund(organisation, row, ask=ask) if row.kind == "refund" else ask and _dispute(row)
        except DomainError as exc:
            log.warning("matching.row_not_recorded", row=str(row.pk), code=exc.code)
    return done


def _captures(organisation: Organisation) -> int:
    """Money settled for attempts that we thought unknown or declined: it was captured."""
    with connection.cursor() as cursor:
        cursor.execute(matching_sql.UNRECORDED, {"organisation": organisation.pk, "size": AT_MOST})
        pairs = cursor.fetchall()
    rows = SettlementLine.objects.of(organisation).in_bulk([line for line, _ in pairs])
    return sum(_capture(rows[line_id], attempt_id) for line_id, attempt_id in pairs)


def _capture(row: SettlementLine, attempt_id: uuid.UUID) -> bool:
    order_ref = row.order_ref or PaymentAttempt.objects.values_list("gateway_order_ref", flat=True).get(pk=attempt_id)
    result = ChargeResult(outcome=Outcome.CAPTURED, gateway_order_ref=order_ref, gateway_ref=row.gateway_ref,
                          amount=row.amount, fee=row.fee + row.tax)  # fmt: skip
    try:
        attempts.settle_attempt(attempt_id=attempt_id, result=result)
    except DomainError as exc:
        log.warning("matching.attempt_not_recorded", attempt_id=str(attempt_id), code=exc.code)
        return False
    return True


def _ask_for_open(organisation: Organisation) -> int:
    """Attempts without an answer that such a row may be about: the gateway is asked for them by our own key."""
    rows = SettlementLine.objects.of(organisation).filter(
        state=SettlementLine.State.UNMATCHED, kind="payment", payment=None
    )
    wanted: set[tuple[uuid.UUID, Any, str]] = set(
        rows.values_list("settlement__gateway_account_id", "amount", "currency").order_by("pk")[:AT_MOST]
    )
    if not wanted:
        return 0
    done = 0
    waiting = PaymentAttempt.objects.of(organisation).filter(
        status__in=PaymentAttempt.OPEN, gateway_account_id__in={account for account, _, _ in wanted}
    )
    for attempt in waiting.order_by("pk")[:AT_MOST]:
        if (attempt.gateway_account_id, attempt.amount.amount, attempt.amount.currency.code) not in wanted:
            continue
        try:
            done += charging.resolve(attempt.pk).status == PaymentAttempt.Status.CAPTURED
        except DomainError as exc:
            log.warning("matching.attempt_not_resolved", attempt_id=str(attempt.pk), code=exc.code)
    return done


def _refund(organisation: Organisation, row: SettlementLine, *, ask: bool) -> bool:
    known = Refund.objects.of(organisation).filter(gateway_ref=row.gateway_ref).first()
    if (
        known is not None
        and known.status not in (Refund.Status.SUCCEEDED, Refund.Status.FAILED)
        and known.amount == -row.amount
    ):
        result = RefundResult(outcome=RefundOutcome.SUCCEEDED, gateway_ref=row.gateway_ref, amount=known.amount)
        refunds.settle_refund(refund_id=known.pk, result=result)
        return True
    if known is not None or not ask:
        return False
    account = row.settlement.gateway_account
    return refunds.follow_gateway(account=account, refund_ref=row.gateway_ref, charge_ref=row.charge_ref) is not None


def _dispute(row: SettlementLine) -> bool:
    return disputes.follow_gateway(account=row.settlement.gateway_account, dispute_ref=row.gateway_ref) is not None
