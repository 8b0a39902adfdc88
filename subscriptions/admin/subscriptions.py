"""Console page of subscriptions: state, periods, documents, plans for the future, and what a person may decide."""

from datetime import date
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.safestring import mark_safe
from djmoney.money import Money
from unfold.decorators import display
from unfold.enums import ActionVariant

from billing import clock
from billing.admin.base import decision, site
from billing.admin.panels import (
    NOTHING,
    CurrencyFilter,
    Figure,
    Panel,
    Record,
    RecordAdmin,
    badge,
    customer_column,
    link,
    moment,
    money,
    number_column,
    span,
    status_column,
    timeline_panel,
    words,
)
from billing.context import Actor
from billing.errors import DomainError
from billing.masking import mask_name
from billing.models import Event
from invoices.models import CreditNote, Invoice
from subscriptions import recurring
from subscriptions.admin.add_ons import AddOnActions, add_ons_panel, takes_add_ons
from subscriptions.admin.asking import (
    CancelForm,
    ChangeForm,
    PauseForm,
    ResumeForm,
    draft_rows,
    foretelling,
    terms,
    timed,
)
from subscriptions.admin.lasting import LastingActions, changeable, ends_ahead, lasting_facts
from subscriptions.admin.paying import PaymentActions
from subscriptions.admin.plan_moves import moves_ahead
from subscriptions.admin.story import Bar, Dot, story
from subscriptions.lines import PriceBook
from subscriptions.models import PlannedChange, Subscription
from subscriptions.periods import local_date
from subscriptions.selectors import invoices_billing, periods_of, price_books
from subscriptions.services import acting, preview
from subscriptions.services.documents import Issued
from subscriptions.services.draft_finalizing import refused_drafts
from subscriptions.services.rows import planned_changes
from subscriptions.services.zones import zone_of

ENDED = ("cancelled", "expired")
SHOWN = 12
STANDING = {"paid": "paid", "void": "void", "uncollectible": "void"}
QUIET = ("subscription.renewed", "subscription.refund_due", "subscription.created")
OFFERED = {
    "pause": lambda row: row.status in ("active", "past_due", "trialing"),
    "resume": lambda row: row.status == "paused",
    "suspend": lambda row: row.status in ("active", "past_due"),
    "reactivate": lambda row: row.status in ("suspended", "cancelled"),
    "drop_plans": lambda row: row.status not in ENDED and bool(planned_changes(row)),
    "change_quantity": lambda row: row.status in ("pending", "trialing", "active", "past_due"),
    "change_add_ons": takes_add_ons,
    "change_end": changeable,
    "change_term": changeable,
    "change_payment": lambda row: row.status not in ENDED,
    "cancel": lambda row: row.status not in ENDED,
    "uncancel": lambda row: row.cancel_at is not None and row.status not in ENDED,
    "take_up_again": lambda row: bool(row.failure),
}


@admin.register(Subscription, site=site)
class SubscriptionAdmin(AddOnActions, LastingActions, PaymentActions, RecordAdmin):
    """Who pays what, how often, and what comes next."""

    view_permission = "subscription.view"
    list_display = (
        "external_id",
        "show_customer",
        "show_plan",
        "show_quantity",
        "show_status",
        "show_next",
        "show_failure",
        "organisation",
    )
    list_filter = ("status", CurrencyFilter, ("failure", admin.EmptyFieldListFilter))
    list_select_related = ("organisation", "customer", "plan_version__plan")
    found_by = "external_id"
    search_fields = ("external_id", "customer__external_id", "plan_version__plan__code")
    actions = ("take_up_again",)
    actions_detail = (
        "take_up_again",
        {"title": "Change", "icon": "edit", "items": ["change_quantity", "change_add_ons", "change_end", "change_term",
                                                      "change_payment", "drop_plans"]},
        "pause", "resume", "suspend", "reactivate", "uncancel", "cancel",
    )  # fmt: skip
    empty_hint = "Subscriptions are begun through the API (POST /api/v1/subscriptions)."
    show_customer = customer_column
    show_status = status_column()
    show_quantity = number_column("quantity")

    def found_as(self, row: Subscription) -> str:
        return f"{row.plan_version.plan.code} of {row.customer.external_id}, {words(row.status)}"

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).order_by("-id")

    @display(description="plan", ordering="plan_version__plan__code")
    def show_plan(self, row: Subscription) -> str:
        return row.plan_version.plan.code

    @display(description="next invoice", ordering="next_billing_at")
    def show_next(self, row: Subscription) -> str:
        return moment(row.next_billing_at, row.organisation)

    @display(description="set aside", label={"yes": "danger"})
    def show_failure(self, row: Subscription) -> str:
        return "yes" if row.failure else ""

    @decision(
        description="Change plan or quantity", permission="subscription.edit", form=ChangeForm, icon="edit",
        foretell=foretelling("change", terms),
    )  # fmt: skip
    def change_quantity(
        self, request: HttpRequest, row: Subscription, *, actor: Actor, reason: str, **asked: Any
    ) -> str:
        changed = acting.change(
            organisation=row.organisation, subscription_id=row.pk, actor=actor, reason=reason, **terms(row, asked)
        )
        if changed.planned is not None:
            return (
                f"{row}: {planned_text(changed.planned)} from {moment(changed.planned.effective_at, row.organisation)}."
            )
        return f"{row}: changed now. {issued_text(changed.issued)}"

    @decision(
        description="Pause", permission="subscription.edit", form=PauseForm, icon="pause", foretell=foretelling("pause")
    )
    def pause(self, request: HttpRequest, row: Subscription, *, actor: Actor, reason: str, **asked: Any) -> str:
        paused = acting.pause(
            organisation=row.organisation, subscription_id=row.pk, actor=actor, reason=reason, **timed(row, asked)
        )
        if asked.get("on"):
            return f"{row} is paused from {moment(timed(row, asked)['on'], row.organisation)}."
        return f"{row} is paused. {issued_text(paused.issued)}"

    @decision(
        description="Resume", permission="subscription.edit", form=ResumeForm, icon="play_arrow",
        variant=ActionVariant.PRIMARY, foretell=foretelling("resume"),
    )  # fmt: skip
    def resume(self, request: HttpRequest, row: Subscription, *, actor: Actor, reason: str, **asked: Any) -> str:
        resumed = acting.resume(
            organisation=row.organisation, subscription_id=row.pk, actor=actor, reason=reason, **timed(row, asked)
        )
        if asked.get("on"):
            return f"{row} runs again from {moment(resumed.resume_at, row.organisation)}."
        return f"{row} runs again; next invoice {moment(resumed.next_billing_at, row.organisation)}."

    @decision(description="Suspend", permission="subscription.edit", icon="block", foretell=foretelling("suspend"))
    def suspend(self, request: HttpRequest, row: Subscription, *, actor: Actor, reason: str) -> str:
        acting.suspend(organisation=row.organisation, subscription_id=row.pk, actor=actor, reason=reason)
        return f"{row} is suspended: nothing is served or billed until it is reactivated."

    @decision(
        description="Cancel", permission="subscription.edit", form=CancelForm, icon="cancel", variant=ActionVariant.DANGER,
        foretell=foretelling("cancel"),
    )  # fmt: skip
    def cancel(self, request: HttpRequest, row: Subscription, *, actor: Actor, reason: str, **asked: Any) -> str:
        ended = acting.cancel(
            organisation=row.organisation, subscription_id=row.pk, actor=actor, reason=reason, **timed(row, asked)
        )
        if ended.subscription.cancel_at is not None:
            return f"{row} ends at {moment(ended.subscription.cancel_at, row.organisation)}."
        return f"{row} is cancelled. {issued_text(ended.issued)}"

    @decision(
        description="Reactivate", permission="subscription.edit", icon="restart_alt", variant=ActionVariant.PRIMARY,
        foretell=foretelling("reactivate"),
    )  # fmt: skip
    def reactivate(self, request: HttpRequest, row: Subscription, *, actor: Actor, reason: str) -> str:
        found = acting.reactivate(organisation=row.organisation, subscription_id=row.pk, actor=actor, reason=reason)
        return f"{row} goes on; next invoice {moment(found.next_billing_at, row.organisation)}."

    @decision(
        description="Take planned changes back", permission="subscription.edit", icon="event_busy",
        foretell=foretelling("cancel_change"),
    )  # fmt: skip
    def drop_plans(self, request: HttpRequest, row: Subscription, *, actor: Actor, reason: str) -> str:
        acting.cancel_planned_change(organisation=row.organisation, subscription_id=row.pk, actor=actor, reason=reason)
        return f"{row}: nothing is planned any more."

    @decision(
        description="Take cancellation back",
        permission="subscription.edit",
        icon="undo",
        foretell=foretelling("uncancel"),
    )
    def uncancel(self, request: HttpRequest, row: Subscription, *, actor: Actor, reason: str) -> str:
        acting.uncancel(organisation=row.organisation, subscription_id=row.pk, actor=actor, reason=reason)
        return f"{row} goes on."

    @decision(description="Take up again", permission="subscription.edit", icon="replay")
    def take_up_again(self, request: HttpRequest, row: Subscription, *, actor: Actor, reason: str) -> str:
        found = acting.take_up_again(organisation=row.organisation, subscription_id=row.pk, actor=actor, reason=reason)
        return f"{row}: still set aside: {found.failure}" if found.failure else f"{row} is billed again."

    def offers(self, row: Subscription, action: str) -> bool:
        return OFFERED[action](row)

    def record(self, request: HttpRequest, row: Subscription) -> Record:
        invoices = list(invoices_billing(row).order_by("-id")[:200])
        notes = list(CreditNote.objects.filter(invoice__in=[invoice.pk for invoice in invoices]).order_by("-id"))
        ids = [row.pk, *(invoice.pk for invoice in invoices), *(note.pk for note in notes)]
        return Record(
            badges=(badge(row.status),),
            notice=_notice(row),
            figures=self._figures(row),
            facts=self._facts(request, row),
            picture=self._story(row, invoices),
            panels=[
                self._future(request, row),
                *add_ons_panel(row),
                self._documents(request, invoices, notes),
                self._periods(request, row),
                *timeline_panel(request, self, row, ids),
            ],
        )

    def _story(self, row: Subscription, invoices: list[Invoice]) -> Any:
        """The time line as a picture: the last invoices, what happened, what comes."""
        zone = zone_of(row)
        bars = [
            Bar(first_on=one.period_start, last_on=one.period_end, text=f"{one.total}", standing=STANDING.get(one.status, "open"),
                hint=f"{one}, {span(one.period_start, one.period_end)}: {one.total}, {words(one.status)}{_shared(one)}")
            for one in invoices[:SHOWN] if one.period_start and one.period_end
        ][::-1]  # fmt: skip
        since = bars[0].first_on if len(invoices) > SHOWN else date.min
        events = Event.objects.of(row.organisation_id).filter(aggregate_id=row.pk, type__startswith="subscription.")
        dots = [
            Dot(on=local_date(one.occurred_at, zone), text=words(one.type.removeprefix("subscription.")))
            for one in events.exclude(type__in=QUIET).order_by("-id")[:SHOWN * 4]
        ]  # fmt: skip
        try:
            coming = preview.preview_action(organisation=row.organisation, subscription_id=row.pk, count=3)
        except DomainError:
            coming = preview.Preview()
        for one in coming.invoices:
            total = Money(one.priced.total, one.priced.currency)
            hint = f"{span(one.period_start, one.period_end)}: {total} would come"
            bars.append(
                Bar(first_on=one.period_start, last_on=one.period_end, text=f"{total}", hint=hint, standing="coming")
            )
        dots += [
            Dot(on=local_date(one.at, zone), text=words(one.what), is_planned=True)
            for one in coming.events if f"subscription.{one.what}" not in QUIET
        ]  # fmt: skip
        dots += [Dot(on=local_date(at, zone), text=what, is_planned=True) for at, what, _ in moves_ahead(row)]
        now = clock.now(row.organisation)
        shown = [dot for dot in dots if dot.on >= since]
        return mark_safe(story(bars=bars, dots=shown, today=local_date(now, zone)))  # noqa: S308 - drawn from escaped values

    def _figures(self, row: Subscription) -> tuple[Figure, ...]:
        book = _book(row)
        level = recurring.mrr(book=book, quantity=row.quantity, status=row.status) if book else None
        return (
            Figure(
                name="Monthly recurring",
                value=money(Money(level.amount, level.currency) if level else None),
                hint=row.plan_version.plan.name,
            ),
            Figure(name="Quantity", value=f"{row.quantity:,}"),
            Figure(name="Next invoice", value=moment(row.next_billing_at, row.organisation)),
        )

    def _facts(self, request: HttpRequest, row: Subscription) -> tuple[tuple[str, Any], ...]:
        at = [("Trial until", row.trial_ends_at), ("Ends", row.ends_at), ("To be paid by", row.activate_by), ("Cancels at", row.cancel_at),
              ("Cancelled", row.cancelled_at), ("Paused since", row.paused_at), ("Resumes", row.resume_at),
              ("Restricted since", row.restricted_at)]  # fmt: skip
        period, version = NOTHING, row.plan_version
        if row.period_start and row.period_end:
            period = f"{moment(row.period_start, row.organisation)} to {moment(row.period_end, row.organisation)}"
        return (
            ("Customer", link(request, row.customer, f"{row.customer.external_id} {mask_name(row.customer.name)}")),
            ("For", link(request, row.beneficiary) if row.beneficiary else NOTHING),
            ("Plan", link(request, version.plan, f"{version.plan.code}, version {version.number}")),
            ("Currency", row.currency),
            ("Since", moment(row.started_at, row.organisation)),
            ("Paid period", period),
            ("Collected", "automatically" if row.collect_automatically else f"on invoice, {row.net_days} days"),
            *((name, moment(value, row.organisation)) for name, value in at if value is not None),
            *lasting_facts(row),
            *((("Reason", row.cancel_reason),) if row.cancel_reason else ()),
        )

    def _future(self, request: HttpRequest, row: Subscription) -> Panel:
        """Planned changes, and the invoices that would come next."""
        rows: list[tuple[Any, ...]] = [
            (change.effective_at, "change", planned_text(change), "") for change in planned_changes(row)
        ]
        rows += [(*known, "") for known in (*ends_ahead(row), *moves_ahead(row))]
        refused: list[tuple[Any, ...]] = []
        try:
            coming = preview.preview_change(organisation=row.organisation, subscription_id=row.pk, count=3)
        except DomainError as exc:
            refused.append((NOTHING, "cannot be billed", str(exc), ""))
        else:
            rows += [
                (invoice.at, "invoice", span(invoice.period_start, invoice.period_end),
                 money(Money(invoice.priced.total, invoice.priced.currency)))
                for invoice in coming.invoices
            ]  # fmt: skip
            rows += draft_rows(request, coming)
        rows.sort(key=lambda known: known[0])
        rows = [(moment(at, row.organisation), *known) for at, *known in rows] + refused
        return Panel(
            title="What comes next",
            headers=("When", "What", "", "Total"),
            rows=rows,
            numbers=frozenset({3}),
            empty="Nothing: no invoice is planned.",
            note="Usage counts as far as it is measured now.",
        )

    def _documents(self, request: HttpRequest, invoices: list[Invoice], notes: list[CreditNote]) -> Panel:
        rows = [
            (link(request, invoice), badge(invoice.status), span(invoice.period_start, invoice.period_end),
             money(invoice.total), money(invoice.due))
            for invoice in invoices
        ]  # fmt: skip
        rows += [(link(request, note), "credit note", note.reason, money(-note.total), "") for note in notes]
        return Panel(
            title="Documents",
            headers=("Number", "State", "Period", "Total", "Due"),
            rows=rows,
            numbers=frozenset({3, 4}),
            empty="No invoice yet.",
        )

    def _periods(self, request: HttpRequest, row: Subscription) -> Panel:
        rows = [
            (moment(period.starts_at, row.organisation), moment(period.ends_at, row.organisation), words(period.kind),
             link(request, period.invoice) if period.invoice else "nothing to invoice", moment(period.billed_at, row.organisation))
            for period in periods_of(row).order_by("-starts_at")[:200]
        ]  # fmt: skip
        return Panel(
            title="Billed periods", headers=("From", "Until", "Kind", "Invoice", "Billed"), rows=rows, empty="None yet."
        )


def _notice(row: Subscription) -> str:
    """What stands in the way of billing it."""
    found = [f"Set aside: {row.failure}"] if row.failure else []
    found += [f"A draft cannot be finalised: {one.failure}" for one in refused_drafts(periods_of(row))[:3]]
    return " ".join(found)


def _shared(invoice: Invoice) -> str:
    return "" if invoice.subscription_ref else ", with others of the customer"


def issued_text(issued: Issued) -> str:
    """What was issued, in words."""
    parts = [f"Invoice {issued.invoice.number} over {issued.invoice.total}."] if issued.invoice else []
    parts += [f"Credit note {note.number} over {note.total}." for note in issued.credit_notes]
    return " ".join(parts)


def planned_text(change: PlannedChange) -> str:
    """What is planned, in words."""
    if change.kind == PlannedChange.Kind.PAUSE:
        return "pause"
    version = change.plan_version
    parts = [f"{version.plan.code}, version {version.number}"] if version else []
    parts += [f"quantity {change.quantity}"] if change.quantity else []
    return ", ".join(parts)


def _book(row: Subscription) -> PriceBook | None:
    try:
        return price_books(row.organisation_id, [row.plan_version_id]).get(row.plan_version_id, row.currency)
    except DomainError:
        return None
