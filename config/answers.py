"""Answers outside of any view: what the API says as problem documents, pages say as pages."""

from typing import Any

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views import defaults

from billing.context import correlation_id

FOR_PROGRAMS = ("/api/", "/webhooks/")


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    """400: the request cannot be read."""
    if request.path.startswith(FOR_PROGRAMS):
        return _problem(400, "bad_request", "The request cannot be read.")
    return defaults.bad_request(request, exception)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    """404: no such address."""
    if request.path.startswith(FOR_PROGRAMS):
        return _problem(404, "not_found", "There is nothing at this address.")
    return defaults.page_not_found(request, exception)


def server_error(request: HttpRequest) -> HttpResponse:
    """500: our fault, with the id under which it is in the log."""
    if request.path.startswith(FOR_PROGRAMS):
        return _problem(500, "server_error", "Something went wrong on our side; it is noted under the correlation id.")
    return defaults.server_error(request)


def _problem(status: int, code: str, detail: str) -> JsonResponse:
    body: dict[str, Any] = {
        "type": f"https://munim.example/problems/{code}",
        "title": code.replace("_", " ").capitalize(),
        "status": status,
        "code": code,
        "detail": detail,
    }
    if correlation_id():
        body["correlation_id"] = correlation_id()
    return JsonResponse(body, status=status, content_type="application/problem+json")
