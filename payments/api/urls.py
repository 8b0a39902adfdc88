"""Addresses of the payments API below /api/v1/."""

from django.urls import path
from rest_framework.routers import SimpleRouter

from payments.api import reconciliation, views

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("payments", views.PaymentViewSet, basename="payment")
router.register("payment-methods", views.MethodViewSet, basename="payment-method")
router.register("refunds", views.RefundViewSet, basename="refund")
router.register("disputes", views.DisputeViewSet, basename="dispute")
router.register("gateway-accounts", views.GatewayAccountViewSet, basename="gateway-account")
router.register("inbound-webhooks", views.InboundWebhookViewSet, basename="inbound-webhook")
router.register("settlements", reconciliation.SettlementViewSet, basename="settlement")
router.register("bank-accounts", reconciliation.BankAccountViewSet, basename="bank-account")
router.register("bank-lines", reconciliation.BankLineViewSet, basename="bank-line")
router.register("reconciliation-exceptions", reconciliation.ExceptionViewSet, basename="reconciliation-exception")

urlpatterns = [
    path("reconciliation/run", reconciliation.RunView.as_view(), name="reconciliation-run"),
    path("reconciliation/summary", reconciliation.SummaryView.as_view(), name="reconciliation-summary"),
    *router.urls,
]
