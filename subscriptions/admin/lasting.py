"""How long a subscription lasts, on its page: its end and its term in words, and changing them."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, cast

from django import forms
from django.http import HttpRequest
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget, UnfoldAdminSplitDateTimeWidget

from billing.admin.base import AboutRows, ReasonForm, decision
from billing.admin.panels import moment
from billing.context import Actor
from subscriptions import rules
from subscriptions.admin.asking import CREDIT, foretelling
from subscriptions.models import Interval, Subscription
from subscriptions.rules import Term
from subscriptions.services import acting, terms
from subscriptions.services.documents import Issued
from subscriptions.services.zones import zone_of

PAST_IT = "Give back of what is charged past the end"


def changeable(row: Subscription) -> bool:
    """Whether its end can be moved."""
    return row.status not in ("incomplete", "cancelled", "expired") and row.cancel_at is None


class EndForm(AboutRows, ReasonForm):
    """Until when it lasts."""

    ends_at = forms.SplitDateTimeField(
        required=False, widget=UnfoldAdminSplitDateTimeWidget, label="Ends at (empty: open-ended)",
        help_text="Its day is the last one charged. A term gives way to a fixed end.",
    )  # fmt: skip
    credit = forms.ChoiceField(choices=CREDIT, widget=UnfoldAdminSelectWidget, label=PAST_IT)

    def suit(self, rows: Sequence[Any]) -> None:
        """The end that it has, on its wall."""
        for row in rows[:1]:
            if row.ends_at is not None:
                self.fields["ends_at"].initial = row.ends_at.astimezone(zone_of(row)).replace(tzinfo=None)


class TermForm(AboutRows, ReasonForm):
    """What becomes of its term."""

    what = forms.ChoiceField(widget=UnfoldAdminSelectWidget, label="What")
    renewals = forms.IntegerField(
        required=False, min_value=0, max_value=rules.MAX_RENEWALS, widget=UnfoldAdminIntegerFieldWidget,
        label="Renews itself so many times (empty: for ever)",
    )  # fmt: skip
    interval = forms.ChoiceField(
        required=False, choices=[("", "–"), *Interval.choices], widget=UnfoldAdminSelectWidget, label="A term is counted in"
    )  # fmt: skip
    count = forms.IntegerField(
        required=False, min_value=1, max_value=rules.MAX_TERM, widget=UnfoldAdminIntegerFieldWidget,
        label="A term of so many (empty: one)",
    )  # fmt: skip
    notice_days = forms.IntegerField(
        required=False, min_value=0, max_value=rules.MAX_NOTICE_DAYS, widget=UnfoldAdminIntegerFieldWidget,
        label="Days of notice (empty: none)",
    )  # fmt: skip
    when = forms.ChoiceField(
        choices=[("now", "now, counted from the running period"), ("term_end", "when the present term or agreement ends")],
        widget=UnfoldAdminSelectWidget, label="Another term, or none, from",
    )  # fmt: skip
    credit = forms.ChoiceField(choices=CREDIT, widget=UnfoldAdminSelectWidget, label=PAST_IT)

    def suit(self, rows: Sequence[Any]) -> None:
        """What can be asked of a subscription with a term, or without."""
        choices = [("term", "another term, as said below"), ("open", "no term: open-ended")]
        if all(row.term_interval for row in rows):
            choices = [
                ("stop", "does not renew: ends with its term, after its notice"),
                ("renew", "renews as agreed: what was decided about its end is taken back"),
                ("renewals", "renews so many times from now on"),
                *choices,
            ]
        cast(forms.ChoiceField, self.fields["what"]).choices = choices

    def clean(self) -> dict[str, Any]:
        given = super().clean() or {}
        if given.get("what") == "term" and not given.get("interval") and "interval" not in self.errors:
            self.add_error("interval", "Say in what the term is counted.")
        return given


def until(row: Subscription, asked: dict[str, Any]) -> dict[str, Any]:
    """Options of another end; the time is meant on the subscription's wall."""
    ends_at: datetime | None = asked["ends_at"]
    return {"ends_at": ends_at.replace(tzinfo=zone_of(row)) if ends_at else None, "credit": asked["credit"]}


def of_term(row: Subscription, asked: dict[str, Any]) -> dict[str, Any]:
    """Options of a change of term."""
    what = asked["what"]
    if what in ("stop", "renew"):
        return {"renews": what == "renew"}
    if what == "renewals":
        return {"renewals": asked["renewals"]}
    credit = asked["credit"] if asked["when"] == "now" else "none"
    term = None
    if what == "term":
        term = Term(
            interval=asked["interval"], count=asked["count"] or 1, renewals=asked["renewals"],
            notice_days=asked["notice_days"] or 0,
        )  # fmt: skip
    return {"term": term, "when": asked["when"], "credit": credit}


class LastingActions:
    """What a subscription's page offers about its end and its term."""

    @decision(
        description="Change end", permission="subscription.edit", form=EndForm, icon="event",
        foretell=foretelling("change_end", until),
    )  # fmt: skip
    def change_end(self, request: HttpRequest, row: Subscription, *, actor: Actor, reason: str, **asked: Any) -> str:
        changed = acting.change_end(
            organisation=row.organisation, subscription_id=row.pk, actor=actor, reason=reason, **until(row, asked)
        )
        return _said(changed.subscription, changed.issued)

    @decision(
        description="Change term", permission="subscription.edit", form=TermForm, icon="autorenew",
        foretell=foretelling("change_term", of_term),
    )  # fmt: skip
    def change_term(self, request: HttpRequest, row: Subscription, *, actor: Actor, reason: str, **asked: Any) -> str:
        changed = acting.change_term(
            organisation=row.organisation, subscription_id=row.pk, actor=actor, reason=reason, **of_term(row, asked)
        )
        return _said(changed.subscription, changed.issued)


def _said(row: Subscription, issued: Issued) -> str:
    notes = " ".join(f"Credit note {note.number} over {note.total}." for note in issued.credit_notes)
    if row.ends_at is None:
        return f"{row} is open-ended. {notes}".strip()
    return f"{row}, {moment(row.ends_at, row.organisation)}: {end_text(row)}. {notes}".strip()


def end_text(row: Subscription) -> str:
    """What happens at its present end."""
    if not terms.renews(row):
        return "ends, its term does not renew" if row.term_interval else "ends"
    if row.next_term is not None:
        following = terms.next_of(row)
        return f"goes on with a term of {term_text(following)}" if following else "goes on, open-ended"
    last = terms.last_end(row)
    return "renews its term" if last is None else f"renews its term, until {moment(last, row.organisation)} at most"


def term_text(term: Term) -> str:
    """A term in words."""
    every = term.interval if term.count == 1 else f"{term.count} {term.interval}s"
    if term.renewals == 0:
        return f"{every}, does not renew"
    times = "for ever" if term.renewals is None else f"{term.renewals} times"
    return f"{every}, renews itself {times}, {term.notice_days} days of notice"


def lasting_facts(row: Subscription) -> tuple[tuple[str, str], ...]:
    """Its term, if it has one."""
    term = terms.term_of(row)
    if term is None:
        return ()
    notice_until = terms.notice_until(row)
    notice = (("Notice until", moment(notice_until, row.organisation)),) if terms.renews(row) else ()
    return (("Term", term_text(term)), *notice)


def ends_ahead(row: Subscription) -> list[tuple[datetime, str, str]]:
    """What is known to happen to it at its end: when, what, in words."""
    if row.status in ("cancelled", "expired"):
        return []
    found = [(row.cancel_at, "end", "cancelled")] if row.cancel_at is not None else []
    if row.ends_at is not None and (row.cancel_at is None or row.ends_at < row.cancel_at):
        found.append((row.ends_at, "renewal" if terms.renews(row) else "end", end_text(row)))
    return found
