"""Console pages of a tenant's rows: read-only, scoped in one place, and acting only through services.

A page names the permission to look (``view_permission``); rows of organisations in which the signed-in person does
not hold it do not exist for the page. What changes something is a :func:`decision`: it asks for a reason, checks
its own permission in the organisation of each row, and calls a service with the actor.
"""

import uuid
from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, ClassVar, cast

from django import forms
from django.contrib import admin, messages
from django.contrib.admin import helpers
from django.contrib.admin.utils import get_fields_from_path
from django.core.exceptions import PermissionDenied
from django.db import models
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import path, reverse
from django.utils import timezone
from unfold.admin import ModelAdmin, TabularInline
from unfold.enums import ActionVariant
from unfold.widgets import UnfoldAdminTextareaWidget

from billing.admin.finding import NoSuchRow, SaysNotThere, found
from billing.context import Actor
from billing.errors import DomainError
from billing.models import Organisation
from billing.selectors import access

__all__ = ["ActionVariant", "ReasonForm", "TenantAdmin", "TenantInline", "decision", "path_to", "site"]

site = admin.site


class ReasonForm(forms.Form):
    """Why; kept in the audit trail. Decisions that need more fields subclass it."""

    reason = forms.CharField(
        min_length=3,
        max_length=500,
        widget=UnfoldAdminTextareaWidget(attrs={"rows": 3}),
        help_text="Kept in the audit trail.",
    )

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """What it is about comes first, why last."""
        super().__init__(*args, **kwargs)
        self.order_fields([name for name in self.fields if name != "reason"])


class AboutRows(forms.Form):
    """A question whose choices depend on the rows that it is about."""

    is_about_rows = True

    def __init__(self, *args: Any, rows: Sequence[Any] = (), **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.suit(rows)

    def suit(self, rows: Sequence[Any]) -> None:
        """Fill in what can be chosen for ``rows``."""
        raise NotImplementedError


def refuse(form: forms.Form, refusal: DomainError) -> None:
    """Show ``refusal`` in the form: at the field that it names, or whose feature it names; else above all fields."""
    named = (refusal.field, refusal.details.get("feature"))
    form.add_error(next((name for name in named if name in form.fields), None), str(refusal))


class Confirmation(forms.Form):
    """No question but "sure?"."""


def path_to(row: models.Model) -> str:
    """Address of a row's page in the console."""
    return reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])


def decision(
    *,
    description: str,
    permission: str,
    form: type[forms.Form] | None = ReasonForm,
    icon: str | None = None,
    variant: ActionVariant = ActionVariant.DEFAULT,
    foretell: Callable[..., Any] | None = None,
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Make ``method(self, request, row, *, actor, **cleaned_form)`` an action of a :class:`TenantAdmin`.

    Name it in ``actions`` (rows ticked in the list) and in ``actions_detail`` (button on a row's page): both ask with
    ``form`` on a page of their own, then call the method once per row; its return value, if a text, is shown.
    A ``DomainError`` of one row is shown and does not stop the others; of a single row it is shown in the form, which keeps
    what was written. ``foretell(self, request, row, **cleaned_form)``
    gives panels that say what it would come to: then the page offers to look before anything is done.
    """

    def decorate(method: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(method)
        def action(
            self: "TenantAdmin", request: HttpRequest, rows: Any = None, *, object_id: Any = None
        ) -> HttpResponse | None:
            if isinstance(rows, QuerySet):
                chosen = list(rows[: MAX_ROWS + 1])
                if len(chosen) > MAX_ROWS:
                    messages.error(request, f"Choose at most {MAX_ROWS} rows at a time; nothing was done.")
                    return None
                return self.decide(request, chosen, action)
            row = self.row(request, object_id or rows)
            return self.decide(request, [row], action, back_to=path_to(row))

        action.method = method  # type: ignore[attr-defined]
        action.short_description = description  # type: ignore[attr-defined]
        action.needs, action.form = permission, form or Confirmation  # type: ignore[attr-defined]
        action.foretell = foretell  # type: ignore[attr-defined]
        action.allowed_permissions = [f"decide_{method.__name__}"]  # type: ignore[attr-defined]
        action.icon, action.variant, action.attrs = icon, variant, {}  # type: ignore[attr-defined]
        return action

    return decorate


MAX_ROWS = 500
MAX_CALLED = 50


class Scoped:
    """What pages and inlines share: nobody adds, changes or deletes here."""

    def has_add_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False


class OrganisationFilter(admin.SimpleListFilter):
    """Rows of one of the organisations the person may see here; absent when there is only one."""

    title = "organisation"
    parameter_name = "organisation"

    def lookups(self, request: HttpRequest, model_admin: Any) -> Iterable[tuple[str, str]]:
        found = Organisation.objects.filter(pk__in=model_admin.organisations(request)).values_list("pk", "name")
        return [(str(pk), name) for pk, name in found]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if not self.value():
            return queryset
        try:
            wanted = uuid.UUID(self.value())
        except ValueError:
            return queryset.none()
        return queryset.filter(**{self.path: wanted}) if self.path else queryset

    def __init__(self, request: HttpRequest, params: Any, model: Any, model_admin: Any) -> None:
        self.path = model_admin.organisation_path
        super().__init__(request, params, model, model_admin)


class OwnRowsFilter(admin.RelatedFieldListFilter):
    """Filter by another row: its choices are rows of the person's organisations, as those of the page are."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: Any) -> Any:
        mine = {"organisation__in": model_admin.organisations(request)}
        ordering = self.field_admin_ordering(field, request, model_admin)
        return field.get_choices(include_blank=False, ordering=ordering, limit_choices_to=mine)


class TenantAdmin(SaysNotThere, Scoped, ModelAdmin):
    """Base of every console page."""

    view_permission: ClassVar[str]
    organisation_path: ClassVar[str] = "organisation"
    """Look-up from the row to its organisation; "pk" on organisations themselves."""

    found_by: ClassVar[str] = ""
    """The column that a form may name a row by; then the page answers at ``find/`` (``billing.admin.finding``)."""

    empty_value_display = "–"
    list_per_page = 50
    show_full_result_count = False
    list_filter_submit = True
    list_fullwidth = True
    compressed_fields = True
    actions: Sequence[Any] | None = ()

    def organisations(self, request: HttpRequest) -> list[uuid.UUID]:
        """Ids of the organisations whose rows this person may see on this page."""
        return access.organisations_with(request.user, self.view_permission)

    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        """The list with times as on the organisation's wall; UTC where the organisations live in different zones."""
        zones = Organisation.objects.filter(pk__in=self.organisations(request)).values_list("time_zone", flat=True)
        found = set(zones.order_by().distinct())
        with timezone.override(found.pop() if len(found) == 1 else "UTC"):
            answer = super().changelist_view(request, extra_context)
            return answer.render() if isinstance(answer, TemplateResponse) else answer

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        return super().get_queryset(request).filter(**{f"{self.organisation_path}__in": self.organisations(request)})

    def get_list_filter(self, request: HttpRequest) -> Sequence[Any]:
        filters = [self._own_rows_only(one) for one in super().get_list_filter(request)]
        several = self.organisation_path != "pk" and len(self.organisations(request)) > 1
        return [OrganisationFilter, *filters] if several else filters

    def _own_rows_only(self, wanted: Any) -> Any:
        """A filter named by a relation would offer the rows of every organisation."""
        is_relation = isinstance(wanted, str) and get_fields_from_path(self.model, wanted)[-1].is_relation
        return (wanted, OwnRowsFilter) if is_relation else wanted

    def organisation_id_of(self, row: models.Model) -> uuid.UUID:
        """The organisation that owns ``row``, by ``organisation_path``."""
        value: Any = row
        for name in self.organisation_path.split("__"):
            value = getattr(value, name)
        return getattr(value, "pk", value)

    def called(self, row: Any) -> str:
        """What people call ``row``: in trails, links and results of searches."""
        return str(row)

    def found_as(self, row: Any) -> str:
        """What stands beside ``row`` where a form offers it."""
        return self.called(row)

    def get_urls(self) -> list[Any]:
        urls = super().get_urls()
        if not self.found_by:
            return urls
        name = f"{self.opts.app_label}_{self.opts.model_name}_find"
        return [path("find/", self.admin_site.admin_view(self.find), name=name), *urls]

    def find(self, request: HttpRequest) -> HttpResponse:
        """Rows that fit what is written in a form; refused to whom the list is."""
        if not self.has_view_permission(request):
            raise PermissionDenied(f"This needs the permission '{self.view_permission}'.")
        return found(self, request)

    def row(self, request: HttpRequest, object_id: Any) -> Any:
        """The row if this person may see it; 404 otherwise."""
        found = self.get_object(request, str(object_id))
        if found is None:
            raise NoSuchRow(self.opts, str(object_id))
        return found

    def actor(self, request: HttpRequest, row: models.Model) -> Actor:
        """The signed-in person with the permissions held in the row's organisation."""
        return access.actor_of(
            request.user, organisation_id=self.organisation_id_of(row), address=request.META.get("REMOTE_ADDR") or None
        )

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        allowed = self.organisations(request)
        return bool(allowed) if obj is None else self.organisation_id_of(obj) in allowed

    def has_module_permission(self, request: HttpRequest) -> bool:
        return self.has_view_permission(request)

    def __getattr__(self, name: str) -> Any:
        """``has_decide_<action>_permission``, which Django and Unfold ask for before they offer an action."""
        prefix, suffix = "has_decide_", "_permission"
        if name.startswith(prefix) and name.endswith(suffix):
            needs = getattr(type(self), name[len(prefix) : -len(suffix)]).needs

            def allowed(request: HttpRequest, object_id: Any = None) -> bool:
                if object_id is None:
                    return bool(access.organisations_with(request.user, needs))
                row = self.get_object(request, str(object_id))
                return row is not None and self.actor(request, row).may(needs)

            return allowed
        raise AttributeError(name)

    def decide(self, request: HttpRequest, rows: list[Any], action: Any, *, back_to: str = "") -> HttpResponse | None:
        """Ask for what the decision needs; once confirmed, act on each row."""
        if not all(self.actor(request, row).may(action.needs) for row in rows):
            raise PermissionDenied(f"This needs the permission '{action.needs}'.")
        about = {"rows": rows} if getattr(action.form, "is_about_rows", False) else {}
        form = action.form(request.POST if "confirm" in request.POST else None, **about)
        looks = bool(getattr(action, "foretell", None)) and len(rows) == 1
        foretold = self._foretold(request, rows[0], action, form) if looks and "look" in request.POST else None
        if foretold is None and form.is_valid():
            refusals = [self._act(request, row, action, form.cleaned_data) for row in rows]
            if refusals == [None] or len(rows) != 1 or not form.fields:
                self._tell(request, rows, refusals)
                return HttpResponseRedirect(back_to or request.get_full_path())
            refuse(form, cast(DomainError, refusals[0]))
        return self.ask(
            request, title=action.short_description, form=form, rows=rows, back_to=back_to, looks=looks,
            foretold=foretold or (),
        )  # fmt: skip

    def _foretold(self, request: HttpRequest, row: Any, action: Any, form: forms.Form) -> Sequence[Any]:
        """Panels that say what the decision would come to; a refusal is shown instead."""
        if not form.is_valid():
            return ()
        try:
            return list(action.foretell(self, request, row, **form.cleaned_data))
        except DomainError as exc:
            refuse(form, exc)
            return ()

    def ask(
        self,
        request: HttpRequest,
        *,
        title: str,
        form: forms.Form,
        rows: Sequence[Any] = (),
        back_to: str = "",
        looks: bool = False,
        foretold: Sequence[Any] = (),
    ) -> HttpResponse:
        """The page that asks before something is done; ``foretold`` panels say what it would come to."""
        context = {
            **self.admin_site.each_context(request),
            "opts": self.opts,
            "title": title,
            "form": form,
            "rows": rows,
            "called": [self.called(row) for row in rows[:MAX_CALLED]],
            "back_to": back_to or request.get_full_path(),
            "looks": looks,
            "record": {"panels": foretold} if foretold else None,
            "action": request.POST.get("action", ""),
            "checkbox": helpers.ACTION_CHECKBOX_NAME,
            "media": self.media + form.media,
        }
        return TemplateResponse(request, "console/confirm.html", context)

    def _act(self, request: HttpRequest, row: Any, action: Any, values: dict[str, Any]) -> DomainError | None:
        """Do it and say so; why it is refused, if it is."""
        called = self.called(row)
        try:
            said = action.method(self, request, row, actor=self.actor(request, row), **values)
        except DomainError as exc:
            return exc
        messages.success(request, said if isinstance(said, str) else f"{called}: {action.short_description}: done.")
        return None

    def _tell(self, request: HttpRequest, rows: Sequence[Any], refusals: Sequence[DomainError | None]) -> None:
        for row, refusal in zip(rows, refusals, strict=True):
            if refusal is not None:
                messages.error(request, f"{self.called(row)}: {refusal}")


class TenantInline(Scoped, TabularInline):
    """Rows shown on their parent's page; whoever sees the parent sees them."""

    extra = 0
    max_num = 0
    can_delete = False
    show_change_link = True

    def has_view_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return True
