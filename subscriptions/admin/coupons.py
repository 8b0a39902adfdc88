"""Console pages of coupons: what is offered, the words for it, who has it and what it took off."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet, Sum
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString
from moneyed import Money
from unfold.contrib.filters.admin import ChoicesDropdownFilter
from unfold.decorators import display

from billing.admin.base import TenantAdmin, decision, path_to, site
from billing.admin.panels import (
    NOTHING,
    Figure,
    Panel,
    Record,
    RecordAdmin,
    badge,
    customer_column,
    day,
    link,
    moment,
    money,
    number,
    number_column,
    on_page_of,
    page_action,
    status_column,
    timeline_panel,
)
from billing.context import Actor
from billing.errors import NotFound
from billing.models import Customer
from subscriptions.admin.coupon_forms import GiveForm, OfferForm, WordForm, on_the_wall
from subscriptions.models import AppliedCoupon, Coupon, CouponUse, PromotionCode
from subscriptions.services import coupons

SHOWN = 100


def worth(coupon: Coupon) -> str:
    """``10 %``, or ``₹2,500.00``."""
    if coupon.kind == Coupon.Kind.PERCENT:
        return f"{number(coupon.percent)} %"
    return money(Money(coupon.amount, coupon.currency))


def lasts(coupon: Coupon) -> str:
    """For how long it is good."""
    if coupon.duration == Coupon.Duration.PERIODS:
        said = f"{coupon.periods} invoices"
    else:
        said = "one invoice" if coupon.duration == Coupon.Duration.ONCE else "for ever"
    return f"{said}, the rest is carried over" if coupon.carries_over else said


@admin.register(Coupon, site=site)
class CouponAdmin(RecordAdmin):
    """What is offered, to whom, how often it was taken and what it cost."""

    view_permission = "plan.view"
    list_display = ("code", "name", "show_worth", "show_lasts", "show_taken", "show_state", "organisation")
    list_filter = (("kind", ChoicesDropdownFilter), ("duration", ChoicesDropdownFilter))
    list_select_related = ("organisation",)
    search_fields = ("code", "name")
    ordering = ("-id",)
    empty_hint = "A coupon is offered here or by POST /api/v1/coupons."
    actions_list = ("offer",)
    actions_detail = ("give", "add_word", "archive")

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).annotate(taken=Count("redemptions"))

    @display(description="worth")
    def show_worth(self, row: Coupon) -> str:
        return worth(row)

    @display(description="lasts")
    def show_lasts(self, row: Coupon) -> str:
        return lasts(row)

    @display(description="taken", ordering="taken")
    def show_taken(self, row: Any) -> str:
        return f"{row.taken:,}" + (f" of {row.max_redemptions:,}" if row.max_redemptions else "")

    @display(description="state", label={"offered": "success", "archived": ""})
    def show_state(self, row: Coupon) -> str:
        return "archived" if row.archived_at else "offered"

    def offers(self, row: Coupon, action: str) -> bool:
        return row.archived_at is None

    @page_action(description="Offer a coupon", permission="plan.edit", icon="add")
    def offer(self, request: HttpRequest) -> HttpResponse:
        form = OfferForm(request.POST or None, organisations=self.organisations_where(request, "plan.edit"))
        if form.is_valid():
            made = self.attempt(request, lambda: self._offer(request, form.terms()))
            if made is not None:
                return HttpResponseRedirect(path_to(made))
        back = reverse("admin:subscriptions_coupon_changelist")
        return self.ask(request, title="Offer a coupon", form=form, back_to=back)

    def _offer(self, request: HttpRequest, said: dict[str, Any]) -> Coupon:
        organisation = said.pop("organisation")
        return coupons.create_coupon(organisation=organisation, actor=self.actor_in(request, organisation), **said)

    @decision(description="Add a promotion code", permission="plan.edit", form=WordForm, icon="sell")
    def add_word(self, request: HttpRequest, row: Coupon, *, actor: Actor, **said: Any) -> str:
        said["expires_at"] = on_the_wall(row.organisation, said["expires_at"])
        made = coupons.create_promotion_code(organisation=row.organisation, coupon=row.code, actor=actor, **said)
        return f"Who says {made.code} gets {row.code}."

    @decision(description="Give to a customer", permission="subscription.edit", form=GiveForm, icon="redeem")
    def give(self, request: HttpRequest, row: Coupon, *, actor: Actor, customer: str, subscription: str) -> str:
        found = Customer.objects.of(row.organisation).filter(external_id=customer).first()
        if found is None:
            raise NotFound("No such customer in this organisation.", field="customer")
        chosen = found.subscriptions.filter(external_id=subscription).first() if subscription else None
        if subscription and chosen is None:
            raise NotFound("The customer has no such subscription.", field="subscription")
        coupons.redeem(
            organisation=row.organisation, customer_id=found.pk, coupon=row.code, actor=actor,
            subscription_id=chosen.pk if chosen else None,
        )  # fmt: skip
        return f"{found.external_id} has {row.code}."

    @decision(description="Archive", permission="plan.edit", icon="inventory_2")
    def archive(self, request: HttpRequest, row: Coupon, *, actor: Actor, reason: str) -> str:
        coupons.archive_coupon(coupon_id=row.pk, actor=actor, reason=reason)
        return f"{row.code} is not given any more; who has it keeps it."

    def record(self, request: HttpRequest, row: Coupon) -> Record:
        applied = AppliedCoupon.objects.filter(coupon=row)
        taken_off = _taken_off(CouponUse.objects.filter(applied__coupon=row))
        codes = [
            (link(request, code), day(code.expires_at.date()) if code.expires_at else NOTHING,
             code.max_redemptions or "any number", "archived" if code.archived_at else "")
            for code in row.promotion_codes.order_by("-id")[:SHOWN]
        ]  # fmt: skip
        return Record(
            badges=[badge("", "archived")] if row.archived_at else [],
            figures=(
                Figure(name="Worth", value=worth(row), hint=lasts(row)),
                Figure(name="Taken", value=f"{applied.count():,}", hint=_limit(row)),
                Figure(name="In hand", value=f"{applied.filter(status='active').count():,}", hint="not used up"),
                Figure(name="Taken off", value=taken_off or NOTHING, hint="invoices so far, before tax"),
            ),
            facts=(
                ("Name", row.name),
                ("Plans", ", ".join(plan.code for plan in row.plans.all()) or "all"),
                ("Meters", ", ".join(meter.code for meter in row.meters.all()) or "all"),
                ("Charges", ", ".join(row.charges) or "all"),
                ("To be taken until", moment(row.expires_at, row.organisation)),
                ("For each customer", row.max_per_customer),
                ("Made", moment(row.created_at, row.organisation)),
                ("Archived", moment(row.archived_at, row.organisation)),
            ),
            panels=[
                Panel(title="Promotion codes", headers=("Code", "Until", "At most", ""), rows=codes, empty="None."),
                applied_panel(request, applied, empty="Nobody has taken it yet."),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )


def _limit(coupon: Coupon) -> str:
    return f"of {coupon.max_redemptions:,}" if coupon.max_redemptions else "any number may be taken"


def applied_panel(request: HttpRequest, applied: QuerySet[Any], *, empty: str) -> Panel:
    """Coupons in hand, the newest first."""
    rows = [
        (link(request, one, one.coupon.code), link(request, one.customer), link(request, one.subscription),
         badge(one.status), one.periods_left if one.periods_left is not None else "for ever",
         moment(one.applied_at, one.organisation), money(Money(one.discounted, one.currency)))
        for one in applied.select_related("coupon", "customer", "subscription", "organisation").order_by("-id")[:SHOWN]
    ]  # fmt: skip
    headers = ("Coupon", "Customer", "Subscription", "State", "Invoices left", "Since", "Taken off")
    return Panel(title="Coupons in hand", headers=headers, rows=rows, numbers=frozenset({6}), empty=empty)


@on_page_of("billing.customer")
def coupons_of_customer(request: HttpRequest, page: TenantAdmin, row: Any) -> list[Panel]:
    """The coupons a customer has, where there are any."""
    applied = AppliedCoupon.objects.filter(customer=row)
    if not page.actor(request, row).may("subscription.view") or not applied.exists():
        return []
    return [applied_panel(request, applied, empty="None.")]


@admin.register(PromotionCode, site=site)
class PromotionCodeAdmin(RecordAdmin):
    """Words that give a coupon."""

    view_permission = "plan.view"
    list_display = ("code", "coupon", "show_taken", "show_until", "show_state", "organisation")
    list_select_related = ("organisation", "coupon")
    search_fields = ("code__iexact", "coupon__code")
    ordering = ("-id",)
    empty_hint = "A promotion code is made on its coupon's page or by POST /api/v1/promotion-codes."
    actions_detail = ("archive",)

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).annotate(taken=Count("redemptions"))

    @display(description="taken", ordering="taken")
    def show_taken(self, row: Any) -> str:
        return f"{row.taken:,}" + (f" of {row.max_redemptions:,}" if row.max_redemptions else "")

    @display(description="until", ordering="expires_at")
    def show_until(self, row: PromotionCode) -> str:
        return moment(row.expires_at, row.organisation)

    @display(description="state", label={"offered": "success", "archived": ""})
    def show_state(self, row: PromotionCode) -> str:
        return "archived" if row.archived_at else "offered"

    def offers(self, row: PromotionCode, action: str) -> bool:
        return row.archived_at is None

    @decision(description="Archive", permission="plan.edit", icon="inventory_2")
    def archive(self, request: HttpRequest, row: PromotionCode, *, actor: Actor, reason: str) -> str:
        coupons.archive_promotion_code(promotion_code_id=row.pk, actor=actor, reason=reason)
        return f"{row.code} gives nothing any more."

    def record(self, request: HttpRequest, row: PromotionCode) -> Record:
        return Record(
            badges=[badge("", "archived")] if row.archived_at else [],
            facts=(
                ("Coupon", link(request, row.coupon)),
                ("Worth", worth(row.coupon)),
                ("Until", moment(row.expires_at, row.organisation)),
                ("At most", row.max_redemptions or "any number"),
                ("For", "customers who were not billed yet" if row.first_subscription_only else "everybody"),
                ("Made", moment(row.created_at, row.organisation)),
            ),
            panels=[
                applied_panel(
                    request, AppliedCoupon.objects.filter(promotion_code=row), empty="Nobody has said it yet."
                ),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )


def _taken_off(uses: QuerySet[CouponUse]) -> str:
    """What uses of coupons took off, by currency."""
    sums = uses.order_by("currency").values("currency").annotate(total=Sum("amount"))
    return ", ".join(money(Money(one["total"], one["currency"])) for one in sums if one["total"])


@admin.register(AppliedCoupon, site=site)
class AppliedCouponAdmin(RecordAdmin):
    """A coupon in a customer's hand: what is left of it, and what it took off."""

    view_permission = "subscription.view"
    list_display = (
        "show_coupon", "show_customer", "show_subscription", "show_status", "show_left", "show_uses", "show_discounted", "organisation",
    )  # fmt: skip
    list_filter = (("status", ChoicesDropdownFilter),)
    list_select_related = ("organisation", "coupon", "customer", "subscription")
    search_fields = ("coupon__code", "customer__external_id", "promotion_code__code__iexact")
    ordering = ("-id",)
    empty_hint = "A coupon is given on its page, or taken by POST /api/v1/applied-coupons."
    actions_detail = ("remove",)
    show_customer = customer_column
    show_status = status_column()

    @display(description="coupon", ordering="coupon__code")
    def show_coupon(self, row: AppliedCoupon) -> str:
        return row.coupon.code

    @display(description="taken off", ordering="discounted")
    def show_discounted(self, row: AppliedCoupon) -> SafeString:
        return format_html('<span class="m-amount">{}</span>', money(Money(row.discounted, row.currency)))

    show_uses = number_column("uses", title="invoices")

    @display(description="subscription", ordering="subscription__external_id")
    def show_subscription(self, row: AppliedCoupon) -> str:
        return row.subscription.external_id if row.subscription else "all"

    @display(description="invoices left", ordering="periods_left")
    def show_left(self, row: AppliedCoupon) -> str:
        return "for ever" if row.periods_left is None else f"{row.periods_left:,}"

    def called(self, row: AppliedCoupon) -> str:
        return f"{row.coupon.code} of {row.customer.external_id}"

    def offers(self, row: AppliedCoupon, action: str) -> bool:
        return row.status == AppliedCoupon.Status.ACTIVE

    @decision(description="Take back", permission="subscription.edit", icon="undo")
    def remove(self, request: HttpRequest, row: AppliedCoupon, *, actor: Actor, reason: str) -> str:
        coupons.remove(applied_coupon_id=row.pk, actor=actor, reason=reason)
        return f"{row.coupon.code} takes nothing off any more."

    def record(self, request: HttpRequest, row: AppliedCoupon) -> Record:
        uses = CouponUse.objects.filter(applied=row).select_related("invoice").order_by("-id")
        rows = [
            (moment(use.used_at, row.organisation), link(request, use.invoice), money(Money(use.amount, use.currency)))
            for use in uses[:SHOWN]
        ]
        return Record(
            badges=[badge(row.status)],
            figures=(
                Figure(name="Taken off", value=_taken_off(uses) or money(Money(0, row.currency)),
                       hint="1 invoice" if row.uses == 1 else f"{row.uses:,} invoices"),
                Figure(name="Carried over", value=money(Money(row.left_over, row.currency))),
                Figure(name="Invoices left", value="for ever" if row.periods_left is None else row.periods_left),
            ),
            facts=(
                ("Coupon", link(request, row.coupon, row.coupon.code)),
                ("Worth", f"{worth(row.coupon)}, {lasts(row.coupon)}"),
                ("Promotion code", link(request, row.promotion_code)),
                ("Customer", link(request, row.customer)),
                ("Subscription", link(request, row.subscription) if row.subscription else "all of the customer's"),
                ("Since", moment(row.applied_at, row.organisation)),
                ("Ended", moment(row.ended_at, row.organisation)),
            ),
            panels=[
                Panel(title="Invoices", headers=("Time", "Invoice", "Taken off"), rows=rows, numbers=frozenset({2}),
                      empty="It has taken nothing off yet."),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )  # fmt: skip
