"""Every error as ``application/problem+json`` (RFC 9457) with a stable ``code``."""

from typing import Any

from django.core.exceptions import PermissionDenied
from django.db import DataError, IntegrityError, OperationalError
from django.http import Http404
from rest_framework import exceptions, status
from rest_framework.response import Response
from rest_framework.views import set_rollback

from billing.context import correlation_id
from billing.errors import DomainError

CONTENT_TYPE = "application/problem+json"


def problem(
    *, status_code: int, code: str, detail: str, errors: list[dict[str, str]] | None = None, **extra: Any
) -> Response:
    """A problem document: type, title, status, code, detail, and ``errors`` by field where there are any."""
    detail = _speakable(detail)
    body: dict[str, Any] = {
        "type": f"https://munim.example/problems/{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status_code,
        "code": code,
        "detail": detail,
    }
    if errors:
        body["errors"] = [{name: _speakable(text) for name, text in row.items()} for row in errors]
    if correlation_id():
        body["correlation_id"] = correlation_id()
    return Response(body | extra, status=status_code, content_type=CONTENT_TYPE)


def problem_handler(exc: Exception, context: dict[str, Any]) -> Response | None:
    """DRF's exception handler: refusals, validation, authentication, permissions; anything else stays a 500."""
    set_rollback()
    if isinstance(exc, DomainError):
        errors = [{"field": exc.field, "code": exc.code, "message": str(exc)}] if exc.field else None
        response = problem(status_code=exc.http_status, code=exc.code, detail=str(exc), errors=errors)
        if exc.http_status == status.HTTP_401_UNAUTHORIZED:
            response["WWW-Authenticate"] = 'Bearer realm="munim"'
        return response
    if isinstance(exc, Http404 | exceptions.NotFound):
        return problem(status_code=404, code="not_found", detail="No such object in this organisation.")
    if isinstance(exc, exceptions.ValidationError):
        return problem(
            status_code=422,
            code="invalid_input",
            detail="Some values were not accepted; see errors.",
            errors=_flatten(exc.detail),
        )
    if isinstance(exc, PermissionDenied):
        return problem(status_code=403, code="permission_denied", detail="You may not do this.")
    if isinstance(exc, exceptions.APIException):
        response = problem(status_code=exc.status_code, code=str(exc.default_code), detail=str(exc.detail))
        if isinstance(exc, exceptions.Throttled):
            response["Retry-After"] = str(int(getattr(exc, "wait", None) or 0) + 1)
        if isinstance(exc, exceptions.AuthenticationFailed | exceptions.NotAuthenticated):
            response["WWW-Authenticate"] = getattr(exc, "auth_header", 'Bearer realm="munim"')
        return response
    if is_contention(exc):
        response = problem(status_code=409, code="busy", detail="Somebody else changes the same rows; send it again.")
        response["Retry-After"] = "1"
        return response
    if isinstance(exc, IntegrityError):
        return problem(
            status_code=status.HTTP_409_CONFLICT,
            code="conflict",
            detail="Something like it exists already, or changed meanwhile; read it again.",
        )
    if isinstance(exc, DataError):
        return problem(status_code=422, code="invalid_input", detail="A value is out of the range that can be stored.")
    return None


def _speakable(text: str) -> str:
    """Text that can be written as UTF-8: what a caller sent is quoted in messages, half characters too."""
    return str(text).encode("utf-8", "replace").decode()[:500]


def is_contention(exc: Exception) -> bool:
    """Whether the database gave this transaction up for another one: deadlock, serialization failure, lock time-out."""
    return isinstance(exc, OperationalError) and getattr(exc.__cause__, "sqlstate", None) in {"40P01", "40001", "55P03"}


def _flatten(detail: Any, path: str = "") -> list[dict[str, str]]:
    if isinstance(detail, dict):
        return [row for name, value in detail.items() for row in _flatten(value, _join(path, str(name)))]
    if isinstance(detail, list):
        return [
            row
            for index, value in enumerate(detail)
            for row in _flatten(value, f"{path}[{index}]" if isinstance(value, dict | list) else path)
        ]
    return [{"field": path or "body", "code": getattr(detail, "code", "invalid"), "message": str(detail)}]


def _join(path: str, name: str) -> str:
    if name == "non_field_errors":
        return path or "body"
    if name.isdecimal():
        return f"{path}[{name}]"  # of lists: by place
    return f"{path}.{name}" if path else name
