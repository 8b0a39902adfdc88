"""Cursor pagination: stable while rows are added, no counting."""

from typing import Any

from rest_framework import pagination


class CursorPagination(pagination.CursorPagination):
    """``?cursor=…&limit=50`` (at most 200); newest first by id, which is ordered by time."""

    page_size = 50
    page_size_query_param = "limit"
    max_page_size = 200
    ordering: Any = "-id"
