"""Filters of the lists."""

from typing import Any

import django_filters

from invoices.models import CreditNote, InstallmentPlan, Invoice, Mail, TaxRate


class InvoiceFilter(django_filters.FilterSet):
    customer = django_filters.UUIDFilter(field_name="customer_id")
    status = django_filters.MultipleChoiceFilter(choices=Invoice.Status.choices)
    origin = django_filters.ChoiceFilter(choices=Invoice.Origin.choices)
    number = django_filters.CharFilter(max_length=16)
    currency = django_filters.CharFilter(max_length=3)
    subscription_ref = django_filters.UUIDFilter()
    issued_from = django_filters.DateFilter(field_name="issued_on", lookup_expr="gte")
    issued_to = django_filters.DateFilter(field_name="issued_on", lookup_expr="lte")
    due_before = django_filters.DateFilter(field_name="due_on", lookup_expr="lt")
    overdue = django_filters.BooleanFilter(method="by_overdue")

    class Meta:
        model = Invoice
        fields: list[str] = []

    def by_overdue(self, queryset: Any, name: str, value: bool) -> Any:  # noqa: FBT001  the library's signature
        late = {"overdue_at__isnull": False, "status__in": [Invoice.Status.OPEN, Invoice.Status.PARTIALLY_PAID]}
        return queryset.filter(**late) if value else queryset.exclude(**late)


class CreditNoteFilter(django_filters.FilterSet):
    invoice = django_filters.UUIDFilter(field_name="invoice_id")
    customer = django_filters.UUIDFilter(field_name="invoice__customer_id")
    number = django_filters.CharFilter(max_length=16)

    class Meta:
        model = CreditNote
        fields: list[str] = []


class InstallmentPlanFilter(django_filters.FilterSet):
    customer = django_filters.UUIDFilter(field_name="customer_id")
    status = django_filters.ChoiceFilter(choices=InstallmentPlan.Status.choices)

    class Meta:
        model = InstallmentPlan
        fields: list[str] = []


class TaxRateFilter(django_filters.FilterSet):
    category = django_filters.CharFilter(max_length=40)
    country = django_filters.CharFilter(max_length=2)

    class Meta:
        model = TaxRate
        fields: list[str] = []


class MailFilter(django_filters.FilterSet):
    customer = django_filters.UUIDFilter(field_name="customer_id")
    invoice = django_filters.UUIDFilter(field_name="invoice_id")
    kind = django_filters.CharFilter(max_length=40)
    status = django_filters.ChoiceFilter(choices=Mail.Status.choices)

    class Meta:
        model = Mail
        fields: list[str] = []
