"""Every address of the product. What an app serves, it declares itself."""

from django.contrib import admin
from django.urls import include, path
from django.views.generic import RedirectView
from drf_spectacular.views import SpectacularAPIView, SpectacularSwaggerView

from config import health

admin.autodiscover()  # here and not at every start: workers, beat and commands serve no pages

urlpatterns = [
    path("", RedirectView.as_view(pattern_name="admin:index")),
    path("healthz", health.healthz, name="healthz"),
    path("readyz", health.readyz, name="readyz"),
    path("console/", admin.site.urls),
    path("api/schema/", SpectacularAPIView.as_view(), name="schema"),
    path("api/docs/", SpectacularSwaggerView.as_view(url_name="schema"), name="api-docs"),
    path("api/v1/", include("config.api_urls")),
    path("webhooks/", include("payments.api.webhook_urls")),
]

handler400 = "config.answers.bad_request"
handler403 = "config.answers.forbidden"
handler404 = "config.answers.not_found"
handler500 = "config.answers.server_error"
