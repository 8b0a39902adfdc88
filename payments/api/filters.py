"""Filters of the lists."""

import django_filters

from payments.models import Dispute, InboundWebhook, Payment, PaymentMethod, Refund


class PaymentFilter(django_filters.FilterSet):
    customer = django_filters.UUIDFilter(field_name="customer_id")
    status = django_filters.MultipleChoiceFilter(choices=Payment.Status.choices)
    reference = django_filters.CharFilter(max_length=100)
    created_from = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="gte")
    created_to = django_filters.IsoDateTimeFilter(field_name="created_at", lookup_expr="lt")

    class Meta:
        model = Payment
        fields: list[str] = []


class RefundFilter(django_filters.FilterSet):
    payment = django_filters.UUIDFilter(field_name="payment_id")
    status = django_filters.ChoiceFilter(choices=Refund.Status.choices)

    class Meta:
        model = Refund
        fields: list[str] = []


class DisputeFilter(django_filters.FilterSet):
    payment = django_filters.UUIDFilter(field_name="payment_id")
    status = django_filters.ChoiceFilter(choices=Dispute.Status.choices)

    class Meta:
        model = Dispute
        fields: list[str] = []


class MethodFilter(django_filters.FilterSet):
    customer = django_filters.UUIDFilter(field_name="customer_id")
    status = django_filters.ChoiceFilter(choices=PaymentMethod.Status.choices)
    kind = django_filters.ChoiceFilter(choices=PaymentMethod.Kind.choices)

    class Meta:
        model = PaymentMethod
        fields: list[str] = []


class InboundWebhookFilter(django_filters.FilterSet):
    status = django_filters.ChoiceFilter(choices=InboundWebhook.Status.choices)
    type = django_filters.CharFilter(max_length=80)

    class Meta:
        model = InboundWebhook
        fields: list[str] = []
