"""Where a page of the console stands: its trail from the side navigation, and its title in the browser.

Django loads this with its first template, when the console's pages may not be loaded yet: they are imported when asked.
"""

from dataclasses import dataclass
from typing import Any

from django import template
from django.db.models import Model
from django.urls import NoReverseMatch, reverse

from config.console import place

register = template.Library()


@dataclass(frozen=True)
class Step:
    """One step of the trail; the last one has no link."""

    title: str
    link: str = ""


@register.inclusion_tag("unfold/helpers/trail.html", takes_context=True)
def trail(context: Any) -> dict[str, Any]:
    """The group, the page, the row and what is being done to it, as far as there are any."""
    return {"steps": steps(context)}


@register.simple_tag(takes_context=True)
def page_name(context: Any) -> str:
    """What the browser's tab says: the end of the trail first."""
    found = [step.title for step in steps(context)]
    return " · ".join(reversed(found[-2:])) if found else str(context.get("title") or "")


@register.filter
def rows_called(opts: Any) -> str:
    """What rows of a model are called, as the navigation calls them; in small letters but for abbreviations."""
    found = place(reverse(f"admin:{opts.app_label}_{opts.model_name}_changelist"))
    title = found[1].title if found else str(opts.verbose_name_plural)
    return title if title[:2].isupper() else title[:1].lower() + title[1:]


def steps(context: Any) -> list[Step]:
    """The trail of the page that is being rendered."""
    request, title = context["request"], str(context.get("title") or "")
    found = place(request.path)
    if found is None:
        return [Step(title)] if title else []
    group, page = found
    shown = [Step(group), Step(page.title, page.address())]
    row = _row(context)
    if row is not None:
        from billing.admin.looks import called

        shown.append(Step(called(row), _address(row)))
    if request.path != page.address() and not _is_page_of(row, request.path):
        shown.append(Step(title))
    return [*shown[:-1], Step(shown[-1].title)]


def _row(context: Any) -> Any:
    """The row that the page is about: of its own page, or the only one that a question is about."""
    asked: Any = context.get("rows") or ()
    candidates = (context.get("original"), context.get("object"), asked[0] if len(asked) == 1 else None)
    return next((one for one in candidates if isinstance(one, Model)), None)


def _address(row: Any) -> str:
    from billing.admin.base import path_to

    try:
        return path_to(row)
    except NoReverseMatch:
        return ""


def _is_page_of(row: Any, path: str) -> bool:
    return row is not None and path == _address(row)
