"""Founding an organisation, and who may act in it: members and API keys."""

import secrets
import uuid
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_slug
from django.db import IntegrityError, transaction

from billing import clock, money, parties, permissions
from billing.clock import wall_now
from billing.context import Actor
from billing.errors import Conflict, InvalidInput, PermissionRefused
from billing.models import ApiKey, BillingParty, Membership, Organisation, Role, TestClock, User
from billing.secrets import KEY_PREFIX, hash_key
from billing.services import audit
from billing.services.organisation_details import clean_payee

SYSTEM = Actor.system()


class OrganisationExists(Conflict):
    code = "organisation_exists"
    message = "There is an organisation '{code}' already."


class UnknownPermission(InvalidInput):
    code = "unknown_permission"
    message = "'{name}' is not a permission (billing/permissions.py)."


@transaction.atomic
def create_organisation(
    *,
    code: str,
    name: str,
    currency: str,
    country: str,
    time_zone: str = "UTC",
    region: str = "",
    financial_year_start: int = 1,
    language: str = "en",
    details: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    test_clock: TestClock | None = None,
    actor: Actor = SYSTEM,
) -> Organisation:
    """Found an organisation. ``details``: name, email, phone, address, tax_ids, bank, upi_id as documents print them.

    Raises ``InvalidInput`` naming the field, or ``OrganisationExists``.
    """
    given = dict(details or {})
    party = parties.clean_party(
        name=given.pop("name", name),
        email=given.pop("email", ""),
        phone=given.pop("phone", ""),
        address=given.pop("address", None),
        tax_ids=given.pop("tax_ids", None),
        country=country,
        region=region,
        more=clean_payee(given),
    )
    if not 1 <= financial_year_start <= 12:
        raise InvalidInput("Expected a month from 1 to 12.", field="financial_year_start")
    organisation = Organisation(
        code=_clean_code(code),
        name=parties.clean_text(name, field="name", limit=200, required=True),
        currency=money.currency_of(currency).code,
        country=parties.clean_country(country),
        region=party.region,
        time_zone=parties.clean_time_zone(time_zone),
        financial_year_start=financial_year_start,
        language=parties.clean_language(language),
        test_clock=test_clock,
        settings=dict(settings or {}),
    )
    try:
        with transaction.atomic():
            organisation.save(force_insert=True)
    except IntegrityError as exc:
        raise OrganisationExists(code=code, field="code") from exc
    organisation.party = BillingParty.objects.create(organisation=organisation, **vars(party))
    organisation.save(update_fields=["party"])
    audit.record(actor=actor, action="organisation.created", target=organisation, after={"code": code})
    return organisation


@transaction.atomic
def add_member(
    *,
    organisation: Organisation,
    email: str,
    role: str,
    password: str | None = None,
    name: str = "",
    actor: Actor = SYSTEM,
) -> Membership:
    """Give a person a role; makes the person known first if need be. A known person's password stays as it is."""
    if role not in Role.values:
        raise InvalidInput(f"Expected one of {', '.join(Role.values)}.", field="role")
    address = parties.clean_email(email).lower()
    if not address:
        raise InvalidInput("A member needs an e-mail address.", field="email")
    user = User.objects.filter(email=address).first()
    if user is None:
        _check_password(password)
        user = User.objects.create_user(address, password, name=name[:150], is_staff=True)
    membership, created = Membership.objects.select_for_update().get_or_create(
        organisation=organisation, user=user, defaults={"role": role}
    )
    before = {} if created else {"role": membership.role}
    if membership.role != role:
        membership.role = role
        membership.save(update_fields=["role"])
    audit.record(actor=actor, action="member.added", target=membership, before=before, after={"role": role})
    return membership


@transaction.atomic
def remove_member(*, organisation_id: uuid.UUID, membership_id: uuid.UUID, actor: Actor, reason: str = "") -> None:
    """Take a person's role away; the person's other organisations are not touched."""
    membership = Membership.objects.of(organisation_id).select_related("user").get(pk=membership_id)
    before = {"role": membership.role, "user": membership.user.email}
    audit.record(actor=actor, action="member.removed", target=membership, before=before, reason=reason)
    membership.delete()


@transaction.atomic
def create_api_key(
    *,
    organisation: Organisation,
    name: str,
    scopes: Collection[str],
    expires_at: datetime | None = None,
    actor: Actor = SYSTEM,
) -> tuple[ApiKey, str]:
    """A key for an application, and its secret, which is shown this once.

    Nobody gives a key more than they hold. Raises ``UnknownPermission`` or ``PermissionRefused``.
    """
    for scope in scopes:
        if scope not in permissions.ALL:
            raise UnknownPermission(name=scope, field="scopes")
        if not actor.may(scope):
            raise PermissionRefused(
                f"You cannot give a key the permission '{scope}', which you do not hold.", field="scopes"
            )
    if expires_at is not None and expires_at <= wall_now():
        raise InvalidInput("The time of expiry has passed.", field="expires_at")
    secret = KEY_PREFIX + secrets.token_urlsafe(32)
    key = ApiKey.objects.create(
        organisation=organisation,
        name=parties.clean_text(name, field="name", limit=80, required=True),
        prefix=secret[:10],
        key_hash=hash_key(secret),
        scopes=sorted(set(scopes)),
        expires_at=expires_at,
    )
    audit.record(actor=actor, action="api_key.created", target=key, after={"name": name, "scopes": key.scopes})
    return key, secret


@transaction.atomic
def revoke_api_key(*, organisation_id: uuid.UUID, key_id: uuid.UUID, actor: Actor, reason: str = "") -> ApiKey:
    """End a key at once; ending it again changes nothing."""
    key = ApiKey.objects.of(organisation_id).select_for_update().get(pk=key_id)
    if key.revoked_at is None:
        key.revoked_at = wall_now()
        key.save(update_fields=["revoked_at"])
        audit.record(actor=actor, action="api_key.revoked", target=key, before={"name": key.name}, reason=reason)
    return key


@transaction.atomic
def set_test_clock(*, organisation: Organisation, test_clock: TestClock | None, actor: Actor = SYSTEM) -> None:
    """Put an organisation on a test clock, or back on real time."""
    before = clock.now(organisation)
    organisation.test_clock = test_clock
    organisation.save(update_fields=["test_clock"])
    audit.record(
        actor=actor,
        action="organisation.clock_changed",
        target=organisation,
        before={"now": before.isoformat()},
        after={"test_clock": str(test_clock.pk) if test_clock else None},
    )


def _clean_code(code: str) -> str:
    try:
        validate_slug(code)
    except ValidationError as exc:
        raise InvalidInput("A code has letters, digits, '-' and '_' only.", field="code") from exc
    if len(code) > 40:
        raise InvalidInput("A code has at most 40 characters.", field="code")
    return code


def _check_password(password: str | None) -> None:
    if password is None:
        return
    try:
        validate_password(password)
    except ValidationError as exc:
        raise InvalidInput(" ".join(exc.messages), field="password") from exc
