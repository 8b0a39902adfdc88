"""The caller's organisation, its API keys and its audit trail."""

from typing import Any

from django.db import transaction
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field, extend_schema_view
from rest_framework import serializers, status, views
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing import clock, permissions
from billing.api.base import ReasonedChange, StrictSerializer, TenantViewMixin, TenantViewSet
from billing.api.customers import AddressField, TaxIdsField
from billing.api.idempotency import idempotent
from billing.models import ApiKey, AuditRecord, Organisation
from billing.parties import BANK, LANGUAGES
from billing.services import choices, organisation_details, organisations


class DetailsOutput(serializers.Serializer):
    email = serializers.CharField(allow_blank=True)
    phone = serializers.CharField(allow_blank=True)
    address = serializers.DictField(child=serializers.CharField(allow_blank=True))
    tax_ids = serializers.DictField(child=serializers.CharField())
    upi_id = serializers.CharField(allow_blank=True)
    bank = serializers.DictField(child=serializers.CharField())


class OrganisationOutput(serializers.ModelSerializer):
    now = serializers.SerializerMethodField(help_text="The organisation's time: its test clock's, else real time.")
    details = serializers.SerializerMethodField(help_text="What its documents print.")
    settings = serializers.DictField(help_text="What was chosen; everything else has its default.")

    class Meta:
        model = Organisation
        fields = [
            "id", "code", "name", "currency", "country", "region", "time_zone", "financial_year_start", "language",
            "test_clock", "now", "details", "settings",
        ]  # fmt: skip

    def get_now(self, organisation: Organisation) -> str:
        return clock.now(organisation).isoformat()

    @extend_schema_field(DetailsOutput)
    def get_details(self, organisation: Organisation) -> dict[str, Any]:
        known: dict[str, Any] = organisation.party.details if organisation.party else {}
        texts = {name: known.get(name) or "" for name in ("email", "phone", "upi_id")}
        return texts | {name: known.get(name) or {} for name in ("address", "tax_ids", "bank")}


class BankField(StrictSerializer):
    name = serializers.CharField(max_length=BANK["name"], required=False, allow_blank=True)
    account = serializers.CharField(max_length=BANK["account"], required=False, allow_blank=True)
    ifsc = serializers.CharField(max_length=BANK["ifsc"], required=False, allow_blank=True)
    iban = serializers.CharField(max_length=BANK["iban"], required=False, allow_blank=True)
    bic = serializers.CharField(max_length=BANK["bic"], required=False, allow_blank=True)


@extend_schema_field({"type": "object", "additionalProperties": {}})
class ChoicesField(serializers.DictField):
    """Choices by name, each of the shape that its app checks."""

    child = serializers.JSONField(allow_null=True)


class OrganisationChange(ReasonedChange):
    name = serializers.CharField(max_length=200, required=False)
    language = serializers.ChoiceField(choices=LANGUAGES, required=False)
    email = serializers.EmailField(max_length=254, required=False, allow_blank=True)
    phone = serializers.CharField(max_length=40, required=False, allow_blank=True)
    address = AddressField(required=False)
    tax_ids = TaxIdsField(required=False)
    upi_id = serializers.CharField(max_length=255, required=False, allow_blank=True)
    bank = BankField(required=False)
    settings = ChoicesField(
        required=False,
        help_text="Choices by name (docs/settings.md); null gives one its default back. `entitlements` needs `plan.edit` as well.",
    )


BRAND = OpenApiExample(
    "Address and how documents look",
    value={
        "phone": "+918025551234",
        "upi_id": "sunrise@hdfcbank",
        "settings": {"net_days": 10, "brand_color": "#0f766e", "invoice_footer": None},
    },
    request_only=True,
)


class OrganisationView(TenantViewMixin, views.APIView):
    required_permissions = {"get": "organisation.view", "patch": "organisation.edit"}

    @extend_schema(operation_id="organisation_retrieve", responses=OrganisationOutput, tags=["organisation"])
    def get(self, request: Request) -> Response:
        """The organisation this caller acts for."""
        return Response(OrganisationOutput(self.organisation).data)

    @extend_schema(
        operation_id="organisation_update",
        request=OrganisationChange,
        responses=OrganisationOutput,
        examples=[BRAND],
        tags=["organisation"],
    )
    def patch(self, request: Request) -> Response:
        """Change what its documents print, and what it chooses. Documents that were issued keep what they print."""
        given = OrganisationChange(data=request.data)
        given.is_valid(raise_exception=True)
        changes = dict(given.validated_data)
        settings, reason = changes.pop("settings", None), changes.pop("reason", "")
        with transaction.atomic():
            row = self.organisation
            if changes:
                row = organisation_details.update_details(
                    organisation_id=row.pk, actor=self.actor, reason=reason, **changes
                )
            if settings:
                row = choices.change(organisation_id=row.pk, changes=settings, actor=self.actor, reason=reason)
        return Response(OrganisationOutput(row).data)


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
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Make a key. Nobody gives a key more than they hold."""
        key, secret = organisations.create_api_key(
            organisation=self.organisation, actor=self.actor, **self.valid(ApiKeyInput)
        )
        return Response(ApiKeyOutput(key).data | {"secret": secret}, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses=ApiKeyOutput, tags=["api-keys"])
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
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
