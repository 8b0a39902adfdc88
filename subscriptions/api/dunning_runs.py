"""What dunning brought in, and running it by hand or dry."""

from datetime import date, datetime, time, timedelta
from typing import Any

from django.utils.dateparse import parse_date
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, OpenApiParameter, extend_schema
from rest_framework import serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from billing import clock
from billing.api.base import AmountSerializerField, StrictSerializer, TenantViewMixin
from billing.api.idempotency import idempotent
from billing.errors import InvalidInput
from subscriptions.dunning_selectors import recovery
from subscriptions.services.dunning import DunningReport, run_dunning

TAGS = ["dunning"]
FIGURES_OF = timedelta(days=365)


class StageRecoveryOutput(serializers.Serializer):
    stage = serializers.IntegerField(help_text="Stages taken; 0: before the first.")
    reached = serializers.IntegerField(help_text="Cases that got that far.")
    cases = serializers.IntegerField(help_text="Of them, paid before the next stage.")
    amount = AmountSerializerField()
    rate = serializers.CharField(help_text="cases / reached, 0 to 1.")


class RecoveryOutput(serializers.Serializer):
    currency = serializers.CharField()
    opened = serializers.IntegerField()
    open = serializers.IntegerField()
    recovered = serializers.IntegerField()
    exhausted = serializers.IntegerField()
    claimed = AmountSerializerField()
    collected = AmountSerializerField()
    rate = serializers.CharField(help_text="Collected / claimed of the cases that ended, 0 to 1.")
    by_stage = StageRecoveryOutput(many=True)


class RecoveriesOutput(serializers.Serializer):
    currencies = RecoveryOutput(many=True)


class DunningRunInput(StrictSerializer):
    dry_run = serializers.BooleanField(default=True, help_text="Write nothing; the steps are those a run would take.")


class DunningStepOutput(serializers.Serializer):
    case = serializers.UUIDField(source="case_id")
    invoice_number = serializers.CharField()
    stage = serializers.IntegerField()
    days_overdue = serializers.IntegerField()
    attempts = serializers.IntegerField()
    actions = serializers.ListField(child=serializers.CharField())


class DunningFailureOutput(serializers.Serializer):
    case = serializers.UUIDField()
    reason = serializers.CharField()


class DunningReportOutput(serializers.Serializer):
    on = serializers.DateField()
    dry_run = serializers.BooleanField()
    steps = DunningStepOutput(many=True)
    failures = DunningFailureOutput(many=True)


def _parameter(name: str, text: str) -> OpenApiParameter:
    return OpenApiParameter(name, OpenApiTypes.DATE, description=text)


class DunningRecoveryView(TenantViewMixin, APIView):
    """Recovery rate and recovered amount, by currency and stage."""

    required_permissions = {"get": "dunning.view"}

    @extend_schema(
        parameters=[
            _parameter("from", "First day on which cases were opened; a year before the last if not given."),
            _parameter("to", "Last day; today if not given."),
        ],
        responses=RecoveriesOutput,
        tags=TAGS,
        operation_id="dunning_recovery",
    )
    def get(self, request: Request) -> Response:
        """Cases opened in the days asked for, and what became of them."""
        zone = clock.zone(self.organisation)
        last = _day(request, "to") or clock.today(self.organisation)
        first = _day(request, "from") or last - FIGURES_OF
        if first > last:
            raise InvalidInput("from comes after to.", field="from")
        found = recovery(
            organisation=self.organisation,
            since=datetime.combine(first, time.min, tzinfo=zone),
            until=datetime.combine(last + timedelta(days=1), time.min, tzinfo=zone),
        )
        return Response(RecoveriesOutput({"currencies": found}).data)


def _day(request: Request, name: str) -> date | None:
    text = request.query_params.get(name)
    if text is None:
        return None
    try:
        day = parse_date(text)
    except ValueError:
        day = None
    if day is None or not 1970 <= day.year <= 2970:
        raise InvalidInput("Expected a date such as 2026-04-01.", field=name)
    return day


class DunningRunView(TenantViewMixin, APIView):
    """One pass over the debts being chased."""

    required_permissions = {"post": "dunning.edit"}

    @extend_schema(
        request=DunningRunInput,
        responses=DunningReportOutput,
        examples=[OpenApiExample("What would be done today", value={"dry_run": True}, request_only=True)],
        tags=TAGS,
        operation_id="dunning_run",
    )
    @idempotent
    def post(self, request: Request) -> Response:
        """Take the stages reached today, or say which would be taken."""
        serializer = DunningRunInput(data=request.data)
        serializer.is_valid(raise_exception=True)
        report = run_dunning(organisation=self.organisation, dry_run=serializer.validated_data["dry_run"])
        return Response(DunningReportOutput(_shown(report)).data)


def _shown(report: DunningReport) -> dict[str, Any]:
    failures = [{"case": case_id, "reason": reason} for case_id, reason in report.failures]
    return {"on": report.on, "dry_run": report.dry_run, "steps": report.steps, "failures": failures}
