"""From rows to what a gateway is asked: the same attempt always gives the same request."""

from django.conf import settings

from billing.context import correlation_id
from billing.models import Customer
from payments.gateways.base import ChargeRequest, PayerDetails, RefundRequest
from payments.models import GatewayAccount, GatewayCustomer, PaymentAttempt, Refund


def payer_of(customer: Customer) -> PayerDetails:
    """What a gateway has to know of a customer."""
    return PayerDetails(
        customer_id=customer.pk, name=customer.name or "", email=customer.email or "", phone=customer.phone or ""
    )


def customer_ref(*, account: GatewayAccount, customer: Customer) -> str:
    """The customer's id at the account, empty when it is not known there."""
    found = GatewayCustomer.objects.filter(gateway_account=account, customer=customer)
    return found.values_list("gateway_ref", flat=True).first() or ""


def order_key(attempt: PaymentAttempt) -> str:
    """Key of the payment at the gateway: all its attempts share one order."""
    return f"pay_{attempt.payment_id.hex}"


def return_url(attempt: PaymentAttempt) -> str:
    """Where the customer comes back to from a hosted page."""
    return f"{settings.PUBLIC_URL}/webhooks/return/{attempt.pk}"


def charge_request(attempt: PaymentAttempt) -> ChargeRequest:
    """What is asked for ``attempt`` (with payment, customer, method and account loaded)."""
    payment, method = attempt.payment, attempt.method
    return ChargeRequest(
        attempt_id=attempt.pk,
        payment_id=payment.pk,
        key=attempt.idempotency_key,
        order_key=order_key(attempt),
        amount=attempt.amount,
        reference=payment.reference,
        description=payment.description,
        payer=payer_of(payment.customer),
        gateway_customer_ref=customer_ref(account=attempt.gateway_account, customer=payment.customer),
        token=method.token if method else "",
        method_kind=method.kind if method else "",
        gateway_order_ref=attempt.gateway_order_ref,
        gateway_ref=attempt.gateway_ref,
        return_url=return_url(attempt),
        correlation_id=correlation_id(),
        started_at=attempt.started_at,
        expires_at=attempt.expires_at,
    )


def refund_request(refund: Refund, *, attempt: PaymentAttempt) -> RefundRequest:
    """What is asked for ``refund`` of the money that ``attempt`` captured: the same whoever asks, so that its key is one refund."""
    return RefundRequest(
        refund_id=refund.pk,
        key=refund.idempotency_key,
        gateway_ref=attempt.gateway_ref,
        gateway_order_ref=attempt.gateway_order_ref,
        amount=refund.amount,
        reason=refund.reason,
        gateway_refund_ref=refund.gateway_ref,
    )
