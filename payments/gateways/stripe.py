"""Stripe: payment intents off session, checkout pages, refunds, setup intents, payouts.

Every POST carries our key. A charge that needs the customer is confirmed again on session at once, so that the same intent
gets a page to send the customer to.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from functools import partial
from typing import Any

import stripe
from moneyed import Money

from billing.money import to_minor_units
from payments.gateways import stripe_wire as wire
from payments.gateways.base import (
    ChargeRequest,
    ChargeResult,
    Decline,
    DeclineClass,
    DisputeRecord,
    GatewayEvent,
    MethodDetails,
    Outcome,
    PayerDetails,
    Recovery,
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
from payments.gateways.reading import read_settlements
from payments.gateways.transport import PerThread

TOLERANCE_SECONDS = 300
_LOOK_BACK = 300  # intents of one customer that a search for a lost one goes through


class StripeGateway:
    """One Stripe account."""

    provider = "stripe"

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
        make = partial(
            wire.client,
            api_key=key_secret,
            api_base=api_base,
            connect_seconds=connect_seconds,
            read_seconds=read_seconds,
        )
        self._clients = PerThread(make)

    @property
    def _api(self) -> Any:
        return self._clients.get().v1

    # --- charging ---------------------------------------------------------------------------------
    def ensure_customer(self, payer: PayerDetails) -> str:
        """A customer object; repeated within a day it is the same one."""
        given = {"name": payer.name, "email": payer.email, "phone": payer.phone}
        params = {name: value for name, value in given.items() if value} | {
            "metadata": {"customer": str(payer.customer_id)}
        }
        mark = hashlib.sha256(json.dumps(params, sort_keys=True).encode()).hexdigest()[:16]
        with wire.writing():
            made = self._api.customers.create(
                params=params, options={"idempotency_key": f"cus_{payer.customer_id.hex}_{mark}"}
            )
        return str(made.id)

    def charge(self, request: ChargeRequest) -> ChargeResult:
        """Confirm an intent off session; a wish for authentication becomes a page for the customer."""
        params = {
            "amount": to_minor_units(request.amount),
            "currency": request.amount.currency.code.lower(),
            "customer": request.gateway_customer_ref,
            "payment_method": request.token,
            "confirm": True,
            "off_session": True,
            "description": request.description or request.reference,
            "metadata": self._metadata(request),
        }
        try:
            with wire.writing():
                intent = self._api.payment_intents.create(params=params, options={"idempotency_key": request.key})
        except stripe.CardError as exc:
            return self._declined(exc, request)
        except wire.RefusedRequest as exc:
            if exc.param == "payment_method":
                return _method_gone(exc)
            raise
        return self._with_page(wire.intent_result(wire.plain(intent)), request)

    @staticmethod
    def _metadata(request: ChargeRequest) -> dict[str, str]:
        return {"attempt": str(request.attempt_id), "payment": str(request.payment_id), "reference": request.reference,
                "correlation_id": request.correlation_id}  # fmt: skip

    def _declined(self, exc: stripe.CardError, request: ChargeRequest) -> ChargeResult:
        body: Any = exc.json_body or {}
        error = body.get("error") or {}
        decline = wire.decline_of(error)
        intent = error.get("payment_intent") or {}
        result = ChargeResult(
            outcome=Outcome.DECLINED,
            gateway_order_ref=wire.ref(intent),
            gateway_ref=wire.ref(error.get("charge") or intent.get("latest_charge")),
            decline=decline,
        )
        if decline.code == "authentication_required" and result.gateway_order_ref and request.return_url:
            return self._on_session(result, request)
        return result

    def _with_page(self, result: ChargeResult, request: ChargeRequest) -> ChargeResult:
        """An intent that waits for the customer without a page to go to gets one."""
        if result.outcome is Outcome.REQUIRES_ACTION and not result.action_url and request.return_url:
            return self._on_session(result, request)
        return result

    def _on_session(self, declined: ChargeResult, request: ChargeRequest) -> ChargeResult:
        """Confirm the same intent with the customer present, which gives the bank's page."""
        params = {"payment_method": request.token, "return_url": request.return_url}
        try:
            with wire.writing():
                intent = self._api.payment_intents.confirm(
                    declined.gateway_order_ref, params=params, options={"idempotency_key": f"{request.key}_page"}
                )
        except stripe.CardError:
            return declined
        except GatewayUnavailable:
            return declined
        return wire.intent_result(wire.plain(intent))

    def hosted_page(self, request: ChargeRequest) -> ChargeResult:
        """A checkout page where the customer pays with any method. Stripe closes it after a day."""
        item = {"quantity": 1, "price_data": {"currency": request.amount.currency.code.lower(),
                                              "unit_amount": to_minor_units(request.amount),
                                              "product_data": {"name": (request.description or request.reference)[:250]}}}  # fmt: skip
        params = {
            "mode": "payment",
            "line_items": [item],
            "client_reference_id": str(request.attempt_id),
            "metadata": self._metadata(request),
            "payment_intent_data": {"metadata": self._metadata(request)},
            "success_url": request.return_url,
        }
        if request.gateway_customer_ref:
            params["customer"] = request.gateway_customer_ref
        with wire.writing():
            made = self._api.checkout.sessions.create(params=params, options={"idempotency_key": request.key})
        return wire.session_result(wire.plain(made))

    # --- looking up -------------------------------------------------------------------------------
    def find(self, request: ChargeRequest) -> ChargeResult | None:
        """Look a charge up by its intent or session, else among the customer's by our metadata."""
        if request.gateway_order_ref:
            return self.fetch(order_ref=request.gateway_order_ref, charge_ref="")
        if not request.gateway_customer_ref:
            return None
        attempt = str(request.attempt_id)
        calls = self._api.payment_intents if request.token else self._api.checkout.sessions
        with wire.reading():
            page = calls.list(params={"customer": request.gateway_customer_ref, "limit": 100})
            for seen, found in enumerate(page.auto_paging_iter()):
                entity = wire.plain(found)
                if wire.metadata(entity).get("attempt") == attempt:
                    return self.fetch(order_ref=str(entity["id"]), charge_ref="")
                if seen >= _LOOK_BACK:
                    break
        return None

    def fetch(self, *, order_ref: str, charge_ref: str) -> ChargeResult:
        """The intent or checkout session as it stands."""
        with wire.reading():
            if order_ref.startswith("cs_"):
                params = {"expand": ["payment_intent"]}
                return wire.session_result(wire.plain(self._api.checkout.sessions.retrieve(order_ref, params=params)))
            return wire.intent_result(wire.plain(self._api.payment_intents.retrieve(order_ref)))

    def capture(self, *, order_ref: str, charge_ref: str, amount: Money) -> ChargeResult:
        """Capture exactly what was authorised; already captured is fine."""
        params = {"amount_to_capture": to_minor_units(amount)}
        try:
            with wire.writing():
                intent = self._api.payment_intents.capture(
                    order_ref, params=params, options={"idempotency_key": f"cap_{order_ref}"}
                )
        except wire.RefusedRequest:
            result = self.fetch(order_ref=order_ref, charge_ref=charge_ref)
            if result.outcome is Outcome.AUTHORIZED:
                raise
            return result
        return wire.intent_result(wire.plain(intent))

    def cancel(self, request: ChargeRequest) -> ChargeResult:
        """Expire a page or cancel an intent; who was faster shows in the answer."""
        order_ref = request.gateway_order_ref
        if not order_ref:
            return self.find(request) or ChargeResult(outcome=Outcome.CANCELLED)
        try:
            with wire.writing():
                if order_ref.startswith("cs_"):
                    return wire.session_result(wire.plain(self._api.checkout.sessions.expire(order_ref)))
                return wire.intent_result(wire.plain(self._api.payment_intents.cancel(order_ref)))
        except wire.RefusedRequest:
            return self.fetch(order_ref=order_ref, charge_ref="")

    # --- refunds, disputes ------------------------------------------------------------------------
    def refund(self, request: RefundRequest) -> RefundResult:
        """Refund a charge under our key."""
        params = {"charge": request.gateway_ref, "amount": to_minor_units(request.amount),
                  "metadata": {"refund": str(request.refund_id), "reason": request.reason[:200]}}  # fmt: skip
        try:
            with wire.writing():
                made = self._api.refunds.create(params=params, options={"idempotency_key": request.key})
        except wire.RefusedRequest as exc:
            return RefundResult(outcome=RefundOutcome.FAILED, error=str(exc.details.get("reason") or exc))
        return wire.refund_result(wire.plain(made))

    def find_refund(self, request: RefundRequest) -> RefundResult | None:
        """Look a refund up by id, else among the charge's refunds by our metadata."""
        with wire.reading():
            if request.gateway_refund_ref:
                return wire.refund_result(wire.plain(self._api.refunds.retrieve(request.gateway_refund_ref)))
            page = self._api.refunds.list(params={"charge": request.gateway_ref, "limit": 100})
            for found in page.auto_paging_iter():
                entity = wire.plain(found)
                if wire.metadata(entity).get("refund") == str(request.refund_id):
                    return wire.refund_result(entity)
        return None

    def dispute(self, dispute_ref: str) -> DisputeRecord:
        """A dispute as it stands."""
        with wire.reading():
            return wire.dispute_record(wire.plain(self._api.disputes.retrieve(dispute_ref)))

    # --- methods ----------------------------------------------------------------------------------
    def start_setup(self, request: SetupRequest) -> SetupSession:
        """A setup intent whose client secret the provider's own form takes."""
        params = {
            "customer": request.gateway_customer_ref,
            "usage": "off_session",
            "metadata": {"setup": str(request.setup_id)},
        }
        with wire.writing():
            made = self._api.setup_intents.create(
                params=params, options={"idempotency_key": f"set_{request.setup_id.hex}"}
            )
        return SetupSession(
            provider=self.provider, key_id=self._key_id, setup_ref=str(made.id), client_secret=str(made.client_secret)
        )

    def is_setup(self, order_ref: str) -> bool:
        """Setup intents hold no money, so no charge belongs to one."""
        return False

    def finish_setup(self, *, result: Mapping[str, str], gateway_customer_ref: str) -> MethodDetails:
        """Read the setup intent with our key: it must have succeeded, for this customer."""
        with wire.reading():
            setup = wire.plain(self._api.setup_intents.retrieve(result.get("setup_intent") or "missing"))
        if setup.get("status") != "succeeded" or wire.ref(setup.get("customer")) != gateway_customer_ref:
            raise InvalidSignature("This setup has not succeeded for this customer; start it again.")
        found = self.method(token=wire.ref(setup.get("payment_method")), gateway_customer_ref=gateway_customer_ref)
        if found is None:
            raise InvalidSignature("The payment method is gone; start the setup again.")
        return found

    def method(self, *, token: str, gateway_customer_ref: str) -> MethodDetails | None:
        """A payment method as it stands; None when it is not attached to the customer."""
        try:
            with wire.reading():
                found = wire.plain(self._api.payment_methods.retrieve(token))
        except wire.RefusedRequest:
            return None
        if wire.ref(found.get("customer")) != gateway_customer_ref:
            return None
        return wire.method_details(found)

    def detach(self, *, token: str, gateway_customer_ref: str) -> None:
        """Detach; one that is detached already is fine."""
        try:
            with wire.writing():
                self._api.payment_methods.detach(token)
        except wire.RefusedRequest:
            return

    # --- messages ---------------------------------------------------------------------------------
    def parse_webhook(self, *, body: bytes, headers: Mapping[str, str]) -> GatewayEvent:
        """Verify ``Stripe-Signature`` with either secret; a time too far in the past or the future is refused."""
        header = headers.get("Stripe-Signature", "")
        if not header or not header.isascii():
            raise InvalidSignature
        try:
            text = body.decode("utf-8")
        except UnicodeDecodeError as exc:
            raise InvalidSignature from exc
        if not any(self._signed(text, header, secret) for secret in self._webhook_secrets if secret):
            raise InvalidSignature
        stamp = next((part[2:] for part in header.split(",") if part.startswith("t=")), "")
        if not stamp.isdigit() or int(stamp) > time.time() + TOLERANCE_SECONDS:
            raise InvalidSignature
        return self.read_event(body, "")

    @staticmethod
    def _signed(text: str, header: str, secret: str) -> bool:
        try:
            return bool(stripe.WebhookSignature.verify_header(text, header, secret, TOLERANCE_SECONDS))
        except Exception:
            return False

    def read_event(self, body: bytes, event_id: str) -> GatewayEvent:
        """Read a verified body; raise ``InvalidSignature`` when it is not an event."""
        try:
            return wire.event_of(json.loads(body))
        except Exception as exc:  # whatever it contains, it must not become a fault of ours
            raise InvalidSignature("The message is not an event that can be read.") from exc

    # --- settlements ------------------------------------------------------------------------------
    def settlements(self, *, since: datetime, until: datetime) -> Iterator[SettlementRecord | UnreadableSettlement]:
        """Payouts created in [since, until), oldest first, then those that cannot be read."""
        params = {"created": {"gte": int(since.timestamp()), "lt": int(until.timestamp())}, "limit": 100}
        with wire.reading():
            found = [wire.plain(payout) for payout in self._api.payouts.list(params=params).auto_paging_iter()]
        yield from read_settlements(found, wire.payout_record, created="created")

    def settlement_lines(self, settlement: SettlementRecord) -> Iterator[SettlementLineRecord]:
        """Balance transactions of the payout, the payout's own row left out."""
        params = {"payout": settlement.gateway_ref, "limit": 100}
        with wire.reading():
            rows = [wire.plain(row) for row in self._api.balance_transactions.list(params=params).auto_paging_iter()]
        yield from (wire.balance_line(row) for row in rows if row.get("type") != "payout")


def _method_gone(exc: wire.RefusedRequest) -> ChargeResult:
    code = exc.stripe_code or "payment_method_gone"
    decline = Decline(decline_class=DeclineClass.HARD, code=code, recovery=Recovery.NEW_METHOD,
                      message="This payment method is gone; please add another one.")  # fmt: skip
    return ChargeResult(outcome=Outcome.DECLINED, decline=decline)
