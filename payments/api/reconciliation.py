"""Reconciliation over the API: settlements, bank accounts and statements, exceptions, runs and sums."""

import base64
import binascii
import uuid
from dataclasses import fields
from typing import Any

import django_filters
from django.utils.dateparse import parse_date
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema, extend_schema_serializer
from moneyed import Money
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing.api.base import StrictSerializer, TenantViewMixin, TenantViewSet, wire
from billing.api.idempotency import idempotent
from billing.errors import InvalidInput
from payments.api import reconciliation_serializers as shapes
from payments.exception_classes import RESOLUTIONS
from payments.models import BankAccount, BankLine, ReconciliationException, Settlement, SettlementLine
from payments.selectors import reconciliation
from payments.services import matching, resolving, statements


class SettlementFilter(django_filters.FilterSet):
    status = django_filters.ChoiceFilter(choices=Settlement.Status.choices)
    utr = django_filters.CharFilter(max_length=60)
    gateway_ref = django_filters.CharFilter(max_length=80)
    settled_from = django_filters.DateFilter(field_name="settled_on", lookup_expr="gte")
    settled_to = django_filters.DateFilter(field_name="settled_on", lookup_expr="lte")

    class Meta:
        model = Settlement
        fields: list[str] = []


class BankLineFilter(django_filters.FilterSet):
    bank_account = django_filters.UUIDFilter(field_name="bank_account_id")
    state = django_filters.ChoiceFilter(choices=BankLine.State.choices)
    booked_from = django_filters.DateFilter(field_name="booked_on", lookup_expr="gte")
    booked_to = django_filters.DateFilter(field_name="booked_on", lookup_expr="lte")

    class Meta:
        model = BankLine
        fields: list[str] = []


class ExceptionFilter(django_filters.FilterSet):
    status = django_filters.ChoiceFilter(choices=ReconciliationException.Status.choices)
    kind = django_filters.CharFilter(max_length=40)
    due_before = django_filters.DateFilter(field_name="due_on", lookup_expr="lt")

    class Meta:
        model = ReconciliationException
        fields: list[str] = []


class SettlementViewSet(TenantViewSet):
    """Payouts of the gateways, explained from gross to net, and whether they are in the bank."""

    queryset = Settlement.objects.all()
    serializer_class = shapes.SettlementSerializer
    filterset_class = SettlementFilter
    required_permissions = {"list": "settlement.view", "retrieve": "settlement.view", "lines": "settlement.view"}

    @extend_schema(responses=shapes.SettlementLineSerializer(many=True), filters=False)
    @action(detail=True, methods=["get"], filterset_class=None)
    def lines(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """The rows of its report, with what each was matched to."""
        rows = SettlementLine.objects.of(self.organisation).filter(settlement=self.get_object())
        page = self.paginate_queryset(rows)
        return self.get_paginated_response(shapes.SettlementLineSerializer(page, many=True).data)


class BankAccountViewSet(TenantViewSet):
    """Our accounts at banks. Payouts of a currency arrive on the account of that currency."""

    queryset = BankAccount.objects.all()
    serializer_class = shapes.BankAccountSerializer
    required_permissions = {
        "list": "settlement.view",
        "retrieve": "settlement.view",
        "create": "statement.import",
        "statements": "statement.import",
    }

    @extend_schema(request=shapes.BankAccountInput, responses={201: shapes.BankAccountSerializer})
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Add an account whose statements will be imported."""
        given = self.valid(shapes.BankAccountInput)
        account = statements.create_bank_account(organisation=self.organisation, actor=self.actor, **given)
        return Response(self.get_serializer(account).data, status=status.HTTP_201_CREATED)

    @extend_schema(request=shapes.StatementInput, responses={201: shapes.StatementSerializer})
    @action(detail=True, methods=["post"])
    @idempotent
    def statements(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Import a statement: all of it or nothing. The same file again changes nothing."""
        given = self.valid(shapes.StatementInput)
        imported = statements.import_statement(
            organisation=self.organisation,
            bank_account=self.get_object(),
            file_name=given["file_name"],
            content=_decoded(given["content"]),
            format=given["format"],
            actor=self.actor,
        )
        return Response(shapes.StatementSerializer(imported).data, status=status.HTTP_201_CREATED)


class BankLineViewSet(TenantViewSet):
    """Lines of bank statements, and what each was matched to."""

    queryset = BankLine.objects.all()
    serializer_class = shapes.BankLineSerializer
    filterset_class = BankLineFilter
    required_permissions = {"list": "settlement.view", "retrieve": "settlement.view"}


@extend_schema_serializer(
    examples=[
        OpenApiExample(
            "A fee of the bank",
            request_only=True,
            value={"resolution": "bank_charge", "reason": "Monthly account fee, see the price list"},
        )
    ]
)
class ResolveInput(StrictSerializer):
    resolution = serializers.ChoiceField(choices=[*RESOLUTIONS, "match"])
    reason = serializers.CharField(min_length=3, max_length=500)
    settlement = serializers.UUIDField(default=None, allow_null=True, help_text="With `match`: the payout.")


class ExceptionViewSet(TenantViewSet):
    """What did not match, each with its cause, its next step and its due day. Never deleted."""

    queryset = ReconciliationException.objects.select_related("owner")
    serializer_class = shapes.ExceptionSerializer
    filterset_class = ExceptionFilter
    required_permissions = {
        "list": "reconciliation.view",
        "retrieve": "reconciliation.view",
        "resolve": "reconciliation.resolve",
    }

    @extend_schema(request=ResolveInput, responses=shapes.ExceptionSerializer)
    @action(detail=True, methods=["post"])
    @idempotent(atomic=True)
    def resolve(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Settle it with a reason; what moves money is posted in the same transaction."""
        given = self.valid(ResolveInput)
        exception = resolving.resolve_exception(
            organisation=self.organisation,
            exception_id=self.get_object().pk,
            resolution=given["resolution"],
            reason=given["reason"],
            settlement_id=given["settlement"],
            actor=self.actor,
        )
        return Response(self.get_serializer(exception).data)


class RunInput(StrictSerializer):
    dry_run = serializers.BooleanField(default=False, help_text="Tell what would be matched and take it back.")


class RunView(TenantViewMixin, APIView):
    required_permissions = {"post": "reconciliation.work"}

    @extend_schema(
        operation_id="reconciliation_run",
        request=RunInput,
        responses=shapes.MatchReportSerializer,
        examples=[OpenApiExample("Only look", request_only=True, value={"dry_run": True})],
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Match everything open now: settlement rows with the books, payouts with the bank."""
        given = RunInput(data=request.data)
        given.is_valid(raise_exception=True)
        report = matching.run_matching(organisation=self.organisation, dry_run=given.validated_data["dry_run"])
        return Response({"report": report.as_dict()})


class SummaryView(TenantViewMixin, APIView):
    required_permissions = {"get": "reconciliation.view"}

    @extend_schema(
        operation_id="reconciliation_summary",
        parameters=[
            OpenApiParameter("from", OpenApiTypes.DATE, required=True, description="First day."),
            OpenApiParameter("to", OpenApiTypes.DATE, required=True, description="Last day."),
        ],
        responses=shapes.SummarySerializer,
    )
    def get(self, request: Request) -> Response:
        """From captured to the bank, by currency; what is unexplained must be 0.00."""
        rows = reconciliation.summary(
            organisation=self.organisation, first=_day(request, "from"), last=_day(request, "to")
        )
        return Response({"currencies": [_row(row) for row in rows]})


def _row(row: reconciliation.Summary) -> dict[str, Any]:
    amounts = {one.name: getattr(row, one.name) for one in fields(row)}
    return {"currency": row.currency} | {
        name: wire(value) for name, value in amounts.items() if isinstance(value, Money)
    }


def _day(request: Request, name: str) -> Any:
    try:
        day = parse_date(request.query_params.get(name, ""))
    except ValueError:
        day = None
    if day is None:
        raise InvalidInput("Expected a date such as 2026-04-01.", field=name)
    return day


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidInput("Expected the file in base64.", field="content") from exc
