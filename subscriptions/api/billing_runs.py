"""Billing runs: what was billed and how far it is, and starting one."""

import uuid
from typing import Any

from django_filters import rest_framework as filters
from drf_spectacular.utils import OpenApiExample, OpenApiResponse, extend_schema, extend_schema_view
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing import clock
from billing.api.base import StrictSerializer, TenantViewSet
from billing.api.idempotency import idempotent
from billing.money import quantize
from subscriptions.api.billing_cycles import RetryCyclesInput
from subscriptions.models import BillingRun
from subscriptions.services import billing_run, retrying
from subscriptions.services.billing_run import BillingRunReport
from subscriptions.services.billing_run_records import KEPT_FAILURES


class FailureOutput(serializers.Serializer):
    subscription = serializers.CharField(help_text="External id.")
    reason = serializers.CharField()


class BillingRunOutput(serializers.ModelSerializer):
    totals = serializers.DictField(child=serializers.CharField(), help_text="Invoiced so far, with tax, by currency.")
    failures = FailureOutput(many=True, help_text="The first 50 subscriptions that were set aside, and why.")

    class Meta:
        model = BillingRun
        fields = [
            "id", "status", "due_at", "due_count", "billed_count", "invoice_count", "draft_count", "failed_count", "totals", "failures",
            "started_at", "finished_at", "error",
        ]  # fmt: skip


class BillingRunInput(StrictSerializer):
    dry_run = serializers.BooleanField(default=False, help_text="Write nothing; the answer shows what would be billed.")
    due_at = serializers.DateTimeField(
        required=False, help_text="Everything due by then; default: now. Only a dry run may look ahead."
    )


class BillingPreviewOutput(serializers.Serializer):
    dry_run = serializers.BooleanField()
    due_at = serializers.DateTimeField()
    due_count = serializers.IntegerField()
    billed_count = serializers.IntegerField()
    invoice_count = serializers.IntegerField()
    draft_count = serializers.IntegerField(help_text="Of the invoices, those that would be drafts at first.")
    failed_count = serializers.IntegerField()
    totals = serializers.DictField(child=serializers.CharField())
    failures = FailureOutput(many=True)


class BillingRunFilter(filters.FilterSet):
    status = filters.ChoiceFilter(choices=BillingRun.Status.choices)


ANSWERS = {
    200: OpenApiResponse(BillingPreviewOutput, description="Dry run: nothing was written."),
    202: OpenApiResponse(BillingRunOutput, description="A worker takes it up; ask for it by its id."),
}
EXAMPLE = OpenApiExample("What is due now", value={"dry_run": True}, request_only=True)


@extend_schema_view(list=extend_schema(tags=["billing runs"]), retrieve=extend_schema(tags=["billing runs"]))
class BillingRunViewSet(TenantViewSet):
    """Passes over what is due."""

    queryset = BillingRun.objects.all()
    serializer_class = BillingRunOutput
    filterset_class = BillingRunFilter
    required_permissions = {
        "list": "billing_run.view",
        "retrieve": "billing_run.view",
        "create": "billing_run.start",
        "retry": "billing_run.start",
    }

    @extend_schema(request=BillingRunInput, responses=ANSWERS, examples=[EXAMPLE], tags=["billing runs"])
    @idempotent
    def create(self, request: Request) -> Response:
        """Start a billing run, or ask what one would bill."""
        given = self.valid(BillingRunInput)
        due_at = given.get("due_at") or clock.now(self.organisation)
        if given["dry_run"]:
            report = billing_run.run_billing(organisation=self.organisation, due_at=due_at, dry_run=True)
            return Response(_preview(report))
        run = billing_run.start_run(organisation=self.organisation, due_at=due_at, actor=self.actor)
        return Response(self.get_serializer(run).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(
        request=RetryCyclesInput,
        responses={202: BillingRunOutput},
        tags=["billing runs"],
        examples=[OpenApiExample("Mended", value={"reason": "The tax rate is there now"}, request_only=True)],
    )
    @action(detail=True, methods=["post"])
    @idempotent
    def retry(self, request: Request, pk: uuid.UUID | None = None) -> Response:
        """Take up again everything that the run set aside; the answer is the new run that bills it."""
        given = self.valid(RetryCyclesInput)
        run = retrying.retry_run(organisation=self.organisation, run_id=self.get_object().pk, actor=self.actor, **given)
        return Response(self.get_serializer(run).data, status=status.HTTP_202_ACCEPTED)


def _preview(report: BillingRunReport) -> dict[str, Any]:
    shown = report.failures[:KEPT_FAILURES]
    return {
        "dry_run": True,
        "due_at": report.due_at,
        "due_count": report.due,
        "billed_count": report.billed,
        "invoice_count": report.invoices,
        "draft_count": report.drafts,
        "failed_count": report.failed,
        "totals": {currency: f"{quantize(total, currency):f}" for currency, total in report.totals.items()},
        "failures": [{"subscription": one.external_id, "reason": one.reason} for one in shown],
    }
