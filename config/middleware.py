"""The edge of a request: response headers that differ by page, and what its log lines carry."""

import time
from collections.abc import Callable
from typing import Any

import structlog
from django.dispatch import receiver
from django.http import HttpRequest, HttpResponse
from django_structlog.middlewares import RequestMiddleware
from django_structlog.signals import bind_extra_request_finished_metadata
from rest_framework.throttling import BaseThrottle

STRICT = {
    "default-src": "'self'",
    "img-src": "'self' data:",
    "object-src": "'none'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
    "form-action": "'self'",
}
# The console's theme (Alpine) and the API reference evaluate expressions and carry inline styles.
RELAXED = STRICT | {
    "script-src": "'self' 'unsafe-inline' 'unsafe-eval'",
    "style-src": "'self' 'unsafe-inline'",
    "font-src": "'self' data:",
    "worker-src": "'self' blob:",
}
RELAXED_PATHS = ("/console/", "/api/docs/")


BEGAN = "munim.began"


@receiver(bind_extra_request_finished_metadata)
def tell_more(request: HttpRequest, log_kwargs: dict[str, Any], **_: Any) -> None:
    """Add to the line of an answered request who asked with what, and the milliseconds that it took."""
    log_kwargs["user_agent"] = request.headers.get("user-agent")
    log_kwargs["ms"] = round((time.perf_counter() - request.META[BEGAN]) * 1000, 1)


def policy(directives: dict[str, str]) -> str:
    """Write the directives as one header value."""
    return "; ".join(f"{name} {value}" for name, value in directives.items())


class ContentPolicyMiddleware:
    """Say what a browser may load: nothing from elsewhere; scripts inline only on console pages."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response
        self.strict, self.relaxed = policy(STRICT), policy(RELAXED)

    def __call__(self, request: HttpRequest) -> HttpResponse:
        response = self.get_response(request)
        relaxed = request.path.startswith(RELAXED_PATHS)
        response.headers.setdefault("Content-Security-Policy", self.relaxed if relaxed else self.strict)
        return response


class RequestLogMiddleware(RequestMiddleware):
    """The log line of a request, with the caller's address as throttles take it (``config.proxies``).

    One line, when it is answered, or has failed: that it began is told at the level of debugging.
    """

    def prepare(self, request: HttpRequest) -> None:
        request.META[BEGAN] = time.perf_counter()
        super().prepare(request)

    @classmethod
    def bind_ip(cls, request: HttpRequest) -> None:
        """Not guessed from whatever headers there are: they are the caller's to write, and to look at each costs."""
        structlog.contextvars.bind_contextvars(ip=BaseThrottle().get_ident(request))  # type: ignore[arg-type]  # reads headers
