"""Files of measurements, and how far they have been read."""

import base64
import binascii
from typing import Any

from django.http import HttpResponse
from drf_spectacular.types import OpenApiTypes
from drf_spectacular.utils import OpenApiExample, extend_schema, extend_schema_view
from rest_framework import serializers, status
from rest_framework.decorators import action
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.base import StrictSerializer, TenantViewSet
from billing.api.idempotency import idempotent
from billing.errors import InvalidInput
from billing.models import UsageImport
from billing.services import usage_imports
from billing.usage_csv import errors_csv

TAGS = ["usage"]
MAX_TEXT = usage_imports.MAX_SIZE * 4 // 3 + 4


class ImportInput(StrictSerializer):
    file_name = serializers.CharField(max_length=200)
    content = serializers.CharField(max_length=MAX_TEXT, help_text="The file in base64.", trim_whitespace=False)
    dry_run = serializers.BooleanField(default=False, help_text="Tell what would happen and take nothing in.")


class ImportOutput(serializers.ModelSerializer):
    class Meta:
        model = UsageImport
        fields = [
            "id", "file_name", "dry_run", "status", "size", "position", "lines", "accepted", "duplicates", "parked", "rejected",
            "failure", "made_by", "made_at", "finished_at",
        ]  # fmt: skip


FILE = base64.b64encode(
    b"event_id,meter,customer,occurred_at,quantity,properties.region\nc-1,api-calls,company-0001,2026-04-01T11:00:00Z,250,eu\n"
).decode()
EXAMPLE = OpenApiExample(
    "One line", value={"file_name": "april.csv", "content": FILE, "dry_run": True}, request_only=True
)


@extend_schema_view(list=extend_schema(tags=TAGS), retrieve=extend_schema(tags=TAGS))
class UsageImportViewSet(TenantViewSet):
    """CSV files: event_id, meter, customer, occurred_at; quantity, subscription, amount, properties.<name> if wanted."""

    queryset = UsageImport.objects.defer("content")
    serializer_class = ImportOutput
    required_permissions = {
        "list": "usage.view", "retrieve": "usage.view", "create": "usage.ingest", "errors": "usage.view",
    }  # fmt: skip

    @extend_schema(request=ImportInput, responses={202: ImportOutput}, examples=[EXAMPLE], tags=TAGS)
    @idempotent(atomic=True)
    def create(self, request: Request) -> Response:
        """Take in a file; it is read by a worker. Poll it until it is done."""
        given = self.valid(ImportInput)
        row = usage_imports.begin_import(
            organisation=self.organisation,
            file_name=given["file_name"],
            content=_decoded(given["content"]),
            dry_run=given["dry_run"],
            actor=self.actor,
        )
        return Response(ImportOutput(row).data, status=status.HTTP_202_ACCEPTED)

    @extend_schema(responses={(200, "text/csv"): OpenApiTypes.STR}, tags=TAGS)
    @action(detail=True, methods=["get"])
    def errors(self, request: Request, pk: Any = None) -> HttpResponse:
        """The lines that were not taken in, and why, as CSV."""
        row = self.get_object()
        errors = row.errors.order_by("line").values_list("line", "event_id", "field", "reason")
        answer = HttpResponse(errors_csv(list(errors)), content_type="text/csv; charset=utf-8")
        answer["Content-Disposition"] = f'attachment; filename="errors-{row.pk}.csv"'
        return answer


def _decoded(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as exc:
        raise InvalidInput("The content is not base64.", field="content") from exc
