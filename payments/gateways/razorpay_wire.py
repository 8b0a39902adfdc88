"""The wire to Razorpay: the official SDK over a session of ours that always has a time-out and reads the whole error.

The SDK keeps only the description of an error, repeats nothing safely and has no time-out; its documented ``session``
argument is where that is put right: the transport below raises our words before the SDK drops what the body said.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import razorpay
import requests
from moneyed import Money
from requests.adapters import HTTPAdapter

from billing.money import from_minor_units
from payments.gateways import declines
from payments.gateways.base import (
    ChargeResult,
    DeclineClass,
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

IST = timezone(timedelta(hours=5, minutes=30))


class RazorpayFault(Exception):
    """Razorpay refused: HTTP status and the whole error body."""

    def __init__(self, status: int, error: Mapping[str, Any]) -> None:
        self.status = status
        self.reason = str(error.get("reason") or "")
        self.description = str(error.get("description") or "")
        metadata = error.get("metadata")
        self.metadata: Mapping[str, Any] = metadata if isinstance(metadata, Mapping) else {}
        super().__init__(f"{status} {self.reason or self.description}")

    @property
    def is_decline(self) -> bool:
        """Whether it tells the fate of a payment rather than a fault of the request."""
        return bool(self.reason) and declines.classify("razorpay", self.reason).decline_class is not DeclineClass.CONFIG

    def rejected(self) -> GatewayRejected:
        """The refusal in our words."""
        return GatewayRejected(reason=self.description or self.reason or f"HTTP {self.status}")


class Transport(HTTPAdapter):
    """Puts a time-out on every call and raises our words. Only reads, and calls never sent, are repeated."""

    def __init__(self, *, connect_seconds: float, read_seconds: float) -> None:
        self._timeout = (connect_seconds, read_seconds)
        super().__init__(max_retries=reads_again())

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        kwargs["timeout"] = self._timeout
        writes = request.method != "GET"
        try:
            response = super().send(request, *args, **kwargs)
            body = response.content  # read here, so that a broken body is judged here
        except requests.exceptions.RequestException as exc:
            raise _lost(exc, writes=writes) from exc
        if response.status_code == 204:
            return response
        try:
            answer = response.json() if body else None
        except ValueError:
            answer = None
        if response.status_code < 300 and isinstance(answer, dict):
            return response
        raise _fault(response.status_code, answer, writes=writes)


def _lost(exc: Exception, *, writes: bool) -> Exception:
    return GatewayOutcomeUnknown() if writes and not never_sent(exc) else GatewayUnavailable()


def _fault(status: int, answer: Any, *, writes: bool) -> Exception:
    error = answer.get("error") if isinstance(answer, dict) else None
    fault = RazorpayFault(status, error if isinstance(error, Mapping) else {})
    if status in (401, 403):
        return GatewayMisconfigured(fault="gateway_key_refused")
    if status == 429:
        return GatewayUnavailable()
    if (status >= 500 and not fault.is_decline) or status < 400 or status == 409:
        return GatewayOutcomeUnknown() if writes else GatewayUnavailable()
    return fault


def client(
    *, key_id: str, key_secret: str, api_base: str, connect_seconds: float, read_seconds: float
) -> razorpay.Client:
    """The official SDK's client over our transport."""
    session = requests.Session()
    transport = Transport(connect_seconds=connect_seconds, read_seconds=read_seconds)
    session.mount("https://", transport)
    session.mount("http://", transport)
    return razorpay.Client(auth=(key_id, key_secret), session=session, base_url=api_base)


def pages(fetch: Callable[[Json], Json], query: Json, *, count: int) -> Iterator[Json]:
    """All items of a list that is paged by count and skip."""
    skip = 0
    while True:
        items = fetch({**query, "count": count, "skip": skip}).get("items") or []
        yield from items
        if len(items) < count:
            return
        skip += count


def notes(entity: Mapping[str, Any]) -> Mapping[str, Any]:
    """Notes of an entity; an empty list or text stands for none."""
    found = entity.get("notes")
    return found if isinstance(found, Mapping) else {}


def at(seconds: Any) -> datetime:
    """Unix seconds as UTC."""
    return datetime.fromtimestamp(int(seconds or 0), UTC)


def charge_result(payment: Mapping[str, Any], *, order_ref: str = "", recurring: bool = False) -> ChargeResult:
    """A payment entity in our words."""
    state = payment.get("status")
    currency = str(payment["currency"])
    amount = from_minor_units(int(payment["amount"]), currency)
    refs: Json = {
        "gateway_order_ref": order_ref or str(payment.get("order_id") or ""),
        "gateway_ref": str(payment["id"]),
        "amount": amount,
    }
    if state in ("captured", "refunded") and payment.get("captured"):
        fee = from_minor_units(int(payment["fee"]), "INR") if payment.get("fee") is not None else None
        return ChargeResult(outcome=Outcome.CAPTURED, fee=fee if currency == "INR" else None, **refs)
    if state == "authorized":
        return ChargeResult(outcome=Outcome.AUTHORIZED, **refs)
    if state == "failed":
        decline = decline_of(str(payment.get("error_reason") or ""), recurring=recurring)
        return ChargeResult(outcome=Outcome.DECLINED, decline=decline, **refs)
    if state == "refunded":  # authorised, never captured, given back by itself
        return ChargeResult(outcome=Outcome.DECLINED, decline=decline_of("authorization_expired"), **refs)
    return ChargeResult(outcome=Outcome.PROCESSING, **refs)


def decline_of(reason: str, *, recurring: bool = False) -> Any:
    """A failure reason in our words. On a debit without the customer, ``payment_cancelled`` is a stop at the bank."""
    if recurring and declines.normalise(reason) == "payment_cancelled":
        reason = "mandate_not_active"
    return declines.classify("razorpay", reason)


def refund_result(refund: Mapping[str, Any]) -> RefundResult:
    """A refund entity in our words."""
    outcome = {"processed": RefundOutcome.SUCCEEDED, "failed": RefundOutcome.FAILED}.get(
        str(refund.get("status")), RefundOutcome.PROCESSING
    )
    error = "The bank returned the refund." if outcome is RefundOutcome.FAILED else ""
    amount = from_minor_units(int(refund["amount"]), str(refund["currency"]))
    return RefundResult(outcome=outcome, gateway_ref=str(refund["id"]), error=error, amount=amount)


def method_details(token: Mapping[str, Any], *, customer_ref: str) -> MethodDetails:
    """A token entity in our words: only what may be shown."""
    card = token.get("card") or {}
    state = (token.get("recurring_details") or {}).get("status")
    limit = token.get("max_amount")
    return MethodDetails(
        token=str(token["id"]),
        kind=str(token.get("method") or "card"),
        gateway_customer_ref=customer_ref,
        brand=str(card.get("network") or "")[:30],
        last4=str(card.get("last4") or _account_tail(token))[-4:],
        handle=_handle(token),
        expires_on=_card_end(card) or _token_end(token),
        max_amount=from_minor_units(int(limit), "INR") if limit else None,
        confirmed=state == "confirmed",
        rejected=state in ("rejected", "cancelled"),
    )


def _account_tail(token: Mapping[str, Any]) -> str:
    return str((token.get("bank_details") or {}).get("account_number") or "")


def _handle(token: Mapping[str, Any]) -> str:
    vpa = token.get("vpa")
    if isinstance(vpa, Mapping):
        user = str(vpa.get("username") or "")
        return f"{user[:2]}***@{vpa.get('handle') or ''}"[:80]
    return str(token.get("bank") or token.get("wallet") or "")[:80]


def _card_end(card: Mapping[str, Any]) -> date | None:
    try:
        year, month = int(card["expiry_year"]), int(card["expiry_month"])
        return date(year + month // 12, month % 12 + 1, 1) - timedelta(days=1)
    except (KeyError, TypeError, ValueError):
        return None


def _token_end(token: Mapping[str, Any]) -> date | None:
    return at(token["expired_at"]).astimezone(IST).date() if token.get("expired_at") else None


def dispute_record(dispute: Mapping[str, Any]) -> DisputeRecord:
    """A dispute entity in our words. Some (retrieval, fraud) ask first: ``amount_deducted`` says what money was taken, if any."""
    currency, deducted = str(dispute["currency"]), int(dispute.get("amount_deducted") or 0)
    states = {"won": DisputeState.WON, "lost": DisputeState.LOST, "under_review": DisputeState.UNDER_REVIEW}
    state = states.get(str(dispute.get("status")), DisputeState.OPEN)
    if dispute.get("status") == "closed":
        state = DisputeState.LOST if deducted else DisputeState.WON
    return DisputeRecord(
        gateway_ref=str(dispute["id"]),
        charge_ref=str(dispute["payment_id"]),
        amount=from_minor_units(deducted or int(dispute["amount"]), currency),
        fee=Money(0, currency),
        state=state,
        taken=deducted > 0 or state is DisputeState.LOST,
        reason=str(dispute.get("reason_code") or "")[:80],
        respond_by=at(dispute["respond_by"]) if dispute.get("respond_by") else None,
    )


_KINDS = {"payment": EventKind.CHARGE, "order": EventKind.CHARGE, "payment_link": EventKind.CHARGE,
          "refund": EventKind.REFUND, "token": EventKind.METHOD, "settlement": EventKind.SETTLEMENT}  # fmt: skip


def event_of(body: Mapping[str, Any], event_id: str) -> GatewayEvent:
    """A webhook body in our words. Raises ``ValueError`` when it has not the shape of an event."""
    name, payload = body.get("event"), body.get("payload")
    if not isinstance(name, str) or not name or not isinstance(payload, Mapping):
        raise ValueError("not an event")
    kind = EventKind.DISPUTE if ".dispute." in name else _KINDS.get(name.split(".", 1)[0], EventKind.OTHER)
    payment, link = _entity(payload, "payment"), _entity(payload, "payment_link")
    charge = None
    if kind is EventKind.CHARGE and payment.get("status") == "captured" and name.endswith((".captured", ".paid")):
        charge = charge_result(payment)
    return GatewayEvent(
        id=event_id,
        type=name,
        kind=kind,
        attempt_id=str(notes(payment).get("attempt") or notes(link).get("attempt") or ""),
        order_ref=str(link.get("id") or payment.get("order_id") or _entity(payload, "order").get("id") or ""),
        charge_ref=str(payment.get("id") or ""),
        refund_ref=str(_entity(payload, "refund").get("id") or ""),
        dispute_ref=str(_entity(payload, "dispute").get("id") or ""),
        token=str(_entity(payload, "token").get("id") or ""),
        charge=charge,
        refund_failed=name == "refund.failed",
    )


def _entity(payload: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = payload.get(name)
    found = part.get("entity") if isinstance(part, Mapping) else None
    return found if isinstance(found, Mapping) else {}


def settlement_record(entity: Mapping[str, Any]) -> SettlementRecord:
    """A settlement entity in our words; Razorpay settles in rupees."""
    status = {"processed": SettlementStatus.PAID, "failed": SettlementStatus.FAILED}.get(
        str(entity.get("status")), SettlementStatus.CREATED
    )
    created_at = at(entity["created_at"])
    return SettlementRecord(
        gateway_ref=str(entity["id"]),
        amount=from_minor_units(int(entity["amount"]), "INR"),
        status=status,
        created_at=created_at,
        settled_on=created_at.astimezone(IST).date(),
        utr=str(entity.get("utr") or ""),
        raw=dict(entity),
    )


def settlement_line(row: Mapping[str, Any]) -> SettlementLineRecord:
    """A recon row in our words: net = credit − debit, gross = net + fee; ``fee`` there includes its tax."""
    currency = str(row.get("currency") or "INR")
    fee, tax = int(row.get("fee") or 0), int(row.get("tax") or 0)
    net = int(row.get("credit") or 0) - int(row.get("debit") or 0)
    kind = {"payment": LineKind.PAYMENT, "refund": LineKind.REFUND}.get(str(row.get("type")), LineKind.ADJUSTMENT)
    about = str(row["entity_id"])
    if row.get("dispute_id"):
        kind = LineKind.DISPUTE if net < 0 else LineKind.DISPUTE_REVERSAL
        about = str(row["dispute_id"])
    return SettlementLineRecord(
        line_ref=str(row["entity_id"]),
        kind=kind,
        gateway_ref=about,
        amount=from_minor_units(net + fee, currency),
        fee=from_minor_units(fee - tax, currency),
        tax=from_minor_units(tax, currency),
        net=from_minor_units(net, currency),
        occurred_at=at(row.get("created_at")),
        order_ref=str(row.get("order_id") or ""),
        charge_ref=about if kind is LineKind.PAYMENT else str(row.get("payment_id") or ""),
        raw=dict(row),
    )
