"""The bare views: nothing at all, and a list of 20 invoices as the framework's own tools make it."""

from django.urls import path
from rest_framework import generics, pagination, serializers
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

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


urlpatterns = [path("nothing", Nothing.as_view()), path("rows", Rows.as_view())]
