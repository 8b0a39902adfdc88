"""Addresses of the billing API below /api/v1/."""

from django.urls import URLPattern, URLResolver, path
from rest_framework.routers import SimpleRouter

from billing.api import auth, customers, events, ledger, meters, organisation, test_clocks, usage, usage_imports

router = SimpleRouter(trailing_slash=False, use_regex_path=False)
router.register("customers", customers.CustomerViewSet, "customer")
router.register("meters", meters.MeterViewSet, "meter")
router.register("usage-events", usage.UsageEventViewSet, "usage-event")
router.register("usage-revisions", usage.UsageRevisionViewSet, "usage-revision")
router.register("parked-usage", usage.ParkedUsageViewSet, "parked-usage")
router.register("usage-imports", usage_imports.UsageImportViewSet, "usage-import")
router.register("test-clocks", test_clocks.TestClockViewSet, "test-clock")
router.register("webhook-endpoints", events.WebhookEndpointViewSet, "webhook-endpoint")
router.register("webhook-deliveries", events.WebhookDeliveryViewSet, "webhook-delivery")
router.register("events", events.EventViewSet, "event")
router.register("ledger/accounts", ledger.LedgerAccountViewSet, "ledger-account")
router.register("ledger/entries", ledger.JournalEntryViewSet, "ledger-entry")
router.register("api-keys", organisation.ApiKeyViewSet, "api-key")
router.register("audit-records", organisation.AuditRecordViewSet, "audit-record")

urlpatterns: list[URLPattern | URLResolver] = [
    path("auth/login", auth.LoginView.as_view(), name="auth-login"),
    path("auth/refresh", auth.RefreshView.as_view(), name="auth-refresh"),
    path("auth/logout", auth.LogoutView.as_view(), name="auth-logout"),
    path("organisation", organisation.OrganisationView.as_view(), name="organisation"),
    path("usage-policy", usage.UsagePolicyView.as_view(), name="usage-policy"),
    path("ledger/trial-balance", ledger.TrialBalanceView.as_view(), name="trial-balance"),
    *router.urls,
]
