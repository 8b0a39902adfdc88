"""Console pages of dunning: policies, the debts being chased, and customers who are left alone."""

from datetime import date
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import admin
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import path, reverse
from moneyed import Money
from unfold.decorators import display
from unfold.widgets import (
    UnfoldAdminDateWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminTextareaWidget,
    UnfoldAdminTextInputWidget,
    UnfoldBooleanWidget,
)

from billing import clock
from billing.admin.base import ReasonForm, decision, path_to, site
from billing.admin.panels import (
    NOTHING,
    CurrencyFilter,
    Figure,
    OrganisationForm,
    Panel,
    Record,
    RecordAdmin,
    amount_column,
    badge,
    customer_column,
    day,
    link,
    moment,
    money,
    number_column,
    page_action,
    status_column,
    timeline_panel,
)
from billing.context import Actor
from billing.errors import Conflict
from billing.masking import mask_name
from subscriptions import dunning_rules as rules
from subscriptions import dunning_words
from subscriptions.admin.coupon_forms import codes
from subscriptions.admin.dunning_board import BoardView, next_words, paused_words, stage_name
from subscriptions.dunning_board import paused_by
from subscriptions.dunning_words import in_words, reached_when
from subscriptions.models import DunningCase, DunningPause, DunningPolicy
from subscriptions.services import dunning_pauses, dunning_policies


class PolicyForm(OrganisationForm):
    """A policy to be; it never changes afterwards."""

    code = forms.SlugField(max_length=40, widget=UnfoldAdminTextInputWidget())
    stages = forms.CharField(
        max_length=4000,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 8}),
        initial=dunning_words.say(rules.DEFAULT_STAGES),
        help_text="One to a line: when (“5 days”, “7 days or 3 attempts”, “9 days and 2 attempts”), a colon, and what is done: "
        "letter or text (reminder 1, reminder 2, final notice), debit again, restrict, suspend, cancel, write off.",
    )
    grace_days = forms.IntegerField(
        min_value=0, max_value=rules.MAX_GRACE, initial=0, widget=UnfoldAdminTextInputWidget(), label="Days of grace",
        help_text="Days after the due date that do not count.",
    )  # fmt: skip
    scope = forms.ChoiceField(
        choices=[("subscription", "the debts of a subscription"), ("customer", "all debts of a customer")],
        widget=UnfoldAdminSelectWidget(), label="Chased as one",
    )  # fmt: skip
    plans = forms.CharField(
        max_length=2000, required=False, widget=UnfoldAdminTextInputWidget(), help_text="Codes, with commas between."
    )
    is_default = forms.BooleanField(
        required=False, widget=UnfoldBooleanWidget(), label="For all plans that no other policy names"
    )

    def clean_stages(self) -> list[dict[str, Any]]:
        """The lines as stages."""
        try:
            found = dunning_words.read(self.cleaned_data["stages"])
            rules.parse_stages(found)
        except rules.InvalidDunningPolicy as exc:
            raise forms.ValidationError(str(exc)) from exc
        return found


@admin.register(DunningPolicy, site=site)
class DunningPolicyAdmin(RecordAdmin):
    """What happens how many days after the due date."""

    view_permission = "dunning.view"
    list_display = ("code", "show_default", "show_stages", "organisation")
    list_select_related = ("organisation",)
    search_fields = ("code",)
    empty_hint = "The default policy is made when the first invoice becomes overdue; others are made here."
    actions_list = ("add_policy",)
    actions_detail = ("archive",)

    def offers(self, row: DunningPolicy, action: str) -> bool:
        return row.archived_at is None and not row.is_default

    @page_action(description="New policy", permission="dunning.edit", icon="add")
    def add_policy(self, request: HttpRequest) -> HttpResponse:
        form = PolicyForm(request.POST or None, organisations=self.organisations_where(request, "dunning.edit"))
        if form.is_valid():
            made = self.attempt(request, lambda: self._make(request, dict(form.cleaned_data)))
            if made is not None:
                return HttpResponseRedirect(path_to(made))
        back = reverse("admin:subscriptions_dunningpolicy_changelist")
        return self.ask(request, title="New dunning policy", form=form, back_to=back)

    def _make(self, request: HttpRequest, said: dict[str, Any]) -> DunningPolicy:
        organisation = said.pop("organisation")
        actor = self.actor_in(request, organisation)
        return dunning_policies.create_policy(
            organisation=organisation, actor=actor, **(said | {"plans": codes(said["plans"])})
        )

    @decision(description="Put away", permission="dunning.edit", icon="inventory_2")
    def archive(self, request: HttpRequest, row: DunningPolicy, *, actor: Actor, reason: str) -> str:
        dunning_policies.archive_policy(policy_id=row.pk, actor=actor, reason=reason)
        return f"No new case follows {row.code}; open ones go on with it."

    @display(description="for", label=True)
    def show_default(self, policy: DunningPolicy) -> str:
        return "default" if policy.is_default else ""

    @display(description="stages after")
    def show_stages(self, policy: DunningPolicy) -> str:
        return "; ".join(reached_when(stage) for stage in policy.stages)

    def record(self, request: HttpRequest, row: DunningPolicy) -> Record:
        plans = ", ".join(str(link(request, plan)) for plan in row.plans.order_by("code"))
        stages = [
            (number, reached_when(stage), ", ".join(in_words(action) for action in stage["actions"]))
            for number, stage in enumerate(row.stages, start=1)
        ]
        return Record(
            badges=[
                badge("", name) for name, holds in (("default", row.is_default), ("put away", row.archived_at)) if holds
            ],
            facts=(
                ("Plans", plans or "all that no other policy names"),
                ("Grace", f"{row.grace_days} days do not count" if row.grace_days else "none"),
                ("Chased as one", "all debts of a customer" if row.scope == "customer" else "debts of a subscription"),
                ("Put away", moment(row.archived_at, row.organisation)),
                ("Made", moment(row.created_at, row.organisation)),
            ),
            panels=[
                Panel(
                    title="Stages",
                    headers=("Stage", "Reached after", "What is done"),
                    rows=stages,
                    numbers=frozenset({0}),
                    empty="None.",
                ),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )


class PauseForm(ReasonForm):
    """Until when the customer is left alone."""

    until = forms.DateField(widget=UnfoldAdminDateWidget(), label="Until", help_text="Last day of the pause.")
    field_order = ("until", "reason")


class NotPaused(Conflict):
    code = "dunning_not_paused"
    message = "Dunning of this customer is not paused."


@admin.register(DunningCase, site=site)
class DunningCaseAdmin(RecordAdmin):
    """One unpaid invoice: where the chase stands and what was done."""

    view_permission = "dunning.view"
    list_display = (
        "invoice",
        "show_customer",
        "show_status",
        "show_stage",
        "overdue_since",
        "next_stage_on",
        "show_claimed",
        "show_recovered",
        "organisation",
    )
    actions = ("pause",)
    actions_detail = ("pause", "lift")
    actions_list = ("open_board",)
    list_filter = ("status", "stage", CurrencyFilter)
    list_select_related = ("invoice", "organisation", "customer")
    search_fields = ("invoice__number", "subscription__external_id", "customer__external_id")
    empty_hint = "A case is opened when an invoice becomes overdue."
    show_customer = customer_column
    show_status = status_column()
    show_stage = number_column("stage")
    show_claimed = amount_column("claimed")
    show_recovered = amount_column("recovered")

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).order_by("-id")

    def get_urls(self) -> list[Any]:
        board = self.admin_site.admin_view(BoardView.as_view(model_admin=self))
        return [path("board/", board, name="subscriptions_dunning_board"), *super().get_urls()]

    def offers(self, row: DunningCase, action: str) -> bool:
        paused = paused_by(row, today=clock.today(row.organisation)) is not None
        return row.status == DunningCase.Status.OPEN and paused == (action == "lift")

    def called(self, row: DunningCase) -> str:
        return f"{row.invoice}, overdue since {day(row.overdue_since)}"

    @page_action(description="Board", permission="dunning.view", icon="view_kanban")
    def open_board(self, request: HttpRequest) -> HttpResponse:
        return HttpResponseRedirect(reverse("admin:subscriptions_dunning_board"))

    @decision(description="Pause the customer", permission="dunning.edit", form=PauseForm, icon="pause_circle")
    def pause(self, request: HttpRequest, row: DunningCase, *, actor: Actor, until: date, reason: str) -> str:
        made = dunning_pauses.pause(
            organisation=row.organisation, customer_id=row.customer_id, until=until, reason=reason, actor=actor
        )
        return f"{row.customer.external_id} is left alone until {day(made.until)}; the stages wait as long."

    @decision(description="Lift the pause", permission="dunning.edit", icon="play_circle")
    def lift(self, request: HttpRequest, row: DunningCase, *, actor: Actor, reason: str) -> str:
        found = paused_by(row, today=clock.today(row.organisation))
        if found is None:
            raise NotPaused
        dunning_pauses.lift(pause_id=found.pk, actor=actor, reason=reason)
        return f"{row.customer.external_id} is chased again from today."

    def record(self, request: HttpRequest, row: DunningCase) -> Record:
        pause = paused_by(row, today=clock.today(row.organisation))
        steps = [
            (
                day(date.fromisoformat(step["on"])),
                step["stage"],
                step["days_overdue"],
                ", ".join(in_words(action) for action in step["actions"]) or NOTHING,
                ", ".join(in_words(action) for action in step.get("skipped", [])),
            )
            for step in row.history
        ]
        return Record(
            badges=[badge(row.status), *([badge("warning", "paused")] if pause else [])],
            figures=(
                Figure(name="Claimed", value=money(row.claimed)),
                Figure(name="Still due", value=money(row.invoice.due)),
                Figure(name="Recovered", value=money(row.recovered)),
            ),
            facts=(
                ("Invoice", link(request, row.invoice)),
                ("Customer", link(request, row.customer, f"{row.customer.external_id} {mask_name(row.customer.name)}")),
                ("Subscription", link(request, row.subscription) if row.subscription else NOTHING),
                ("Policy", link(request, row.policy)),
                ("Due since", day(row.overdue_since)),
                (
                    "Paid in between",
                    "; ".join(f"{day(first)} to {day(until)}" for first, until in row.settled_times) or NOTHING,
                ),
                ("Next stage", next_words(row)),
                ("Held back because", (row.status == DunningCase.Status.OPEN and row.held_because) or NOTHING),
                ("Attempts that count", row.attempts),
                ("Paused", paused_words(pause)),
                ("Closed", moment(row.closed_at, row.organisation)),
            ),
            panels=[
                Panel(
                    title="Steps taken",
                    headers=("Day", "Stage", "Days overdue", "What was done", "Left out: nothing to do it to"),
                    rows=steps,
                    numbers=frozenset({1, 2}),
                    empty="None yet.",
                ),
                Panel(
                    title="Money that came",
                    headers=("When", "Amount"),
                    rows=[
                        (stage_name(int(stage)), money(Money(Decimal(amount), row.claimed.currency)))
                        for stage, amount in row.recovered_by_stage.items()
                    ],
                    numbers=frozenset({1}),
                    empty="None yet.",
                ),
                *timeline_panel(request, self, row, [row.pk, row.invoice_id]),
            ],
        )


@admin.register(DunningPause, site=site)
class DunningPauseAdmin(RecordAdmin):
    """Customers who are left alone until a day, and why."""

    view_permission = "dunning.view"
    list_display = ("show_customer", "starts_on", "until", "lifted_on", "reason", "made_by", "organisation")
    list_select_related = ("organisation", "customer")
    search_fields = ("customer__external_id",)
    empty_hint = (
        "A customer is paused from the dunning board, from the page of a case, or by POST /api/v1/dunning-pauses."
    )
    actions_detail = ("lift",)
    show_customer = customer_column

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).order_by("-id")

    def offers(self, row: DunningPause, action: str) -> bool:
        return row.lifted_on is None and row.until >= clock.today(row.organisation)

    def called(self, row: DunningPause) -> str:
        return f"{row.customer.external_id}, paused {f'until {day(row.until)}' if row.until else 'for good'}"

    @decision(description="Lift the pause", permission="dunning.edit", icon="play_circle")
    def lift(self, request: HttpRequest, row: DunningPause, *, actor: Actor, reason: str) -> str:
        dunning_pauses.lift(pause_id=row.pk, actor=actor, reason=reason)
        return f"{row.customer.external_id} is chased again from today."

    def record(self, request: HttpRequest, row: DunningPause) -> Record:
        return Record(
            badges=[badge("warning", "in force")] if self.offers(row, "lift") else [badge("", "over")],
            facts=(
                ("Customer", link(request, row.customer, f"{row.customer.external_id} {mask_name(row.customer.name)}")),
                ("From", day(row.starts_on)),
                ("Until", day(row.until)),
                ("Over since", day(row.lifted_on)),
                ("Why", row.reason),
                ("By", row.made_by or NOTHING),
            ),
            panels=timeline_panel(request, self, row, [row.pk]),
        )
