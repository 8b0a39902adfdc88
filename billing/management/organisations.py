"""What commands share: finding the organisations they were asked to work for."""

from django.core.management.base import CommandError

from billing.models import Organisation


def named(code: str) -> Organisation:
    """The organisation of this code; a ``CommandError`` that names the known ones otherwise."""
    found = Organisation.objects.filter(code=code).first()
    if found is None:
        known = ", ".join(Organisation.objects.values_list("code", flat=True)[:20]) or "none yet"
        raise CommandError(f"There is no organisation '{code}'. Known: {known}.")
    return found


def chosen(code: str | None) -> list[Organisation]:
    """The one of this code, or all of them."""
    return [named(code)] if code else list(Organisation.objects.order_by("code"))
