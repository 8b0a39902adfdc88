"""Addresses of the payments API below /api/v1/."""

from rest_framework.routers import SimpleRouter

from payments.api import views

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("payments", views.PaymentViewSet, basename="payment")
router.register("payment-methods", views.MethodViewSet, basename="payment-method")
router.register("refunds", views.RefundViewSet, basename="refund")
router.register("disputes", views.DisputeViewSet, basename="dispute")
router.register("gateway-accounts", views.GatewayAccountViewSet, basename="gateway-account")
router.register("inbound-webhooks", views.InboundWebhookViewSet, basename="inbound-webhook")

urlpatterns = [*router.urls]
