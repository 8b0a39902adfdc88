"""Payments, methods, refunds, disputes and gateway accounts over the API."""

import uuid
from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import TenantViewSet
from billing.api.idempotency import idempotent
from billing.errors import NotFound
from billing.models import Customer
from payments.api import filters
from payments.api import serializers as shapes
from payments.errors import PaymentNotCancellable
from payments.models import Dispute, GatewayAccount, InboundWebhook, Payment, PaymentMethod, Refund
from payments.services import accounts, collection, inbox, methods, offline, refunds


def customer_of(view: TenantViewSet, customer_id: uuid.UUID) -> Customer:
    """The caller's customer, or a 404."""
    found: Customer | None = Customer.objects.of(view.organisation).filter(pk=customer_id).first()
    if found is None:
        raise NotFound("No such customer in this organisation.", field="customer")
    return found


@extend_schema_view(list=extend_schema(responses=shapes.PaymentSummarySerializer(many=True)))
class PaymentViewSet(TenantViewSet):
    """Payments: intents to collect an amount once, with every attempt on record."""

    queryset = Payment.objects.prefetch_related("attempts")
    serializer_class = shapes.PaymentSerializer
    filterset_class = filters.PaymentFilter
    required_permissions = {
        "list": "payment.view",
        "retrieve": "payment.view",
        "create": "payment.collect",
        "retry": "payment.collect",
        "cancel": "payment.collect",
        "checkout": "payment.collect",
        "offline": "payment.collect",
        "refunds": "refund.issue",
    }

    def get_serializer_class(self) -> Any:
        return shapes.PaymentSummarySerializer if self.action == "list" else shapes.PaymentSerializer

    @extend_schema(request=shapes.PaymentInput, responses={201: shapes.PaymentSerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        """Ask for an amount once per reference; it is collected right after, off session or on a hosted page."""
        given = self.valid(shapes.PaymentInput)
        customer = customer_of(self, given["customer"])
        if given["method"] is not None:
            methods.usable_method_of(organisation=self.organisation, customer_id=customer.pk, method_id=given["method"])
        payment = collection.request_payment(
            organisation=self.organisation,
            customer_id=customer.pk,
            amount=given["amount"],
            reference=given["reference"],
            description=given["description"],
            method_id=given["method"],
            automatic=given["automatic"],
        )
        return self._answer(payment.pk, status.HTTP_201_CREATED)

    @extend_schema(request=shapes.RetryInput, responses=shapes.PaymentSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def retry(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Try now instead of at the next time of the schedule."""
        method = self.valid(shapes.RetryInput)["method"]
        payment = collection.retry_now(payment_id=self.get_object().pk, actor=self.actor, method_id=method)
        return self._answer(payment.pk)

    @extend_schema(request=None, responses=shapes.PaymentSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def cancel(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Stop collecting. What an attempt under way still brings is kept as the customer's credit."""
        payment = collection.cancel_payment(
            organisation_id=self.organisation.pk, reference=self.get_object().reference, actor=self.actor
        )
        if payment is None or payment.status == Payment.Status.SUCCEEDED:
            raise PaymentNotCancellable(status="succeeded")
        return self._answer(payment.pk)

    @extend_schema(request=None, responses=shapes.UrlSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def checkout(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Address of the gateway's hosted page where the customer pays this payment."""
        return Response({"url": collection.hosted_page(payment_id=self.get_object().pk)})

    @extend_schema(request=shapes.RefundInput, responses={201: shapes.RefundSerializer})
    @action(detail=True, methods=["post"])
    @idempotent
    def refunds(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Give money back, all or part. The sum of refunds never exceeds what was captured.

        What a credit note gave back before is taken from there; without one the paid invoice is due again by as much, and
        its customer is reminded of it: `POST /invoices/{id}/credit-notes` with `refund` does both.
        """
        given = self.valid(shapes.RefundInput)
        refund = refunds.request_refund(
            payment_id=self.get_object().pk,
            amount=given["amount"],
            reason=given["reason"],
            actor=self.actor,
            key=self.idempotency_key,
        )
        return Response(shapes.RefundSerializer(refund).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=shapes.OfflinePaymentInput, responses={201: shapes.PaymentSerializer})
    @action(detail=False, methods=["post"])
    @idempotent
    def offline(self, request: Request) -> Response:
        """Record money received outside any gateway: cash, cheque, bank transfer."""
        given = self.valid(shapes.OfflinePaymentInput)
        customer = customer_of(self, given.pop("customer"))
        payment = offline.record_offline_payment(
            organisation=self.organisation, customer_id=customer.pk, actor=self.actor, **given
        )
        return self._answer(payment.pk, status.HTTP_201_CREATED)

    def _answer(self, payment_id: uuid.UUID, code: int = status.HTTP_200_OK) -> Response:
        return Response(shapes.PaymentSerializer(self.get_queryset().get(pk=payment_id)).data, status=code)


class RefundViewSet(TenantViewSet):
    """Refunds of payments."""

    queryset = Refund.objects.all()
    serializer_class = shapes.RefundSerializer
    filterset_class = filters.RefundFilter
    required_permissions = {"list": "refund.view", "retrieve": "refund.view"}


class DisputeViewSet(TenantViewSet):
    """Charges that payers contest through their banks."""

    queryset = Dispute.objects.all()
    serializer_class = shapes.DisputeSerializer
    filterset_class = filters.DisputeFilter
    required_permissions = {"list": "dispute.view", "retrieve": "dispute.view"}


class MethodViewSet(TenantViewSet):
    """Payment methods: tokens at a gateway, shown masked."""

    queryset = PaymentMethod.objects.all()
    serializer_class = shapes.MethodSerializer
    filterset_class = filters.MethodFilter
    required_permissions = {
        "list": "payment_method.view",
        "retrieve": "payment_method.view",
        "setup": "payment_method.edit",
        "create": "payment_method.edit",
        "default": "payment_method.edit",
        "detach": "payment_method.edit",
    }

    @extend_schema(request=shapes.SetupInput, responses=shapes.SetupSerializer)
    @action(detail=False, methods=["post"])
    @idempotent
    def setup(self, request: Request) -> Response:  # type: ignore[override]  # DRF never calls Django's own
        """Begin to save a method: the browser gives card or mandate to the gateway's own page, never to Munim."""
        given = self.valid(shapes.SetupInput)
        session = methods.start_setup(
            organisation=self.organisation,
            customer=customer_of(self, given["customer"]),
            account=methods.online_account(self.organisation, account_id=given["gateway_account"]),
            kind=given["kind"],
            return_url=given["return_url"],
            max_amount=given["max_amount"],
        )
        return Response(shapes.SetupSerializer(session).data)

    @extend_schema(request=shapes.MethodInput, responses={201: shapes.MethodSerializer})
    @idempotent
    def create(self, request: Request) -> Response:
        """Keep the method that the gateway's page saved; its proof is checked with the gateway."""
        given = self.valid(shapes.MethodInput)
        method = methods.attach(
            organisation=self.organisation,
            customer=customer_of(self, given["customer"]),
            account=methods.online_account(self.organisation, account_id=given["gateway_account"]),
            result=given.get("razorpay") or given["stripe"],
            actor=self.actor,
        )
        return Response(self.get_serializer(method).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses=shapes.MethodSerializer)
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def default(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Debit this one first from now on."""
        method = methods.make_default(method_id=self.get_object().pk, actor=self.actor)
        return Response(self.get_serializer(method).data)

    @extend_schema(request=None, responses=shapes.MethodSerializer)
    @action(detail=True, methods=["post"])
    @idempotent
    def detach(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Forget it, here and at the gateway."""
        method = methods.detach(method_id=self.get_object().pk, actor=self.actor)
        return Response(self.get_serializer(method).data)


class GatewayAccountViewSet(TenantViewSet):
    """The organisation's accounts at gateways. Secrets go in and never come out."""

    queryset = GatewayAccount.objects.all()
    serializer_class = shapes.GatewayAccountSerializer
    required_permissions = {"list": "gateway.view", "retrieve": "gateway.view", "create": "gateway.edit"}

    @extend_schema(request=shapes.GatewayAccountInput, responses={201: shapes.GatewayAccountSerializer})
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Add an account. Its webhooks come to /webhooks/{provider}/{id}."""
        given = self.valid(shapes.GatewayAccountInput)
        account = accounts.add_account(organisation=self.organisation, actor=self.actor, **given)
        return Response(self.get_serializer(account).data, status=status.HTTP_201_CREATED)


class InboundWebhookViewSet(TenantViewSet):
    """What gateways told us, and what became of it."""

    queryset = InboundWebhook.objects.all()
    serializer_class = shapes.InboundWebhookSerializer
    filterset_class = filters.InboundWebhookFilter
    required_permissions = {"list": "webhook.view", "retrieve": "webhook.view", "replay": "webhook.replay"}

    @extend_schema(request=None, responses=shapes.InboundWebhookSerializer)
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def replay(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Process a dead or ignored one again."""
        webhook = inbox.replay(webhook_id=self.get_object().pk, actor=self.actor)
        return Response(self.get_serializer(webhook).data)
