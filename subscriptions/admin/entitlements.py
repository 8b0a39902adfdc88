"""Console pages of exceptions and alerts, and what a customer's page shows of entitlements."""

import uuid
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, cast
from urllib.parse import urlencode

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from unfold.decorators import display
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldAdminSplitDateTimeWidget, UnfoldAdminTextInputWidget

from billing.admin.base import ReasonForm, TenantAdmin, decision, path_to, site
from billing.admin.finding import FindInput
from billing.admin.panels import (
    NOTHING,
    OrganisationForm,
    Panel,
    Record,
    RecordAdmin,
    badge,
    customer_column,
    link,
    moment,
    number,
    on_page_of,
    page_action,
    timeline_panel,
    words,
)
from billing.context import Actor
from billing.masking import mask_name
from billing.models import Customer
from subscriptions.admin.coupon_forms import on_the_wall
from subscriptions.entitlements import checking, rules
from subscriptions.entitlements.checking import Answer
from subscriptions.entitlements.words import EXAMPLES, say
from subscriptions.models import EntitlementAlert, EntitlementGrant, Feature, Subscription
from subscriptions.selectors import customer_named
from subscriptions.services.entitlements import grants
from subscriptions.services.entitlements.terms import TermsInput, features_named, from_words, in_words

TEXT = UnfoldAdminTextInputWidget
WHY = {
    "included": "included", "within_limit": "within the limit", "unlimited": "unlimited", "overage": "beyond the limit",
    "limit_reached": "used up", "not_included": "not in the plan", "no_subscription": "no subscription",
}  # fmt: skip


class GrantForm(OrganisationForm):
    """An exception to be."""

    customer = forms.CharField(
        max_length=100, widget=FindInput("billing.customer"), help_text="External id or id; write to find it."
    )
    feature = forms.ChoiceField(widget=UnfoldAdminSelectWidget())
    kind = forms.ChoiceField(
        choices=[("grant", "added to what the plan gives, for a time"), ("override", "instead of what the plan gives")],
        widget=UnfoldAdminSelectWidget(),
    )
    what = forms.CharField(max_length=200, widget=TEXT(), help_text=f"{EXAMPLES} · included · a value")
    subscription = forms.CharField(
        max_length=100,
        required=False,
        widget=FindInput("subscriptions.subscription", beside="customer"),
        help_text="External id; empty: the customer as a whole.",
    )
    expires_at = forms.SplitDateTimeField(
        required=False,
        widget=UnfoldAdminSplitDateTimeWidget(),
        label="Expires at",
        help_text="On the organisation's wall. A grant needs one.",
    )
    reason = forms.CharField(min_length=3, max_length=500, widget=TEXT(), help_text="Kept in the audit trail.")

    def __init__(self, *args: Any, organisations: Sequence[uuid.UUID], **kwargs: Any) -> None:
        super().__init__(*args, organisations=organisations, **kwargs)
        groups: dict[str, list[tuple[str, str]]] = {}
        found = Feature.objects.filter(organisation__in=organisations, archived_at=None)
        for one in found.select_related("organisation").order_by("organisation__name", "name"):
            groups.setdefault(one.organisation.name, []).append((one.code, f"{one.name} ({one.code})"))
        offered: list[Any] = list(groups.items()) if len(groups) > 1 else next(iter(groups.values()), [])
        cast(forms.ChoiceField, self.fields["feature"]).choices = [("", "choose"), *offered]


@admin.register(EntitlementGrant, site=site)
class EntitlementGrantAdmin(RecordAdmin):
    """Overrides and temporary grants: who decided them, why, and until when."""

    view_permission = "entitlement.view"
    list_display = (
        "show_customer", "show_feature", "kind", "show_what", "show_state", "show_until", "reason", "show_who", "organisation",
    )  # fmt: skip
    list_filter = ("kind", ("ended_at", admin.EmptyFieldListFilter))
    list_select_related = ("organisation", "customer", "feature")
    search_fields = ("customer__external_id", "feature__code", "reason")
    actions_list = ("add_grant",)
    actions_detail = ("revoke",)
    empty_hint = "An exception is made here or by POST /api/v1/entitlement-grants."
    show_customer = customer_column

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).order_by("-id")

    @display(description="feature", ordering="feature__code")
    def show_feature(self, row: EntitlementGrant) -> str:
        return row.feature.code

    @display(description="what")
    def show_what(self, row: EntitlementGrant) -> str:
        return in_words(row, row.feature)

    @display(description="state", label={"running": "success", "revoked": "danger", "expired": "", "replaced": ""})
    def show_state(self, row: EntitlementGrant) -> str:
        return row.ended or "running"

    @display(description="decided by", ordering="actor_label")
    def show_who(self, row: EntitlementGrant) -> str:
        return row.actor_label

    @display(description="until", ordering="expires_at")
    def show_until(self, row: EntitlementGrant) -> str:
        return moment(row.ended_at or row.expires_at, row.organisation)

    @page_action(description="Make an exception", permission="entitlement.grant", icon="add")
    def add_grant(self, request: HttpRequest) -> HttpResponse:
        """An override or a grant, with its reason; a customer's page brings the customer along."""
        known = {name: request.GET[name] for name in ("customer", "organisation") if name in request.GET}
        allowed = self.organisations_where(request, "entitlement.grant")
        form = GrantForm(request.POST or None, organisations=allowed, initial=known)
        if form.is_valid():
            made = self.attempt(request, lambda: self._give(request, form.cleaned_data), form=form)
            if made is not None:
                return HttpResponseRedirect(path_to(made))
        back = reverse("admin:subscriptions_entitlementgrant_changelist")
        return self.ask(request, title="Make an exception", form=form, back_to=back)

    def _give(self, request: HttpRequest, said: dict[str, Any]) -> EntitlementGrant:
        organisation = said["organisation"]
        customer = customer_named(organisation, said["customer"])
        feature = features_named(organisation, [said["feature"]])[said["feature"]]
        terms = from_words(feature, said["what"])  # its refusals name ``what``
        if terms.remove:
            terms = TermsInput(feature=feature.code, enabled=False)
        subscription = None
        if said["subscription"]:
            mine = Subscription.objects.of(organisation).filter(customer=customer)
            subscription = mine.filter(external_id=said["subscription"]).first()
        return grants.give(
            organisation=organisation,
            customer_id=customer.pk,
            kind=said["kind"],
            terms=terms,
            subscription_id=_id_or_refusal(subscription, said["subscription"]),
            expires_at=on_the_wall(organisation, said["expires_at"]),
            reason=said["reason"],
            actor=self.actor_in(request, organisation),
        )

    @decision(
        description="Revoke",
        permission="entitlement.grant",
        form=ReasonForm,
        icon="block",
        variant=ActionVariant.DANGER,
    )
    def revoke(self, request: HttpRequest, row: EntitlementGrant, *, actor: Actor, reason: str) -> str:
        """End it now."""
        grants.revoke(grant_id=row.pk, actor=actor, reason=reason)
        return f"{row} is revoked."

    def offers(self, row: EntitlementGrant, action: str) -> bool:
        return action != "revoke" or row.ended_at is None

    def record(self, request: HttpRequest, row: EntitlementGrant) -> Record:
        return Record(
            badges=(badge("void" if row.ended else "active", row.ended or "running"),),
            facts=(
                ("Customer", link(request, row.customer, f"{row.customer.external_id} {mask_name(row.customer.name)}")),
                ("Subscription", link(request, row.subscription) if row.subscription else "the customer as a whole"),
                ("Feature", link(request, row.feature)),
                ("Kind", row.kind),
                ("What", in_words(row, row.feature)),
                ("From", moment(row.starts_at, row.organisation)),
                ("Expires", moment(row.expires_at, row.organisation)),
                ("Reason", row.reason),
                ("Decided by", row.actor_label),
                ("Ended", moment(row.ended_at, row.organisation)),
                *((("Ended because", row.ended_reason),) if row.ended_reason else ()),
            ),
            panels=timeline_panel(request, self, row, [row.pk]),
        )


def _id_or_refusal(subscription: Subscription | None, named: str) -> Any:
    """The subscription's id; one that was named and is not the customer's has an id that nothing has, and is refused."""
    if subscription is not None:
        return subscription.pk
    return Subscription().pk if named else None


@admin.register(EntitlementAlert, site=site)
class EntitlementAlertAdmin(RecordAdmin):
    """Customers who reached a threshold of a limit."""

    view_permission = "entitlement.view"
    list_display = ("show_customer", "show_feature", "show_threshold", "show_used", "show_at", "organisation")
    list_filter = ("threshold",)
    list_select_related = ("organisation", "customer", "feature")
    search_fields = ("customer__external_id", "feature__code")
    empty_hint = "An alert is written when a customer reaches 75, 90 or 100 % of a limit, once in each window."
    show_customer = customer_column

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).order_by("-id")

    @display(description="feature", ordering="feature__code")
    def show_feature(self, row: EntitlementAlert) -> str:
        return row.feature.code

    @display(description="threshold", ordering="threshold", label="warning")
    def show_threshold(self, row: EntitlementAlert) -> str:
        return f"{row.threshold} %"

    @display(description="used")
    def show_used(self, row: EntitlementAlert) -> str:
        return f"{number(row.used)} of {number(row.limit)}"

    @display(description="when", ordering="at")
    def show_at(self, row: EntitlementAlert) -> str:
        return moment(row.at, row.organisation)

    def record(self, request: HttpRequest, row: EntitlementAlert) -> Record:
        return Record(
            badges=(badge("due", f"{row.threshold} %"),),
            facts=(
                ("Customer", link(request, row.customer, f"{row.customer.external_id} {mask_name(row.customer.name)}")),
                ("Feature", link(request, row.feature)),
                ("Used", f"{number(row.used)} of {number(row.limit)}"),
                (
                    "Window",
                    f"{moment(row.window_start, row.organisation)} to {moment(row.window_end, row.organisation)}",
                ),
                ("Told", moment(row.at, row.organisation)),
            ),
            panels=timeline_panel(request, self, row, [row.pk]),
        )


@on_page_of("billing.customer")
def entitlements_on_customer(request: HttpRequest, page: TenantAdmin, row: Customer) -> list[Panel]:
    """What the customer may use, and how much of it is used."""
    actor = page.actor(request, row)
    if not actor.may("entitlement.view") or not Feature.objects.of(row.organisation_id).exists():
        return []
    found = checking.entitlements_of(organisation=row.organisation, customer=str(row.pk))
    note = ""
    if actor.may("entitlement.grant"):
        asked = urlencode({"customer": row.external_id, "organisation": row.organisation_id})
        address = f"{reverse('admin:subscriptions_entitlementgrant_add_grant')}?{asked}"
        note = format_html('<a class="m-link" href="{}">Make an exception</a>', address)
    return [
        Panel(
            title="Entitlements",
            headers=("Feature", "Has", "Used", "Left", "Full again", ""),
            rows=[_entitlement(one, row) for one in found],
            numbers=frozenset({3}),
            empty="No features.",
            note=note,
        )
    ]


def _entitlement(one: Answer, customer: Customer) -> tuple[Any, ...]:
    verdict = one.verdict
    terms = one.held.terms if one.held else None
    why = WHY.get(verdict.why, words(verdict.why))
    tone = "active" if verdict.allowed and not verdict.overage else "due" if verdict.allowed else "void"
    left = NOTHING if verdict.remaining is None else number(verdict.remaining)
    return (
        one.name, say(one.kind, terms), usage_bar(verdict.used, verdict.limit) if one.kind in rules.COUNTED else NOTHING, left,
        moment(one.resets_at, customer.organisation), badge(tone, why),
    )  # fmt: skip


def usage_bar(used: Decimal | None, limit: Decimal | None) -> Any:
    """How full it is, drawn; the figure alone where nothing limits it."""
    if used is None:
        return NOTHING
    if limit is None or limit <= 0:
        return number(used)
    percent = int(used * 100 / limit)
    tone = "m-full" if percent >= 100 else "m-nearly" if percent >= 75 else ""
    return format_html(
        '<span class="m-meter {}" role="img" aria-label="{} %"><progress max="100" value="{}"></progress> {} of {}</span>',
        tone, percent, min(percent, 100), number(used), number(limit),
    )  # fmt: skip
