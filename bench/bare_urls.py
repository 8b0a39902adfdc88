"""The bare views: nothing at all, and a list of 20 invoices as the framework's own tools make it."""

import json

from django.db import connection
from django.urls import path
from rest_framework import generics, pagination, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from bench.limits import stage_usage
from billing.models import Customer, Meter, Organisation
from invoices.models import Invoice


class Nothing(APIView):
    def get(self, request: Request) -> Response:
        return Response({"results": []})


class RowSerializer(serializers.ModelSerializer):
    class Meta:
        model = Invoice
        fields = [
            "id", "number", "status", "origin", "customer", "currency", "net", "tax", "total", "paid", "credited", "due",
            "issued_on", "due_on", "period_start", "period_end", "overdue_at", "subscription_ref",
        ]  # fmt: skip


class Newest(pagination.CursorPagination):
    page_size = 20
    ordering = "-id"


class Rows(generics.ListAPIView):
    queryset = Invoice.objects.all()
    serializer_class = RowSerializer
    pagination_class = Newest


class Usage(APIView):
    """A batch of events straight into one table: nothing is checked, and nobody is told what became of which."""

    def post(self, request: Request) -> Response:
        organisation = Organisation.objects.get(code="usage")
        meter = Meter.objects.of(organisation).get().pk
        buyers = dict(Customer.objects.of(organisation).values_list("external_id", "pk"))
        connection.ensure_connection()
        rows = [
            (
                one["event_id"],
                meter,
                buyers[one["customer"]],
                one["quantity"],
                json.dumps(one["properties"]),
                one["occurred_at"],
            )
            for one in request.data["events"]
        ]
        return Response({"taken": stage_usage(connection.connection, organisation.pk, rows, into="plain")})


urlpatterns = [path("nothing", Nothing.as_view()), path("rows", Rows.as_view()), path("usage", Usage.as_view())]
