"""Money that came without a gateway: cash, cheque, bank transfer. A person records it; the bank statement proves it."""

import uuid
from datetime import date

from django.db import transaction
from moneyed import Money

from billing import clock
from billing.context import Actor
from billing.errors import InvalidInput, NotFound
from billing.ids import uuid7
from billing.models import Customer, Organisation
from billing.money import to_minor_units
from billing.services import audit
from payments.errors import PaymentNotCollectable, ReferencePaid
from payments.gateways.base import ChargeResult, Outcome
from payments.models import GatewayAccount, Payment, PaymentAttempt, Provider
from payments.services import attempts, collection
from payments.services.facts import amount_text

CODE = "offline"
LOOKS_BACK_YEARS = 10


def offline_account(organisation_id: uuid.UUID) -> GatewayAccount:
    """The organisation's account of offline money; its clearing account is cleared by the bank statement."""
    account, _ = GatewayAccount.objects.get_or_create(
        organisation_id=organisation_id, code=CODE, defaults={"provider": Provider.OFFLINE}
    )
    return account


@transaction.atomic
def record_offline_payment(
    *,
    organisation: Organisation,
    customer_id: uuid.UUID,
    amount: Money,
    reference: str,
    received_on: date,
    note: str,
    actor: Actor,
) -> Payment:
    """Record money received outside any gateway. Safe to repeat: one ``reference`` is one payment.

    A payment of that reference which still waits is paid by it (it must be over the same amount). Raises ``ReferencePaid``
    where it was paid by other money: this one would be lost.
    """
    if amount.amount <= 0:
        raise InvalidInput("A payment is over more than nothing.", field="amount")
    to_minor_units(amount)
    if received_on > clock.today(organisation):
        raise InvalidInput("The money cannot have come in the future.", field="received_on")
    if received_on.year < clock.today(organisation).year - LOOKS_BACK_YEARS:
        raise InvalidInput(f"Expected a day of the last {LOOKS_BACK_YEARS} years.", field="received_on")
    if not Customer.objects.of(organisation).filter(pk=customer_id).exists():
        raise NotFound("No such customer.", field="customer")
    payment = _payment(organisation, customer_id, amount, reference, note)
    if payment.status == Payment.Status.SUCCEEDED:
        _must_be_the_same(payment, received_on)
        return payment
    attempt = _attempt(organisation, payment, received_on)
    result = ChargeResult(outcome=Outcome.CAPTURED, gateway_ref=f"offline_{attempt.pk.hex}", amount=amount)
    attempts.settle_attempt(attempt_id=attempt.pk, result=result)
    after = {"amount": amount_text(amount), "currency": amount.currency.code, "received_on": received_on.isoformat()}
    audit.record(actor=actor, action="payment.recorded_offline", target=payment, after=after, reason=note[:500])
    found: Payment = Payment.objects.get(pk=payment.pk)
    return found


def _must_be_the_same(payment: Payment, received_on: date) -> None:
    """Raise ``ReferencePaid`` unless the payment is this very receipt, recorded before."""
    paid = payment.attempts.select_related("gateway_account").get(status=PaymentAttempt.Status.CAPTURED)
    if paid.gateway_account.provider != Provider.OFFLINE:
        raise ReferencePaid(how="online", field="reference")
    if paid.gateway_order_ref != _received(received_on):
        raise ReferencePaid(how=f"by what was {paid.gateway_order_ref.replace('_', ' on ')}", field="reference")


def _received(on: date) -> str:
    return f"received_{on.isoformat()}"


def _payment(organisation: Organisation, customer_id: uuid.UUID, amount: Money, reference: str, note: str) -> Payment:
    payment = collection.request_payment(
        organisation=organisation,
        customer_id=customer_id,
        amount=amount,
        reference=reference,
        description=note[:200],
        automatic=False,
    )
    locked: Payment = Payment.objects.select_for_update(of=("self",)).get(pk=payment.pk)
    return locked


def _attempt(organisation: Organisation, payment: Payment, received_on: date) -> PaymentAttempt:
    if payment.attempts.filter(status__in=PaymentAttempt.OPEN).exists():
        raise PaymentNotCollectable("The payment is being collected online; wait for the outcome or cancel the page.")
    if payment.status in (Payment.Status.FAILED, Payment.Status.PENDING):
        payment.wake(at=None)
        payment.begin()
        payment.save()
    attempt_id = uuid7()
    return PaymentAttempt.objects.create(
        id=attempt_id,
        organisation_id=organisation.pk,
        payment=payment,
        number=payment.attempts.count() + 1,
        gateway_account=offline_account(organisation.pk),
        amount=payment.amount,
        idempotency_key=f"off_{attempt_id.hex}",
        started_at=clock.now(organisation),
        gateway_order_ref=_received(received_on),
    )
