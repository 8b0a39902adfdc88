"""What the console asks before it does something to a subscription, and what it foretells."""

from collections.abc import Sequence
from typing import Any, cast

from django import forms
from django.http import HttpRequest
from djmoney.money import Money
from unfold.widgets import (
    UnfoldAdminIntegerFieldWidget,
    UnfoldAdminSelectWidget,
    UnfoldAdminSplitDateTimeWidget,
    UnfoldBooleanWidget,
)

from billing.admin.base import AboutRows, ReasonForm
from billing.admin.panels import Panel, badge, link, moment, money, span, words
from subscriptions.models import Plan, Price, Subscription
from subscriptions.selectors import plan_named
from subscriptions.services import changing, preview
from subscriptions.services.draft_foreseeing import ForeseenDraft
from subscriptions.services.zones import zone_of

CREDIT = [("none", "nothing"), ("prorated", "credit for what is not used"), ("refund", "credit, and the money back")]


def _time(label: str) -> forms.SplitDateTimeField:
    return forms.SplitDateTimeField(required=False, widget=UnfoldAdminSplitDateTimeWidget, label=label)


class PauseForm(ReasonForm):
    """From when until when; empty: now, until somebody resumes it."""

    on = _time("Pause on (empty: now)")
    resume_at = _time("Resume at (empty: by hand)")
    credit = forms.ChoiceField(choices=CREDIT[:2], widget=UnfoldAdminSelectWidget, label="Give back")


class ResumeForm(ReasonForm):
    """From when on it is billed again."""

    on = _time("Resume on (empty: now)")


class CancelForm(ReasonForm):
    """When it ends, and what is given back."""

    when = forms.ChoiceField(
        choices=[("period_end", "at the end of the paid period"), ("now", "now, or on the date below"),
                 ("term_end", "at the end of the term, with its notice")],
        widget=UnfoldAdminSelectWidget,
    )  # fmt: skip
    on = _time("On")
    credit = forms.ChoiceField(choices=CREDIT, widget=UnfoldAdminSelectWidget, label="Give back")
    waive_unbilled = forms.BooleanField(
        required=False, widget=UnfoldBooleanWidget, label="Give up a period that could not be billed"
    )


class ChangeForm(AboutRows, ReasonForm):
    """What it becomes, and from when."""

    plan = forms.ChoiceField(required=False, widget=UnfoldAdminSelectWidget, label="New plan")
    quantity = forms.IntegerField(
        required=False, min_value=1, max_value=changing.MAX_QUANTITY, widget=UnfoldAdminIntegerFieldWidget,
        label="New quantity (empty: it stays)",
    )  # fmt: skip
    when = forms.ChoiceField(
        choices=[("now", "now, or on the date below"), ("period_end", "at the end of the paid period"),
                 ("by_value", "now if it is dearer, else at the end of the period")],
        widget=UnfoldAdminSelectWidget,
    )  # fmt: skip
    on = _time("On")

    def suit(self, rows: Sequence[Any]) -> None:
        """The plans that are offered in the currencies of the subscriptions, theirs too: its newest prices may be others."""
        owners, currencies = {row.organisation_id for row in rows}, {row.currency for row in rows}
        found = Plan.objects.filter(organisation__in=owners, archived_at=None).order_by("code")
        for currency in currencies:
            found = found.filter(pk__in=Price.objects.filter(currency=currency).values("version__plan"))
        plans = [(plan.code, f"{plan.code}: {plan.name}") for plan in found]
        cast(forms.ChoiceField, self.fields["plan"]).choices = [("", "it stays"), *plans]


def timed(row: Subscription, asked: dict[str, Any]) -> dict[str, Any]:
    """Options of a form without what was left empty; times are meant on the subscription's wall, a date beats the choice."""
    options = {name: value for name, value in asked.items() if value not in (None, "") and name != "reason"}
    for name in ("on", "resume_at"):
        if name in options:
            options[name] = options[name].replace(tzinfo=zone_of(row))
    if "on" in options:
        options.pop("when", None)
    return options


def terms(row: Subscription, asked: dict[str, Any]) -> dict[str, Any]:
    """Options of a change, with the plan looked up."""
    options = timed(row, asked)
    if plan := options.pop("plan", ""):
        found = plan_named(row.organisation, plan)
        options["version"] = changing.version_for(organisation=row.organisation, plan_id=found.pk)
    return options


def foretelling(action: str, options: Any = None) -> Any:
    """Panels that say what an action would bill and bring about."""

    def foretell(page: Any, request: HttpRequest, row: Subscription, **asked: Any) -> list[Panel]:
        given = options(row, asked) if options else timed(row, asked)
        found = preview.preview_action(
            organisation=row.organisation, subscription_id=row.pk, action=action, count=2, **given
        )
        return foretold_panels(row, found)

    return foretell


def draft_total(one: ForeseenDraft) -> str:
    """What a draft will be issued for, and what it says now where that differs."""
    then = money(Money(one.priced.total, one.priced.currency)) if one.priced is not None else "nothing"
    return f"{then}, now {money(one.invoice.total)}" if one.invoice is not None and one.differs else f"{then}"


def draft_rows(request: HttpRequest, found: preview.Preview) -> list[tuple[Any, ...]]:
    """When the drafts that are there are issued, and for how much: time, what, which, total."""
    return [
        (one.at, "draft is issued" if one.invoice else "invoice",
         one.failure or (link(request, one.invoice) if one.invoice else ""), draft_total(one))
        for one in found.drafts
    ]  # fmt: skip


def foretold_panels(row: Subscription, found: preview.Preview) -> list[Panel]:
    """A preview as tables."""
    documents = [
        (one.at, "invoice", span(one.period_start, one.period_end), money(Money(one.priced.total, one.priced.currency)))
        for one in found.invoices
    ]  # fmt: skip
    documents += [
        (one.at, "credit note", one.invoice.number if one.invoice else "of an invoice above",
         money(Money(-one.priced.total, one.currency)))
        for one in found.credits
    ]  # fmt: skip
    documents += [
        (one.at, "draft" if one.invoice else "invoice",
         one.failure or (span(one.period_start, one.period_end) if one.period_start and one.period_end else ""), draft_total(one))
        for one in found.drafts
    ]  # fmt: skip
    documents.sort(key=lambda document: document[0])
    return [
        Panel(
            title="This would be issued", headers=("When", "What", "For", "Total"), numbers=frozenset({3}),
            rows=[(moment(at, row.organisation), *rest) for at, *rest in documents], empty="Nothing.",
            note="Usage counts as far as it is measured now. Nothing is done yet.",
        ),
        Panel(
            title="This would happen", headers=("When", "What", "Status", "Plan", "Quantity"), numbers=frozenset({4}),
            rows=[(moment(one.at, row.organisation), words(one.what), badge(one.status), one.plan, one.quantity)
                  for one in found.events],
            empty="Nothing.",
        ),
    ]  # fmt: skip
