"""The Today page: six tiles, each of which opens its list, and the sums of one organisation down to the unexplained."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.urls import reverse
from django.views.generic import TemplateView
from unfold.views import UnfoldModelAdminViewMixin

from billing import clock
from billing.admin.panels import money
from billing.models import Organisation
from payments.models import StatementImport
from payments.selectors.reconciliation import Summary, matched_by_day, summary, today_tiles

DAYS = 31


@dataclass(frozen=True, kw_only=True)
class Tile:
    """One figure, and where it leads."""

    name: str
    value: str
    hint: str
    address: str
    alarming: bool = False


class TodayView(UnfoldModelAdminViewMixin, TemplateView):
    """``/console/payments/reconciliationexception/today/?organisation=<id>``"""

    title = "Today"
    permission_required = ()
    template_name = "admin/payments/today.html"

    def has_permission(self) -> bool:
        return bool(self.model_admin.organisations(self.request))

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        allowed = list(
            Organisation.objects.filter(pk__in=self.model_admin.organisations(self.request)).order_by("name")
        )
        wanted = self.request.GET.get("organisation", "")
        chosen = next((one for one in allowed if str(one.pk) == wanted), allowed[0])
        today = clock.today(chosen)
        sums = summary(organisation=chosen, first=today - timedelta(days=DAYS - 1), last=today)
        return super().get_context_data(
            organisations=allowed,
            organisation=chosen,
            tiles=_tiles(chosen, self.request.user, sums),
            sums=[_column(row) for row in sums],
            days=_bars(chosen, today),
            first=today - timedelta(days=DAYS - 1),
            today=today,
            **kwargs,
        )


def _tiles(organisation: Organisation, user: Any, sums: list[Summary]) -> list[Tile]:
    found = today_tiles(organisations=[organisation.pk], user_id=user.pk, now=clock.now(organisation))
    refused = StatementImport.objects.of(organisation).exclude(error="").count()
    ages = ", ".join(f"{count} of {name} days" for name, count in found["ages"].items() if count)
    open_sums = [row for row in sums if row.unexplained.amount]
    board, own = _list("reconciliationexception"), f"organisation={organisation.pk}"
    return [
        Tile(name="Unmatched lines", value=f"{found['unmatched']:,}", hint="rows of payouts and of the bank",
             address=f"{_list('bankline')}?state__exact=unmatched&{own}"),
        Tile(name="Exceptions", value=f"{found['exceptions']:,}", hint=ages or "nothing is open", address=f"{board}?status=open&{own}",
             alarming=bool(found["ages"]["8+"])),
        Tile(name="Mine", value=f"{found['mine']:,}", hint="open and on your name", address=f"{board}?status=mine&{own}"),
        Tile(name="Payouts not yet in the bank", value=f"{found['on_the_way']:,}",
             hint=", ".join(map(money, found["on_the_way_sums"])) or "all have arrived",
             address=f"{_list('settlement')}?status__exact=paid&{own}"),
        Tile(name="Refused imports", value=f"{refused:,}", hint="statement files that could not be read",
             address=f"{_list('statementimport')}?refused=yes&{own}", alarming=bool(refused)),
        Tile(name="Unexplained", value=", ".join(money(row.unexplained) for row in open_sums) or "0.00",
             hint="documents against ledger; must be nothing", address=f"{_list('settlement')}?explained=no&{own}",
             alarming=bool(open_sums)),
    ]  # fmt: skip


def _list(model: str) -> str:
    return reverse(f"admin:payments_{model}_changelist")


def _column(row: Summary) -> dict[str, Any]:
    return {
        "currency": row.currency,
        "rows": [(name, money(value), name == "Unexplained") for name, value in row.rows()],
    }


def _bars(organisation: Organisation, today: Any) -> list[dict[str, Any]]:
    """Lines by day, matched by themselves, by people, and open, as shares of the busiest day."""
    rows = matched_by_day(organisation=organisation, first=today - timedelta(days=29), last=today)
    most = max((sum(counts) for _, *counts in rows), default=0) or 1
    return [
        {"day": day, "counts": counts, "total": sum(counts), "heights": [round(100 * count / most) for count in counts]}
        for day, *counts in rows
    ]
