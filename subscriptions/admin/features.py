"""Console pages of features: the list, one feature across the plans, and the matrix of features and plans."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from django import forms
from django.contrib import admin
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils.html import format_html
from unfold.decorators import display
from unfold.widgets import UnfoldAdminTextareaWidget, UnfoldAdminTextInputWidget

from billing.admin.base import ReasonForm, decision, path_to, site
from billing.admin.panels import (
    NOTHING,
    Panel,
    Record,
    RecordAdmin,
    badge,
    link,
    moment,
    page_action,
    timeline_panel,
    words,
)
from billing.context import Actor
from billing.errors import DomainError
from billing.models import Organisation
from billing.selectors import access
from subscriptions.admin.feature_forms import ChoicesForm, FeatureChangeForm, FeatureForm
from subscriptions.entitlements.errors import InvalidTerms
from subscriptions.entitlements.policy import policy_of
from subscriptions.entitlements.words import EXAMPLES
from subscriptions.models import Feature, Plan, PlanEntitlement, PlanVersion
from subscriptions.services.entitlements import choices, features
from subscriptions.services.entitlements.terms import (
    TermsInput,
    add_ons_of,
    from_words,
    in_words,
    is_sold,
    set_plan_entitlements,
)

TEXT = UnfoldAdminTextInputWidget
WITH_ADD_ONS = "with add-ons"  # no feature is called so: codes have no spaces


@admin.register(Feature, site=site)
class FeatureAdmin(RecordAdmin):
    """What a customer may be entitled to, and which plan gives it."""

    view_permission = "entitlement.view"
    list_display = ("code", "name", "kind", "show_reset", "show_limit", "show_state", "organisation")
    list_filter = ("kind", ("archived_at", admin.EmptyFieldListFilter))
    list_select_related = ("organisation",)
    search_fields = ("code", "name")
    ordering = ("code",)
    actions_list = ("add_feature", "matrix")
    actions_detail = ("edit", "archive")
    empty_hint = "Add a feature here or by POST /api/v1/features; then say on the matrix which plan gives it."

    @display(description="full again", ordering="reset")
    def show_reset(self, feature: Feature) -> str:
        counted = feature.kind in (Feature.Kind.QUOTA, Feature.Kind.METERED)
        return words(feature.reset) if counted else NOTHING

    @display(description="limit")
    def show_limit(self, feature: Feature) -> str:
        return "soft" if feature.is_soft else "hard"

    @display(description="state", label={"offered": "success", "archived": ""})
    def show_state(self, feature: Feature) -> str:
        return "archived" if feature.archived_at else "offered"

    @page_action(description="Add feature", permission="plan.edit", icon="add")
    def add_feature(self, request: HttpRequest) -> HttpResponse:
        form = FeatureForm(request.POST or None, organisations=self.organisations_where(request, "plan.edit"))
        back = reverse("admin:subscriptions_feature_changelist")
        if form.is_valid():
            given = form.cleaned_data
            actor = self.actor_in(request, given["organisation"])
            if self.attempt(request, lambda: features.create_feature(actor=actor, **given), form=form) is not None:
                return HttpResponseRedirect(back)
        return self.ask(request, title="Add a feature", form=form, back_to=back)

    @page_action(description="Edit", permission="plan.edit", icon="edit")
    def edit(self, request: HttpRequest, row: Feature) -> HttpResponse:
        """Words, window, softness, choices and thresholds; kind, code and meter stay."""
        form = FeatureChangeForm(request.POST if "confirm" in request.POST else None, feature=row)
        if form.is_valid():
            changes = {name: value for name, value in form.cleaned_data.items() if name != "reason"}
            done = self.attempt(request, lambda: features.update_feature(
                feature_id=row.pk, actor=self.actor(request, row), changes=changes, reason=form.cleaned_data["reason"],
            ), form=form)  # fmt: skip
            if done is not None:
                return HttpResponseRedirect(path_to(row))
        return self.ask(request, title=f"Edit {row.name}", form=form, back_to=path_to(row))

    @decision(description="Archive", permission="plan.edit", form=ReasonForm, icon="archive")
    def archive(self, request: HttpRequest, row: Feature, *, actor: Actor, reason: str) -> str:
        """Nobody is entitled to it any more."""
        features.archive_feature(feature_id=row.pk, actor=actor, reason=reason)
        return f"{row.code} is archived; checks answer so from now on."

    def offers(self, row: Feature, action: str) -> bool:
        return row.archived_at is None

    def record(self, request: HttpRequest, row: Feature) -> Record:
        given = PlanEntitlement.objects.filter(feature=row).select_related("version__plan")
        rows = [
            (link(request, one.version.plan), one.version.number, one.add_on or "the plan", in_words(one, row))
            for one in given.order_by("version__plan__code", "-version__number", "add_on")
        ]
        return Record(
            badges=(badge("void" if row.archived_at else "active", "archived" if row.archived_at else "offered"),),
            facts=(
                ("Code", row.code),
                ("Name", row.name),
                ("Description", row.description or NOTHING),
                ("Kind", row.kind),
                ("Meter", link(request, row.meter) if row.meter else NOTHING),
                ("Unit", row.unit or NOTHING),
                ("Full again", self.show_reset(row)),
                ("Limit", self.show_limit(row)),
                ("Choices", ", ".join(row.choices) or NOTHING),
                ("Told of at", ", ".join(f"{one} %" for one in row.thresholds) or "the organisation's thresholds"),
                ("Added", moment(row.created_at, row.organisation)),
            ),
            panels=[
                Panel(title="Given by", headers=("Plan", "Version", "By", "What"), rows=rows, numbers=frozenset({1}),
                      empty="No plan gives it yet: see the matrix."),
                *timeline_panel(request, self, row, [row.pk]),
            ],
        )  # fmt: skip

    # --- the matrix -----------------------------------------------------------------------------------
    @page_action(description="Matrix of plans", permission="entitlement.view", icon="grid_on")
    def matrix(self, request: HttpRequest) -> HttpResponse:
        """What the newest version of every plan gives."""
        allowed = Organisation.objects.filter(pk__in=self.organisations(request))
        editors = set(self.organisations_where(request, "plan.edit"))
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": "Features and plans",
            "record": Record(facts=[], panels=[_matrix_panel(one, may_edit=one.pk in editors) for one in allowed]),
        }
        return TemplateResponse(request, "console/record.html", context)

    def get_urls(self) -> list[Any]:
        edit = self.admin_site.admin_view(self.edit_version)
        choose = self.admin_site.admin_view(self.choose)
        return [
            path("version/<uuid:version_id>/", edit, name="subscriptions_feature_edit_version"),
            path("choices/<uuid:organisation_id>/", choose, name="subscriptions_feature_choose"),
            *super().get_urls(),
        ]

    def edit_version(self, request: HttpRequest, version_id: Any) -> HttpResponse:
        """One column of the matrix, to be edited."""
        mine = access.organisations_with(request.user, "plan.edit")
        if not mine:
            raise PermissionDenied("This needs the permission 'plan.edit'.")
        version = PlanVersion.objects.filter(organisation__in=mine, pk=version_id).select_related(
            "plan", "organisation"
        )
        found = version.first()
        if found is None:
            raise Http404
        rows = list(Feature.objects.of(found.organisation_id).filter(archived_at=None))
        form = VersionForm(
            request.POST if "confirm" in request.POST else None, features=rows, given=_given([found]), version=found
        )
        back = reverse("admin:subscriptions_feature_matrix")
        if form.is_valid():
            done = self.attempt(request, lambda: self._save(request, found, rows, form), form=form)
            if done is not None:
                return HttpResponseRedirect(back)
        title = f"Set what version {found.number} of {found.plan.code} gives"
        return self.ask(request, title=title, form=form, back_to=back)

    def choose(self, request: HttpRequest, organisation_id: Any) -> HttpResponse:
        """What holds for all features of one organisation."""
        mine = self.organisations_where(request, "plan.edit")
        if not mine:
            raise PermissionDenied("This needs the permission 'plan.edit'.")
        found = Organisation.objects.filter(pk__in=mine, pk=organisation_id).first()
        if found is None:
            raise Http404
        given = request.POST if "confirm" in request.POST else None
        form = ChoicesForm(given, chosen=choices.said(policy_of(found)))
        back = reverse("admin:subscriptions_feature_matrix")
        if form.is_valid():
            done = self.attempt(request, lambda: choices.change_choices(
                organisation=found, actor=self.actor_in(request, found), reason=form.cleaned_data["reason"], **form.changes,
            ), form=form)  # fmt: skip
            if done is not None:
                return HttpResponseRedirect(back)
        return self.ask(request, title=f"Choices of {found.name} about entitlements", form=form, back_to=back)

    def _save(self, request: HttpRequest, version: PlanVersion, rows: Sequence[Feature], form: "VersionForm") -> Any:
        said = form.cleaned_data
        return set_plan_entitlements(
            plan_id=version.plan_id,
            number=version.number,
            entitlements=[from_words(one, said[one.code]) for one in rows if one.code in form.changed_data]
            + form.of_add_ons(),
            actor=self.actor_in(request, version.organisation),
            reason=said["why"],
        )


class VersionForm(forms.Form):
    """A field of words for each feature."""

    def __init__(
        self, *args: Any, features: Iterable[Feature], given: Mapping[Any, PlanEntitlement], version: PlanVersion, **kwargs: Any
    ) -> None:  # fmt: skip
        super().__init__(*args, **kwargs)
        self._features = list(features)
        for one in self._features:
            self.fields[one.code] = forms.CharField(
                max_length=200, required=False, label=one.name, widget=TEXT(), help_text=_hint(one),
                initial=in_words(given.get((version.pk, one.pk)), one),
            )  # fmt: skip
        self._said = {
            (row.add_on, row.feature.code): in_words(row, row.feature)
            for row in PlanEntitlement.objects.filter(version=version).exclude(add_on="").select_related("feature")
        }
        self._add_ons = add_ons_of(version)
        if self._add_ons or self._said:
            self.fields[WITH_ADD_ONS] = forms.CharField(
                max_length=4000, required=False, label="What add-ons give", widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
                help_text=f"One a line, such as {min(self._add_ons, default='storage')}: exports = 50 per unit. Per unit: of the add-on.",
                initial="\n".join(f"{add_on}: {code} = {said}" for (add_on, code), said in sorted(self._said.items())),
            )  # fmt: skip
        sold = "It has subscribers: their entitlements may only get more, unless the organisation chose otherwise."
        self.fields["why"] = forms.CharField(
            max_length=500, required=False, label="Reason", widget=TEXT(), help_text=sold if is_sold(version) else ""
        )

    def clean(self) -> dict[str, Any]:
        said = super().clean() or {}
        for one in self._features:
            try:
                from_words(one, said.get(one.code, ""))
            except DomainError as exc:
                self.add_error(one.code, str(exc))
        try:
            self.of_add_ons()
        except DomainError as exc:
            self.add_error(WITH_ADD_ONS, str(exc))
        return said

    def of_add_ons(self) -> list[TermsInput]:
        """What is said of add-ons and was not before; what is said no more is taken away. Raises ``InvalidTerms``."""
        if WITH_ADD_ONS not in self.fields:
            return []
        features, lines = {one.code: one for one in self._features}, dict[tuple[str, str], str]()
        for line in filter(None, (one.strip() for one in self.cleaned_data.get(WITH_ADD_ONS, "").splitlines())):
            add_on, colon, rest = line.partition(":")
            code, equals, said = rest.partition("=")
            key = add_on.strip(), code.strip()
            if not colon or not equals or key[1] not in features or key in lines:
                raise InvalidTerms(
                    f"'{line[:60]}': write an add-on, a feature and what it gives, once: storage: exports = 50."
                )
            lines[key] = said.strip()
        wanted = {**dict.fromkeys(self._said, ""), **lines}
        return [
            from_words(features[code], said, add_on=add_on)
            for (add_on, code), said in wanted.items()
            if self._said.get((add_on, code), "") != said and code in features
        ]


def _hint(feature: Feature) -> str:
    if feature.kind == Feature.Kind.BOOLEAN:
        return "included · not included"
    if feature.kind == Feature.Kind.STATIC:
        return " · ".join(feature.choices) or "a value, or: not included"
    return EXAMPLES


def _matrix_panel(organisation: Organisation, *, may_edit: bool) -> Panel:
    plans = list(Plan.objects.of(organisation).filter(archived_at=None).order_by("code"))
    newest: dict[Any, PlanVersion] = {}
    for version in PlanVersion.objects.filter(plan__in=plans).select_related("plan").order_by("number"):
        newest[version.plan_id] = version
    versions = [newest[plan.pk] for plan in plans if plan.pk in newest]
    given = _given(versions)
    rows: list[tuple[Any, ...]] = [
        (format_html("{}<div class='m-hint'>{}</div>", one.name, one.code),
         *(_cell(given.get((version.pk, one.pk)), one) for version in versions))
        for one in Feature.objects.of(organisation).filter(archived_at=None)
    ]  # fmt: skip
    if rows and may_edit:
        rows.append(("", *(_edit(version) for version in versions)))
    return Panel(
        title=organisation.name,
        headers=("Feature", *(f"{version.plan.code} v{version.number}" for version in versions)),
        rows=rows,
        empty="No feature yet: add one on the list of features.",
        note=format_html(
            "The newest version of each plan. Subscribers of older versions keep what those give.{}",
            _choices(organisation) if may_edit else "",
        ),
    )


def _cell(row: PlanEntitlement | None, feature: Feature) -> Any:
    return in_words(row, feature) if row is not None and row.enabled else NOTHING


def _edit(version: PlanVersion) -> Any:
    address = reverse("admin:subscriptions_feature_edit_version", args=[version.pk])
    return format_html('<a class="m-link" href="{}">Edit</a>', address)


def _choices(organisation: Organisation) -> Any:
    address = reverse("admin:subscriptions_feature_choose", args=[organisation.pk])
    return format_html(
        ' What states entitle to, when to tell of limits: <a class="m-link" href="{}">choices</a>.', address
    )


def _given(versions: Iterable[PlanVersion]) -> dict[Any, PlanEntitlement]:
    rows = PlanEntitlement.objects.filter(version__in=list(versions), add_on="")
    return {(row.version_id, row.feature_id): row for row in rows}
