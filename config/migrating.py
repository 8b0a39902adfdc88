"""Cheaper states for ``migrate``: nine tenths of its time went into drawing historical models anew.

Django draws a model's class and all its relatives again after each operation. Often that is needless:

- A new model changes none of those that are there. It is drawn alone, as at a start, where each model joins those before it.
- An index or a constraint changes no field and no relation. The class that is there gets it in its ``_meta``;
  an operation on PostgreSQL reads the index or constraint from itself, never from the class before it.
- A new column, plain or a foreign key, but no money (which is two), is put into the class that is there; on PostgreSQL
  adding it reads only the field.
- Historical models have no transitions, so that their state fields need not listen for classes that may have some. Each
  drawn field listened for good, and every class drawn later was shown to all of them.
- Choices change no column. Each clone of a currency field normalised its 300 choices again; a list, as the
  migrations write it, passes as it is.

Only the work between is saved: operations, their order and the SQL are Django's own (a test compares the SQL).
"""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import django_fsm
from django.db.migrations.state import ModelState, ProjectState
from django.db.models import ManyToManyField, fields
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


def _add_model(self: ProjectState, model_state: ModelState) -> None:
    """Add a model to the state, and its class to those that are drawn."""
    key = model_state.app_label, model_state.name_lower
    self.models[key] = model_state
    if self._relations is not None:  # type: ignore[attr-defined]
        self.resolve_model_relations(key)
    if "apps" in self.__dict__:
        self.apps.render_multiple([model_state])
        _relate(self)


def _relate(state: ProjectState) -> None:
    """Let every drawn class look for its relatives among the classes of this state."""
    for model in state.apps.get_models(include_auto_created=True, include_swapped=True):
        model._meta.apps = state.apps
    state.apps.clear_cache()


_add_field = ProjectState.add_field
DRAWN_ANEW = (MoneyField, CurrencyField, ManyToManyField)


def _add_plain_field(
    self: ProjectState, app_label: str, model_name: str, name: str, field: Any, preserve_default: Any
) -> None:
    """Add a field to the state, and to the model's class if that is all it takes."""
    if "apps" not in self.__dict__ or isinstance(field, DRAWN_ANEW):
        _add_field(self, app_label, model_name, name, field, preserve_default)
        return
    if not preserve_default:
        field = field.clone()
        field.default = fields.NOT_PROVIDED
    self.models[app_label, model_name].fields[name] = field
    if self._relations is not None:  # type: ignore[attr-defined]
        self.resolve_model_field_relations((app_label, model_name), name, field)
    drawn = self.apps.get_model(app_label, model_name)
    if field.is_relation:
        drawn._meta.apps = self.apps  # among whose classes its other side is
    drawn.add_to_class(name, field.clone())
    if field.is_relation:
        _relate(self)


class _Deaf:
    """In place of the signal that a class is there: nobody listens."""

    def connect(self, *_: Any, **__: Any) -> None: ...


def _choices(value: Any) -> Any:
    return value if type(value) is list else _normalize_choices(value)


@contextlib.contextmanager
def cheaper_states() -> Iterator[None]:
    """Within: migrations are applied with the short cuts of this module."""
    with (
        patch.object(ProjectState, "add_model", _add_model),
        patch.object(ProjectState, "_append_option", _append_option),
        patch.object(ProjectState, "_remove_option", _remove_option),
        patch.object(ProjectState, "add_field", _add_plain_field),
        patch.object(fields, "normalize_choices", _choices),
        patch.object(django_fsm, "class_prepared", _Deaf()),
    ):
        yield
