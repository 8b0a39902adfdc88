"""Where gateways send their webhooks, and where customers come back to from hosted pages.

A message is verified on its raw bytes, stored, and answered at once; a task does the work. Whatever is wrong with it is
answered with 400, 404 or 413, never with an error of ours.
"""

import logging
import uuid

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.http.request import UnreadablePostError
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from payments.errors import UnknownSender
from payments.gateways.faults import InvalidSignature
from payments.models import PaymentAttempt
from payments.services import charging, inbox, waking

logger = logging.getLogger(__name__)

MAX_BYTES = 1024 * 1024


@csrf_exempt
@require_POST
def receive(request: HttpRequest, provider: str, account_id: uuid.UUID) -> HttpResponse:
    """Take one message in."""
    body = _body(request)
    if body is None:
        return _answer(413, "too_large", "At most 1 MB is taken.")
    try:
        stored = inbox.receive(provider=provider, account_id=account_id, body=body, headers=request.headers)
    except UnknownSender as exc:
        return _answer(404, exc.code, str(exc))
    except InvalidSignature as exc:
        logger.warning("A webhook for account %s was refused: %s", account_id, exc)
        return _answer(400, exc.code, str(exc))
    return JsonResponse({"received": str(stored.pk)})


def _body(request: HttpRequest) -> bytes | None:
    """The raw bytes, or None when there are too many; a body that breaks off is an empty one."""
    try:
        announced = int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        announced = 0
    if announced > min(MAX_BYTES, settings.DATA_UPLOAD_MAX_MEMORY_SIZE):
        return None
    try:
        body = request.body
    except RequestDataTooBig:
        return None
    except (UnreadablePostError, OSError):
        return b""
    return None if len(body) > MAX_BYTES else body


def _answer(status: int, code: str, detail: str) -> JsonResponse:
    problem = {"type": f"https://munim.example/problems/{code}", "status": status, "code": code, "detail": detail}
    return JsonResponse(problem, status=status, content_type="application/problem+json")


@never_cache
@require_GET
def returned(request: HttpRequest, attempt_id: uuid.UUID) -> HttpResponse:
    """The customer is back from the gateway's page: say thanks, and ask the gateway. Nothing in the address is trusted."""
    attempt = PaymentAttempt.objects.filter(pk=attempt_id).select_related("organisation").first()
    if attempt is not None and attempt.is_open:
        waking.send(charging.RESOLVE_TASK, str(attempt.pk))
    known = attempt is not None
    context = {"name": attempt.organisation.name if attempt else "", "is_known": known}
    return render(request, "payments/returned.html", context, status=200 if known else 404)
