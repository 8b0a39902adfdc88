"""The wire to Stripe: the official SDK with time-outs and no blind repetition, and its objects in our words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from typing import Any

import requests
import stripe
from moneyed import Money
from requests.adapters import HTTPAdapter

from billing.money import from_minor_units
from payments.gateways import declines
from payments.gateways.base import (
    ChargeResult,
    Decline,
    DisputeRecord,
    DisputeState,
    EventKind,
    GatewayEvent,
    LineKind,
    MethodDetails,
    Outcome,
    RefundOutcome,
    RefundResult,
    SettlementLineRecord,
    SettlementRecord,
    SettlementStatus,
)
from payments.gateways.faults import GatewayMisconfigured, GatewayOutcomeUnknown, GatewayRejected, GatewayUnavailable
from payments.gateways.transport import never_sent, reads_again

Json = dict[str, Any]


def client(*, api_key: str, api_base: str, connect_seconds: float, read_seconds: float) -> stripe.StripeClient:
    """The official SDK's client. Its own repetition is off: a repeat after a lost answer is our decision."""
    session = requests.Session()
    adapter = HTTPAdapter(max_retries=reads_again())
    session.mount("https://", adapter)
    session.mount("http://", adapter)
    return stripe.StripeClient(
        api_key,
        base_addresses={"api": api_base},
        http_client=stripe.RequestsClient(timeout=(connect_seconds, read_seconds), session=session),
        max_network_retries=0,
    )


@contextmanager
def reading() -> Iterator[None]:
    """Around calls that change nothing: any fault of the way is "not reachable now"."""
    try:
        yield
    except (stripe.APIConnectionError, stripe.RateLimitError) as exc:
        raise GatewayUnavailable from exc
    except stripe.StripeError as exc:
        raise _refused(exc, lost=GatewayUnavailable()) from exc


@contextmanager
def writing() -> Iterator[None]:
    """Around calls that change something: unless it surely was not sent, a lost answer is unknown. Declines pass."""
    try:
        yield
    except stripe.CardError:
        raise
    except stripe.RateLimitError as exc:
        raise GatewayUnavailable from exc
    except stripe.APIConnectionError as exc:
        raise (GatewayUnavailable() if never_sent(exc) else GatewayOutcomeUnknown()) from exc
    except stripe.StripeError as exc:
        raise _refused(exc, lost=GatewayOutcomeUnknown()) from exc


class RefusedRequest(GatewayRejected):
    """Stripe refused a request: with its code and parameter, for adapters that know what to make of it."""

    def __init__(self, exc: stripe.StripeError) -> None:
        self.stripe_code = exc.code or ""
        self.param = str(getattr(exc, "param", "") or "")
        super().__init__(reason=(exc.user_message or type(exc).__name__)[:200])


def _refused(exc: stripe.StripeError, *, lost: Exception) -> Exception:
    status = exc.http_status or 0
    if status >= 500 or status == 409 or isinstance(exc, stripe.APIError) or exc.code == "idempotency_key_in_use":
        return lost
    if isinstance(exc, stripe.AuthenticationError | stripe.PermissionError):
        return GatewayMisconfigured(fault="gateway_key_refused")
    if "a similar object exists in" in (exc.user_message or ""):
        return GatewayMisconfigured(fault="gateway_modes_mixed")
    return RefusedRequest(exc)


def plain(found: Any) -> Json:
    """An SDK object as plain dictionaries."""
    result: Json = found.to_dict() if hasattr(found, "to_dict") else found
    return result


def money(minor: Any, currency: Any) -> Money:
    """Stripe's minor units and lower-case code."""
    return from_minor_units(int(minor or 0), str(currency).upper())


def at(seconds: Any) -> datetime:
    """Unix seconds as UTC."""
    return datetime.fromtimestamp(int(seconds or 0), UTC)


def ref(value: Any) -> str:
    """The id of an object that may be expanded."""
    return str((value.get("id") if isinstance(value, Mapping) else value) or "")


def metadata(entity: Mapping[str, Any]) -> Mapping[str, Any]:
    """Metadata of an object."""
    found = entity.get("metadata")
    return found if isinstance(found, Mapping) else {}


def decline_of(error: Mapping[str, Any]) -> Decline:
    """An error of an intent: the bank's decline_code, else Stripe's own code."""
    code = str(error.get("decline_code") or error.get("code") or "")
    return declines.classify("stripe", code, advice=str(error.get("advice_code") or ""))


def intent_result(intent: Mapping[str, Any]) -> ChargeResult:
    """A payment intent in our words."""
    amount = money(intent["amount"], intent["currency"])
    refs: Json = {"gateway_order_ref": str(intent["id"]), "gateway_ref": ref(intent.get("latest_charge"))}
    match intent["status"]:
        case "succeeded":
            received = money(intent.get("amount_received"), intent["currency"])
            return ChargeResult(outcome=Outcome.CAPTURED, amount=received, **refs)
        case "requires_capture":
            return ChargeResult(outcome=Outcome.AUTHORIZED, amount=amount, **refs)
        case "requires_action":
            url = ((intent.get("next_action") or {}).get("redirect_to_url") or {}).get("url") or ""
            return ChargeResult(outcome=Outcome.REQUIRES_ACTION, action_url=str(url), amount=amount, **refs)
        case "canceled":
            return ChargeResult(outcome=Outcome.CANCELLED, amount=amount, **refs)
        case "requires_payment_method" if intent.get("last_payment_error"):
            decline = decline_of(intent["last_payment_error"])
            return ChargeResult(outcome=Outcome.DECLINED, decline=decline, amount=amount, **refs)
    return ChargeResult(outcome=Outcome.PROCESSING, amount=amount, **refs)


def session_result(session: Mapping[str, Any]) -> ChargeResult:
    """A checkout session in our words; its expanded intent tells once there is one that was paid."""
    order_ref, intent = str(session["id"]), session.get("payment_intent")
    if isinstance(intent, Mapping) and intent.get("status") in ("succeeded", "requires_capture", "processing"):
        found = intent_result(intent)
        return ChargeResult(
            outcome=found.outcome, gateway_order_ref=order_ref, gateway_ref=found.gateway_ref, amount=found.amount
        )
    if session.get("status") == "expired":
        return ChargeResult(outcome=Outcome.CANCELLED, gateway_order_ref=order_ref)
    if session.get("status") == "complete":
        return ChargeResult(outcome=Outcome.PROCESSING, gateway_order_ref=order_ref)
    return ChargeResult(
        outcome=Outcome.REQUIRES_ACTION, gateway_order_ref=order_ref, action_url=str(session.get("url") or "")
    )


def refund_result(refund: Mapping[str, Any]) -> RefundResult:
    """A refund in our words."""
    state = {"succeeded": RefundOutcome.SUCCEEDED, "failed": RefundOutcome.FAILED, "canceled": RefundOutcome.FAILED}
    outcome = state.get(str(refund.get("status")), RefundOutcome.PROCESSING)
    error = str(refund.get("failure_reason") or "The refund was cancelled.") if outcome is RefundOutcome.FAILED else ""
    amount = money(refund["amount"], refund["currency"])
    return RefundResult(outcome=outcome, gateway_ref=str(refund["id"]), error=error, amount=amount)


_METHOD_KINDS = {"card": "card", "upi": "upi", "sepa_debit": "emandate", "bacs_debit": "emandate",
                 "us_bank_account": "emandate", "netbanking": "netbanking"}  # fmt: skip


def method_details(method: Mapping[str, Any]) -> MethodDetails:
    """A payment method in our words: only what may be shown."""
    kind = str(method.get("type") or "card")
    part = method.get(kind) or {}
    expires_on = None
    if part.get("exp_year") and part.get("exp_month"):
        year, month = int(part["exp_year"]), int(part["exp_month"])
        expires_on = date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
    return MethodDetails(
        token=str(method["id"]),
        kind=_METHOD_KINDS.get(kind, "wallet"),
        gateway_customer_ref=ref(method.get("customer")),
        brand=str(part.get("brand") or "")[:30],
        last4=str(part.get("last4") or "")[-4:],
        handle=str(part.get("bank_name") or part.get("bank_code") or "")[:80],
        expires_on=expires_on,
    )


def dispute_record(dispute: Mapping[str, Any]) -> DisputeRecord:
    """A dispute in our words; its fee is what its balance transactions cost.

    A ``warning_…`` is an inquiry, and what was ``prevented`` never became a chargeback: nothing is taken.
    """
    states = {"under_review": DisputeState.UNDER_REVIEW, "warning_under_review": DisputeState.UNDER_REVIEW,
              "won": DisputeState.WON, "warning_closed": DisputeState.WON,
              "prevented": DisputeState.WON, "lost": DisputeState.LOST}  # fmt: skip
    due = (dispute.get("evidence_details") or {}).get("due_by")
    status, moved = str(dispute.get("status")), dispute.get("balance_transactions") or []
    fee = sum(int(row.get("fee") or 0) for row in moved if isinstance(row, Mapping))
    return DisputeRecord(
        gateway_ref=str(dispute["id"]),
        charge_ref=ref(dispute.get("charge")),
        amount=money(dispute["amount"], dispute["currency"]),
        fee=money(fee, dispute["currency"]),
        state=states.get(status, DisputeState.OPEN),
        taken=bool(moved) or not status.startswith(("warning_", "prevented")),
        reason=str(dispute.get("reason") or "")[:80],
        respond_by=at(due) if due else None,
    )


def event_of(body: Mapping[str, Any]) -> GatewayEvent:
    """A webhook body in our words. Raises ``ValueError`` when it has not the shape of an event."""
    event_id, name, data = body.get("id"), body.get("type"), body.get("data")
    found = data.get("object") if isinstance(data, Mapping) else None
    if not isinstance(event_id, str) or not isinstance(name, str) or not isinstance(found, Mapping):
        raise ValueError("not an event")
    known: Json = {"id": event_id, "type": name}
    match found.get("object"):
        case "payment_intent":
            charge = intent_result(found) if name == "payment_intent.succeeded" else None
            return GatewayEvent(kind=EventKind.CHARGE, order_ref=ref(found), charge_ref=ref(found.get("latest_charge")),
                                attempt_id=str(metadata(found).get("attempt") or ""), charge=charge, **known)  # fmt: skip
        case "checkout.session":
            return GatewayEvent(kind=EventKind.CHARGE, order_ref=ref(found),
                                attempt_id=str(metadata(found).get("attempt") or ""), **known)  # fmt: skip
        case "refund":
            return GatewayEvent(kind=EventKind.REFUND, refund_ref=ref(found), charge_ref=ref(found.get("charge")),
                                refund_failed=found.get("status") == "failed", **known)  # fmt: skip
        case "dispute":
            return GatewayEvent(
                kind=EventKind.DISPUTE, dispute_ref=ref(found), charge_ref=ref(found.get("charge")), **known
            )
        case "payment_method" | "mandate":
            token = found.get("payment_method") if found.get("object") == "mandate" else found
            return GatewayEvent(kind=EventKind.METHOD, token=ref(token), **known)
        case "payout":
            return GatewayEvent(kind=EventKind.SETTLEMENT, **known)
    return GatewayEvent(kind=EventKind.OTHER, **known)


def payout_record(payout: Mapping[str, Any]) -> SettlementRecord:
    """A payout in our words."""
    status = {"paid": SettlementStatus.PAID, "failed": SettlementStatus.FAILED, "canceled": SettlementStatus.FAILED}
    trace = payout.get("trace_id") or {}
    return SettlementRecord(
        gateway_ref=str(payout["id"]),
        amount=money(payout["amount"], payout["currency"]),
        status=status.get(str(payout.get("status")), SettlementStatus.CREATED),
        created_at=at(payout["created"]),
        settled_on=at(payout["arrival_date"]).date(),
        utr=str(trace.get("value") or "") if isinstance(trace, Mapping) else "",
        raw=dict(payout),
    )


_LINE_KINDS = {"charge": LineKind.PAYMENT, "refund": LineKind.REFUND, "dispute": LineKind.DISPUTE,
               "dispute_reversal": LineKind.DISPUTE_REVERSAL, "fee": LineKind.FEE}  # fmt: skip


def balance_line(row: Mapping[str, Any]) -> SettlementLineRecord:
    """A balance transaction in our words. A partial capture's reversal is an adjustment, not a refund."""
    currency = row["currency"]
    category = str(row.get("reporting_category") or row.get("type"))
    tax = sum(int(part.get("amount") or 0) for part in row.get("fee_details") or [] if part.get("type") == "tax")
    fee, source = int(row.get("fee") or 0), ref(row.get("source"))
    return SettlementLineRecord(
        line_ref=str(row["id"]),
        kind=_LINE_KINDS.get(category, LineKind.ADJUSTMENT),
        gateway_ref=source or str(row["id"]),
        amount=money(row["amount"], currency),
        fee=money(fee - tax, currency),
        tax=money(tax, currency),
        net=money(row["net"], currency),
        occurred_at=at(row.get("created")),
        charge_ref=source if source.startswith(("ch_", "py_")) else "",
        raw=dict(row),
    )
