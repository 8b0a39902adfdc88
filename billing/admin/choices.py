"""The form of an organisation's choices: each app registers a field for each of its own."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import forms
from unfold.widgets import UnfoldAdminSelectWidget, UnfoldBooleanWidget

from billing.admin.base import ReasonForm
from billing.models import Organisation

DEFAULT = ("", "as usual")


@dataclass(frozen=True)
class Asked:
    """``make`` gives the field; ``shown`` what stands in it of a stored value; ``read`` what is stored of an answer.

    ``taken_back`` names the tick that gives the default back, where an empty field says nothing: of an uploaded file.
    """

    make: Callable[[], forms.Field]
    shown: Callable[[Any], Any] = lambda value: value
    read: Callable[[Any], Any] = lambda answer: answer if answer != "" else None
    taken_back: str = ""


_asked: dict[str, Asked] = {}


def ask_for(name: str, asked: Asked) -> None:
    """Let the form ask for the choice ``name`` (``billing.services.choices``)."""
    _asked[name] = asked


def yes_or_no(label: str, default: str) -> Asked:
    """A choice of yes and no with its default."""

    def make() -> forms.Field:
        answers = [("", f"as usual ({default})"), ("true", "yes"), ("false", "no")]
        return forms.ChoiceField(choices=answers, required=False, label=label, widget=UnfoldAdminSelectWidget())

    return Asked(
        make, shown=lambda value: {True: "true", False: "false"}.get(value, ""), read={"true": True, "false": False}.get
    )


class ChoicesForm(ReasonForm):
    """Empty fields have their default."""

    def __init__(self, row: Organisation, data: Any = None, files: Any = None) -> None:
        shown = {name: asked.shown(row.settings.get(name)) for name, asked in _asked.items()}
        super().__init__(data, files, initial=shown)
        for name, asked in _asked.items():
            self.fields[name] = asked.make()
            if asked.taken_back and row.settings.get(name) is not None:
                self.fields[f"no_{name}"] = forms.BooleanField(
                    required=False, label=asked.taken_back, widget=UnfoldBooleanWidget()
                )
        self.order_fields([*(field for name in _asked for field in (name, f"no_{name}")), "reason"])

    def changes(self) -> dict[str, Any]:
        """What was answered otherwise than it stood."""
        given = self.cleaned_data
        back: dict[str, Any] = {name: None for name in _asked if given.get(f"no_{name}")}
        return back | {name: _asked[name].read(given[name]) for name in self.changed_data if name in _asked}
