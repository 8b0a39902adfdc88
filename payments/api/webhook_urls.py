"""Where gateways send their webhooks and customers come back to, below /webhooks/."""

from django.urls import path

from payments.api import webhooks

urlpatterns = [
    path("return/<uuid:attempt_id>", webhooks.returned, name="payment-returned"),
    path("<slug:provider>/<uuid:account_id>", webhooks.receive, name="gateway-webhook"),
]
