"""Filters of the lists."""

from typing import Any

import django_filters

from invoices.models import CreditNote, InstallmentPlan, Invoice, Mail


class InvoiceFilter(django_filters.FilterSet):
    customer = django_filters.UUIDFilter(field_name="customer_id")
    subscription_ref = django_filters.UUIDFilter()
    number = django_filters.CharFilter(max_length=16)
    currency = django_filters.CharFilter(max_length=3)
    status = django_filters.MultipleChoiceFilter(choices=Invoice.Status.choices)
    issued_from = django_filters.DateFilter(field_name="issued_on", lookup_expr="gte")
    issued_to = django_filters.DateFilter(field_name="issued_on", lookup_expr="lte")
    due_before = django_filters.DateFilter(field_name="due_on", lookup_expr="lt")
    overdue = django_filters.BooleanFilter(method="only_overdue", help_text="Unpaid past the due day.")

    class Meta:
        model = Invoice
        fields: list[str] = []

    def only_overdue(self, queryset: Any, name: str, value: bool) -> Any:  # noqa: FBT001  (the library's signature)
        unpaid = {"overdue_at__isnull": False, "status__in": ["open", "partially_paid"]}
        return queryset.filter(**unpaid) if value else queryset.exclude(**unpaid)


class CreditNoteFilter(django_filters.FilterSet):
    invoice = django_filters.UUIDFilter(field_name="invoice_id")
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


class MailFilter(django_filters.FilterSet):
    customer = django_filters.UUIDFilter(field_name="customer_id")
    invoice = django_filters.UUIDFilter(field_name="invoice_id")
    kind = django_filters.CharFilter(max_length=40)
    status = django_filters.ChoiceFilter(choices=Mail.Status.choices)

    class Meta:
        model = Mail
        fields: list[str] = []
