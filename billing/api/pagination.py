"""Cursor pagination: stable while rows are added, no counting."""

from typing import Any

from django.core.exceptions import ValidationError
from django.db import DataError
from rest_framework import exceptions, pagination


class CursorPagination(pagination.CursorPagination):
    """``?cursor=…&limit=50`` (at most 200); newest first by id, which is ordered by time."""

    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200
    ordering: Any = "-id"

    def paginate_queryset(self, queryset: Any, request: Any, view: Any = None) -> Any:
        try:
            return super().paginate_queryset(queryset, request, view=view)
        except (ValidationError, ValueError, OverflowError, DataError) as exc:  # a cursor that somebody made up
            raise exceptions.NotFound("This cursor is not one of ours.") from exc
