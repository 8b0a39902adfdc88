"""What is counted."""

from django.db import IntegrityError, transaction

from billing import parties
from billing.context import Actor
from billing.errors import Conflict
from billing.models import Meter, Organisation
from billing.services import audit


class MeterExists(Conflict):
    code = "meter_exists"
    message = "There is a meter '{meter}' already."


@transaction.atomic
def create_meter(
    *, organisation: Organisation, code: str, name: str, aggregation: str, unit: str = "", actor: Actor
) -> Meter:
    """Begin to count something: the number of events, or the sum or maximum of their quantities."""
    meter = Meter(
        organisation=organisation,
        code=code,
        name=parties.clean_text(name, field="name", limit=120, required=True),
        aggregation=Meter.Aggregation(aggregation),
        unit=parties.clean_text(unit, field="unit", limit=40),
    )
    try:
        with transaction.atomic():
            meter.save(force_insert=True)
    except IntegrityError as exc:
        raise MeterExists(meter=code, field="code") from exc
    audit.record(actor=actor, action="meter.created", target=meter, after={"code": code, "aggregation": aggregation})
    return meter
