"""What a signed-in person may do, organisation by organisation."""

import uuid
from typing import Any

from billing import permissions
from billing.context import Actor
from billing.models import Organisation

Grants = dict[uuid.UUID, frozenset[str]]


def grants_of(user: Any) -> Grants:
    """Permissions of ``user`` by organisation, read once per user object.

    A superuser sees everything in every organisation; to move money also a superuser needs a role there.
    """
    known: Grants | None = getattr(user, "munim_grants", None)  # cached where the request keeps its user
    if known is None:
        known = {}
        if user.is_superuser:
            known = dict.fromkeys(Organisation.objects.values_list("pk", flat=True), permissions.SUPERUSER)
        if user.is_authenticated:
            for organisation_id, role in user.memberships.values_list("organisation_id", "role"):
                known[organisation_id] = known.get(organisation_id, frozenset()) | permissions.BY_ROLE[role]
        user.munim_grants = known
    return known


def organisations_with(user: Any, permission: str) -> list[uuid.UUID]:
    """Ids of the organisations in which ``user`` holds ``permission``."""
    return [pk for pk, held in grants_of(user).items() if permission in held]


def actor_of(user: Any, *, organisation_id: uuid.UUID, address: str | None = None) -> Actor:
    """``user`` as the actor of a decision in one organisation."""
    return Actor(
        type="user",
        id=str(user.pk),
        label=user.email,
        address=address,
        permissions=grants_of(user).get(organisation_id, frozenset()),
    )
