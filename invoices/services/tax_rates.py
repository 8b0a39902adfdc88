"""Tax rates are data with a first day; documents keep the rate they were issued with."""

from datetime import date
from decimal import Decimal

from django.db import IntegrityError, transaction

from billing.context import Actor
from billing.errors import Conflict, InvalidInput
from billing.models import Organisation
from billing.services import audit
from invoices.models import TaxRate


@transaction.atomic
def create_tax_rate(
    *,
    organisation: Organisation,
    category: str,
    country: str,
    rate: Decimal,
    valid_from: date,
    actor: Actor,
    region: str = "",
    code: str = "",
    exemption_reason: str = "",
    valid_until: date | None = None,
) -> TaxRate:
    """Add a rate (percent) that holds from ``valid_from``; from then on it goes before older ones."""
    if not 0 <= rate <= 100:
        raise InvalidInput("A rate is between 0 and 100 percent.", field="rate")
    try:
        with transaction.atomic():
            row = TaxRate.objects.create(
                organisation=organisation,
                category=category,
                country=country,
                region=region,
                rate=rate,
                code=code,
                exemption_reason=exemption_reason,
                valid_from=valid_from,
                valid_until=valid_until,
            )
    except IntegrityError as exc:
        raise Conflict("There is a rate for this category and place from the same day on.", field="valid_from") from exc
    audit.record(
        actor=actor,
        action="tax_rate.created",
        target=row,
        after={"category": category, "country": country, "rate": str(rate)},
    )
    return row
