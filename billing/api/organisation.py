"""The caller's organisation, its API keys and its audit trail."""

from typing import Any

from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import serializers, status, views
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing import clock, permissions
from billing.api.base import StrictSerializer, TenantViewMixin, TenantViewSet
from billing.models import ApiKey, AuditRecord, Organisation
from billing.services import organisations


class OrganisationOutput(serializers.ModelSerializer):
    now = serializers.SerializerMethodField(help_text="The organisation's time: its test clock's, else real time.")

    class Meta:
        model = Organisation
        fields = [
            "id", "code", "name", "currency", "country", "region", "time_zone", "financial_year_start", "language",
            "test_clock", "now",
        ]  # fmt: skip

    def get_now(self, organisation: Organisation) -> str:
        return clock.now(organisation).isoformat()


class OrganisationView(TenantViewMixin, views.APIView):
    required_permissions = {"get": "organisation.view"}

    @extend_schema(operation_id="organisation_retrieve", responses=OrganisationOutput, tags=["organisation"])
    def get(self, request: Request) -> Response:
        """The organisation this caller acts for."""
        return Response(OrganisationOutput(self.organisation).data)


class ApiKeyInput(StrictSerializer):
    name = serializers.CharField(max_length=80)
    scopes = serializers.ListField(
        child=serializers.ChoiceField(choices=sorted(permissions.ALL)), allow_empty=False, max_length=100
    )
    expires_at = serializers.DateTimeField(required=False, allow_null=True)


class ApiKeyOutput(serializers.ModelSerializer):
    scopes = serializers.ListField(child=serializers.CharField())

    class Meta:
        model = ApiKey
        fields = ["id", "name", "prefix", "scopes", "expires_at", "revoked_at", "last_used_at", "recorded_at"]


class NewApiKeyOutput(ApiKeyOutput):
    secret = serializers.CharField(help_text="Shown this once.")

    class Meta(ApiKeyOutput.Meta):
        fields = [*ApiKeyOutput.Meta.fields, "secret"]


KEY_EXAMPLE = OpenApiExample(
    "A key that sends usage", value={"name": "meter", "scopes": ["usage.ingest"]}, request_only=True
)


@extend_schema_view(list=extend_schema(tags=["api-keys"]), retrieve=extend_schema(tags=["api-keys"]))
class ApiKeyViewSet(TenantViewSet):
    """Keys of applications. The secret is shown once, when the key is made."""

    queryset = ApiKey.objects.all()
    serializer_class = ApiKeyOutput
    required_permissions = dict.fromkeys(("list", "retrieve", "create", "revoke"), "api_key.edit")

    @extend_schema(request=ApiKeyInput, responses={201: NewApiKeyOutput}, examples=[KEY_EXAMPLE], tags=["api-keys"])
    def create(self, request: Request) -> Response:
        """Make a key. Nobody gives a key more than they hold."""
        key, secret = organisations.create_api_key(
            organisation=self.organisation, actor=self.actor, **self.valid(ApiKeyInput)
        )
        return Response(ApiKeyOutput(key).data | {"secret": secret}, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses=ApiKeyOutput, tags=["api-keys"])
    @action(detail=True, methods=["post"])
    def revoke(self, request: Request, pk: Any = None) -> Response:
        """End a key at once."""
        key = organisations.revoke_api_key(
            organisation_id=self.organisation.pk, key_id=self.get_object().pk, actor=self.actor
        )
        return Response(ApiKeyOutput(key).data)


class AuditFilter(filters.FilterSet):
    action = filters.CharFilter(max_length=80)
    target_id = filters.CharFilter(max_length=64)
    actor_id = filters.CharFilter(max_length=64)
    since = filters.IsoDateTimeFilter(field_name="occurred_at", lookup_expr="gte")


class AuditOutput(serializers.ModelSerializer):
    class Meta:
        model = AuditRecord
        fields = [
            "id", "occurred_at", "actor_type", "actor_id", "actor_label", "action", "target_type", "target_id", "before",
            "after", "reason", "correlation_id",
        ]  # fmt: skip


@extend_schema_view(list=extend_schema(tags=["audit"]), retrieve=extend_schema(tags=["audit"]))
class AuditRecordViewSet(TenantViewSet):
    """Who did what to what, and why. Append only."""

    queryset = AuditRecord.objects.all()
    serializer_class = AuditOutput
    filterset_class = AuditFilter
    required_permissions = dict.fromkeys(("list", "retrieve"), "audit.view")
