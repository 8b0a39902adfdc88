"""Figures over the API: MRR, collection and payments, and an overview for a start page."""

from decimal import Decimal
from typing import Any

from django.utils.dateparse import parse_date
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from analytics import mrr, selectors
from analytics.api.serializers import CollectionSerializer, MrrSerializer, OverviewSerializer
from billing.api.base import TenantViewMixin
from billing.money import quantize

MAX_MONTHS = 60
_MONTHS = OpenApiParameter(
    "months",
    OpenApiTypes.INT,
    description=f"How many months up to the present one, 1 to {MAX_MONTHS}; 13 if not given.",
)
SINCE = OpenApiParameter("from", OpenApiTypes.DATE, description="First day of issue.")
UNTIL = OpenApiParameter("to", OpenApiTypes.DATE, description="Last day of issue.")


class FiguresView(TenantViewMixin, APIView):
    """Base of the figures: reading needs ``analytics.view``."""

    required_permissions = {"get": "analytics.view"}
    throttle_scope = "read"


class MrrView(FiguresView):
    @extend_schema(operation_id="analytics_mrr", parameters=[_MONTHS], responses=MrrSerializer)
    def get(self, request: Request) -> Response:
        """MRR by month and currency: opening + new + expansion + reactivation − contraction − churn = closing."""
        table = selectors.mrr_table(organisation=self.organisation, months=_months(request))
        return Response(
            {
                "currencies": [
                    {"currency": code, "months": [_month(row, code) for row in rows]} for code, rows in table.items()
                ]
            }
        )


class CollectionView(FiguresView):
    @extend_schema(operation_id="analytics_collection", parameters=[SINCE, UNTIL], responses=CollectionSerializer)
    def get(self, request: Request) -> Response:
        """Invoiced, collected, credited, written off and outstanding by month of issue and currency."""
        rows = selectors.collection_by_month(
            organisation=self.organisation, since=day(request, "from"), until=day(request, "to")
        )
        return Response({"months": [_collection(row) for row in rows]})


class OverviewView(FiguresView):
    @extend_schema(operation_id="analytics_overview", responses=OverviewSerializer)
    def get(self, request: Request) -> Response:
        """Customers, subscriptions and invoices by status, and how payments went."""
        figures = selectors.payment_figures(organisation=self.organisation)
        return Response(
            {
                **selectors.counts(organisation=self.organisation),
                "payments": {
                    "total": figures.payments,
                    "succeeded": figures.succeeded,
                    "recovered": figures.recovered,
                    "failed": figures.failed,
                    "attempts": figures.attempts,
                    "declined_attempts": figures.declined_attempts,
                    "success_rate": _text(figures.success_rate),
                    "first_attempt_rate": _text(figures.first_attempt_rate),
                    "declines": [{"code": code, "attempts": times} for code, times in figures.declines],
                },
            }
        )


def _months(request: Request) -> int:
    text = request.query_params.get("months", "13")
    if not text.isascii() or not text.isdigit() or len(text) > 3 or not 1 <= int(text) <= MAX_MONTHS:
        raise serializers.ValidationError({"months": [f"Expected a whole number from 1 to {MAX_MONTHS}."]})
    return int(text)


def day(request: Request, name: str) -> Any:
    """The day that a query parameter names; None without it."""
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        found = parse_date(text)
    except ValueError:
        found = None
    if found is None:
        raise serializers.ValidationError({name: ["Expected a date such as 2026-04-01."]})
    return found


def _month(row: mrr.MonthRow, currency: str) -> dict[str, Any]:
    amounts = {name: f"{quantize(getattr(row, name), currency):f}" for name in _AMOUNTS}
    rates = {name: _text(getattr(row, name)) for name in _RATES}
    counts = {"opening_customers": row.opening_customers, "closing_customers": row.closing_customers}
    return {"month": row.month.isoformat(), **amounts, **rates, **counts, "churned_customers": row.churned_customers}


_AMOUNTS = ("opening", "new", "expansion", "reactivation", "contraction", "churn", "closing")
_RATES = ("gross_churn_rate", "net_churn_rate", "customer_churn_rate", "quick_ratio")


def _collection(row: selectors.CollectionRow) -> dict[str, Any]:
    names = ("invoiced", "collected", "credited", "written_off", "outstanding")
    amounts = {name: f"{quantize(getattr(row, name), row.currency):f}" for name in names}
    return {
        "month": row.month.isoformat(),
        "currency": row.currency,
        **amounts,
        "collection_rate": _text(row.collection_rate),
    }


def _text(value: Decimal | None) -> str | None:
    return None if value is None else f"{value:f}"
