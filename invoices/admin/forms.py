"""Forms of the decisions on invoices."""

from decimal import Decimal
from typing import Any

from django import forms
from moneyed import Money
from unfold.widgets import UnfoldAdminDecimalFieldWidget, UnfoldAdminRadioSelectWidget, UnfoldBooleanWidget

from billing.admin.base import ReasonForm
from billing.admin.panels import money
from billing.money import exponent, quantize
from invoices.models import Invoice
from invoices.services import credit_notes, refunding

WHOLE, LINES = "whole", "lines"


class CreditForm(ReasonForm):
    """All that is left of the invoice, or net amounts by line. Lines are added by :func:`credit_by_line`."""

    currency: str
    positions: list[int]

    extent = forms.ChoiceField(
        label="What is credited",
        choices=[(WHOLE, "Everything that is left"), (LINES, "The amounts below")],
        initial=WHOLE,
        widget=UnfoldAdminRadioSelectWidget(),
    )

    refund = forms.BooleanField(
        required=False,
        label="Give the money back",
        widget=UnfoldBooleanWidget(),
        help_text="What had been paid of it is refunded on the invoice's payments, the newest first; what was not paid yet "
        "only lowers what is due. Without it, that part becomes the customer's credit.",
    )

    def amounts(self) -> dict[int, Money] | None:
        """Net amounts by line, or None for all that is left."""
        if self.cleaned_data["extent"] == WHOLE:
            return None
        given = {position: self.cleaned_data[f"line_{position}"] for position in self.positions}
        return {position: Money(amount, self.currency) for position, amount in given.items() if amount}

    def clean(self) -> dict[str, Any]:
        values = super().clean() or self.cleaned_data
        wrong = any(f"line_{position}" in self.errors for position in self.positions)
        if (
            values.get("extent") == LINES
            and not wrong
            and not any(values.get(f"line_{position}") for position in self.positions)
        ):
            raise forms.ValidationError("Give the amount of one line at least, or credit everything that is left.")
        return values


def credit_by_line(invoice: Invoice, *, may_refund: bool) -> type[CreditForm]:
    """The form of a credit note for ``invoice``: one amount per line, at most what is left of it.

    The money back is offered to who ``may_refund``, where a payment of the invoice can bear it.
    """
    lines = credit_notes.creditable_lines(invoice)
    fields: dict[str, Any] = {"currency": invoice.currency, "positions": [line.position for line in lines]}
    if not may_refund or not refunding.can_refund(invoice):
        fields["refund"] = None  # takes the field off
    for line in lines:
        left = Money(line.left, invoice.currency)
        fields[f"line_{line.position}"] = forms.DecimalField(
            label=f"{line.position}. {line.description}",
            required=False,
            min_value=Decimal(0),
            max_value=max(quantize(line.left, invoice.currency), Decimal(0)),
            decimal_places=exponent(invoice.currency),
            max_digits=19,
            widget=UnfoldAdminDecimalFieldWidget(attrs={"inputmode": "decimal"}),
            help_text=f"Without tax; {money(left)} is left of this line.",
        )
    return type("CreditForm", (CreditForm,), fields)
