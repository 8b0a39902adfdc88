"""Reading bodies: JSON of reasonable depth, and nothing else."""

from collections.abc import Mapping
from typing import IO, Any

from rest_framework import exceptions, parsers

MAX_DEPTH = 32


class BoundedJSONParser(parsers.JSONParser):
    """JSON that is nested no deeper than any of our inputs could be; deeper, walking it would exhaust the stack."""

    def parse(
        self, stream: IO[Any], media_type: str | None = None, parser_context: Mapping[str, Any] | None = None
    ) -> Any:
        try:
            data = super().parse(stream, media_type, parser_context)  # type: ignore[arg-type]
        except RecursionError as exc:
            raise _too_deep() from exc
        level: list[Any] = [data]
        for _ in range(MAX_DEPTH):
            level = [child for part in level for child in _children(part) if isinstance(child, dict | list)]
            if not level:
                return data
        raise _too_deep()


def _children(part: Any) -> Any:
    if isinstance(part, dict):
        return part.values()
    return part if isinstance(part, list) else ()


def _too_deep() -> exceptions.ParseError:
    return exceptions.ParseError(f"JSON parse error - nested more than {MAX_DEPTH} levels deep.")
