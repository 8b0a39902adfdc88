"""Fields that name a row: as one writes, the browser offers the rows that fit, found on the page of their kind.

A field remains a text: whoever knows the id writes it, and nothing of it needs a script.
"""

from typing import Any

from django import forms
from django.http import HttpRequest, JsonResponse
from django.urls import NoReverseMatch, reverse
from unfold.widgets import UnfoldAdminTextInputWidget

OFFERED = 12
"""How many rows are offered at once."""


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
