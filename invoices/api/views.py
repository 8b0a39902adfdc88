"""Invoices, credit notes, installment plans, tax rates and mails."""

import json
import uuid
from collections.abc import Mapping
from typing import Any, ClassVar

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import status
from rest_framework.decorators import action
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import TenantViewSet
from billing.api.idempotency import idempotent
from billing.errors import NotFound
from billing.money import currency_of
from invoices.api import filters, inputs, outputs
from invoices.drafts import InvoiceDraft
from invoices.models import CreditNote, InstallmentPlan, Invoice, Mail, TaxRate
from invoices.rendering import render_credit_note, render_invoice
from invoices.services import (
    credit_notes,
    drafting,
    finalizing,
    installments,
    preview,
    refunding,
    resending,
    settling,
    tax_rates,
)
from payments.models import PaymentMethod

DRAFT = OpenApiExample(
    "Two lines",
    value={
        "customer": "01900000-0000-7000-8000-000000000001",
        "currency": "INR",
        "lines": [
            {"description": "Tuition, June", "quantity": "1", "unit_price": "4999.00", "tax_category": "tuition"},
            {"description": "Meals", "quantity": "20", "unit": "days", "unit_price": "85.50", "tax_category": "meals"},
        ],
        "net_days": 14,
    },
    request_only=True,
)
CREDIT = OpenApiExample(
    "A part of a line",
    value={"reason": "Late bus", "amounts": [{"position": 1, "amount": {"amount": "400.00", "currency": "INR"}}]},
    request_only=True,
)
CREDIT_AND_REFUND = OpenApiExample(
    "Everything, and the money back", value={"reason": "Left the school", "refund": True}, request_only=True
)
FROM_CREDIT = OpenApiExample("A part", value={"amount": {"amount": "500.00", "currency": "INR"}}, request_only=True)
REASON = OpenApiExample("Why", value={"reason": "Written for the wrong customer"}, request_only=True)
PLAN = OpenApiExample(
    "An annual fee in four",
    value={
        "customer": "01900000-0000-7000-8000-000000000001",
        "description": "Annual fee 2026-27",
        "total": {"amount": "48000.00", "currency": "INR"},
        "count": 4,
        "interval_months": 3,
        "first_due_on": "2026-06-01",
        "tax_category": "tuition",
    },
    request_only=True,
)
RATE = OpenApiExample(
    "GST at 18 %",
    value={"category": "saas", "country": "IN", "rate": "18", "code": "998314", "valid_from": "2025-09-22"},
    request_only=True,
)
PDF = {(200, "application/pdf"): OpenApiResponse(OpenApiTypes.BINARY)}


class PdfRenderer(BaseRenderer):
    """Lets a client ask for ``application/pdf``; a problem is still told as JSON."""

    media_type = "application/pdf"
    format = "pdf"
    charset = None
    render_style = "binary"

    def render(self, data: Any, accepted_media_type: Any = None, renderer_context: Any = None) -> bytes:
        return json.dumps(data, default=str).encode()


def pdf_response(number: str, body: bytes) -> HttpResponse:
    """A PDF to look at, named by the document's number."""
    name = "".join(c if c.isalnum() else "-" for c in number) or "draft"
    return HttpResponse(
        body, content_type="application/pdf", headers={"Content-Disposition": f'inline; filename="{name}.pdf"'}
    )


@extend_schema_view(
    list=extend_schema(responses=outputs.InvoiceRow(many=True)), retrieve=extend_schema(responses=outputs.InvoiceDetail)
)
class InvoiceViewSet(TenantViewSet):
    """Numbered claims and their drafts."""

    queryset = Invoice.objects.all()
    serializer_class = outputs.InvoiceDetail
    filterset_class = filters.InvoiceFilter
    required_permissions: ClassVar[Mapping[str, str]] = {
        "list": "invoice.view",
        "retrieve": "invoice.view",
        "pdf": "invoice.view",
        "preview": "invoice.view",
        "create": "invoice.edit",
        "finalize": "invoice.edit",
        "void": "invoice.void",
        "write_off": "invoice.write_off",
        "apply_credit": "invoice.edit",
        "send": "invoice.send",
        "credit_notes": "credit_note.issue",
    }

    def list(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """Newest first."""
        rows = self.filter_queryset(self.get_queryset()).values(*outputs.COLUMNS)
        page = self.paginate_queryset(rows)
        return self.get_paginated_response([outputs.invoice_row(row) for row in page or ()])

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """With lines, taxes, allocations and credit notes."""
        return self._answer(self.get_object().pk)

    @extend_schema(request=inputs.InvoiceInput, responses={201: outputs.InvoiceDetail}, examples=[DRAFT])
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Write a draft; finalise it to give it a number."""
        draft = self._draft()
        invoice = drafting.create_invoice(
            organisation=self.organisation, **{name: getattr(draft, name) for name in draft.__slots__}
        )
        return self._answer(invoice.pk, status.HTTP_201_CREATED)

    @extend_schema(request=inputs.InvoiceInput, responses=outputs.PreviewSerializer, examples=[DRAFT])
    @action(detail=False, methods=["post"])
    def preview(self, request: Request) -> Response:
        """Lines, taxes and totals of an invoice that is not written."""
        return Response(outputs.preview(preview.price_draft(organisation=self.organisation, draft=self._draft())))

    @extend_schema(request=None, responses=outputs.InvoiceDetail)
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def finalize(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Give a draft its number and freeze it; it is mailed and collected from now on."""
        return self._answer(finalizing.finalize_invoice(invoice_id=self.get_object().pk, actor=self.actor).pk)

    @extend_schema(request=inputs.ReasonInput, responses=outputs.InvoiceDetail, examples=[REASON])
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def void(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Annul an open invoice on which nothing was paid."""
        given = self.valid(inputs.ReasonInput)
        return self._answer(settling.void_invoice(invoice_id=self.get_object().pk, actor=self.actor, **given).pk)

    @extend_schema(request=inputs.ReasonInput, responses=outputs.InvoiceDetail, examples=[REASON])
    @action(detail=True, methods=["post"], url_path="write-off")
    @idempotent(atomic=True)
    def write_off(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Accept the loss of what is due."""
        given = self.valid(inputs.ReasonInput)
        return self._answer(settling.write_off_invoice(invoice_id=self.get_object().pk, actor=self.actor, **given).pk)

    @extend_schema(request=inputs.ApplyCreditInput, responses=outputs.InvoiceDetail, examples=[FROM_CREDIT])
    @action(detail=True, methods=["post"], url_path="apply-credit")
    @idempotent(atomic=True)
    def apply_credit(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Pay the invoice from the customer's free credit."""
        invoice = self.get_object()
        settling.apply_customer_credit(
            invoice_id=invoice.pk, amount=self.valid(inputs.ApplyCreditInput).get("amount"), actor=self.actor
        )
        return self._answer(invoice.pk)

    @extend_schema(request=None, responses={202: outputs.MailSerializer})
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def send(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Mail the invoice to its customer once more."""
        mail = resending.send_again(invoice_id=self.get_object().pk, actor=self.actor)
        return Response(outputs.MailSerializer(mail).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(
        request=inputs.CreditNoteInput,
        responses={201: outputs.CreditNoteSerializer},
        examples=[CREDIT, CREDIT_AND_REFUND],
    )
    @action(detail=True, methods=["post"], url_path="credit-notes")
    @idempotent(atomic=True)
    def credit_notes(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Take back the invoice, or parts of its lines. First what is due shrinks; the rest is the customer's credit.

        With `refund` that rest goes back to the payments it came from; their refunds follow in a moment (`refund.succeeded`).
        """
        given = self.valid(inputs.CreditNoteInput)
        lines = given.get("amounts")
        note = credit_notes.issue_credit_note(
            invoice_id=self.get_object().pk,
            amounts=None if lines is None else {line["position"]: line["amount"] for line in lines},
            reason=given["reason"],
            refund=given["refund"],
            actor=self.actor,
        )
        return Response(outputs.CreditNoteSerializer(note).data, status=status.HTTP_201_CREATED)

    @extend_schema(responses=PDF)
    @action(detail=True, methods=["get"], renderer_classes=[PdfRenderer, JSONRenderer], throttle_scope="export")
    def pdf(self, request: Request, pk: uuid.UUID | None = None) -> HttpResponse:
        """The invoice as it stands now."""
        invoice = self.get_object()
        return pdf_response(invoice.number, render_invoice(invoice.pk))

    def _draft(self) -> InvoiceDraft:
        given = self.valid(inputs.InvoiceInput)
        customer = drafting.customer_of(self.organisation, given["customer"])
        currency = currency_of(given.get("currency") or customer.currency).code
        method = given.get("method")
        if method and not PaymentMethod.objects.of(self.organisation).filter(pk=method, customer=customer).exists():
            raise NotFound("The customer has no such payment method.", field="method")
        return InvoiceDraft(
            customer_id=customer.pk,
            currency=currency,
            lines=inputs.line_inputs(given["lines"], currency),
            issued_on=given.get("issued_on"),
            net_days=given.get("net_days"),
            collect_automatically=given["collect_automatically"],
            method_ref=method,
            memo=given["memo"],
            prices_include_tax=given["prices_include_tax"],
            custom_fields=given.get("custom_fields") or {},
        )

    def _answer(self, invoice_id: uuid.UUID, code: int = status.HTTP_200_OK) -> Response:
        return Response(outputs.invoice_detail(self.organisation, invoice_id), status=code)


@extend_schema_view(retrieve=extend_schema(responses=outputs.CreditNoteDetail))
class CreditNoteViewSet(TenantViewSet):
    """Numbered reductions of invoices."""

    queryset = CreditNote.objects.select_related("invoice")
    serializer_class = outputs.CreditNoteSerializer
    filterset_class = filters.CreditNoteFilter
    required_permissions: ClassVar[Mapping[str, str]] = {
        "list": "invoice.view",
        "retrieve": "invoice.view",
        "pdf": "invoice.view",
        "refund_again": "refund.issue",
    }

    def retrieve(self, request: Request, *args: Any, **kwargs: Any) -> Response:
        """With the refunds it asked for."""
        return Response(outputs.CreditNoteDetail(self.get_object()).data)

    @extend_schema(request=None, responses=outputs.CreditNoteDetail)
    @action(detail=True, methods=["post"], url_path="refund-again")
    @idempotent
    def refund_again(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Send once more what of its refunds has failed, as far as the customer's credit and the payment still bear it."""
        note = self.get_object()
        refunding.send_again(organisation_id=self.organisation.pk, credit_note_id=note.pk, actor=self.actor)
        return Response(outputs.CreditNoteDetail(note).data)

    @extend_schema(responses=PDF)
    @action(detail=True, methods=["get"], renderer_classes=[PdfRenderer, JSONRenderer], throttle_scope="export")
    def pdf(self, request: Request, pk: uuid.UUID | None = None) -> HttpResponse:
        """The credit note."""
        note = self.get_object()
        return pdf_response(note.number, render_credit_note(note.pk))


class InstallmentPlanViewSet(TenantViewSet):
    """Amounts paid in parts; each part becomes an invoice on its day."""

    queryset = InstallmentPlan.objects.prefetch_related("installments")
    serializer_class = outputs.InstallmentPlanSerializer
    filterset_class = filters.InstallmentPlanFilter
    required_permissions: ClassVar[Mapping[str, str]] = {
        "list": "invoice.view",
        "retrieve": "invoice.view",
        "create": "invoice.edit",
        "cancel": "invoice.edit",
        "retry": "invoice.edit",
    }

    @extend_schema(
        request=inputs.InstallmentPlanInput, responses={201: outputs.InstallmentPlanSerializer}, examples=[PLAN]
    )
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Split an amount into a down payment, if any, and equal parts that add up to it."""
        given = self.valid(inputs.InstallmentPlanInput)
        plan = installments.create_plan(
            organisation=self.organisation,
            customer_id=given.pop("customer"),
            beneficiary_id=given.pop("beneficiary", None),
            actor=self.actor,
            **given,
        )
        return Response(self.get_serializer(plan).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=inputs.ReasonInput, responses=outputs.InstallmentPlanSerializer, examples=[REASON])
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def cancel(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Invoice nothing more of the plan."""
        given = self.valid(inputs.ReasonInput)
        plan = installments.cancel_plan(plan_id=self.get_object().pk, actor=self.actor, **given)
        return Response(self.get_serializer(plan).data)

    @extend_schema(request=inputs.ReasonInput, responses=outputs.InstallmentPlanSerializer, examples=[REASON])
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def retry(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Try the refused parts of the plan again, once their cause is mended."""
        given = self.valid(inputs.ReasonInput)
        installments.retry_refused(plan_id=self.get_object().pk, actor=self.actor, **given)
        return Response(self.get_serializer(self.get_object()).data)


class TaxRateViewSet(TenantViewSet):
    """Rates by category, place and day."""

    queryset = TaxRate.objects.all()
    serializer_class = outputs.TaxRateSerializer
    filterset_class = filters.TaxRateFilter
    required_permissions: ClassVar[Mapping[str, str]] = {
        "list": "invoice.view",
        "retrieve": "invoice.view",
        "create": "tax.edit",
    }

    @extend_schema(request=inputs.TaxRateInput, responses={201: outputs.TaxRateSerializer}, examples=[RATE])
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Add a rate from a day on; documents already issued keep theirs."""
        rate = tax_rates.add_rate(organisation=self.organisation, actor=self.actor, **self.valid(inputs.TaxRateInput))
        return Response(self.get_serializer(rate).data, status=status.HTTP_201_CREATED)


class MailViewSet(TenantViewSet):
    """Letters sent and to be sent."""

    queryset = Mail.objects.all()
    serializer_class = outputs.MailSerializer
    filterset_class = filters.MailFilter
    required_permissions: ClassVar[Mapping[str, str]] = {"list": "mail.view", "retrieve": "mail.view"}
