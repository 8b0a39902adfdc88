"""Cursor pagination: stable while rows are added, no counting."""

import re
from typing import Any

from django.core.exceptions import ValidationError
from django.db import DataError
from rest_framework import exceptions, pagination

LIMIT = re.compile(r"[1-9][0-9]{0,18}")


class CursorPagination(pagination.CursorPagination):
    """``?cursor=…&limit=50`` (at most 200); newest first by id, which is ordered by time."""

    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200
    ordering: Any = "-id"

    def get_page_size(self, request: Any) -> int:
        """The wanted number of rows, capped; something that is no number is refused, not ignored."""
        wanted = request.query_params.get(self.page_size_query_param, str(self.page_size))
        if not LIMIT.fullmatch(wanted):
            raise exceptions.ValidationError({self.page_size_query_param: ["Expected a whole number from 1 to 200."]})
        return min(int(wanted), self.max_page_size)

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """The library's, with the range of ``limit``."""
        parameters = super().get_schema_operation_parameters(view)
        for parameter in parameters:
            if parameter["name"] == self.page_size_query_param:
                parameter["schema"] = {"type": "integer", "minimum": 1, "default": self.page_size}
                parameter["description"] = f"Rows of a page; at most {self.max_page_size} are given."
        return parameters

    def paginate_queryset(self, queryset: Any, request: Any, view: Any = None) -> Any:
        try:
            return super().paginate_queryset(queryset, request, view=view)
        except (ValidationError, ValueError, OverflowError, DataError) as exc:  # a cursor that somebody made up
            raise exceptions.NotFound("This cursor is not one of ours.") from exc
