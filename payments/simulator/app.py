"""From a request to an answer: faults, then the provider whose key it carries, or the control API."""

from __future__ import annotations

import base64
import binascii
import logging
from dataclasses import replace

from payments.simulator.control.routes import handle_control
from payments.simulator.faults import Rule
from payments.simulator.razorpay_api import routes as razorpay
from payments.simulator.server import nap
from payments.simulator.stripe_api import routes as stripe
from payments.simulator.wire import Request, Response, json_response
from payments.simulator.world import World

log = logging.getLogger("payments.simulator")

HTML_502 = b"<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1></body></html>"


class Simulator:
    """The callable behind the server."""

    def __init__(self, world: World, public_url: str = "") -> None:
        self.world = world
        self.public_url = public_url.rstrip("/")

    def __call__(self, request: Request) -> Response:
        """Answer one request; our own bugs become a 500 and a log line."""
        request.public_url = self.public_url
        try:
            if request.path == "/healthz":
                return json_response({"status": "ok"})
            if request.path.startswith("/_sim"):
                return handle_control(self.world, request)
            return self._gateway(request)
        except Exception:
            log.exception("simulator bug in %s %s", request.method, request.path)
            return json_response({"error": {"message": "bug in the simulator, see its log"}}, 500)

    def _gateway(self, request: Request) -> Response:
        with self.world.lock:
            rule = self.world.faults.match(request) if self.world.faults.rules else None
        if rule is None:
            return self._answer(request)
        return self._faulty(request, rule)

    def _answer(self, request: Request, wait: float = 0.0, forced: Response | None = None) -> Response:
        if is_stripe(request):
            return stripe.handle(self.world, request, wait, forced)
        return forced or razorpay.handle(self.world, request, wait)

    def _faulty(self, request: Request, rule: Rule) -> Response:
        kind = rule.kind
        if kind in {"drop", "timeout_before"}:
            nap(rule.seconds)
            return Response(drop=True)
        if kind == "timeout_after":
            self._answer(request)
            nap(rule.seconds)
            return Response(drop=True)
        if kind == "slow":
            return self._answer(request, wait=rule.seconds)
        if kind == "truncated":
            answer = self._answer(request)
            return replace(answer, body=answer.body[: max(1, len(answer.body) // 2)])
        if rule.effect:
            self._answer(request)
        return self._failure(request, kind, rule)

    def _failure(self, request: Request, kind: str, rule: Rule) -> Response:
        if kind == "502_html":
            return Response(502, HTML_502, "text/html")
        status = int(kind)
        if not is_stripe(request):
            error = razorpay.failure(status)
            return json_response(error.body, status)
        answer = stripe.failure(status)
        if status == 500 and not rule.effect:  # kept under the idempotency key, like the real one
            return self._answer(request, forced=answer)
        return answer


def is_stripe(request: Request) -> bool:
    """Bearer keys and ``sk_`` user names are Stripe's; so is a request that names a Stripe version."""
    scheme, _, value = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return True
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).startswith((b"sk_", b"rk_"))
        except binascii.Error:
            return False
    return "stripe-version" in request.headers
