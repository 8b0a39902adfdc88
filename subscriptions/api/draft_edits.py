"""Edits by hand of the billing run's drafts, while their grace lasts."""

import uuid
from collections.abc import Mapping
from typing import ClassVar

from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import AmountSerializerField, StrictSerializer, TenantViewSet
from billing.api.idempotency import idempotent
from billing.errors import CurrencyMismatch, NotFound
from invoices.models import Invoice
from subscriptions.models import DraftEdit, Subscription
from subscriptions.services import draft_editing

TAGS = ["invoice drafts"]


class DraftEditOutput(serializers.ModelSerializer):
    invoice = serializers.UUIDField(source="invoice_id")
    subscription = serializers.UUIDField(source="subscription_id", allow_null=True)
    amount = AmountSerializerField(allow_null=True)

    class Meta:
        model = DraftEdit
        fields = [
            "id", "invoice", "kind", "code", "subscription", "description", "amount", "tax_category", "made_by", "reason",
            "created_at",
        ]  # fmt: skip


class DraftEditInput(StrictSerializer):
    invoice = serializers.UUIDField(help_text="A draft of the billing run.")
    kind = serializers.ChoiceField(choices=DraftEdit.Kind.choices)
    code = serializers.CharField(
        max_length=60,
        required=False,
        allow_blank=True,
        default="",
        help_text="Component whose lines are dropped or set.",
    )
    subscription = serializers.UUIDField(
        required=False, allow_null=True, default=None, help_text="Whose line, on an invoice of several."
    )
    description = serializers.CharField(max_length=300, required=False, allow_blank=True, default="")
    amount = AmountSerializerField(positive=False, required=False, help_text="Net amount of an added or changed line.")
    tax_category = serializers.CharField(max_length=40, required=False, allow_blank=True, default="")
    reason = serializers.CharField(max_length=300)


class DraftEditFilter(filters.FilterSet):
    invoice = filters.UUIDFilter(field_name="invoice_id")


EXAMPLE = OpenApiExample(
    "A goodwill price",
    value={
        "invoice": "01900000-0000-7000-8000-000000000001",
        "kind": "set",
        "code": "base",
        "amount": {"amount": "450.00", "currency": "INR"},
        "reason": "As agreed on the phone",
    },
    request_only=True,
)


@extend_schema_view(list=extend_schema(tags=TAGS), retrieve=extend_schema(tags=TAGS))
class DraftEditViewSet(TenantViewSet):
    """Decisions by hand about drafts of the billing run. They are made again whenever the draft is priced anew."""

    queryset = DraftEdit.objects.all()
    serializer_class = DraftEditOutput
    filterset_class = DraftEditFilter
    required_permissions: ClassVar[Mapping[str, str]] = {
        "list": "invoice.view",
        "retrieve": "invoice.view",
        "create": "invoice.edit",
        "undo": "invoice.edit",
    }

    @extend_schema(request=DraftEditInput, responses={201: DraftEditOutput}, tags=TAGS, examples=[EXAMPLE])
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Add a line, drop the lines of a component, or set what they cost; the draft is priced anew."""
        given = self.valid(DraftEditInput)
        invoice = Invoice.objects.of(self.organisation).filter(pk=given.pop("invoice")).first()
        if invoice is None:
            raise NotFound("No such invoice in this organisation.", field="invoice")
        subscription_id = given.pop("subscription")
        mine = Subscription.objects.of(self.organisation)
        if subscription_id is not None and not mine.filter(pk=subscription_id).exists():
            raise NotFound("No such subscription in this organisation.", field="subscription")
        amount = given.pop("amount", None)
        if amount is not None and amount.currency.code != invoice.currency:
            raise CurrencyMismatch(expected=invoice.currency, got=amount.currency.code, field="amount")
        edit = draft_editing.edit_draft(
            invoice_id=invoice.pk,
            actor=self.actor,
            subscription_id=subscription_id,
            amount=amount.amount if amount is not None else None,
            **given,
        )
        return Response(self.get_serializer(edit).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=None, responses={204: OpenApiResponse(description="Taken back.")}, tags=TAGS)
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def undo(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Take an edit back; the draft is priced anew."""
        draft_editing.undo_edit(edit_id=self.get_object().pk, actor=self.actor)
        return Response(status=status.HTTP_204_NO_CONTENT)
