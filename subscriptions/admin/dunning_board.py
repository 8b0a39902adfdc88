"""The dunning board in the console: a column for each stage, a card for each debt, the figures on top."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.views.generic import TemplateView
from moneyed import Money
from unfold.views import UnfoldModelAdminViewMixin

from billing.admin.base import path_to
from billing.admin.looks import NOTHING, day, may_open, money
from billing.masking import mask_name
from billing.models import Organisation
from billing.selectors import access
from subscriptions.dunning_board import FIGURES_OF, Board, Card, Column, board
from subscriptions.dunning_words import counted, in_words
from subscriptions.models import DunningCase, DunningPause


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One figure at the head of the board."""

    name: str
    value: str
    hint: str


def next_words(case: DunningCase) -> str:
    """When the next stage comes."""
    if case.status != DunningCase.Status.OPEN or (case.next_stage_on is None and case.next_stage_attempts is None):
        return NOTHING
    said = day(case.next_stage_on)
    if case.next_stage_attempts is not None:
        said += f", or after {counted(case.next_stage_attempts, 'attempt')}"
    return said


def paused_words(pause: DunningPause | None) -> str:
    """Until when, and why."""
    return f"until {day(pause.until)}: {pause.reason}" if pause else "no"


class BoardView(UnfoldModelAdminViewMixin, TemplateView):
    """``/console/subscriptions/dunningcase/board/?organisation=<id>``"""

    title = "Dunning board"
    permission_required = ()
    template_name = "admin/subscriptions/dunning_board.html"

    def has_permission(self) -> bool:
        return bool(self.model_admin.organisations(self.request))

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        mine = self.model_admin.organisations(self.request)
        allowed = list(Organisation.objects.filter(pk__in=mine).order_by("name"))
        wanted = self.request.GET.get("organisation", "")
        chosen = next((one for one in allowed if str(one.pk) == wanted), allowed[0])
        found = board(organisation=chosen)
        may_pause = chosen.pk in access.organisations_with(self.request.user, "dunning.edit")
        return super().get_context_data(
            organisations=allowed,
            organisation=chosen,
            tiles=_tiles(found),
            columns=[_column(self.request, column, may_pause=may_pause) for column in found.columns],
            stages=_stages(found),
            today=found.today,
            list_address=reverse("admin:subscriptions_dunningcase_changelist"),
            **kwargs,
        )


def _tiles(found: Board) -> list[Tile]:
    days = FIGURES_OF.days
    ended = [one for one in found.recovery if one.recovered or one.exhausted]
    rates = [f"{one.rate * 100:.1f} %{f' {one.currency}' if len(ended) > 1 else ''}" for one in ended]
    return [
        Tile(name="Being chased", value=f"{found.open:,}", hint="unpaid invoices with an open case"),
        Tile(name="Still owed", value=_sums(found.owed, between="\n"), hint="of those invoices"),
        Tile(name="Due for a step", value=f"{found.due_today:,}", hint="with the next run"),
        Tile(name="Paused", value=f"{found.paused:,}", hint="customers who are left alone"),
        Tile(name="Recovered", value=_sums([one.collected for one in found.recovery if one.collected.amount], between="\n"),
             hint=f"of cases opened in the last {days} days"),
        Tile(name="Recovery rate", value="\n".join(rates) or NOTHING, hint="of what was claimed, where the chase is over"),
    ]  # fmt: skip


def _sums(amounts: Sequence[Money], between: str = ", ") -> str:
    return between.join(money(amount) for amount in amounts) or "0.00"


def _stages(found: Board) -> list[dict[str, Any]]:
    return [
        {
            "currency": one.currency,
            "rows": [
                (stage_name(row.stage), row.reached, row.cases, money(row.amount), f"{row.rate * 100:.1f} %")
                for row in one.by_stage
            ],
        }
        for one in found.recovery
    ]


def stage_name(stage: int) -> str:
    """How far a case was."""
    return f"After stage {stage}" if stage else "Before the first stage"


def _column(request: HttpRequest, column: Column, *, may_pause: bool) -> dict[str, Any]:
    return {
        "name": stage_name(column.stage),
        "cases": column.cases,
        "sums": _sums(column.sums),
        "cards": [_card(request, card, may_pause=may_pause) for card in column.cards],
        "left_out": column.left_out,
        "stage": column.stage,
    }


def _card(request: HttpRequest, card: Card, *, may_pause: bool) -> dict[str, Any]:
    case = card.case
    action = "lift" if card.pause else "pause"
    return {
        "address": path_to(case),
        "customer": case.customer.external_id,
        "customer_address": path_to(case.customer) if may_open(request, case.customer) else "",
        "name": mask_name(case.customer.name),
        "invoice": case.invoice.number,
        "amount": money(case.invoice.due),
        "days": counted(card.days, "day"),
        "next": _next(card),
        "paused": paused_words(card.pause) if card.pause else "",
        "waits": card.waits,
        "debit_under_way": card.debit_under_way,
        "held_because": card.held_because,
        "action": reverse(f"admin:subscriptions_dunningcase_{action}", args=[case.pk]) if may_pause else "",
        "action_name": "Lift the pause" if card.pause else "Pause",
    }


def _next(card: Card) -> str:
    done = ", ".join(in_words(one) for one in card.next_actions)
    when = day(card.next_on)
    if card.next_attempts is not None:
        when += f" or {counted(card.next_attempts, 'attempt')} ({card.case.attempts} so far)"
    return f"{when}: {done}" if done else "nothing more"
