"""Console page of price experiments: who is shown what, what comes of it with its intervals drawn, and what may be said."""

from typing import Any

from django.contrib import admin
from django.db.models import Count
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from unfold.decorators import display
from unfold.enums import ActionVariant

from billing.admin.base import ReasonForm, decision, path_to, site
from billing.admin.panels import (
    NOTHING,
    Figure,
    Panel,
    Record,
    RecordAdmin,
    badge,
    link,
    moment,
    money,
    page_action,
    status_column,
    timeline_panel,
    words,
)
from billing.context import Actor
from subscriptions.admin import experiment_bars as bars
from subscriptions.admin.experiment_forms import ConcludeForm, DraftForm, ReweighForm, StartForm
from subscriptions.experiments.figures import Figures, VariantFigures
from subscriptions.experiments.offers import variants_of
from subscriptions.experiments.verdicts import Comparison
from subscriptions.models import Experiment, ExperimentVariant
from subscriptions.selectors import plan_named
from subscriptions.services.experiments import drafting, running

STATUS = Experiment.Status
CLAIMS = {"better": "active", "worse": "failed", "no_difference": "draft", "not_enough": "waiting"}
SHOWN = 20


@admin.register(Experiment, site=site)
class ExperimentAdmin(RecordAdmin):
    """Prices compared among those who come to subscribe."""

    view_permission = "plan.view"
    list_display = (
        "code",
        "name",
        "show_plan",
        "show_status",
        "show_exposed",
        "show_starts",
        "show_chosen",
        "organisation",
    )
    list_filter = ("status",)
    list_select_related = ("organisation", "plan", "chosen")
    search_fields = ("code", "name", "plan__code")
    actions_list = ("add_draft",)
    actions_detail = ("start", "reweigh", "stop", "conclude")
    empty_hint = "An experiment is drafted here or by POST /api/v1/experiments: a plan, two prices and their shares."
    show_status = status_column()

    def get_queryset(self, request: HttpRequest) -> Any:
        return super().get_queryset(request).annotate(exposed=Count("exposures")).order_by("-id")

    @display(description="plan", ordering="plan__code")
    def show_plan(self, row: Experiment) -> str:
        return row.plan.code

    @display(description="customers exposed", ordering="exposed")
    def show_exposed(self, row: Any) -> str:
        return f"{row.exposed:,}"

    @display(description="from", ordering="starts_at")
    def show_starts(self, row: Experiment) -> str:
        return moment(row.starts_at, row.organisation)

    @display(description="decided for")
    def show_chosen(self, row: Experiment) -> str:
        return row.chosen.code if row.chosen else NOTHING

    @page_action(description="Draft an experiment", permission="plan.edit", icon="add")
    def add_draft(self, request: HttpRequest) -> HttpResponse:
        """A plan and its prices; it begins by a decision of its own."""
        allowed = self.organisations_where(request, "plan.edit")
        form = DraftForm(request.POST or None, organisations=allowed)
        if form.is_valid():
            made = self.attempt(request, lambda: self._draft(request, form.cleaned_data))
            if made is not None:
                return HttpResponseRedirect(path_to(made))
        back = reverse("admin:subscriptions_experiment_changelist")
        return self.ask(request, title="Draft an experiment", form=form, back_to=back)

    def _draft(self, request: HttpRequest, said: dict[str, Any]) -> Experiment:
        organisation = said.pop("organisation")
        plan = plan_named(organisation, said.pop("plan"))
        actor = self.actor_in(request, organisation)
        return drafting.create_experiment(organisation=organisation, plan=plan, actor=actor, **said)

    @decision(description="Start", permission="plan.edit", form=StartForm, icon="play_arrow")
    def start(self, request: HttpRequest, row: Experiment, *, actor: Actor, **said: Any) -> str:
        """Assign customers from now on."""
        planned = {name: value for name, value in said.items() if value is not None}
        begun = running.start_experiment(experiment_id=row.pk, actor=actor, **planned)
        return f"{row} runs. It is decided once each variant was shown to {begun.planned_sample:,} customers."

    @decision(description="Change shares", permission="plan.edit", form=ReweighForm, icon="balance")
    def reweigh(
        self, request: HttpRequest, row: Experiment, *, actor: Actor, weights: Any, allocation_percent: Any, reason: str
    ) -> str:
        """Assign new customers by other shares."""
        running.reweigh(
            experiment_id=row.pk, actor=actor, weights=weights or None, allocation_percent=allocation_percent, reason=reason
        )  # fmt: skip
        return f"{row}: new customers are assigned by other shares."

    @decision(description="Stop", permission="plan.edit", form=ReasonForm, icon="stop", variant=ActionVariant.DANGER)
    def stop(self, request: HttpRequest, row: Experiment, *, actor: Actor, reason: str) -> str:
        """Assign nobody new."""
        running.stop_experiment(experiment_id=row.pk, actor=actor, reason=reason)
        return f"{row} is stopped: who was shown a price still gets it."

    @decision(description="Conclude", permission="plan.edit", form=ConcludeForm, icon="gavel")
    def conclude(self, request: HttpRequest, row: Experiment, *, actor: Actor, variant: str, reason: str) -> str:
        """Decide for a variant."""
        running.conclude_experiment(experiment_id=row.pk, variant=variant, actor=actor, reason=reason)
        return f"{row} is concluded for {variant}. Everybody gets what the plan offers."

    def offers(self, row: Experiment, action: str) -> bool:
        needs = {"start": STATUS.DRAFT, "reweigh": STATUS.RUNNING, "stop": STATUS.RUNNING, "conclude": STATUS.STOPPED}
        return row.status == needs[action]

    def record(self, request: HttpRequest, row: Experiment) -> Record:
        found = _read(row)
        return Record(
            badges=(badge(row.status),),
            notice=_said(found) if found is not None else "",
            figures=_tiles(row, found),
            facts=_facts(request, row),
            panels=[
                _variants(request, row, found) if found is not None else _drafted(request, row),
                *([_comparisons(found)] if found is not None else []),
                *_exposures(request, row),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )


def _read(row: Experiment) -> Figures | None:
    """The figures, which is a look that counts; none of a draft."""
    if row.status == STATUS.DRAFT:
        return None
    return running.read_figures(experiment=row)


def _said(found: Figures) -> Any:
    cautions = format_html_join(
        "", '<br><small class="m-hint">{}</small>', ((text,) for text in found.verdict.cautions)
    )
    return format_html("{}{}", found.verdict.words, cautions)


def _tiles(row: Experiment, found: Figures | None) -> tuple[Figure, ...]:
    if found is None:
        return ()
    least = min(one.counted.exposed for one in found.variants)
    converted = sum(one.counted.converted for one in found.variants)
    return (
        Figure(name="Least exposed variant", value=f"{least:,}", hint=f"of {row.planned_sample:,} planned for each"),
        Figure(name="Customers exposed", value=f"{found.exposed:,}"),
        Figure(name="Subscribed", value=f"{converted:,}"),
        Figure(name="Looks before the sample", value=f"{row.look_count:,}", hint="each one raises the risk of error"),
    )


def _facts(request: HttpRequest, row: Experiment) -> tuple[tuple[str, Any], ...]:
    planned = (
        ("Expected rate", bars.percent(float(row.baseline_rate))),
        ("Least difference", f"{float(row.minimum_effect) * 100:.4g} points"),
        ("Risk and power", f"{float(row.significance):.0%} and {float(row.power):.0%}"),
        ("Runs", f"{moment(row.starts_at, row.organisation)} to {moment(row.ends_at, row.organisation)}"),
    ) if row.baseline_rate is not None and row.minimum_effect is not None else ()  # fmt: skip
    decided = (
        ("Decided for", row.chosen.code),
        ("Because", row.conclusion.get("reason", "")),
        ("Figures said then", row.conclusion.get("words", "")),
    ) if row.chosen else ()  # fmt: skip
    return (
        ("Plan", link(request, row.plan)),
        ("Name", row.name),
        *((("Hypothesis", row.hypothesis),) if row.hypothesis else ()),
        ("Takes part", f"{row.allocation_percent} % of the customers; the others get the control's prices"),
        ("Subscribers", "take no part" if row.exclude_subscribers else "take part"),
        ("Counts within", f"{row.conversion_days} days"),
        *planned,
        *((("Shares changed", moment(row.reweighed_at, row.organisation)),) if row.reweighed_at else ()),
        *decided,
    )


def _name(variant: ExperimentVariant) -> str:
    return f"{variant.code} (control)" if variant.is_control else variant.code


def _drafted(request: HttpRequest, row: Experiment) -> Panel:
    rows = [
        (_name(one), link(request, one.version.plan, str(one.version)), f"{one.weight} %") for one in variants_of(row)
    ]
    return Panel(title="Variants", headers=("Variant", "Prices", "Share"), rows=rows, empty="None.", numbers=frozenset({2}),
                 note="Nobody is shown anything before it starts.")  # fmt: skip


def _variants(request: HttpRequest, row: Experiment, found: Figures) -> Panel:
    top = max(
        max(one.converted.interval.high for one in found.variants if one.counted.exposed) if found.exposed else 0, 0.01
    )
    return Panel(
        title="Variants",
        headers=(
            "Variant",
            "Prices",
            "Share",
            "Exposed",
            "Subscribed",
            "First invoice paid",
            "Revenue",
            "for each exposed",
        ),
        rows=[_variant(request, one, top) for one in found.variants],
        numbers=frozenset({2, 3, 6, 7}),
        empty="None.",
        note="Rates with their Wilson intervals, all on one scale. Revenue is invoiced without tax less what was credited.",
    )


def _variant(request: HttpRequest, one: VariantFigures, top: float) -> tuple[Any, ...]:
    version = one.variant.version
    return (
        _name(one.variant), link(request, version.plan, str(version)), f"{one.variant.weight} %", f"{one.counted.exposed:,}",
        bars.rate(one.converted, top), bars.rate(one.paid, top), ", ".join(map(money, one.revenue)) or NOTHING,
        ", ".join(map(money, one.per_customer)) or NOTHING,
    )  # fmt: skip


def _comparisons(found: Figures) -> Panel:
    reach = max((max(-one.interval.low, one.interval.high) for one in found.verdict.comparisons), default=1.0)
    return Panel(
        title="Compared with the control",
        headers=("Variant", "Difference of rates", "p", "Test", "", "In words"),
        rows=[_comparison(one, reach) for one in found.verdict.comparisons],
        numbers=frozenset({2}),
        empty="Nothing to compare.",
        note="Newcombe intervals around no difference. What was paid is for information: the sample was not planned for it.",
    )


def _comparison(one: Comparison, reach: float) -> tuple[Any, ...]:
    shown = bars.difference(one.difference, one.interval, reach)
    paid = format_html('<div class="m-hint">paid: {}</div>', bars.points(one.paid_difference))
    return (
        one.code, format_html("{}{}", shown, paid), _p(one.test.p), {"fisher": "Fisher, exact", "z": "z"}[one.test.method],
        badge(CLAIMS[one.claim], words(one.claim)), one.words,
    )  # fmt: skip


def _p(value: float) -> str:
    return f"{value:.4f}" if value >= 0.0001 else "< 0.0001"


def _exposures(request: HttpRequest, row: Experiment) -> list[Panel]:
    if row.status == STATUS.DRAFT:
        return []
    shown = running.exposures_of(row).order_by("-id")
    rows = [
        (link(request, one.customer, one.customer.external_id), one.variant.code, words(one.channel),
         moment(one.exposed_at, row.organisation), link(request, one.subscription) if one.subscription else NOTHING)
        for one in shown[:SHOWN]
    ]  # fmt: skip
    headers = ("Customer", "Variant", "By", "First shown", "Subscription")
    empty = "Nobody was shown a price yet. Ask POST /api/v1/experiments/{code}/assign where the price is shown."
    return [Panel(title="Last exposed", headers=headers, rows=rows, empty=empty, note=f"The last {SHOWN} at most.")]
