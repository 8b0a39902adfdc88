"""Idempotency-Key: a repeated POST gets the first answer again, byte for byte, and nothing happens twice.

The key is claimed by a unique insert that is committed before the work begins. Same key and body: the stored answer
with ``Idempotent-Replayed: true``; another body or address: 422; still running: 409 with ``Retry-After``. Answers of
5xx and refusals that pass (a gateway is down, rows are busy) are not kept, so that the caller may try again under
the same key. A key whose holder died is taken over once its lock has run out.
"""

import contextlib
import functools
import hashlib
import json
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.http import HttpResponse
from rest_framework.request import Request
from rest_framework.response import Response

from billing.api.errors import is_contention, problem
from billing.clock import wall_now
from billing.errors import Conflict, InvalidInput
from billing.ids import uuid7
from billing.models import IdempotencyRecord
from billing.models.fields import cipher

LOCK = timedelta(seconds=90)
"""Longer than any request may take: a later one then takes the key over."""
ENCRYPTED = b"gAAAAA"
"""How every Fernet token begins; no JSON document does."""


class KeyReused(InvalidInput):
    code = "idempotency_key_reused"
    message = "This Idempotency-Key was used for another request; send a new key."


class KeyInUse(Conflict):
    code = "idempotency_key_in_use"
    message = "A request with this Idempotency-Key is still running; ask again shortly with the same key."


class InvalidKey(InvalidInput):
    code = "invalid_idempotency_key"
    message = "An Idempotency-Key has 1 to 255 visible ASCII characters."


def idempotent(method: Callable[..., Any] | None = None, *, atomic: bool = False) -> Callable[..., Any]:
    """Honour the header ``Idempotency-Key`` on a POST method of a tenant view.

    ``atomic``: the work touches nothing but the database, so that work and stored answer share one transaction and a
    crash leaves neither; a refused request leaves nothing either, with a key or without. Methods that call outside
    leave it off and give their services a reference that repeats (``self.idempotency_key``).
    """
    if method is None:
        return functools.partial(idempotent, atomic=atomic)

    @functools.wraps(method)
    def wrapper(view: Any, request: Request, *args: Any, **kwargs: Any) -> Any:
        key = request.headers.get("Idempotency-Key")
        view.idempotency_key = key or ""
        if key is None:
            with transaction.atomic() if atomic else contextlib.nullcontext():
                return method(view, request, *args, **kwargs)
        record, mine = _claim(view.organisation.pk, _valid(key), request)
        if not mine:
            return _answer_again(record, request)
        work = functools.partial(method, view, request, *args, **kwargs)
        return _run(view, request, record, work, atomic=atomic)

    wrapper.is_idempotent = True  # type: ignore[attr-defined]
    return wrapper


def fingerprint(request: Request) -> str:
    """Hash of what was asked: method, address with query, and the body's meaning (not its spacing)."""
    body = json.dumps(request.data, sort_keys=True, default=str)
    return hashlib.sha256(f"{request.method}\n{request.get_full_path()}\n{body}".encode(errors="replace")).hexdigest()


def _valid(key: str) -> str:
    if not 1 <= len(key) <= 255 or not all("!" <= char <= "~" for char in key):
        raise InvalidKey(field="Idempotency-Key")
    return key


def _claim(organisation_id: Any, key: str, request: Request) -> tuple[IdempotencyRecord, bool]:
    """The record of ``key``, and whether this request holds it now."""
    now = wall_now()
    record = IdempotencyRecord(
        id=uuid7(),
        organisation_id=organisation_id,
        key=key,
        method=request.method or "",
        path=request.path[:300],
        request_hash=fingerprint(request),
        locked_until=now + LOCK,
    )
    IdempotencyRecord.objects.bulk_create([record], ignore_conflicts=True)
    stored = IdempotencyRecord.objects.of(organisation_id).filter(key=key).first()
    if stored is None:  # its holder failed and gave it back between our two statements
        raise KeyInUse
    if stored.pk == record.pk:
        return record, True
    if stored.request_hash == record.request_hash and stored.response_status is None and stored.locked_until < now:
        taken = IdempotencyRecord.objects.filter(pk=stored.pk, response_status=None, locked_until=stored.locked_until)
        stored.locked_until = record.locked_until
        return stored, bool(taken.update(locked_until=record.locked_until))
    return stored, False


def _answer_again(record: IdempotencyRecord, request: Request) -> HttpResponse | Response:
    if record.request_hash != fingerprint(request):
        raise KeyReused(field="Idempotency-Key")
    if record.response_status is None:
        response = problem(status_code=409, code=KeyInUse.code, detail=KeyInUse.message)
        response["Retry-After"] = "2"
        return response
    body = _opened(bytes(record.response_body or b""))
    again = HttpResponse(body, status=record.response_status, content_type=record.response_type)
    again["Idempotent-Replayed"] = "true"
    return again


def _run(view: Any, request: Request, record: IdempotencyRecord, work: Callable[[], Any], *, atomic: bool) -> Any:
    try:
        if atomic:
            with transaction.atomic():
                response = _rendered(view, request, work())
                if not _keep(record, response):  # it took longer than its lock and another one holds the key
                    raise KeyInUse
        else:
            response = _rendered(view, request, work())
            _keep(record, response)
    except Exception as exc:
        response = _refusal(view, request, record, exc)
    return response


def _refusal(view: Any, request: Request, record: IdempotencyRecord, exc: Exception) -> Any:
    """The answer to a refusal, kept as well by who holds the key; an unexpected failure gives it back and goes on up."""
    try:
        response = _rendered(view, request, view.handle_exception(exc))
    except Exception:
        _give_back(record)
        raise
    if is_contention(exc) or getattr(exc, "is_transient", False):
        _give_back(record)
    elif not isinstance(exc, KeyInUse):
        _keep(record, response)
    return response


def _rendered(view: Any, request: Request, response: Any) -> Any:
    response = view.finalize_response(request, response, *view.args, **view.kwargs)
    if hasattr(response, "render"):
        response.render()
    return response


def _keep(record: IdempotencyRecord, response: Any) -> bool:
    """Store the answer; False when the key is not ours any more."""
    if response.status_code >= 500:
        _give_back(record)
        return True
    kept = IdempotencyRecord.objects.filter(pk=record.pk, locked_until=record.locked_until).update(
        response_status=response.status_code,
        response_body=cipher().encrypt(response.content),
        response_type=response.get("Content-Type", "application/json")[:80],
    )
    return bool(kept)


def _opened(stored: bytes) -> bytes:
    """An answer as it was given. It is kept encrypted: answers carry personal data, and secrets that are shown once."""
    if not stored.startswith(ENCRYPTED):  # kept by an earlier version of the house
        return stored
    return cipher().decrypt(stored)


def _give_back(record: IdempotencyRecord) -> None:
    IdempotencyRecord.objects.filter(pk=record.pk, locked_until=record.locked_until, response_status=None).delete()
