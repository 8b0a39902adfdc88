"""What a gateway is to the rest of the house: our words only.

No provider type, status or exception passes this line. An adapter translates and classifies; it decides nothing,
knows no model and no clock of ours. A declined charge is a result; a lost answer is ``GatewayOutcomeUnknown``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from enum import StrEnum
from typing import Any, Protocol

from moneyed import Money


class Outcome(StrEnum):
    """Where a charge stands at the gateway."""

    CAPTURED = "captured"
    AUTHORIZED = "authorized"
    PROCESSING = "processing"
    REQUIRES_ACTION = "requires_action"
    DECLINED = "declined"
    CANCELLED = "cancelled"
    UNKNOWN = "unknown"


class DeclineClass(StrEnum):
    """What kind of no it was; retry rules and messages hang on it."""

    SOFT = "soft"  # the same instrument may work later
    HARD = "hard"  # this instrument will not work; a new one is needed
    AUTHENTICATION = "authentication"  # the customer has to confirm this payment
    CUSTOMER_ACTION = "customer_action"  # the customer has to correct or enable something
    TECHNICAL = "technical"  # a fault on the way; soon again
    AMBIGUOUS = "ambiguous"  # it may have happened: ask before anything else
    FRAUD = "fraud"  # never again, and never say why
    CONFIG = "config"  # our request or our account is wrong


class Recovery(StrEnum):
    """What to do about a decline."""

    RETRY_LATER = "retry_later"
    RETRY_SOON = "retry_soon"
    ASK_CUSTOMER = "ask_customer"
    NEW_METHOD = "new_method"
    VERIFY_FIRST = "verify_first"
    FIX_SETUP = "fix_setup"


@dataclass(frozen=True, kw_only=True)
class Decline:
    """A no, in our words: class, the provider's (normalised) code, and what to do."""

    decline_class: DeclineClass
    code: str
    recovery: Recovery
    message: str = ""


@dataclass(frozen=True, kw_only=True)
class PayerDetails:
    """Who pays, as far as a gateway has to know."""

    customer_id: uuid.UUID
    name: str = ""
    email: str = ""
    phone: str = ""


@dataclass(frozen=True, kw_only=True)
class ChargeRequest:
    """One attempt to collect ``amount``. ``key`` is its idempotency key, ``order_key`` the payment's (one order per payment)."""

    attempt_id: uuid.UUID
    payment_id: uuid.UUID
    key: str
    order_key: str
    amount: Money
    reference: str
    description: str = ""
    payer: PayerDetails
    gateway_customer_ref: str = ""
    token: str = ""
    method_kind: str = ""
    gateway_order_ref: str = ""
    gateway_ref: str = ""
    return_url: str = ""
    correlation_id: str = ""
    started_at: datetime | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class ChargeResult:
    """Where a charge stands. ``gateway_order_ref`` is the order or intent, ``gateway_ref`` the payment or charge."""

    outcome: Outcome
    gateway_order_ref: str = ""
    gateway_ref: str = ""
    action_url: str = ""
    decline: Decline | None = None
    amount: Money | None = None
    fee: Money | None = None


@dataclass(frozen=True, kw_only=True)
class RefundRequest:
    """Give ``amount`` of a captured charge back."""

    refund_id: uuid.UUID
    key: str
    gateway_ref: str
    gateway_order_ref: str
    amount: Money
    reason: str = ""
    gateway_refund_ref: str = ""


class RefundOutcome(StrEnum):
    """Where a refund stands at the gateway."""

    SUCCEEDED = "succeeded"
    PROCESSING = "processing"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class RefundResult:
    """Where a refund stands."""

    outcome: RefundOutcome
    gateway_ref: str = ""
    error: str = ""
    amount: Money | None = None


@dataclass(frozen=True, kw_only=True)
class SetupRequest:
    """A customer wants to leave a payment method for later debits up to ``max_amount``."""

    setup_id: uuid.UUID
    payer: PayerDetails
    gateway_customer_ref: str
    kind: str
    currency: str
    return_url: str
    max_amount: Money | None = None
    expires_at: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class SetupSession:
    """What the customer's browser needs to give the provider (not us) the instrument."""

    provider: str
    key_id: str
    order_ref: str = ""
    setup_ref: str = ""
    client_secret: str = ""
    url: str = ""


@dataclass(frozen=True, kw_only=True)
class MethodDetails:
    """A saved instrument: its token and what may be shown of it. ``confirmed``: may be debited now."""

    token: str
    kind: str
    gateway_customer_ref: str = ""
    brand: str = ""
    last4: str = ""
    handle: str = ""
    expires_on: date | None = None
    max_amount: Money | None = None
    confirmed: bool = True
    rejected: bool = False


class EventKind(StrEnum):
    """What a gateway's message is about."""

    CHARGE = "charge"
    REFUND = "refund"
    DISPUTE = "dispute"
    METHOD = "method"
    SETTLEMENT = "settlement"
    OTHER = "other"


class DisputeState(StrEnum):
    """Where a dispute stands."""

    OPEN = "open"
    UNDER_REVIEW = "under_review"
    WON = "won"
    LOST = "lost"


@dataclass(frozen=True, kw_only=True)
class DisputeRecord:
    """A contested charge. ``taken``: the bank took ``amount`` back, all or a part of what is contested; an inquiry only asks
    about ``amount``, and may never take anything."""

    gateway_ref: str
    charge_ref: str
    amount: Money
    fee: Money
    state: DisputeState
    taken: bool = True
    reason: str = ""
    respond_by: datetime | None = None


@dataclass(frozen=True, kw_only=True)
class GatewayEvent:
    """A verified message of a gateway: what it is about, by ids. What it says about states may be old.

    ``charge`` is set only when the message tells a final fact (captured), which no later message can undo.
    """

    id: str
    type: str
    kind: EventKind
    attempt_id: str = ""
    order_ref: str = ""
    charge_ref: str = ""
    refund_ref: str = ""
    dispute_ref: str = ""
    token: str = ""
    charge: ChargeResult | None = None
    refund_failed: bool = False


class SettlementStatus(StrEnum):
    """Where a settlement (payout) stands at the gateway."""

    CREATED = "created"
    PAID = "paid"
    FAILED = "failed"


@dataclass(frozen=True, kw_only=True)
class SettlementRecord:
    """A payout of the gateway to our bank. ``amount`` is net; ``utr`` is the bank reference to match (may be empty)."""

    gateway_ref: str
    amount: Money
    status: SettlementStatus
    created_at: datetime
    settled_on: date
    utr: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class UnreadableSettlement:
    """A payout that the gateway lists and that cannot be read: what is known of it, and why."""

    gateway_ref: str
    reason: str
    created_at: datetime | None = None


class LineKind(StrEnum):
    """What a row of a settlement report is; the same words as ``SettlementLine.Kind``."""

    PAYMENT = "payment"
    REFUND = "refund"
    DISPUTE = "dispute"
    DISPUTE_REVERSAL = "dispute_reversal"
    ADJUSTMENT = "adjustment"
    FEE = "fee"


@dataclass(frozen=True, kw_only=True)
class SettlementLineRecord:
    """One row of a settlement. ``amount`` is gross and signed (positive brings money); ``net`` = amount − fee − tax.

    ``gateway_ref`` is the payment (charge), refund or dispute the row is about; ``fee`` is without its ``tax``.
    """

    line_ref: str
    kind: LineKind
    gateway_ref: str
    amount: Money
    fee: Money
    tax: Money
    net: Money
    occurred_at: datetime
    order_ref: str = ""
    charge_ref: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict)


class Gateway(Protocol):
    """One account at one provider. Methods raise ``GatewayUnavailable``, ``GatewayOutcomeUnknown`` or ``GatewayRejected``."""

    provider: str

    def ensure_customer(self, payer: PayerDetails) -> str:
        """Id of the payer at the gateway; the same payer gives the same id."""

    def charge(self, request: ChargeRequest) -> ChargeResult:
        """Debit ``request.token`` without the customer. Safe to repeat with the same request."""

    def hosted_page(self, request: ChargeRequest) -> ChargeResult:
        """Open a page where the customer pays or confirms; the result carries its address."""

    def find(self, request: ChargeRequest) -> ChargeResult | None:
        """What became of a charge or page; None when the gateway has never heard of it."""

    def fetch(self, *, order_ref: str, charge_ref: str) -> ChargeResult:
        """The present state of a charge known by its ids."""

    def capture(self, *, order_ref: str, charge_ref: str, amount: Money) -> ChargeResult:
        """Take authorised money. Safe to repeat."""

    def cancel(self, request: ChargeRequest) -> ChargeResult:
        """Close an open page or intent; tells CAPTURED when the customer was faster."""

    def refund(self, request: RefundRequest) -> RefundResult:
        """Give money back. Safe to repeat with the same request."""

    def find_refund(self, request: RefundRequest) -> RefundResult | None:
        """What became of a refund; None when the gateway has never heard of it."""

    def is_setup(self, order_ref: str) -> bool:
        """Whether an order only checked an instrument that was being saved; what it held goes back by itself."""

    def start_setup(self, request: SetupRequest) -> SetupSession:
        """Begin to save an instrument."""

    def finish_setup(self, *, result: Mapping[str, str], gateway_customer_ref: str) -> MethodDetails:
        """Check what the browser brought back (signature!) and return the saved instrument."""

    def method(self, *, token: str, gateway_customer_ref: str) -> MethodDetails | None:
        """A saved instrument as it stands; None when it is gone or revoked."""

    def detach(self, *, token: str, gateway_customer_ref: str) -> None:
        """Forget a saved instrument. Safe to repeat."""

    def dispute(self, dispute_ref: str) -> DisputeRecord:
        """A dispute as it stands."""

    def parse_webhook(self, *, body: bytes, headers: Mapping[str, str]) -> GatewayEvent:
        """Verify on the raw body and read; raise ``InvalidSignature`` for any defect."""

    def read_event(self, body: bytes, event_id: str) -> GatewayEvent:
        """Read a message that was verified when it came."""

    def settlements(self, *, since: datetime, until: datetime) -> Iterator[SettlementRecord | UnreadableSettlement]:
        """Settlements created in [since, until), oldest first, then those that cannot be read."""

    def settlement_lines(self, settlement: SettlementRecord) -> Iterator[SettlementLineRecord]:
        """All rows of one settlement."""
