"""Addresses of the invoices API below /api/v1/."""

from rest_framework.routers import SimpleRouter

from invoices.api import texts, views

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("invoices", views.InvoiceViewSet, basename="invoice")
router.register("credit-notes", views.CreditNoteViewSet, basename="credit-note")
router.register("installment-plans", views.InstallmentPlanViewSet, basename="installment-plan")
router.register("tax-rates", views.TaxRateViewSet, basename="tax-rate")
router.register("text-messages", texts.TextMessageViewSet, basename="text-message")
router.register("text-opt-outs", texts.TextOptOutViewSet, basename="text-opt-out")
router.register("mails", views.MailViewSet, basename="mail")

urlpatterns = router.urls
