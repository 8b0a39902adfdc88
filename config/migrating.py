"""Cheaper states for ``migrate``: nine tenths of its time went into drawing historical models anew.

Django draws a model's class and all its relatives again after each operation. Often that is needless:

- An index or a constraint changes no field and no relation. The class that is there gets it in its ``_meta``;
  an operation on PostgreSQL reads the index or constraint from itself, never from the class before it.
- A new plain column (no relation, no money) is put into the class that is there; on PostgreSQL adding it
  reads only the field.
- Choices change no column. Each clone of a currency field normalised its 300 choices again; a list, as the
  migrations write it, passes as it is.

Only the work between is saved: operations, their order and the SQL are Django's own (a test compares the SQL).
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

from django.db.migrations.state import ProjectState
from django.db.models import fields
from djmoney.models.fields import CurrencyField, MoneyField

OPTIONS = {"indexes", "constraints"}

_normalize_choices = fields.normalize_choices  # type: ignore[attr-defined]


def _append_option(self: ProjectState, app_label: str, model_name: str, option_name: str, obj: Any) -> None:
    """Add an index or constraint to the state, and to the model's class if there is one."""
    state = self.models[app_label, model_name]
    _set_option(self, app_label, model_name, option_name, [*state.options[option_name], obj])


def _remove_option(self: ProjectState, app_label: str, model_name: str, option_name: str, obj_name: str) -> None:
    """Take an index or constraint out of the state, and of the model's class if there is one."""
    state = self.models[app_label, model_name]
    kept = [obj for obj in state.options[option_name] if obj.name != obj_name]
    _set_option(self, app_label, model_name, option_name, kept)


def _set_option(state: ProjectState, app_label: str, model_name: str, option_name: str, objects: list[Any]) -> None:
    state.models[app_label, model_name].options[option_name] = objects
    if "apps" in state.__dict__:  # classes have been drawn
        meta = state.apps.get_model(app_label, model_name)._meta
        setattr(meta, option_name, list(objects))
        meta.original_attrs[option_name] = list(objects)


_add_field = ProjectState.add_field


def _add_plain_field(
    self: ProjectState, app_label: str, model_name: str, name: str, field: Any, preserve_default: Any
) -> None:
    """Add a field to the state, and to the model's class if that is all it takes."""
    if "apps" not in self.__dict__ or field.is_relation or isinstance(field, (MoneyField, CurrencyField)):
        _add_field(self, app_label, model_name, name, field, preserve_default)
        return
    if not preserve_default:
        field = field.clone()
        field.default = fields.NOT_PROVIDED
    self.models[app_label, model_name].fields[name] = field
    self.apps.get_model(app_label, model_name).add_to_class(name, field.clone())


def _choices(value: Any) -> Any:
    return value if type(value) is list else _normalize_choices(value)


@contextlib.contextmanager
def cheaper_states() -> Iterator[None]:
    """Within: migrations are applied with the short cuts of this module."""
    with (
        patch.object(ProjectState, "_append_option", _append_option),
        patch.object(ProjectState, "_remove_option", _remove_option),
        patch.object(ProjectState, "add_field", _add_plain_field),
        patch.object(fields, "normalize_choices", _choices),
    ):
        yield
