"""Razorpay: orders, recurring debits, payment links, refunds, mandates, settlements.

One order per payment, found again by its receipt: Razorpay lets one payment of an order succeed, so a payment cannot be
collected twice however often its attempts are repeated.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

from moneyed import Money

from billing.money import to_minor_units
from payments.gateways import razorpay_wire as wire
from payments.gateways.base import (
    ChargeRequest,
    ChargeResult,
    DisputeRecord,
    GatewayEvent,
    MethodDetails,
    Outcome,
    PayerDetails,
    RefundOutcome,
    RefundRequest,
    RefundResult,
    SettlementLineRecord,
    SettlementRecord,
    SetupRequest,
    SetupSession,
    UnreadableSettlement,
)
from payments.gateways.faults import GatewayUnavailable, InvalidSignature
from payments.gateways.razorpay_wire import RazorpayFault
from payments.gateways.reading import read_settlements
from payments.gateways.transport import PerThread

_LIVE = {"captured": 0, "refunded": 1, "authorized": 2, "created": 3}
_SETUP_AMOUNT = {"emandate": 0}  # paise; the others are confirmed with one rupee that is not captured


class RazorpayGateway:
    """One Razorpay account."""

    provider = "razorpay"

    def __init__(
        self,
        *,
        key_id: str,
        key_secret: str,
        webhook_secrets: tuple[str, ...],
        api_base: str,
        connect_seconds: float = 5,
        read_seconds: float = 20,
    ) -> None:
        self._key_id = key_id
        self._webhook_secrets = webhook_secrets
        make = partial(wire.client, key_id=key_id, key_secret=key_secret, api_base=api_base,
                       connect_seconds=connect_seconds, read_seconds=read_seconds)  # fmt: skip
        self._clients = PerThread(make)

    @property
    def _client(self) -> Any:
        return self._clients.get()

    # --- charging ---------------------------------------------------------------------------------
    def ensure_customer(self, payer: PayerDetails) -> str:
        """Id of the payer; the same e-mail and phone give the same id."""
        body = {"name": payer.name[:50], "email": payer.email, "contact": payer.phone, "fail_existing": "0",
                "notes": {"customer": str(payer.customer_id)}}  # fmt: skip
        with _faults():
            return str(self._client.customer.create({name: value for name, value in body.items() if value})["id"])

    def charge(self, request: ChargeRequest) -> ChargeResult:
        """Debit a confirmed mandate for the payment's order, unless a payment of that order lives already."""
        with _faults():
            order = self._order(request)
            if order["status"] == "paid" or order.get("attempts"):
                found = self._of_order(str(order["id"]), request)
                if found is not None:
                    return found
        try:
            answer = self._client.payment.createRecurring(self._debit(request, str(order["id"])))
        except RazorpayFault as fault:
            return self._refused(fault, str(order["id"]), request)
        return self._after_debit(str(order["id"]), str(answer["razorpay_payment_id"]))

    def _after_debit(self, order_ref: str, charge_ref: str) -> ChargeResult:
        """The debit is made: from here on a fault means "not known yet", never "not done"."""
        try:
            return wire.charge_result(self._client.payment.fetch(charge_ref, {}), recurring=True)
        except (GatewayUnavailable, RazorpayFault):
            return ChargeResult(outcome=Outcome.PROCESSING, gateway_order_ref=order_ref, gateway_ref=charge_ref)

    def _order(self, request: ChargeRequest) -> Mapping[str, Any]:
        return self._client.order.create({
            "amount": to_minor_units(request.amount),
            "currency": request.amount.currency.code,
            "receipt": request.order_key,
            "unique_receipt": True,
            "payment_capture": True,
            "notes": self._notes(request),
        })  # fmt: skip

    def _debit(self, request: ChargeRequest, order_ref: str) -> dict[str, Any]:
        body = {
            "email": request.payer.email,
            "contact": request.payer.phone,
            "amount": to_minor_units(request.amount),
            "currency": request.amount.currency.code,
            "order_id": order_ref,
            "customer_id": request.gateway_customer_ref,
            "token": request.token,
            "recurring": "1",
            "description": request.description[:120],
            "notes": self._notes(request),
        }
        return {name: value for name, value in body.items() if value != ""}

    @staticmethod
    def _notes(request: ChargeRequest) -> dict[str, str]:
        return {
            "attempt": str(request.attempt_id),
            "payment": str(request.payment_id),
            "reference": request.reference,
            "correlation_id": request.correlation_id,
        }

    def _refused(self, fault: RazorpayFault, order_ref: str, request: ChargeRequest) -> ChargeResult:
        if fault.reason in ("order_already_paid", "payment_pending"):
            with _faults():
                found = self._of_order(order_ref, request)
            if found is not None:
                return found
        if not fault.is_decline:
            raise fault.rejected() from fault
        return ChargeResult(
            outcome=Outcome.DECLINED,
            gateway_order_ref=order_ref,
            gateway_ref=str(fault.metadata.get("payment_id") or ""),
            decline=wire.decline_of(fault.reason, recurring=True),
        )

    def _of_order(self, order_ref: str, request: ChargeRequest) -> ChargeResult | None:
        """The order's living payment, else the failed one of this very attempt, else None."""
        payments = self._client.order.payments(order_ref, {}).get("items") or []
        living = sorted((p for p in payments if p.get("status") in _LIVE), key=lambda p: _LIVE[p["status"]])
        mine = [p for p in payments if wire.notes(p).get("attempt") == str(request.attempt_id)]
        for payment in [*living, *mine]:
            return wire.charge_result(payment, recurring=bool(request.token))
        return None

    def hosted_page(self, request: ChargeRequest) -> ChargeResult:
        """A payment link; asked for again under the same key it is the same link."""
        body = {
            "amount": to_minor_units(request.amount),
            "currency": request.amount.currency.code,
            "description": (request.description or request.reference)[:200],
            "reference_id": request.key,
            "customer": {name: value for name, value in (("name", request.payer.name), ("email", request.payer.email),
                                                         ("contact", request.payer.phone)) if value},
            "notify": {"sms": False, "email": False},
            "reminder_enable": False,
            "notes": self._notes(request),
        }  # fmt: skip
        if request.return_url:
            body |= {"callback_url": request.return_url, "callback_method": "get"}
        if request.expires_at:
            body["expire_by"] = int(request.expires_at.timestamp())
        try:
            link = self._client.payment_link.create(body)
        except RazorpayFault as fault:
            with _faults():
                known = self._link_by_key(request.key)
            if known is None:
                raise fault.rejected() from fault
            link = known
        return self._link_result(link)

    def _link_by_key(self, key: str) -> Mapping[str, Any] | None:
        found = self._client.payment_link.all({"reference_id": key}).get("payment_links") or []
        return next((link for link in found if link.get("reference_id") == key), None)

    def _link_result(self, link: Mapping[str, Any]) -> ChargeResult:
        order_ref = str(link["id"])
        if link["status"] == "paid":
            paid: Mapping[str, Any] = next(iter(link.get("payments") or []), {})
            payment = self._client.payment.fetch(str(paid["payment_id"]), {})
            return wire.charge_result(payment, order_ref=order_ref)
        if link["status"] in ("cancelled", "expired"):
            return ChargeResult(outcome=Outcome.CANCELLED, gateway_order_ref=order_ref)
        return ChargeResult(
            outcome=Outcome.REQUIRES_ACTION, gateway_order_ref=order_ref, action_url=str(link["short_url"])
        )

    # --- looking up -------------------------------------------------------------------------------
    def find(self, request: ChargeRequest) -> ChargeResult | None:
        """Look a charge up by its payment, its link or its order's receipt."""
        with _faults():
            if request.gateway_order_ref.startswith("plink_"):
                return self._link_result(self._client.payment_link.fetch(request.gateway_order_ref, {}))
            if request.gateway_ref:
                return wire.charge_result(
                    self._client.payment.fetch(request.gateway_ref, {}), recurring=bool(request.token)
                )
            if not request.token:
                link = self._link_by_key(request.key)
                return None if link is None else self._link_result(link)
            for order in self._client.order.all({"receipt": request.order_key}).get("items") or []:
                found = self._of_order(str(order["id"]), request)
                if found is not None:
                    return found
        return None

    def fetch(self, *, order_ref: str, charge_ref: str) -> ChargeResult:
        """The payment, or the link when only that is known."""
        with _faults():
            if charge_ref:
                kept = order_ref if order_ref.startswith("plink_") else ""
                return wire.charge_result(self._client.payment.fetch(charge_ref, {}), order_ref=kept)
            return self._link_result(self._client.payment_link.fetch(order_ref, {}))

    def capture(self, *, order_ref: str, charge_ref: str, amount: Money) -> ChargeResult:
        """Capture exactly what was authorised; already captured is fine."""
        try:
            # Own dictionary: the SDK's default one is shared between threads and carries the amount.
            payment = self._client.payment.capture(
                charge_ref, to_minor_units(amount), {"currency": amount.currency.code}
            )
            return wire.charge_result(payment)
        except RazorpayFault as fault:
            result = self.fetch(order_ref=order_ref, charge_ref=charge_ref)
            if result.outcome is Outcome.AUTHORIZED:
                raise fault.rejected() from fault
            return result

    def cancel(self, request: ChargeRequest) -> ChargeResult:
        """Close a link; an order without a living payment has nothing to close."""
        if not request.gateway_order_ref.startswith("plink_"):
            found = self.find(request)
            return found or ChargeResult(outcome=Outcome.CANCELLED, gateway_order_ref=request.gateway_order_ref)
        try:
            return self._link_result(self._client.payment_link.cancel(request.gateway_order_ref))
        except RazorpayFault:
            with _faults():
                return self._link_result(self._client.payment_link.fetch(request.gateway_order_ref, {}))

    # --- refunds, disputes ------------------------------------------------------------------------
    def refund(self, request: RefundRequest) -> RefundResult:
        """Refund under ``X-Refund-Idempotency``: the same key is the same refund."""
        body = {"amount": to_minor_units(request.amount), "speed": "normal", "receipt": request.key[:40],
                "notes": {"refund": str(request.refund_id), "reason": request.reason[:200]}}  # fmt: skip
        try:
            refund = self._client.payment.refund(
                request.gateway_ref, body, headers={"X-Refund-Idempotency": request.key}
            )
        except RazorpayFault as fault:
            return RefundResult(outcome=RefundOutcome.FAILED, error=fault.description or fault.reason)
        return wire.refund_result(refund)

    def find_refund(self, request: RefundRequest) -> RefundResult | None:
        """Look a refund up by id, else among the payment's refunds by our note."""
        with _faults():
            if request.gateway_refund_ref:
                return wire.refund_result(self._client.refund.fetch(request.gateway_refund_ref, {}))
            fetch = self._client.payment.fetch_multiple_refund
            for refund in wire.pages(lambda query: fetch(request.gateway_ref, query), {}, count=100):
                if wire.notes(refund).get("refund") == str(request.refund_id):
                    return wire.refund_result(refund)
        return None

    def dispute(self, dispute_ref: str) -> DisputeRecord:
        """A dispute as it stands."""
        with _faults():
            return wire.dispute_record(self._client.dispute.fetch(dispute_ref, {}))

    # --- methods ----------------------------------------------------------------------------------
    def start_setup(self, request: SetupRequest) -> SetupSession:
        """An order that registers a mandate; what it takes for the check is not captured and goes back by itself."""
        token: dict[str, Any] = {}
        if request.max_amount is not None:
            token["max_amount"] = to_minor_units(request.max_amount)
        if request.expires_at is not None:
            token["expire_at"] = int(request.expires_at.timestamp())
        if request.kind == "upi":
            token["frequency"] = "as_presented"
        body = {"amount": _SETUP_AMOUNT.get(request.kind, 100), "currency": request.currency,
                "receipt": f"set_{request.setup_id.hex}", "unique_receipt": True, "payment_capture": False,
                "customer_id": request.gateway_customer_ref, "method": request.kind, "token": token,
                "notes": {"setup": str(request.setup_id)}}  # fmt: skip
        with _faults():
            order = self._client.order.create({name: value for name, value in body.items() if value != {}})
        return SetupSession(provider=self.provider, key_id=self._key_id, order_ref=str(order["id"]))

    def is_setup(self, order_ref: str) -> bool:
        """Whether ``start_setup`` made the order."""
        if not order_ref.startswith("order_"):
            return False
        with _faults():
            return "setup" in wire.notes(self._client.order.fetch(order_ref))

    def finish_setup(self, *, result: Mapping[str, str], gateway_customer_ref: str) -> MethodDetails:
        """Check checkout's signature over ``order_id|payment_id`` and that the payment is this customer's."""
        self._check_checkout(result)
        with _faults():
            payment = self._client.payment.fetch(result["payment_id"], {})
            customer_ref, token = str(payment.get("customer_id") or ""), str(payment.get("token_id") or "")
            if payment.get("order_id") != result["order_id"] or customer_ref != gateway_customer_ref or not token:
                raise InvalidSignature("This payment saved no payment method of this customer; start the setup again.")
            return wire.method_details(self._client.token.fetch(customer_ref, token, {}), customer_ref=customer_ref)

    def _check_checkout(self, result: Mapping[str, str]) -> None:
        parts = {name: result.get(name.removeprefix("razorpay_")) or "" for name in
                 ("razorpay_order_id", "razorpay_payment_id", "razorpay_signature")}  # fmt: skip
        try:
            if not all(parts.values()) or not all(value.isascii() for value in parts.values()):
                raise InvalidSignature
            self._client.utility.verify_payment_signature(parts)
        except InvalidSignature:
            raise
        except Exception as exc:  # the SDK raises TypeError and others beside its own error
            raise InvalidSignature from exc

    def method(self, *, token: str, gateway_customer_ref: str) -> MethodDetails | None:
        """A token as it stands; None when it is gone."""
        try:
            found = self._client.token.fetch(gateway_customer_ref, token, {})
        except RazorpayFault as fault:
            if fault.status in (400, 404):
                return None
            raise fault.rejected() from fault
        return wire.method_details(found, customer_ref=gateway_customer_ref)

    def detach(self, *, token: str, gateway_customer_ref: str) -> None:
        """Delete a token; one that is gone is fine."""
        try:
            self._client.token.delete(gateway_customer_ref, token, {})
        except RazorpayFault as fault:
            if fault.status not in (400, 404):
                raise fault.rejected() from fault

    # --- messages ---------------------------------------------------------------------------------
    def parse_webhook(self, *, body: bytes, headers: Mapping[str, str]) -> GatewayEvent:
        """Verify ``X-Razorpay-Signature`` over the raw body with either secret; the event id is a header."""
        signature, event_id = headers.get("X-Razorpay-Signature", ""), headers.get("X-Razorpay-Event-Id", "")
        if not signature or not signature.isascii() or not event_id.isprintable() or not 0 < len(event_id) <= 120:
            raise InvalidSignature
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise InvalidSignature from exc
        if not any(self._signed(text, signature, secret) for secret in self._webhook_secrets if secret):
            raise InvalidSignature
        return self.read_event(body, event_id)

    def _signed(self, text: str, signature: str, secret: str) -> bool:
        try:
            return bool(self._client.utility.verify_webhook_signature(text, signature, secret))
        except Exception:
            return False

    def read_event(self, body: bytes, event_id: str) -> GatewayEvent:
        """Read a verified body; raise ``InvalidSignature`` when it is not an event."""
        try:
            return wire.event_of(json.loads(body), event_id)
        except Exception as exc:  # whatever it contains, it must not become a fault of ours
            raise InvalidSignature("The message is not an event that can be read.") from exc

    # --- settlements ------------------------------------------------------------------------------
    def settlements(self, *, since: datetime, until: datetime) -> Iterator[SettlementRecord | UnreadableSettlement]:
        """Settlements created in [since, until), oldest first, then those that cannot be read."""
        query = {"from": int(since.timestamp()), "to": int(until.timestamp()) - 1}
        with _faults():
            found = list(wire.pages(lambda page: self._client.settlement.all(page), query, count=100))
        yield from read_settlements(found, wire.settlement_record, created="created_at")

    def settlement_lines(self, settlement: SettlementRecord) -> Iterator[SettlementLineRecord]:
        """Rows of the day's combined report that belong to the settlement, 1,000 a page."""
        day = settlement.settled_on
        query = {"year": day.year, "month": f"{day.month:02d}", "day": f"{day.day:02d}"}
        with _faults():
            rows = list(wire.pages(lambda page: self._client.settlement.report(page), query, count=1000))
        yield from (wire.settlement_line(row) for row in rows if row.get("settlement_id") == settlement.gateway_ref)


class _faults:  # noqa: N801 - reads like a statement
    """A refusal inside becomes ``GatewayRejected``."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, RazorpayFault):
            raise error.rejected() from error
