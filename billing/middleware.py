"""The edge of a request: its correlation id."""

import re
from collections.abc import Callable

import structlog
from django.http import HttpRequest, HttpResponse

from billing.context import correlated

HEADER = "X-Request-Id"
ACCEPTED = re.compile(r"[A-Za-z0-9_.:-]{8,64}")


class CorrelationMiddleware:
    """Take the caller's ``X-Request-Id`` or make one; give it back, and to everything this request causes."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        given = request.headers.get(HEADER, "")
        with correlated(given if ACCEPTED.fullmatch(given) else "") as correlation_id:
            with structlog.contextvars.bound_contextvars(correlation_id=correlation_id):
                response = self.get_response(request)
            response.headers[HEADER] = correlation_id
            return response
