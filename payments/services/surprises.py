"""Money that came otherwise than asked for: it is booked or held, and put before a person; never dropped.

* A second charge of a payment that is paid already becomes a payment of its own (``duplicate:<gateway ref>``): the
  customer has the credit, and it can be refunded like any other. It is not refunded by itself: the customer may
  prefer the credit, and a wrong refund cannot be called back.
* A charge of another amount is not taken for the payment; it stays unknown until somebody has looked.
* A payment that was cancelled and paid all the same is money: it is booked as the customer's credit.
"""

from datetime import datetime
from typing import Any

from moneyed import Money

from billing.ids import uuid7
from billing.models import Organisation
from billing.money import zero
from billing.services import ledger, outbox
from payments import postings
from payments.gateways.base import ChargeResult
from payments.models import Payment, PaymentAttempt
from payments.services import exceptions
from payments.services.facts import payment_facts


def book_duplicate(*, payment: Payment, attempt: PaymentAttempt, result: ChargeResult, now: datetime) -> Payment:
    """Book a second charge of a paid payment as a payment of its own. Idempotent by the gateway's reference."""
    mark = result.gateway_ref or str(attempt.pk)
    reference = f"duplicate:{mark}"[:100]
    known = Payment.objects.of(payment.organisation_id).filter(reference=reference).first()
    if known is not None:
        return known
    amount = result.amount or attempt.amount
    nothing = zero(amount.currency.code)
    second = Payment(
        organisation_id=payment.organisation_id,
        customer_id=payment.customer_id,
        reference=reference,
        description=f"Second charge of {payment.reference}"[:200],
        amount=amount,
        refunded=nothing,
        disputed=nothing,
        method=attempt.method,
        gateway_account=attempt.gateway_account,
        automatic=False,
        attempts_made=1,
        created_at=now,
    )
    second.succeed(at=now)
    second.save(force_insert=True)
    charge = PaymentAttempt(
        id=uuid7(),
        organisation_id=payment.organisation_id,
        payment=second,
        number=1,
        gateway_account=attempt.gateway_account,
        method=attempt.method,
        amount=amount,
        idempotency_key=f"dup_{mark}"[:80],
        gateway_order_ref=result.gateway_order_ref,
        gateway_ref=result.gateway_ref,
        started_at=now,
    )
    charge.capture(at=now)
    charge.save(force_insert=True)
    ledger.post(
        organisation=payment.organisation_id,
        entry=postings.payment_captured(
            attempt_id=charge.pk,
            payment_id=second.pk,
            customer_id=payment.customer_id,
            account_code=attempt.gateway_account.code,
            amount=amount,
            at=now,
        ),
    )
    outbox.publish("payment.captured", second, at=now, **payment_facts(second))
    _tell(second, kind="duplicate_payment", amount=amount, now=now,
          explanation=f"{payment.reference} was paid already; the gateway captured it again as {mark}.")  # fmt: skip
    return second


def amount_differs(*, payment: Payment, attempt: PaymentAttempt, got: Money, now: datetime) -> None:
    """The gateway captured something else than asked for."""
    explanation = f"{payment.reference}: asked for {attempt.amount}, the gateway says {got} was captured."
    _tell(payment, kind="amount_differs", amount=attempt.amount, now=now, explanation=explanation)


def paid_after_cancellation(*, payment: Payment, now: datetime) -> None:
    """The customer was faster than the cancellation."""
    explanation = f"{payment.reference} was cancelled and paid all the same; the customer has the credit."
    _tell(payment, kind="duplicate_payment", amount=payment.amount, now=now, explanation=explanation)


def _tell(payment: Payment, *, kind: str, amount: Any, now: datetime, explanation: str) -> None:
    """Put it before a person, once."""
    organisation = Organisation.objects.get(pk=payment.organisation_id)
    finding = exceptions.Finding(
        kind=kind, source_type="payment", source_id=payment.pk, amount=amount, explanation=explanation
    )
    exceptions.open_exceptions(organisation=organisation, findings=[finding], at=now)
