"""What a plan migration would do: how many, what they pay a month before and after, and what stands in the way. Reads only.

Subscriptions on equal terms are counted together, so that a plan with a hundred thousand of them is a handful of sums.
"""

import uuid
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Min
from moneyed import Money

from billing import money
from billing.errors import DomainError
from billing.models import Organisation
from subscriptions import recurring
from subscriptions.models import Plan, PlannedChange, PlanVersion
from subscriptions.selectors import PriceBooks, price_books
from subscriptions.services import rows
from subscriptions.services.plan_migrations import check, chosen

MAX_EXAMPLES = 20
WARNINGS = {
    "refused": "cannot be moved: {detail}",
    "not_changeable": "are {detail}: they are refused until they run again",
    "add_ons_dropped": "lose the add-on {detail}, which the new version does not offer",
    "other_interval": "are billed by another interval: a new period begins with the change",
    "meter_dropped": "are not billed for the meter {detail} any more",
    "planned_change": "have a change planned, which this one replaces",
    "set_aside": "were set aside by the billing run; mend that first",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrencySums:
    """Subscriptions in one currency and their MRR before and after."""

    currency: str
    count: int
    before: Money
    after: Money

    @property
    def difference(self) -> Money:
        """What MRR gains, or loses."""
        return self.after - self.before


@dataclass(frozen=True, slots=True, kw_only=True)
class Warned:
    """Something to know before one decides: how many subscriptions it is true of, and some of them."""

    code: str
    message: str
    count: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class MigrationPreview:
    """What would happen."""

    count: int
    sums: tuple[CurrencySums, ...]
    dearer: int
    cheaper: int
    warnings: tuple[Warned, ...]


class _Preview:
    """Adds groups of equal subscriptions up."""

    def __init__(self, books: PriceBooks, to_version: PlanVersion) -> None:
        self.books, self.to_version = books, to_version
        self.sums: dict[str, list[Any]] = {}
        self.notes: dict[tuple[str, str], list[Any]] = defaultdict(lambda: [0, []])
        self.dearer = self.cheaper = 0

    def add(self, group: dict[str, Any]) -> None:
        """Count one group of subscriptions on equal terms."""
        currency, count = group["currency"], group["n"]
        total = self.sums.setdefault(currency, [0, money.zero(currency), money.zero(currency)])
        try:
            before, after = self._levels(group)
        except DomainError as exc:
            self.note("refused", str(exc), count, group["example"])
            return
        total[0] += count
        total[1] += before * count
        total[2] += after * count
        self.dearer += count if after > before else 0
        self.cheaper += count if after < before else 0
        if group["status"] not in (*rows.NOT_STARTED, *rows.LIVE):
            self.note("not_changeable", group["status"].replace("_", " "), count, group["example"])

    def _levels(self, group: dict[str, Any]) -> tuple[Money, Money]:
        old, new = group["plan_version_id"], self.to_version.pk
        currency, add_ons, quantity = group["currency"], group["add_ons"], group["quantity"]
        was = self.books.get(old, currency, add_ons)
        kept = self.books.kept(new, currency, add_ons)
        becomes = self.books.get(new, currency, kept)
        for code in sorted(add_ons.keys() - kept.keys()):
            self.note("add_ons_dropped", f"'{code}'", group["n"], group["example"])
        for component in was.metered:
            if component.meter_id not in becomes.meter_ids:
                self.note("meter_dropped", f"of '{component.code}'", group["n"], group["example"])
        if (was.interval, was.interval_count) != (becomes.interval, becomes.interval_count):
            self.note("other_interval", "", group["n"], group["example"])
        status = group["status"]
        return tuple(recurring.mrr(book=book, quantity=quantity, status=status) for book in (was, becomes))  # type: ignore[return-value]

    def note(self, code: str, detail: str, count: int, example: str) -> None:
        """Remember a warning, and one of those it is about."""
        noted = self.notes[code, detail]
        noted[0] += count
        if len(noted[1]) < MAX_EXAMPLES:
            noted[1].append(example)

    def result(self, count: int) -> MigrationPreview:
        """Everything that was counted."""
        return MigrationPreview(
            count=count,
            sums=tuple(
                CurrencySums(currency=code, count=n, before=before, after=after)
                for code, (n, before, after) in sorted(self.sums.items())
            ),
            dearer=self.dearer,
            cheaper=self.cheaper,
            warnings=tuple(
                Warned(code=code, message=f"{n} {WARNINGS[code].format(detail=detail)}.", count=n, examples=tuple(some))
                for (code, detail), (n, some) in sorted(self.notes.items())
            ),
        )


def preview_migration(
    *, organisation: Organisation, from_plan: Plan, to_version: PlanVersion, from_version: PlanVersion | None = None
) -> MigrationPreview:
    """What moving the subscribers would do. MRR is that of the running ones; the others count as subscriptions.

    Raises ``InvalidPlanMigration`` and ``NotFound``.
    """
    check(organisation, from_plan=from_plan, from_version=from_version, to_version=to_version)
    found = chosen(from_plan=from_plan, from_version=from_version, to_version=to_version)
    groups: list[Any] = list(
        found.order_by().values("plan_version_id", "currency", "quantity", "add_ons", "status")
        .annotate(n=Count("id"), example=Min("external_id"))
    )  # fmt: skip
    versions: set[uuid.UUID] = {to_version.pk, *(group["plan_version_id"] for group in groups)}
    preview = _Preview(price_books(organisation, versions), to_version)
    for group in groups:
        preview.add(group)
    planned = PlannedChange.objects.filter(subscription__in=found, status=PlannedChange.Status.PLANNED)
    aside = found.exclude(failure="")
    for code, rows_found, name in (
        ("planned_change", planned, "subscription__external_id"),
        ("set_aside", aside, "external_id"),
    ):
        if n := rows_found.count():
            preview.notes[code, ""] = [n, list(rows_found.order_by("id").values_list(name, flat=True)[:MAX_EXAMPLES])]
    return preview.result(sum(group["n"] for group in groups))
