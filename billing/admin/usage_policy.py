"""Pages of what an organisation does with usage that is unknown, late or old: what holds, and changing it with a reason."""

from dataclasses import asdict
from typing import Any

from django import forms
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.html import format_html
from unfold.widgets import UnfoldAdminIntegerFieldWidget, UnfoldAdminSelectWidget

from billing import clock
from billing.admin.base import ReasonForm
from billing.admin.looks import day, moment
from billing.admin.panels import Panel, Record, RecordAdmin
from billing.errors import DomainError
from billing.models import AuditRecord, Organisation
from billing.selectors import access
from billing.services import usage_policy
from billing.services.usage_policy import UsagePolicy

PERMISSION = "plan.edit"
SHOWN = 20
WHAT = [("refuse", "refuse them: the sender is told"), ("park", "park them: they wait for what they name")]
TOO_LATE = [("refuse", "refuse them: the sender is told"), ("park", "park them: somebody decides")]
LABELS = {
    "unknown": "Events that name something unknown",
    "too_late": "Events for a closed period",
    "late_days": "Days for late usage",
    "retention_months": "Months that are kept",
}


class PolicyForm(ReasonForm):
    """What is to hold from now on."""

    unknown = forms.ChoiceField(
        choices=WHAT, label=LABELS["unknown"], widget=UnfoldAdminSelectWidget(),
        help_text="A meter, customer, subscription or property that is not there (yet).",
    )  # fmt: skip
    late_days = forms.IntegerField(
        min_value=0, max_value=usage_policy.MAX_LATE_DAYS, label=LABELS["late_days"], widget=UnfoldAdminIntegerFieldWidget(),
        help_text="So long after its end a billed period takes in late usage, corrections and voids: they are billed on the "
        "next invoice. Then it is closed. Periods that are closed stay closed.",
    )  # fmt: skip
    too_late = forms.ChoiceField(choices=TOO_LATE, label=LABELS["too_late"], widget=UnfoldAdminSelectWidget())
    retention_months = forms.IntegerField(
        min_value=0, max_value=usage_policy.MAX_MONTHS, label=LABELS["retention_months"], widget=UnfoldAdminIntegerFieldWidget(),
        help_text="Whole months beside the present one; 0 keeps everything. Older usage is deleted for good, month by month, "
        "once it is billed; what recurring meters have carried on stays.",
    )  # fmt: skip
    field_order = ("unknown", "late_days", "too_late", "retention_months", "reason")

    @property
    def changes(self) -> dict[str, Any]:
        """What ``change_policy`` takes."""
        return {name: value for name, value in self.cleaned_data.items() if name in LABELS}


class PolicyPages:
    """The two pages, for the meter admin."""

    def __init__(self, admin: RecordAdmin) -> None:
        self.admin = admin

    def shown(self, request: HttpRequest) -> HttpResponse:
        """What holds in each organisation that the person may look at."""
        if not self.admin.organisations(request):
            raise PermissionDenied("This needs the permission 'usage.view'.")
        editors = set(self.admin.organisations_where(request, PERMISSION))
        auditors = set(self.admin.organisations_where(request, "audit.view"))
        panels: list[Panel] = []
        for one in Organisation.objects.filter(pk__in=self.admin.organisations(request)).order_by("name"):
            panels.append(_holds(one, may_edit=one.pk in editors))
            if one.pk in auditors:
                panels.append(_changed(one))
        record = Record(facts=[], panels=panels)
        context = {
            **self.admin.admin_site.each_context(request),
            "opts": self.admin.opts,
            "title": "Usage policy",
            "record": record,
        }
        return TemplateResponse(request, "console/record.html", context)

    def change(self, request: HttpRequest, organisation_id: Any) -> HttpResponse:
        """Ask what is to hold, say what it would come to, and change it."""
        mine = access.organisations_with(request.user, PERMISSION)
        if not mine:
            raise PermissionDenied(f"This needs the permission '{PERMISSION}'.")
        found = Organisation.objects.filter(pk__in=mine, pk=organisation_id).first()
        if found is None:
            raise Http404
        form = PolicyForm(
            request.POST if "confirm" in request.POST else None, initial=asdict(usage_policy.policy_of(found))
        )
        back, looks = reverse("admin:billing_usage_policy"), "look" in request.POST
        foretold: list[Panel] = []
        if form.is_valid() and looks:
            foretold = _foretold(found, form)
        elif form.is_valid():
            done = self.admin.attempt(request, lambda: usage_policy.change_policy(
                organisation=found, actor=self.admin.actor_in(request, found), reason=form.cleaned_data["reason"], **form.changes,
            ), form=form)  # fmt: skip
            if done is not None:
                return HttpResponseRedirect(back)
        title = f"Change the usage policy of {found.name}"
        return self.admin.ask(request, title=title, form=form, back_to=back, looks=True, foretold=foretold)


def _holds(organisation: Organisation, *, may_edit: bool) -> Panel:
    policy = usage_policy.policy_of(organisation)
    address = reverse("admin:billing_usage_policy_change", args=[organisation.pk])
    edit = format_html('<a class="m-link" href="{}">Change it</a>', address) if may_edit else ""
    rows = [(LABELS[name], _said(policy, name), _means(organisation, policy, name)) for name in LABELS]
    return Panel(
        title=organisation.name, headers=("What", "Now", ""), rows=rows, empty="",
        note=format_html("Late, unknown and old usage. Plans and meters stay as they are. {}", edit),
    )  # fmt: skip


def _said(policy: UsagePolicy, name: str) -> str:
    value = getattr(policy, name)
    if name in ("unknown", "too_late"):
        return "parked" if value == usage_policy.PARK else "refused"
    unit = "day" if name == "late_days" else "month"
    return "all" if name == "retention_months" and not value else f"{value} {unit}{'' if value == 1 else 's'}"


def _means(organisation: Organisation, policy: UsagePolicy, name: str) -> str:
    """What a choice comes to today."""
    now = clock.now(organisation)
    if name == "late_days":
        return f"billed periods that ended before {moment(now - policy.lateness, organisation)} are closed"
    if name == "retention_months":
        return (
            f"usage since {day(policy.earliest(now).date())} is kept"
            if policy.retention_months
            else "nothing is deleted"
        )
    return "they wait in Parked usage" if getattr(policy, name) == usage_policy.PARK else "the sender is told at once"


def _foretold(organisation: Organisation, form: PolicyForm) -> list[Panel]:
    """What would hold otherwise, before it is decided; a refusal is shown at its field instead."""
    now = usage_policy.policy_of(organisation)
    try:
        then = usage_policy.drafted(organisation, **form.changes)
    except DomainError as exc:
        form.add_error(exc.field if exc.field in form.fields else None, str(exc))
        return []
    rows = [
        (LABELS[name], _said(now, name), _said(then, name), _means(organisation, then, name))
        for name in LABELS if getattr(now, name) != getattr(then, name)
    ]  # fmt: skip
    note = ""
    at = clock.now(organisation)
    if then.earliest(at) > now.earliest(at):
        note = f"Usage from before {day(then.earliest(at).date())} is deleted for good once it is billed."
    return [
        Panel(title="What would change", headers=("What", "Now", "Then", ""), rows=rows, empty="Nothing.", note=note)
    ]


def _changed(organisation: Organisation) -> Panel:
    """Who changed it last, and why."""
    records = AuditRecord.objects.of(organisation).filter(action="usage_policy.changed").order_by("-id")[:SHOWN]
    rows = [
        (moment(one.occurred_at, organisation), _difference(one), one.actor_label or one.actor_type, one.reason) for one in records
    ]  # fmt: skip
    return Panel(
        title=f"Changes at {organisation.name}", headers=("When", "What", "Who", "Why"), rows=rows,
        empty="None yet: the defaults hold, or what was chosen when the organisation began.",
    )  # fmt: skip


def _difference(record: AuditRecord) -> str:
    changed = [name for name in LABELS if record.before.get(name) != record.after.get(name)]
    return (
        "; ".join(f"{LABELS[name]}: {record.before.get(name)} → {record.after.get(name)}" for name in changed)
        or "nothing"
    )
