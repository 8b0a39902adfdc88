"""Requests, responses and the route table."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, urlsplit

Json = dict[str, Any]
_BRACKETS = re.compile(r"\[([^\]]*)\]")


@dataclass
class Request:
    """One HTTP request; header names in lower case."""

    method: str
    target: str
    headers: dict[str, str]
    body: bytes = b""
    public_url: str = ""

    def __post_init__(self) -> None:
        parts = urlsplit(self.target)
        self.path = parts.path.rstrip("/") or "/"
        self.query_string = parts.query

    @property
    def query(self) -> dict[str, str]:
        """Query parameters; of repeated ones the last."""
        return dict(parse_qsl(self.query_string, keep_blank_values=True))

    @property
    def base_url(self) -> str:
        """Where a browser finds us: as set up, else where the caller found us."""
        return self.public_url or f"http://{self.headers.get('host', '127.0.0.1')}"

    def json(self) -> Json:
        """The body as a JSON object; ``{}`` when empty. Raises ValueError."""
        value = json.loads(self.body) if self.body.strip() else {}
        if not isinstance(value, dict):
            raise ValueError("the body must be a JSON object")
        return value


@dataclass
class Response:
    """One HTTP response."""

    status: int = 200
    body: bytes = b"{}"
    content_type: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    drop: bool = False  # close the connection without an answer


def json_response(value: Any, status: int = 200, **headers: str) -> Response:
    """Compact JSON."""
    return Response(status, json.dumps(value, separators=(",", ":")).encode(), headers=headers)


def nested(pairs: list[tuple[str, str]]) -> Json:
    """``a[b][0]=c`` pairs as nested dictionaries; number-keyed or ``[]`` levels become lists."""
    root: Json = {}
    for raw, value in pairs:
        head, _, rest = raw.partition("[")
        keys = [head, *_BRACKETS.findall("[" + rest)] if rest else [head]
        node = root
        for key in keys[:-1]:
            child = node.setdefault(key, {})
            if not isinstance(child, dict):
                child = node[key] = {}
            node = child
        last = keys[-1] or str(len(node))
        node[last] = value
    return {key: value if key == "metadata" else _listed(value) for key, value in root.items()}


def _listed(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    if value and all(key.isdigit() for key in value):
        return [_listed(value[key]) for key in sorted(value, key=int)]
    return {key: _listed(item) for key, item in value.items()}


Handler = Callable[..., Any]


class Router:
    """Finds the handler of a method and a path such as ``/v1/orders/{order_id}``."""

    def __init__(self) -> None:
        self._routes: dict[tuple[str, int], list[tuple[tuple[str | None, ...], tuple[str, ...], Handler]]] = {}

    def add(self, method: str, pattern: str, handler: Handler) -> None:
        """Register; fixed parts win over placeholders when added first."""
        parts = pattern.strip("/").split("/")
        fixed = tuple(None if part.startswith("{") else part for part in parts)
        names = tuple(part[1:-1] for part in parts if part.startswith("{"))
        self._routes.setdefault((method, len(parts)), []).append((fixed, names, handler))

    def find(self, method: str, path: str) -> tuple[Handler, dict[str, str]] | None:
        """The handler and the values of its placeholders."""
        parts = path.strip("/").split("/")
        for fixed, names, handler in self._routes.get((method, len(parts)), ()):
            if all(want is None or want == have for want, have in zip(fixed, parts, strict=True)):
                values = [have for want, have in zip(fixed, parts, strict=True) if want is None]
                return handler, dict(zip(names, values, strict=True))
        return None

    def knows(self, path: str) -> bool:
        """Whether any method answers at this path."""
        return any(self.find(method, path) for method in ("GET", "POST", "PATCH", "PUT", "DELETE"))
