"""Offline: cash, cheque, bank transfer. Nothing is called; people say what happened, the bank statement proves it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import NoReturn

from moneyed import Money

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
)
from payments.gateways.faults import GatewayRejected, InvalidSignature


def _refuse() -> NoReturn:
    raise GatewayRejected(reason="an offline account cannot collect; record the payment when the money is there")


class OfflineGateway:
    """An account of money that comes without a gateway."""

    provider = "offline"

    def ensure_customer(self, payer: PayerDetails) -> str:
        """Offline knows nobody."""
        return ""

    def charge(self, request: ChargeRequest) -> ChargeResult:
        """Refused: there is nothing to debit."""
        _refuse()

    def hosted_page(self, request: ChargeRequest) -> ChargeResult:
        """Refused: there is no page."""
        _refuse()

    def find(self, request: ChargeRequest) -> ChargeResult | None:
        """Never heard of."""
        return None

    def fetch(self, *, order_ref: str, charge_ref: str) -> ChargeResult:
        """Refused: what is recorded here is all there is."""
        _refuse()

    def capture(self, *, order_ref: str, charge_ref: str, amount: Money) -> ChargeResult:
        """Refused: nothing is authorised offline."""
        _refuse()

    def cancel(self, request: ChargeRequest) -> ChargeResult:
        """Nothing is open, so it is closed."""
        return ChargeResult(outcome=Outcome.CANCELLED)

    def refund(self, request: RefundRequest) -> RefundResult:
        """Paid back by hand: recording it is all."""
        return RefundResult(
            outcome=RefundOutcome.SUCCEEDED, gateway_ref=f"offline_{request.refund_id.hex}", amount=request.amount
        )

    def find_refund(self, request: RefundRequest) -> RefundResult | None:
        """As recorded."""
        return self.refund(request)

    def start_setup(self, request: SetupRequest) -> SetupSession:
        """Refused: there is nothing to save."""
        _refuse()

    def finish_setup(self, *, result: Mapping[str, str], gateway_customer_ref: str) -> MethodDetails:
        """Refused: there is nothing to save."""
        _refuse()

    def method(self, *, token: str, gateway_customer_ref: str) -> MethodDetails | None:
        """None is saved."""
        return None

    def detach(self, *, token: str, gateway_customer_ref: str) -> None:
        """Nothing to forget."""

    def dispute(self, dispute_ref: str) -> DisputeRecord:
        """Refused: cash is not disputed through a bank."""
        _refuse()

    def is_setup(self, order_ref: str) -> bool:
        """Nothing is saved offline."""
        return False

    def parse_webhook(self, *, body: bytes, headers: Mapping[str, str]) -> GatewayEvent:
        """Nobody may speak for an offline account."""
        raise InvalidSignature

    def read_event(self, body: bytes, event_id: str) -> GatewayEvent:
        """Nobody may speak for an offline account."""
        raise InvalidSignature

    def settlements(self, *, since: datetime, until: datetime) -> Iterator[SettlementRecord]:
        """Offline money is on the bank statement itself."""
        return iter(())

    def settlement_lines(self, settlement: SettlementRecord) -> Iterator[SettlementLineRecord]:
        """No settlements, no lines."""
        return iter(())
