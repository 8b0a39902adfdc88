"""Tax rates are data: added from a day on, never changed, so that a document can be priced again as it was."""

from datetime import date
from decimal import Decimal

from django.db import IntegrityError, transaction

from billing.context import Actor
from billing.errors import Conflict
from billing.models import Organisation
from billing.services import audit
from invoices.models import TaxRate


class TaxRateExists(Conflict):
    code = "tax_rate_exists"
    message = "There is a rate for '{category}' in {country} from {valid_from} already."


@transaction.atomic
def add_rate(
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
    """Add a rate in percent that holds from ``valid_from``. Raises ``TaxRateExists`` for the same day and place."""
    try:
        with transaction.atomic():
            added = TaxRate.objects.create(
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
        raise TaxRateExists(category=category, country=country, valid_from=valid_from, field="valid_from") from exc
    audit.record(actor=actor, action="tax_rate.added", target=added, after={"category": category, "rate": str(rate)})
    return added
