"""Who acts, and under which correlation id: set once at the edge (request, task, command), read everywhere."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

_correlation_id: ContextVar[str] = ContextVar("correlation_id", default="")


def correlation_id() -> str:
    """The id that joins request, task, gateway call, event and log line; empty outside of them."""
    return _correlation_id.get()


@contextlib.contextmanager
def correlated(value: str = "") -> Iterator[str]:
    """Run under ``value``, or under a new id when it is empty."""
    token = _correlation_id.set(value or uuid.uuid4().hex)
    try:
        yield _correlation_id.get()
    finally:
        _correlation_id.reset(token)


@dataclass(frozen=True, kw_only=True)
class Actor:
    """Who decided: a user, an API key or the system, and the permissions held."""

    type: str
    id: str = ""
    label: str = ""
    address: str | None = None
    permissions: frozenset[str] = frozenset()

    @classmethod
    def system(cls, label: str = "munim") -> Actor:
        """The house itself: a scheduled job or a handler."""
        return cls(type="system", label=label, permissions=frozenset({"*"}))

    @classmethod
    def of(cls, request: Any) -> Actor:
        """The caller of an API request. (Console pages know theirs by row: ``TenantAdmin.actor``.)"""
        return request.auth.actor

    def may(self, permission: str) -> bool:
        """Whether the actor holds the named permission."""
        return "*" in self.permissions or permission in self.permissions
