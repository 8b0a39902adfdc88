"""Customers, masked: who must see more gives a reason, which is kept."""

from collections.abc import Sequence
from typing import Any

from django.contrib import admin
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.response import TemplateResponse
from unfold.decorators import display

from billing import masking, parties, places
from billing.admin.base import ReasonForm, TenantAdmin
from billing.admin.panels import Figure, Panel, Record, RecordAdmin, account_panel, moment, page_action, timeline_panel
from billing.models import Beneficiary, Customer
from billing.models.fields import lookup_hash
from billing.selectors import ledger
from billing.services import audit


@admin.register(Customer)
class CustomerAdmin(RecordAdmin):
    view_permission = "customer.view"
    list_display = (
        "external_id",
        "masked_name",
        "masked_email",
        "masked_phone",
        "currency",
        "organisation",
        "created_at",
    )
    list_filter = ("currency",)
    list_select_related = ("organisation",)
    found_by = "external_id"
    search_fields = ("external_id",)
    search_help_text = "External id, or a whole e-mail address or telephone number."
    ordering = ("-id",)
    actions_detail = ("reveal",)
    empty_hint = "Customers come through the API: POST /api/v1/customers."

    @display(description="name")
    def masked_name(self, customer: Customer) -> str:
        return masking.mask_name(customer.name)

    @display(description="e-mail")
    def masked_email(self, customer: Customer) -> str:
        return masking.mask_email(customer.email)

    @display(description="phone")
    def masked_phone(self, customer: Customer) -> str:
        return masking.mask_phone(customer.phone)

    def found_as(self, row: Customer) -> str:
        return masking.mask_name(row.name)

    def get_search_results(self, request: HttpRequest, queryset: QuerySet[Any], search_term: str) -> tuple[Any, bool]:
        found, distinct = super().get_search_results(request, queryset, search_term)
        if search_term:
            hashed = lookup_hash(search_term)
            found |= queryset.filter(email_hash=hashed) | queryset.filter(phone_hash=hashed)
        return found, distinct

    def record(self, request: HttpRequest, row: Customer) -> Record:
        return Record(
            facts=[*_contact(row, masked=True), *_facts(row)],
            figures=_figures(self, request, row),
            panels=[
                _beneficiaries(row),
                *account_panel(request, self, row),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )

    @page_action(description="Show personal data", permission="customer.unmask", icon="visibility")
    def reveal(self, request: HttpRequest, customer: Customer) -> Any:
        """Asked for with a reason; who looked, and why, stays in the audit trail."""
        form = ReasonForm(request.POST if "confirm" in request.POST else None)
        if not form.is_valid():
            return self.ask(request, title="Show personal data", form=form, rows=[customer])
        reason = form.cleaned_data["reason"]
        audit.record(actor=self.actor(request, customer), action="customer.unmasked", target=customer, reason=reason)
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": customer.external_id,
            "record": Record(facts=_contact(customer, masked=False)),
        }
        return TemplateResponse(request, "console/record.html", context)


def _contact(customer: Customer, *, masked: bool) -> Sequence[tuple[str, Any]]:
    details: dict[str, Any] = customer.party.details if customer.party else {}
    address = {key: value for key, value in (details.get("address") or {}).items() if value}
    ids: dict[str, str] = details.get("tax_ids") or {}
    if not masked:
        place = places.on_one_line(address, tuple(parties.ADDRESS))
        numbers = ", ".join(f"{kind.upper()} {number}" for kind, number in ids.items())
        return [("Name", customer.name), ("E-mail", customer.email), ("Phone", customer.phone), ("Address", place),
                ("Tax ids", numbers or "–")]  # fmt: skip
    place = places.on_one_line(address, ("city", "region", "country"))
    numbers = ", ".join(f"{kind.upper()} {masking.mask_identifier(number)}" for kind, number in ids.items())
    return [
        ("Name", masking.mask_name(customer.name)),
        ("E-mail", masking.mask_email(customer.email) or "–"),
        ("Phone", masking.mask_phone(customer.phone) or "–"),
        ("Place", place or "–"),
        ("Tax ids", numbers or "–"),
    ]


def _facts(customer: Customer) -> Sequence[tuple[str, Any]]:
    return [
        ("External id", customer.external_id),
        ("Currency", customer.currency),
        ("Tax treatment", customer.party.tax_treatment.replace("_", " ") if customer.party else "–"),
        ("Customer since", moment(customer.created_at, customer.organisation)),
        ("Version", customer.version),
    ]


def _figures(page: TenantAdmin, request: HttpRequest, customer: Customer) -> Sequence[Figure]:
    if not page.actor(request, customer).may("ledger.view"):
        return []
    balances = ledger.customer_balances(organisation_id=customer.organisation_id, customer_id=customer.pk)
    return [
        figure
        for currency, (owed, credit) in sorted(balances.items())
        for figure in (
            Figure(name=f"Owes ({currency})", value=f"{owed:,.2f}", hint="Receivable in the ledger"),
            Figure(name=f"Credit ({currency})", value=f"{credit:,.2f}", hint="Paid or credited, not yet applied"),
        )
    ]


def _beneficiaries(customer: Customer) -> Panel:
    rows = [(one.external_id, masking.mask_name(one.name)) for one in customer.beneficiaries.order_by("external_id")]
    return Panel(title="Buys for", headers=("External id", "Name"), rows=rows, empty="Nobody but themselves.")


@admin.register(Beneficiary)
class BeneficiaryAdmin(TenantAdmin):
    view_permission = "customer.view"
    empty_hint = "Whom a customer buys for comes through the API: POST /api/v1/customers/{id}/beneficiaries."
    list_display = ("external_id", "masked_name", "customer", "organisation")
    list_select_related = ("customer", "organisation")
    search_fields = ("external_id", "customer__external_id")
    fields = readonly_fields = ("external_id", "masked_name", "customer", "organisation")
    ordering = ("-id",)

    @display(description="name")
    def masked_name(self, beneficiary: Beneficiary) -> str:
        return masking.mask_name(beneficiary.name)
