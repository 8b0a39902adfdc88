"""How a subscription is paid, on its page."""

import uuid
from collections.abc import Sequence
from typing import Any, cast

from django import forms
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldBooleanWidget

from billing.admin.base import AboutRows, ReasonForm, decision
from billing.context import Actor
from payments.models import PaymentMethod
from subscriptions.models import Subscription
from subscriptions.services import paying


class PaymentForm(AboutRows, ReasonForm):
    """For the invoices that come; those that are there keep what they were made with."""

    method = forms.ChoiceField(required=False, widget=UnfoldAdminSelectWidget(), label="Payment method")
    collect_automatically = forms.BooleanField(
        required=False,
        widget=UnfoldBooleanWidget(),
        label="Collect by itself",
        help_text="Otherwise the customer pays.",
    )
    net_days = forms.IntegerField(
        min_value=0, max_value=paying.MAX_NET_DAYS, label="Days to pay", widget=UnfoldAdminIntegerFieldWidget()
    )

    def suit(self, rows: Sequence[Any]) -> None:
        """The customer's methods, and what holds now."""
        for row in rows[:1]:
            known = PaymentMethod.objects.of(row.organisation_id).filter(customer=row.customer_id)
            usable = [one for one in known.order_by("-id") if one.status == "active" or one.pk == row.method_id]
            choices = [("", "the customer's default"), *((str(one.pk), str(one)) for one in usable)]
            cast(forms.ChoiceField, self.fields["method"]).choices = choices
            self.fields["method"].initial = str(row.method_id or "")
            self.fields["collect_automatically"].initial = row.collect_automatically
            self.fields["net_days"].initial = row.net_days


class PaymentActions:
    """What a subscription's page offers about its payment."""

    @decision(description="Change payment", permission="subscription.edit", form=PaymentForm, icon="credit_card")
    def change_payment(
        self, request: HttpRequest, row: Subscription, *, actor: Actor, reason: str, **asked: Any
    ) -> str:
        method = asked.pop("method")
        paying.change_payment(
            subscription_id=row.pk,
            actor=actor,
            reason=reason,
            changes={**asked, "method_id": uuid.UUID(method) if method else None},
        )
        return f"{row}: the next invoices are paid as said."
