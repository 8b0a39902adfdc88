"""Invoices and what belongs to them over the API."""

import uuid
from typing import Any

from drf_spectacular.utils import extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing import clock
from billing.api.base import TenantViewSet, wire
from billing.api.idempotency import idempotent
from billing.errors import InvalidInput
from billing.money import quantize
from invoices.api import serializers as shapes
from invoices.api.filters import CreditNoteFilter, InstallmentPlanFilter, InvoiceFilter, MailFilter
from invoices.api.lines import draft_from, preview_of
from invoices.models import CreditNote, InstallmentPlan, Invoice, Mail, TaxRate
from invoices.services import credit_notes, drafting, finalizing, installments, preview, settling, tax_rates

_AMOUNTS = ("net", "tax", "total", "paid", "credited", "due")
_COLUMNS = [
    "id",
    "number",
    "status",
    "origin",
    "customer_id",
    "currency",
    *_AMOUNTS,
    "issued_on",
    "due_on",
    "period_start",
    "period_end",
    "overdue_at",
    "subscription_ref",
]


@extend_schema_view(list=extend_schema(responses=shapes.InvoiceSummarySerializer(many=True)))
class InvoiceViewSet(TenantViewSet):
    """Invoices: written as drafts, finalised with a gapless number, then immutable; corrections are credit notes."""

    queryset = Invoice.objects.all()
    serializer_class = shapes.InvoiceSerializer
    filterset_class = InvoiceFilter
    required_permissions = {
        "list": "invoice.view",
        "retrieve": "invoice.view",
        "preview": "invoice.view",
        "create": "invoice.edit",
        "finalize": "invoice.edit",
        "void": "invoice.void",
        "write_off": "invoice.write_off",
        "credit_notes": "credit_note.issue",
    }

    def get_queryset(self) -> Any:
        queryset = super().get_queryset()
        return queryset if self.action == "list" else queryset.prefetch_related("lines", "taxes")

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Rows straight to JSON: the list is hot, and a model and a serializer per row cost more than the query."""
        rows = self.paginate_queryset(self.filter_queryset(self.get_queryset()).values(*_COLUMNS))
        return self.get_paginated_response([_summary(row) for row in rows or ()])

    @extend_schema(request=shapes.InvoiceInput, responses={201: shapes.InvoiceSerializer})
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Write a draft. It has no number and claims nothing until it is finalised."""
        draft = draft_from(self.valid(shapes.InvoiceInput))
        invoice = drafting.write_draft(organisation=self.organisation, draft=draft, at=clock.now(self.organisation))
        return self._answer(invoice.pk, status.HTTP_201_CREATED)

    @extend_schema(request=shapes.InvoiceInput, responses=shapes.PreviewSerializer)
    @action(detail=False, methods=["post"])
    def preview(self, request: Request) -> Response:
        """What the invoice would say: lines, taxes, totals. Writes nothing."""
        draft = draft_from(self.valid(shapes.InvoiceInput))
        priced = preview.price_draft(organisation=self.organisation, draft=draft, at=clock.now(self.organisation))
        return Response(shapes.PreviewSerializer(preview_of(priced)).data)

    @extend_schema(request=None, responses=shapes.InvoiceSerializer)
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def finalize(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Number it, post it, and collect it if it is to be collected automatically."""
        invoice = finalizing.finalize_invoice(invoice_id=self.get_object().pk, actor=self.actor)
        return self._answer(invoice.pk)

    @extend_schema(request=shapes.ReasonInput, responses=shapes.InvoiceSerializer)
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def void(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Annul an unpaid invoice; its number stays used."""
        reason = self.valid(shapes.ReasonInput)["reason"]
        invoice = settling.void_invoice(invoice_id=self.get_object().pk, reason=reason, actor=self.actor)
        return self._answer(invoice.pk)

    @extend_schema(request=shapes.ReasonInput, responses=shapes.InvoiceSerializer)
    @action(detail=True, methods=["post"], url_path="write-off")
    @idempotent(atomic=True)
    def write_off(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Accept the loss of what is still due."""
        reason = self.valid(shapes.ReasonInput)["reason"]
        invoice = settling.write_off_invoice(invoice_id=self.get_object().pk, reason=reason, actor=self.actor)
        return self._answer(invoice.pk)

    @extend_schema(request=shapes.CreditNoteInput, responses={201: shapes.CreditNoteSerializer})
    @action(detail=True, methods=["post"], url_path="credit-notes")
    @idempotent(atomic=True)
    def credit_notes(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Credit all that is left, or parts of lines; tax follows the invoice's rates to the cent."""
        given = self.valid(shapes.CreditNoteInput)
        note = credit_notes.issue_credit_note(
            invoice_id=self.get_object().pk,
            amounts=_by_position(given["amounts"]),
            reason=given["reason"],
            actor=self.actor,
        )
        return Response(shapes.CreditNoteSerializer(note).data, status=status.HTTP_201_CREATED)

    def _answer(self, invoice_id: uuid.UUID, code: int = status.HTTP_200_OK) -> Response:
        invoice = self.get_queryset().get(pk=invoice_id)
        return Response(shapes.InvoiceSerializer(invoice).data, status=code)


class CreditNoteViewSet(TenantViewSet):
    """Credit notes: numbered reductions of finalised invoices."""

    queryset = CreditNote.objects.all()
    serializer_class = shapes.CreditNoteSerializer
    filterset_class = CreditNoteFilter
    required_permissions = {"list": "invoice.view", "retrieve": "invoice.view"}


class InstallmentPlanViewSet(TenantViewSet):
    """One amount paid in parts that add up to it; each part becomes an invoice on its day."""

    queryset = InstallmentPlan.objects.prefetch_related("installments")
    serializer_class = shapes.InstallmentPlanSerializer
    filterset_class = InstallmentPlanFilter
    required_permissions = {"list": "invoice.view", "retrieve": "invoice.view", "create": "invoice.edit"}

    @extend_schema(request=shapes.InstallmentPlanInput, responses={201: shapes.InstallmentPlanSerializer})
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Agree on a plan of payments."""
        given = self.valid(shapes.InstallmentPlanInput)
        plan = installments.create_plan(
            organisation=self.organisation,
            customer_id=given.pop("customer"),
            beneficiary_id=given.pop("beneficiary"),
            actor=self.actor,
            **given,
        )
        return Response(self.get_serializer(self.get_queryset().get(pk=plan.pk)).data, status=status.HTTP_201_CREATED)


class TaxRateViewSet(TenantViewSet):
    """Rates with the days they hold. A change is a new row; what was invoiced keeps its rate."""

    queryset = TaxRate.objects.all()
    serializer_class = shapes.TaxRateSerializer
    required_permissions = {"list": "invoice.view", "retrieve": "invoice.view", "create": "tax.edit"}

    @extend_schema(request=shapes.TaxRateInput, responses={201: shapes.TaxRateSerializer})
    def create(self, request: Request) -> Response:
        """Add a rate from a day on."""
        rate = tax_rates.add_rate(organisation=self.organisation, actor=self.actor, **self.valid(shapes.TaxRateInput))
        return Response(self.get_serializer(rate).data, status=status.HTTP_201_CREATED)


class MailViewSet(TenantViewSet):
    """Letters: due, sent or failed. Addresses are masked."""

    queryset = Mail.objects.all()
    serializer_class = shapes.MailSerializer
    filterset_class = MailFilter
    required_permissions = {"list": "mail.view", "retrieve": "mail.view"}


def _summary(row: dict[str, Any]) -> dict[str, Any]:
    row["customer"] = row.pop("customer_id")
    currency = row["currency"]
    for name in _AMOUNTS:
        row[name] = wire_decimal(row[name], currency)
    return row


def wire_decimal(value: Any, currency: str) -> dict[str, str]:
    """A decimal column as an amount on the wire."""
    return (
        wire(value)
        if hasattr(value, "currency")
        else {"amount": f"{quantize(value, currency):f}", "currency": currency}
    )


def _by_position(rows: Any) -> dict[int, Any] | None:
    if rows is None:
        return None
    found = {row["position"]: row["amount"] for row in rows}
    if len(found) != len(rows):
        raise InvalidInput("A line is named twice.", field="amounts")
    return found
