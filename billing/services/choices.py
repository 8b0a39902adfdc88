"""What an organisation may choose (docs/settings.md): each choice is registered by the app that reads it, with what it checks.

Stored in ``Organisation.settings``; what is missing has its default. Changed here, with an audit record.
"""

import uuid
from collections.abc import Callable, Mapping
from typing import Any

from django.db import transaction

from billing.context import Actor
from billing.errors import DomainError, InvalidInput, PermissionRefused
from billing.models import Organisation
from billing.services import audit

Check = Callable[[Organisation, Any], Any]
"""Takes the organisation (its ``settings`` as they would be) and the value; gives what is stored, or raises."""

USUAL = "organisation.edit"
_checks: dict[str, Check] = {}
_permissions: dict[str, str] = {}
SHOWN = 80


def register(name: str, check: Check, *, permission: str = USUAL) -> None:
    """Let ``Organisation.settings[name]`` be chosen by who holds ``permission``, whichever page or endpoint they use."""
    _checks[name], _permissions[name] = check, permission


def names() -> list[str]:
    """All choices there are."""
    return sorted(_checks)


@transaction.atomic
def change(*, organisation_id: uuid.UUID, changes: Mapping[str, Any], actor: Actor, reason: str = "") -> Organisation:
    """Set some choices; None gives a choice its default back.

    Raises ``InvalidInput``, or ``PermissionRefused`` where the actor lacks a choice's permission, naming ``settings.<choice>``.
    """
    row: Organisation = Organisation.objects.select_for_update().get(pk=organisation_id)
    unknown = sorted(str(name)[:40] for name in changes if name not in _checks)
    if unknown:
        known = ", ".join(names())
        raise InvalidInput(f"There is no choice of this name; there are {known}.", field=f"settings.{unknown[0]}")
    for name in changes:
        if not actor.may(_permissions[name]):
            raise PermissionRefused(permission=_permissions[name], field=f"settings.{name}")
    before = row.settings
    row.settings = {name: value for name, value in {**before, **changes}.items() if value is not None}
    for name, value in changes.items():
        if value is not None:
            row.settings[name] = _checked(row, name, value)
    if row.settings != before:
        row.save(update_fields=["settings"])
        told = {name: (_shown(before.get(name)), _shown(row.settings.get(name))) for name in changes}
        audit.record(
            actor=actor,
            action="organisation.choices_changed",
            target=row,
            before={name: old for name, (old, _) in told.items()},
            after={name: new for name, (_, new) in told.items()},
            reason=reason,
        )
    return row


def _checked(row: Organisation, name: str, value: Any) -> Any:
    try:
        return _checks[name](row, value)
    except DomainError as exc:
        raise InvalidInput(str(exc), field=f"settings.{name}") from exc


def _shown(value: Any) -> Any:
    """As the audit trail keeps it: a picture only by its beginning."""
    return value[:SHOWN] if isinstance(value, str) else value


# --- what a check is made of ----------------------------------------------------------------------
def yes_or_no(organisation: Organisation, value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise InvalidInput("Expected true or false.")
    return value


def one_of(*words: str) -> Check:
    """One of ``words``."""

    def check(organisation: Organisation, value: Any) -> str:
        if value not in words:
            raise InvalidInput(f"Expected {' or '.join(words)}.")
        return str(value)

    return check


def whole_number(least: int, most: int) -> Check:
    """A whole number from ``least`` to ``most``."""

    def check(organisation: Organisation, value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise InvalidInput(f"Expected a whole number from {least} to {most}.")
        return value

    return check
