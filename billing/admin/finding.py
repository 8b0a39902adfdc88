"""Fields that name a row: as one writes, the browser offers the rows that fit, found on the page of their kind.

A field remains a text: whoever knows the id writes it, and nothing of it needs a script.
"""

from typing import Any

from django import forms
from django.contrib.admin.utils import unquote
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import NoReverseMatch, reverse
from unfold.widgets import UnfoldAdminTextInputWidget

OFFERED = 12
"""How many rows are offered at once."""


class NoSuchRow(Http404):
    """A page of a row that is not there, or not for this person, which nobody can tell apart.

    ``back``: words and address of the list.
    """

    def __init__(self, options: Any, object_id: str) -> None:
        names = options.verbose_name_plural
        self.back = (f"To the list of {names}", reverse(f"admin:{options.app_label}_{options.model_name}_changelist"))
        asked = object_id if len(object_id) <= 60 else f"{object_id[:60]}…"
        super().__init__(f"There is no {options.verbose_name} '{asked}' among the {names} that you may see.")


class SaysNotThere:
    """Of a console page: a row that is not there is answered as not there."""

    def _get_obj_does_not_exist_redirect(self, request: HttpRequest, opts: Any, object_id: str) -> HttpResponse:
        """Django would lead to the overview, as if that were the answer."""
        raise NoSuchRow(opts, unquote(str(object_id)))


class FindInput(UnfoldAdminTextInputWidget):
    """Names a row of the model ``label``, whose page says what it is found by (``TenantAdmin.found_by``).

    While nothing is written, what the field named ``beside`` says is looked for: a customer's subscriptions.
    """

    def __init__(self, label: str, *, beside: str = "") -> None:
        super().__init__(attrs={"autocomplete": "off"})
        self.label, self.beside = label, beside

    def get_context(self, name: str, value: Any, attrs: Any) -> dict[str, Any]:
        context: dict[str, Any] = super().get_context(name, value, attrs)
        try:
            address = reverse(f"admin:{self.label.replace('.', '_')}_find")
        except NoReverseMatch:
            return context
        context["widget"]["attrs"] |= {"data-find": address, "data-beside": self.beside}
        return context

    @property
    def media(self) -> forms.Media:
        return forms.Media(js=["console/find.js"])


def found(page: Any, request: HttpRequest) -> JsonResponse:
    """Rows of ``page`` that the person may see and that fit ``q``: what to write for each, and what it is."""
    term = request.GET.get("q", "").strip()[:100]
    rows, _ = page.get_search_results(request, page.get_queryset(request), term)
    several = len(page.organisations(request)) > 1
    return JsonResponse({"rows": [
        {"value": str(getattr(row, page.found_by)), "text": _text(page, row, several=several)} for row in rows[:OFFERED]
    ]})  # fmt: skip


def _text(page: Any, row: Any, *, several: bool) -> str:
    said = page.found_as(row)
    return f"{said}, {row.organisation}" if several else str(said)
