"""Customers and whom they buy for."""

from typing import Any

from django.db.models import QuerySet
from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_field, extend_schema_view
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing import masking
from billing.api.base import PlainJSONField, StrictSerializer, TenantViewSet
from billing.api.idempotency import idempotent
from billing.models import Beneficiary, Customer
from billing.models.fields import lookup_hash
from billing.parties import ADDRESS, TAX_IDS, TREATMENTS
from billing.services import customers


class AddressField(StrictSerializer):
    line1 = serializers.CharField(max_length=ADDRESS["line1"], required=False, allow_blank=True)
    line2 = serializers.CharField(max_length=ADDRESS["line2"], required=False, allow_blank=True)
    city = serializers.CharField(max_length=ADDRESS["city"], required=False, allow_blank=True)
    region = serializers.CharField(
        max_length=ADDRESS["region"],
        required=False,
        allow_blank=True,
        help_text="In India the state's code, such as 29.",
    )
    postal_code = serializers.CharField(max_length=ADDRESS["postal_code"], required=False, allow_blank=True)
    country = serializers.CharField(max_length=2, required=False, help_text="ISO 3166-1; default: the organisation's.")


class TaxIdsField(StrictSerializer):
    gstin = serializers.CharField(max_length=40, required=False, allow_blank=True)
    pan = serializers.CharField(max_length=40, required=False, allow_blank=True)
    vat = serializers.CharField(max_length=40, required=False, allow_blank=True)


assert set(TaxIdsField().fields) == set(TAX_IDS)  # the API knows what the rules know


class CustomerChange(StrictSerializer):
    version = serializers.IntegerField(
        min_value=1, max_value=2**31 - 1, required=False, help_text="What you have read; refused when it changed since."
    )
    name = serializers.CharField(max_length=200, required=False)
    email = serializers.EmailField(max_length=254, required=False, allow_blank=True)
    phone = serializers.CharField(max_length=40, required=False, allow_blank=True)
    address = AddressField(required=False)
    tax_ids = TaxIdsField(required=False)
    tax_treatment = serializers.ChoiceField(choices=TREATMENTS, required=False)
    time_zone = serializers.CharField(max_length=60, required=False, allow_blank=True)
    language = serializers.CharField(max_length=10, required=False, allow_blank=True)
    metadata = PlainJSONField(required=False)


class CustomerInput(CustomerChange):
    version = None  # type: ignore[assignment]
    external_id = serializers.CharField(max_length=100)
    name = serializers.CharField(max_length=200)
    currency = serializers.CharField(max_length=3, required=False, help_text="ISO 4217; default: the organisation's.")


def _details_of(customer: Customer) -> dict[str, Any]:
    return customer.party.details if customer.party else {}


class CustomerOutput(serializers.ModelSerializer):
    """Personal fields are masked unless the caller may see them (``customer.unmask``)."""

    name = serializers.CharField()
    email = serializers.CharField()
    phone = serializers.CharField()
    address = serializers.SerializerMethodField()
    tax_ids = serializers.SerializerMethodField()
    tax_treatment = serializers.CharField(source="party.tax_treatment", default="standard")
    metadata = serializers.DictField(child=serializers.CharField())

    class Meta:
        model = Customer
        fields = [
            "id", "external_id", "name", "email", "phone", "address", "tax_ids", "tax_treatment", "currency", "time_zone",
            "language", "metadata", "created_at", "archived_at", "version",
        ]  # fmt: skip

    def to_representation(self, customer: Customer) -> dict[str, Any]:
        row = super().to_representation(customer)
        if self.context.get("unmasked"):
            return row
        return row | {
            "name": masking.mask_name(row["name"]),
            "email": masking.mask_email(row["email"]),
            "phone": masking.mask_phone(row["phone"]),
            "address": {key: value for key, value in row["address"].items() if key in ("city", "region", "country")},
            "tax_ids": {kind: masking.mask_identifier(number) for kind, number in row["tax_ids"].items()},
        }

    @extend_schema_field(AddressField)
    def get_address(self, customer: Customer) -> dict[str, str]:
        return _details_of(customer).get("address", {})

    @extend_schema_field(TaxIdsField)
    def get_tax_ids(self, customer: Customer) -> dict[str, str]:
        return _details_of(customer).get("tax_ids", {})


class BeneficiaryInput(StrictSerializer):
    external_id = serializers.CharField(max_length=100)
    name = serializers.CharField(max_length=200)
    metadata = PlainJSONField(required=False)


class BeneficiaryOutput(serializers.ModelSerializer):
    name = serializers.SerializerMethodField()
    metadata = serializers.DictField(child=serializers.CharField())

    class Meta:
        model = Beneficiary
        fields = ["id", "external_id", "name", "metadata", "recorded_at"]

    def get_name(self, beneficiary: Beneficiary) -> str:
        return beneficiary.name if self.context.get("unmasked") else masking.mask_name(beneficiary.name)


class CustomerFilter(filters.FilterSet):
    external_id = filters.CharFilter(max_length=100)
    email = filters.CharFilter(method="by_email", max_length=254)
    currency = filters.CharFilter(max_length=3)

    def by_email(self, queryset: QuerySet[Any], name: str, value: str) -> QuerySet[Any]:
        return queryset.filter(email_hash=lookup_hash(value))


EXAMPLE = OpenApiExample(
    "A family in Bengaluru",
    value={
        "external_id": "family-0001",
        "name": "Asha Verma",
        "email": "asha@families.example",
        "phone": "+919845012345",
        "address": {
            "line1": "12, 3rd Main",
            "city": "Bengaluru",
            "region": "29",
            "postal_code": "560041",
            "country": "IN",
        },
    },
    request_only=True,
)
CHANGE_EXAMPLE = OpenApiExample("A new address", value={"version": 1, "address": {"city": "Mysuru"}}, request_only=True)
CHILD_EXAMPLE = OpenApiExample("A student", value={"external_id": "student-1", "name": "Ravi Verma"}, request_only=True)


@extend_schema_view(list=extend_schema(tags=["customers"]), retrieve=extend_schema(tags=["customers"]))
class CustomerViewSet(TenantViewSet):
    """The parties who owe and pay."""

    queryset = Customer.objects.select_related("party")
    serializer_class = CustomerOutput
    filterset_class = CustomerFilter
    required_permissions = {
        "list": "customer.view",
        "retrieve": "customer.view",
        "create": "customer.edit",
        "partial_update": "customer.edit",
        "beneficiaries": "customer.view",
        "add_beneficiary": "customer.edit",
    }

    def get_serializer_context(self) -> dict[str, Any]:
        context = super().get_serializer_context()
        fake = getattr(self, "swagger_fake_view", False)
        return {**context, "unmasked": not fake and self.actor.may("customer.unmask")}

    @extend_schema(request=CustomerInput, responses={201: CustomerOutput}, examples=[EXAMPLE], tags=["customers"])
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Make a customer known."""
        customer = customers.create_customer(
            organisation=self.organisation, actor=self.actor, **self.valid(CustomerInput)
        )
        return Response(self.get_serializer(customer).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=CustomerChange, responses=CustomerOutput, examples=[CHANGE_EXAMPLE], tags=["customers"])
    def partial_update(self, request: Request, pk: Any = None) -> Response:
        """Change a customer. Documents already written keep the details they were written with."""
        customer = customers.update_customer(
            organisation=self.organisation,
            customer_id=self.get_object().pk,
            actor=self.actor,
            **self.valid(CustomerChange),
        )
        return Response(self.get_serializer(customer).data)

    @extend_schema(responses=BeneficiaryOutput(many=True), tags=["customers"], filters=False)
    @action(detail=True, methods=["get"])
    def beneficiaries(self, request: Request, pk: Any = None) -> Response:
        """Whom this customer buys for."""
        page = self.paginate_queryset(self.get_object().beneficiaries.all())
        serializer = BeneficiaryOutput(page, many=True, context=self.get_serializer_context())
        return self.get_paginated_response(serializer.data)

    @extend_schema(
        request=BeneficiaryInput, responses={201: BeneficiaryOutput}, examples=[CHILD_EXAMPLE], tags=["customers"]
    )
    @beneficiaries.mapping.post
    @idempotent(atomic=True)
    def add_beneficiary(self, request: Request, pk: Any = None) -> Response:
        """Make known whom this customer buys for."""
        beneficiary = customers.create_beneficiary(
            organisation=self.organisation,
            customer_id=self.get_object().pk,
            actor=self.actor,
            **self.valid(BeneficiaryInput),
        )
        serializer = BeneficiaryOutput(beneficiary, context=self.get_serializer_context())
        return Response(serializer.data, status=status.HTTP_201_CREATED)
