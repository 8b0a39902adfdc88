"""Who calls: a person with a JWT (``Authorization: Bearer``), or an application with an API key.

Both set ``request.auth`` to a :class:`Caller`; the organisation is the key's, or for people the one named by the
``Munim-Organisation`` header (its code or id), or their only one.
"""

import uuid
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from rest_framework import authentication, exceptions
from rest_framework.request import Request

from billing import permissions
from billing.clock import wall_now
from billing.context import Actor
from billing.models import ApiKey, Membership, Organisation, User
from billing.secrets import KEY_PREFIX, hash_key
from billing.selectors.callers import first_read, holder_of_key
from billing.services.sessions import NotSignedIn, read_token, still_holds

NOTED_EVERY = timedelta(minutes=5)
"""How exactly it is known when a key was used last."""


@dataclass(frozen=True)
class Caller:
    """The authenticated caller: organisation and actor."""

    organisation: Organisation
    actor: Actor


class ApiKeyAuthentication(authentication.BaseAuthentication):
    """``Authorization: Bearer mk_…`` or ``X-Api-Key: mk_…``."""

    def authenticate(self, request: Request) -> tuple[Any, Caller] | None:
        key = _bearer(request) or request.headers.get("X-Api-Key", "")
        if not key.startswith(KEY_PREFIX):
            return None
        now = wall_now()
        found = holder_of_key(key_hash=hash_key(key), now=now)
        if found is None:
            raise exceptions.AuthenticationFailed("This API key is not known, has expired or was revoked.")
        if found.last_used_at is None or now - found.last_used_at > NOTED_EVERY:
            ApiKey.objects.filter(pk=found.id).update(last_used_at=now)
        actor = Actor(
            type="api_key", id=str(found.id), label=found.name, address=_address(request), permissions=found.scopes
        )
        return ApplicationUser(found.id), Caller(found.organisation, actor)

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="munim"'


class JWTAuthentication(authentication.BaseAuthentication):
    """Access tokens issued by ``/api/v1/auth/login`` (HS256, short-lived)."""

    def authenticate(self, request: Request) -> tuple[Any, Caller | None] | None:
        token = _bearer(request)
        if not token or token.startswith(KEY_PREFIX):
            return None
        try:
            claims = read_token(token, kind="access")
        except NotSignedIn as exc:
            raise exceptions.AuthenticationFailed(str(exc)) from exc
        user = first_read(User.objects.filter(pk=claims["sub"]).first)
        if user is None or not still_holds(claims, user):
            raise exceptions.AuthenticationFailed("The user of this token is gone, inactive, or has a new password.")
        membership = _membership(user, request.headers.get("Munim-Organisation", ""))
        if membership is None:
            return user, None
        actor = Actor(
            type="user",
            id=str(user.pk),
            label=user.email,
            address=_address(request),
            permissions=permissions.BY_ROLE[membership.role],
        )
        return user, Caller(membership.organisation, actor)

    def authenticate_header(self, request: Request) -> str:
        return 'Bearer realm="munim"'


class ApplicationUser:
    """Stands for an application where Django expects a user."""

    is_authenticated = True
    is_active = True
    is_anonymous = False

    def __init__(self, key_id: uuid.UUID) -> None:
        self.pk = self.id = f"key:{key_id}"


def _bearer(request: Request) -> str:
    scheme, _, value = request.headers.get("Authorization", "").partition(" ")
    return value.strip() if scheme.lower() == "bearer" else ""


def _address(request: Request) -> str | None:
    return request.META.get("REMOTE_ADDR") or None


def _membership(user: User, wanted: str) -> Membership | None:
    memberships = Membership.objects.select_related("organisation").filter(user=user)
    if not wanted or not wanted.isprintable():
        found = list(memberships[:2])
        return found[0] if len(found) == 1 else None
    try:
        return memberships.filter(organisation_id=uuid.UUID(wanted)).first()
    except ValueError:
        return memberships.filter(organisation__code=wanted).first()
