"""JSON types taken at their word: a text is no number, a number is no yes. And filters that are never ignored."""

import re
from collections.abc import Mapping
from typing import Any

import django_filters
from django_filters.rest_framework import DjangoFilterBackend
from rest_framework import serializers

UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]+)?")
TEXTS = (
    serializers.CharField, serializers.ChoiceField, serializers.DateField, serializers.DateTimeField,
    serializers.DecimalField, serializers.UUIDField,
)  # fmt: skip
SHAPES = (
    (serializers.UUIDField, UUID, "an id (UUID)"),
    (serializers.DecimalField, DECIMAL, 'a decimal such as "12.50"'),
)
COMMON_PARAMETERS = frozenset({"cursor", "limit"})


def misfit(field: Any, value: Any) -> Any:
    """What was expected instead of ``value``, where its JSON type does not fit ``field``: messages, by item in lists."""
    if isinstance(field, serializers.ListField) and isinstance(value, list):
        return _misfits(field.child, dict(enumerate(value)))
    if isinstance(field, serializers.DictField) and isinstance(value, Mapping):
        return _misfits(field.child, value)
    expected = _expected(field, value)
    return [f"Expected {expected}."] if expected else None


def _misfits(child: Any, values: Mapping[Any, Any]) -> dict[Any, Any]:
    return {name: found for name, value in values.items() if (found := misfit(child, value))}


def _expected(field: Any, value: Any) -> str:
    """What belongs there, in words; nothing when ``value`` may be it."""
    if value is None or isinstance(field, serializers.MultipleChoiceField):
        return ""
    if isinstance(field, serializers.BooleanField):
        return "" if isinstance(value, bool) else "true or false"
    if isinstance(field, serializers.IntegerField):
        whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
        return "" if whole and not isinstance(value, bool) else "a whole number"
    if not isinstance(field, TEXTS):
        return ""
    if not isinstance(value, str):
        return "a text in quotation marks"
    return next((words for kind, shape, words in SHAPES if isinstance(field, kind) and not shape.fullmatch(value)), "")


class StrictFilterBackend(DjangoFilterBackend):
    """Filters of a list; an unknown name or an empty value is refused, for ignored it would show rows not asked for."""

    def filter_queryset(self, request: Any, queryset: Any, view: Any) -> Any:
        if (view.lookup_url_kwarg or view.lookup_field) in view.kwargs:
            return queryset  # one object, by its id
        filterset = self.get_filterset(request, queryset, view)
        known = dict(filterset.filters) if filterset else {}
        refused = {
            name: ["This filter is not known here."]
            for name in request.query_params
            if name not in known and name not in COMMON_PARAMETERS
        } | {
            name: [refusal]
            for name, one in known.items()
            if name in request.query_params and (refusal := _refusal(one, request.query_params[name]))
        }
        if refused:
            raise serializers.ValidationError(refused)
        return super().filter_queryset(request, queryset, view) if filterset else queryset


def _refusal(one: django_filters.Filter, value: str) -> str:
    if isinstance(one, django_filters.BooleanFilter) and value.lower() not in ("true", "false"):
        return "Expected true or false."
    if isinstance(one, django_filters.UUIDFilter) and not UUID.fullmatch(value):
        return "Expected an id (UUID)."
    if not value and not isinstance(one, django_filters.CharFilter):
        return "Expected a value, or leave the filter out."
    return ""
