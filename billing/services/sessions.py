"""Signing in: short access tokens, and refresh tokens of which each works once.

A refresh token that is used a second time has been copied: its whole chain ends, and both holders must sign in again.
A new password ends all tokens that were given for the former one.
"""

import uuid
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import jwt
from django.conf import settings
from django.db import transaction
from django.utils.crypto import constant_time_compare

from billing.clock import wall_now
from billing.errors import DomainError
from billing.models import RefreshToken, User

REFRESH_LIFETIME = timedelta(days=14)


class NotSignedIn(DomainError):
    code = "authentication_failed"
    http_status = 401
    message = "The token is not valid, has expired or was used already; sign in again."


@dataclass(frozen=True, kw_only=True)
class Session:
    """What a person gets for signing in."""

    user: User
    access: str
    refresh: str
    expires_at: datetime


def open_session(user: User) -> Session:
    """Begin a chain of tokens for a person whose password was right."""
    return _issue(user, family=uuid.uuid4())


def renew_session(refresh: str) -> Session:
    """Trade a refresh token for the next pair. Raises ``NotSignedIn``; a second use ends the chain."""
    session = _renew(refresh)
    if session is None:
        raise NotSignedIn
    return session


@transaction.atomic
def close_session(refresh: str) -> None:
    """Sign out: end the chain. Unknown tokens are ended already."""
    try:
        claims = read_token(refresh, kind="refresh")
    except NotSignedIn:
        return
    token = RefreshToken.objects.filter(token_id=claims["jti"]).first()
    if token is not None:
        _end_family(token.family)


@transaction.atomic
def _renew(refresh: str) -> Session | None:
    """None where it is refused: then what was done (the chain's end) must stay."""
    claims = read_token(refresh, kind="refresh")
    token = (
        RefreshToken.objects.select_for_update(of=("self",))
        .select_related("user")
        .filter(token_id=claims["jti"])
        .first()
    )
    now = wall_now()
    if token is None or token.revoked_at is not None or token.expires_at <= now or not still_holds(claims, token.user):
        return None
    if token.used_at is not None:
        _end_family(token.family)
        return None
    token.used_at = now
    token.save(update_fields=["used_at"])
    return _issue(token.user, family=token.family)


def _end_family(family: uuid.UUID) -> None:
    RefreshToken.objects.filter(family=family, revoked_at=None).update(revoked_at=wall_now())


def _issue(user: User, *, family: uuid.UUID) -> Session:
    now = wall_now()
    token = RefreshToken.objects.create(
        user=user, family=family, token_id=uuid.uuid4().hex, expires_at=now + REFRESH_LIFETIME
    )
    return Session(
        user=user,
        access=issue_token(user=user, kind="access", lifetime=settings.JWT_LIFETIME),
        refresh=issue_token(user=user, kind="refresh", lifetime=REFRESH_LIFETIME, token_id=token.token_id),
        expires_at=now + settings.JWT_LIFETIME,
    )


def issue_token(*, user: User, kind: str, lifetime: timedelta, token_id: str = "") -> str:
    """A signed token: ``kind`` is access or refresh."""
    now = wall_now()
    claims = {
        "sub": str(user.pk),
        "kind": kind,
        "iat": now,
        "exp": now + lifetime,
        "jti": token_id or uuid.uuid4().hex,
        "pwd": _mark(user),
        "iss": "munim",
    }
    return jwt.encode(claims, settings.SECRET_KEY, algorithm="HS256")


def still_holds(claims: dict[str, Any], user: User) -> bool:
    """Whether a token's person may still come in with it: is active, and has the password it was given for."""
    return user.is_active and constant_time_compare(str(claims.get("pwd")), _mark(user))


def _mark(user: User) -> str:
    """What changes with the password and tells nothing of it."""
    return user.get_session_auth_hash()[:24]


def read_token(token: str, *, kind: str) -> dict[str, Any]:
    """Claims of a valid token of ``kind``; raises ``NotSignedIn`` otherwise."""
    try:
        claims = jwt.decode(
            token,
            settings.SECRET_KEY,
            algorithms=["HS256"],
            issuer="munim",
            options={"require": ["exp", "sub", "jti"]},
        )
    except (jwt.InvalidTokenError, UnicodeError) as exc:
        raise NotSignedIn from exc
    if claims.get("kind") != kind:
        raise NotSignedIn
    return claims
