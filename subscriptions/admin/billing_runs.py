"""Console page of billing runs: how far each is, what it invoiced and what it set aside."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString
from moneyed import Money
from unfold.decorators import display

from billing.admin.base import decision, site
from billing.admin.panels import (
    NOTHING,
    REFRESH,
    Figure,
    Panel,
    Record,
    RecordAdmin,
    badge,
    link,
    moment,
    money,
    number_column,
    status_column,
    timeline_panel,
)
from billing.context import Actor
from subscriptions.dunning_words import counted
from subscriptions.models import BillingCycle, BillingRun
from subscriptions.services import retrying
from subscriptions.services.draft_finalizing import refused_drafts

SHOWN = 100
UNDER_WAY = (BillingRun.Status.PENDING, BillingRun.Status.RUNNING)


@admin.register(BillingRun, site=site)
class BillingRunAdmin(RecordAdmin):
    """Passes over what is due."""

    view_permission = "billing_run.view"
    list_display = (
        "show_started",
        "show_status",
        "show_progress",
        "show_invoices",
        "show_failed",
        "show_totals",
        "organisation",
    )
    list_filter = ("status",)
    actions_detail = ("retry",)
    list_select_related = ("organisation",)
    empty_hint = (
        "A run is noted when something is due: by the clock, by POST /api/v1/billing-runs or manage.py run_billing."
    )
    show_status = status_column()

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).order_by("-id")

    def offers(self, row: BillingRun, action: str) -> bool:
        return row.failed_cycles.filter(retried_at=None).exclude(subscription__failure="").exists()

    @decision(description="Retry what failed", permission="billing_run.start", icon="replay")
    def retry(self, request: HttpRequest, row: BillingRun, *, actor: Actor, reason: str) -> str:
        run = retrying.retry_run(organisation=row.organisation, run_id=row.pk, actor=actor, reason=reason)
        return f"A run takes up {counted(run.due_count, 'subscription')}."

    def called(self, row: BillingRun) -> str:
        return f"run of {moment(row.due_at, row.organisation)}"

    @display(description="started", ordering="started_at")
    def show_started(self, run: BillingRun) -> str:
        return moment(run.started_at, run.organisation)

    @display(description="billed")
    def show_progress(self, run: BillingRun) -> str:
        return f"{run.billed_count:,} of {run.due_count:,} due"

    show_invoices = number_column("invoice_count", title="invoices")

    @display(description="set aside", ordering="failed_count", label="danger")
    def show_failed(self, run: BillingRun) -> str:
        return f"{run.failed_count:,}" if run.failed_count else ""

    @display(description="invoiced")
    def show_totals(self, run: BillingRun) -> SafeString:
        return format_html('<span class="m-amount">{}</span>', ", ".join(_sums(run)) or NOTHING)

    def record(self, request: HttpRequest, row: BillingRun) -> Record:
        return Record(
            badges=(badge(row.status), *_waiting(row)),
            notice=row.error,
            refresh=REFRESH if row.status in UNDER_WAY else 0,
            figures=(
                Figure(name="Progress", value=_bar(row), hint=_pace(row)),
                Figure(
                    name="Periods billed",
                    value=f"{row.billed_count:,}",
                    hint=f"of {counted(row.due_count, 'subscription')} due",
                ),
                Figure(
                    name="Invoices",
                    value=f"{row.invoice_count:,}",
                    hint=f"{row.draft_count:,} as drafts at first" if row.draft_count else "",
                ),
                *(Figure(name="Invoiced", value=total) for total in _sums(row)),
                Figure(name="Set aside", value=f"{row.failed_count:,}"),
            ),
            facts=(
                ("Due by", moment(row.due_at, row.organisation)),
                ("Started", moment(row.started_at, row.organisation)),
                ("Finished", moment(row.finished_at, row.organisation)),
            ),
            panels=[
                self._set_aside(request, row),
                *self._refused_drafts(request, row),
                self._periods(request, row),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )

    def _set_aside(self, request: HttpRequest, run: BillingRun) -> Panel:
        """What failed, with links to where it is mended, and what became of it."""
        failed = run.failed_cycles.select_related("subscription").order_by("id")[:SHOWN]
        rows = [
            (link(request, one.subscription), moment(one.starts_at, run.organisation), one.code, one.reason.removeprefix(f"{one.code}: "),
             badge("failed", "set aside") if one.retried_at is None else badge("done", "taken up again"))
            for one in failed
        ]  # fmt: skip
        return Panel(
            title="Set aside",
            headers=("Subscription", "Due", "Error", "Why", "Since then"),
            rows=rows,
            empty="None: everything was billed.",
            note=f"The first {SHOWN} of {run.failed_count:,}." if run.failed_count > SHOWN else "",
        )

    def _refused_drafts(self, request: HttpRequest, run: BillingRun) -> list[Panel]:
        """Drafts of the run whose grace is over and that could not be finalised; nothing where there are none."""
        rows = [
            (link(request, one.period.subscription), link(request, one.invoice) if one.invoice else NOTHING,
             moment(one.finalize_at, run.organisation), one.failure)
            for one in refused_drafts(run.billed_periods.all())[:SHOWN]
        ]  # fmt: skip
        if not rows:
            return []
        return [
            Panel(
                title="Drafts that could not be finalised", headers=("Subscription", "Draft", "Grace over", "Why"), rows=rows,
                empty="None.", note="They are tried again every hour; mend the cause, or finalise the invoice by hand.",
            )
        ]  # fmt: skip

    def _periods(self, request: HttpRequest, run: BillingRun) -> Panel:
        periods = run.billed_periods.select_related("subscription", "invoice").order_by("id")[:SHOWN]
        rows = [
            (link(request, period.subscription), moment(period.starts_at, run.organisation),
             moment(period.ends_at, run.organisation),
             link(request, period.invoice) if period.invoice else "nothing to invoice",
             money(period.invoice.total) if period.invoice else "")
            for period in periods
        ]  # fmt: skip
        return Panel(
            title="Periods",
            headers=("Subscription", "From", "Until", "Invoice", "Total"),
            rows=rows,
            numbers=frozenset({4}),
            empty="None yet.",
            note=f"The first {SHOWN}." if run.billed_count > SHOWN else "",
        )


def _sums(run: BillingRun) -> list[str]:
    return [money(Money(total, currency)) for currency, total in run.totals.items()]


def _waiting(run: BillingRun) -> list[SafeString]:
    """A badge for what the run set aside and nobody took up again."""
    number = run.failed_cycles.filter(retried_at=None).count()
    return [badge("failed", f"{number:,} set aside")] if number else []


def _bar(run: BillingRun) -> str:
    """How much of what was due when the run began is done; late periods may make it more than was due."""
    done, due = run.billed_count + run.failed_count, max(run.due_count, 1)
    share = 100 if run.status == BillingRun.Status.DONE else min(100 * done // due, 99)
    return format_html('{} %<progress max="100" value="{}" aria-label="Progress"></progress>', share, share)


def _pace(run: BillingRun) -> str:
    """Periods a second by the wall clock, once there is something to say."""
    if run.heartbeat_at is None or not run.billed_count:
        return "waits for a worker" if run.status == BillingRun.Status.PENDING else ""
    seconds = max((run.heartbeat_at - run.recorded_at).total_seconds(), 0.001)
    return f"{run.billed_count / seconds:,.0f} periods a second"


@admin.register(BillingCycle, site=site)
class BillingCycleAdmin(RecordAdmin):
    """Every billing moment that a run looked at."""

    view_permission = "billing_run.view"
    list_display = (
        "show_subscription",
        "show_plan",
        "show_starts",
        "show_status",
        "show_invoice",
        "show_reason",
        "show_at",
        "organisation",
    )
    list_filter = ("status", ("starts_at", admin.DateFieldListFilter))
    list_select_related = ("organisation", "invoice", "subscription__plan_version__plan", "run")
    search_fields = (
        "subscription__external_id", "subscription__customer__external_id", "subscription__plan_version__plan__code", "code",
    )  # fmt: skip
    actions_detail = ("retry",)
    empty_hint = "A cycle is noted when a billing run bills a period, or cannot."
    show_status = status_column()

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).order_by("-id")

    def offers(self, row: BillingCycle, action: str) -> bool:
        return row.status == BillingCycle.Status.FAILED and bool(row.subscription.failure)

    @decision(description="Retry", permission="billing_run.start", icon="replay")
    def retry(self, request: HttpRequest, row: BillingCycle, *, actor: Actor, reason: str) -> str:
        found = retrying.retry_cycle(organisation=row.organisation, cycle_id=row.pk, actor=actor, reason=reason)
        return f"{found}: still set aside: {found.failure}" if found.failure else f"{found} is billed again."

    def called(self, row: BillingCycle) -> str:
        return f"{row.subscription} from {moment(row.starts_at, row.organisation)}"

    @display(description="subscription")
    def show_subscription(self, row: BillingCycle) -> str:
        return row.subscription.external_id

    @display(description="plan")
    def show_plan(self, row: BillingCycle) -> str:
        return row.subscription.plan_version.plan.code

    @display(description="from", ordering="starts_at")
    def show_starts(self, row: BillingCycle) -> str:
        return moment(row.starts_at, row.organisation)

    @display(description="invoice")
    def show_invoice(self, row: BillingCycle) -> str:
        return str(row.invoice) if row.invoice_id else NOTHING

    @display(description="why not")
    def show_reason(self, row: BillingCycle) -> str:
        return row.reason[:80]

    @display(description="at", ordering="at")
    def show_at(self, row: BillingCycle) -> str:
        return moment(row.at, row.organisation)

    def record(self, request: HttpRequest, row: BillingCycle) -> Record:
        return Record(
            badges=(badge(row.status),),
            notice=row.reason,
            facts=(
                ("Subscription", link(request, row.subscription)),
                ("Plan", link(request, row.subscription.plan_version.plan)),
                ("From", moment(row.starts_at, row.organisation)),
                ("Until", moment(row.ends_at, row.organisation) if row.ends_at else NOTHING),
                ("Kind", row.kind),
                ("Invoice", link(request, row.invoice) if row.invoice else NOTHING),
                ("Total", money(row.invoice.total) if row.invoice else NOTHING),
                ("Run", link(request, row.run) if row.run else NOTHING),
                ("Noted", moment(row.at, row.organisation)),
            ),
        )
