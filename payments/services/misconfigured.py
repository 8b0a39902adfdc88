"""An account that is not set up as it has to be: said to those who can mend it, once, and what waited for it goes on."""

from datetime import date

from django.db import transaction
from django.db.models import Q

from billing import clock
from billing.money import zero
from payments.gateways import declines
from payments.gateways.base import DeclineClass
from payments.gateways.faults import SETUP_FAULTS, GatewayMisconfigured, GatewayRejected
from payments.models import GatewayAccount, Payment, PaymentMethod
from payments.services import exceptions, findings

STOPPED = "gateway_account_stopped"


def tell(*, account: GatewayAccount, refusal: GatewayRejected, payment: Payment | None = None) -> None:
    """Open the exception about what the gateway refused: one for the account, however many payments meet it, or where only
    this request was refused, one for its payment."""
    if isinstance(refusal, GatewayMisconfigured):
        _about_account(account, str(refusal))
    elif payment is not None:
        found = findings.of_refused_request(account=account, payment=payment, why=str(refusal))
        exceptions.open_exceptions(organisation=account.organisation, findings=[found])


def our_fault(payment: Payment) -> str:
    """Why an automatic payment cannot be debited, where that is a mistake of ours; else nothing.

    One that goes on in another way (a page, say) is the customer's again.
    """
    prevented = payment.status in (Payment.Status.PENDING, Payment.Status.PROCESSING, Payment.Status.FAILED)
    if (
        not prevented
        or not payment.automatic
        or payment.cancel_requested
        or payment.decline_class != DeclineClass.CONFIG
    ):
        return ""
    return declines.explain(payment.decline_class, payment.decline_code)


def stopped_account(payment: Payment, *, on: date) -> GatewayAccount | None:
    """The account that is switched off and could debit a method of the customer otherwise."""
    method = (
        PaymentMethod.objects.filter(
            Q(expires_on=None) | Q(expires_on__gte=on),
            customer_id=payment.customer_id,
            status=PaymentMethod.Status.ACTIVE,
            gateway_account__active=False,
        )
        .select_related("gateway_account__organisation")
        .order_by("-is_default", "-id")
        .first()
    )
    return None if method is None else method.gateway_account


def tell_stopped(account: GatewayAccount) -> None:
    """Open the exception about an account that is switched off while a customer's method hangs on it."""
    _about_account(account, SETUP_FAULTS[STOPPED])


def _about_account(account: GatewayAccount, why: str) -> None:
    nothing = zero(account.organisation.currency)
    found = findings.of_misconfigured(account=account, why=why, amount=nothing)
    exceptions.open_exceptions(organisation=account.organisation, findings=[found])


@transaction.atomic
def try_again(account: GatewayAccount) -> int:
    """The account was changed: let what was refused for our own mistake be tried now; returns how many payments."""
    Status = Payment.Status  # noqa: N806
    waiting = Payment.objects.of(account.organisation_id).filter(
        Q(gateway_account=account) | Q(decline_code=STOPPED),
        status__in=(Status.PENDING, Status.FAILED), decline_class=DeclineClass.CONFIG, automatic=True, cancel_requested=False,
    )  # fmt: skip
    now = clock.now(account.organisation_id)
    woken = list(waiting.select_for_update(of=("self",)).order_by("pk"))
    for payment in woken:
        refused = payment.decline_class, payment.decline_code
        payment.wake(at=now)
        payment.decline_class, payment.decline_code = refused  # until the gateway has said otherwise
        payment.save()
    return len(woken)
