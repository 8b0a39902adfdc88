"""The plan editor: a new plan or a new version of one, with a preview that is priced by the server as one writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from django import forms
from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils import timezone
from moneyed import Money

from billing.admin.base import TenantAdmin, path_to
from billing.admin.looks import money, number
from billing.context import Actor
from billing.errors import DomainError
from billing.models import Meter, Organisation
from billing.selectors import access
from subscriptions.admin.plan_forms import Components, PlanForm, VersionForm, initial_of, minimum_text
from subscriptions.models import Plan, PlanVersion
from subscriptions.services import catalog
from subscriptions.services.plan_drafts import DraftQuote, Sample, quote_draft
from subscriptions.services.quoting import QuotedLine

PERMISSION = "plan.edit"
LABELS = {"free": "free", "package": "packages", "rate": "rate", "fixed_fee": "fee an event", "limits": "limits"}


@dataclass(frozen=True, slots=True)
class Draft:
    """What is being written: forms as they were sent, or as they begin."""

    organisation: Organisation
    plan: Plan | None
    plan_form: PlanForm | None
    version_form: VersionForm
    components: Any

    @property
    def forms(self) -> list[Any]:
        """All of them."""
        return [one for one in (self.plan_form, self.version_form, self.components) if one is not None]

    def is_valid(self) -> bool:
        """Whether every form is filled as it has to be; all of them are looked at."""
        return False not in [one.is_valid() for one in self.forms]

    @property
    def interval(self) -> tuple[str, int]:
        """Interval and count of the plan."""
        if self.plan is not None:
            return self.plan.interval, self.plan.interval_count
        assert self.plan_form is not None
        return self.plan_form.cleaned_data["interval"], self.plan_form.cleaned_data["interval_count"]


class Editor:
    """The pages of the editor, for the plan admin."""

    def __init__(self, admin: TenantAdmin) -> None:
        self.admin = admin

    def page(self, request: HttpRequest, plan_id: Any = None) -> HttpResponse:
        """The editor: shown, previewed (also without scripts), or saved."""
        organisations = self._organisations(request)
        plan = self._plan(organisations, plan_id) if plan_id else None
        organisation = plan.organisation if plan else _chosen(organisations, request)
        with timezone.override(organisation.time_zone):
            return self._page(request, organisations, organisation, plan)

    def _page(
        self, request: HttpRequest, organisations: Sequence[Organisation], organisation: Organisation, plan: Plan | None
    ) -> HttpResponse:
        draft = _draft(request, organisation, plan)
        preview: dict[str, Any] = {}
        if request.method == "POST":
            if "save" in request.POST and draft.is_valid():
                saved = self._save(request, draft)
                if saved is not None:
                    return HttpResponseRedirect(path_to(saved))
            preview = preview_of(draft)
        return TemplateResponse(request, "admin/subscriptions/plan_editor.html", {
            **self.admin.admin_site.each_context(request),
            "opts": self.admin.opts,
            "title": f"New version of {plan.code}" if plan else "New plan",
            "draft": draft,
            "organisations": organisations,
            "preview": preview,
            "preview_address": reverse("admin:subscriptions_plan_preview", args=[plan.pk]) if plan
            else reverse("admin:subscriptions_plan_preview_new"),
            "back": path_to(plan) if plan else reverse("admin:subscriptions_plan_changelist"),
            "meters": Meter.objects.of(organisation).order_by("code"),
            "media": self.admin.media + draft.version_form.media,
        })  # fmt: skip

    def preview(self, request: HttpRequest, plan_id: Any = None) -> HttpResponse:
        """The preview alone, for the page's script."""
        organisations = self._organisations(request)
        plan = self._plan(organisations, plan_id) if plan_id else None
        if request.method != "POST":
            raise Http404
        draft = _draft(request, plan.organisation if plan else _chosen(organisations, request), plan)
        return render(request, "admin/subscriptions/plan_preview.html", {"preview": preview_of(draft)})

    def _organisations(self, request: HttpRequest) -> list[Organisation]:
        mine = access.organisations_with(request.user, PERMISSION)
        if not mine:
            raise PermissionDenied(f"This needs the permission '{PERMISSION}'.")
        return list(Organisation.objects.filter(pk__in=mine).order_by("name"))

    def _plan(self, organisations: Sequence[Organisation], plan_id: Any) -> Plan:
        found = Plan.objects.filter(organisation__in=organisations, pk=plan_id).select_related("organisation").first()
        if found is None:
            raise Http404
        return found

    def _save(self, request: HttpRequest, draft: Draft) -> Plan | None:
        given, prices = draft.version_form.cleaned_data, [one.price() for one in draft.components.kept]
        address = request.META.get("REMOTE_ADDR") or None
        actor: Actor = access.actor_of(request.user, organisation_id=draft.organisation.pk, address=address)
        about = {
            "prices": prices,
            "actor": actor,
            "effective_from": given["effective_from"],
            "min_commitment": given["minimum"],
        }
        try:
            if draft.plan is not None:
                version = catalog.add_version(plan_id=draft.plan.pk, **about)
                messages.success(
                    request, f"Version {version.number} is there; who has subscribed stays on the old prices."
                )
                return draft.plan
            assert draft.plan_form is not None
            plan = catalog.create_plan(organisation=draft.organisation, **draft.plan_form.changes(), **about)
        except DomainError as exc:
            messages.error(request, str(exc))
            return None
        messages.success(request, f"{plan.code} is offered.")
        return plan


def _chosen(organisations: Sequence[Organisation], request: HttpRequest) -> Organisation:
    wanted = request.POST.get("organisation") or request.GET.get("organisation", "")
    return next((one for one in organisations if str(one.pk) == wanted), organisations[0])


def _draft(request: HttpRequest, organisation: Organisation, plan: Plan | None) -> Draft:
    data = request.POST if request.method == "POST" else None
    newest: PlanVersion | None = plan.versions.order_by("-number").first() if plan else None
    initial = initial_of(newest) or [{"currency": organisation.currency, "model": "flat", "prorated": True}]
    return Draft(
        organisation=organisation,
        plan=plan,
        plan_form=None if plan else PlanForm(data, prefix="plan"),
        version_form=VersionForm(data, prefix="version", initial={"minimum": minimum_text(newest)}),
        components=Components(data, prefix="c", initial=None if data is not None else initial),
    )


def preview_of(draft: Draft) -> dict[str, Any]:
    """What the draft would cost, or why it cannot be saved as it stands."""
    if not draft.is_valid():
        return {"problems": [*_problems(draft)][:12]}
    kept, (interval, count) = draft.components.kept, draft.interval
    samples = _samples(kept)
    kinds = {one.cleaned_data["code"]: one.cleaned_data for one in kept}
    sample = Sample(
        quantity=draft.version_form.cleaned_data["quantity"],
        add_ons={code: int(samples[code]) for code, given in kinds.items() if given["kind"] == "add_on"},
        usage={code: samples[code] for code, given in kinds.items() if given["meter"]},
    )
    try:
        found = quote_draft(
            organisation=draft.organisation, interval=interval, interval_count=count, sample=sample,
            prices=[one.price() for one in kept], min_commitment=draft.version_form.cleaned_data["minimum"],
        )  # fmt: skip
    except DomainError as exc:
        return {"problems": [str(exc)]}
    every = interval if count == 1 else f"{count} {interval}s"
    return {"every": every, "quotes": [_shown(one) for one in found]}


def _samples(kept: Sequence[Any]) -> dict[str, Decimal]:
    """The quantity to preview of each component; what is written at one currency counts for all of them."""
    samples: dict[str, Decimal] = {}
    for one in kept:
        code, said = one.cleaned_data["code"], one.cleaned_data["sample"]
        samples[code] = samples.get(code) or said or Decimal(0)
    return samples


def _problems(draft: Draft) -> list[str]:
    found = []
    for form in (draft.plan_form, draft.version_form):
        found += _errors(form, "") if form is not None else []
    for position, form in enumerate(draft.components.forms, start=1):
        found += _errors(form, f"Component {position}: ")
    return found + [str(one) for one in draft.components.non_form_errors()]


def _errors(form: forms.Form, where: str) -> list[str]:
    return [
        f"{where}{name.replace('_', ' ')}: {text}" if name != "__all__" else f"{where}{text}"
        for name, texts in form.errors.items() for text in texts
    ]  # fmt: skip


def _shown(found: DraftQuote) -> dict[str, Any]:
    quote = found.quote
    return {
        "currency": quote.currency,
        "rows": [row for line in quote.lines for row in _rows(line)],
        "minimum": money(quote.minimum) if quote.minimum.amount else "",
        "total": money(quote.total),
        "one_off": money(quote.one_off) if quote.one_off.amount else "",
        "steps": [(f"× {number(step)}", money(each.total), _share(each.total, found.steps)) for step, each in found.steps],
    }  # fmt: skip


def _share(total: Money, steps: Any) -> int:
    """A bar's length in percent of the dearest step."""
    most = max(each.total.amount for _, each in steps)
    return int(total.amount * 100 / most) if most else 0


def _rows(line: QuotedLine) -> list[dict[str, str]]:
    """The line, and below it each part of its price."""
    head = {
        "name": f"{line.name} (once)" if line.kind == "one_off" else line.name,
        "quantity": number(line.priced.quantity),
        "amount": money(line.priced.amount),
        "part": "",
    }
    parts = []
    for tier in line.priced.tiers:
        bound = f"up to {number(tier.up_to)}" if tier.up_to is not None else "above"
        words = LABELS.get(tier.label, tier.label) if tier.label else bound
        price = f"{number(tier.rate)} %" if tier.rate is not None else number(tier.unit_price)
        fee = f" + {number(tier.flat_fee)}" if tier.flat_fee else ""
        parts.append(
            {
                "name": words,
                "quantity": f"{number(tier.quantity)} × {price}{fee}",
                "amount": number(tier.amount),
                "part": "yes",
            }
        )
    return [head, *parts]
