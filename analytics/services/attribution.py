"""Reading what services earn and cost, and saying which charge is of which service."""

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.db import connection, transaction

from analytics.attribution import ServiceFigure, ServiceLine, Tag, by_service
from billing import parties
from billing.context import Actor
from billing.errors import InvalidInput
from billing.models import Organisation
from billing.services import audit

MAX_TAGS = 500
MAX_COST = Decimal(10) ** 9

# The meter behind a line is that of a price with the line's code in the organisation; codes name one meter by custom, and where
# versions differ the newest price decides.
LINES = """
WITH metered AS (
    SELECT DISTINCT ON (p.code) p.code, m.service, m.unit_cost
    FROM subscriptions_price p JOIN billing_meter m ON m.id = p.meter_id
    WHERE p.organisation_id = %(organisation)s ORDER BY p.code, p.id DESC
), line AS (
    SELECT date_trunc('month', i.issued_on)::date AS month, i.currency, l.code, l.amount AS revenue,
           CASE WHEN l.details -> 0 ->> 'kind' = 'usage_correction'
                THEN coalesce((l.details -> 0 ->> 'after')::numeric - (l.details -> 0 ->> 'before')::numeric, 0)
                WHEN l.details -> 0 ->> 'kind' IN ('minimum', 'interim') THEN 0
                ELSE l.quantity END AS quantity
    FROM invoices_invoiceline l JOIN invoices_invoice i ON i.id = l.invoice_id
    WHERE i.organisation_id = %(organisation)s AND i.status NOT IN ('draft', 'void')
      AND i.issued_on >= %(since)s AND i.issued_on <= %(until)s
    UNION ALL
    SELECT date_trunc('month', n.issued_on)::date, n.currency, l.code, -(taken ->> 'amount')::numeric, 0
    FROM invoices_creditnote n CROSS JOIN LATERAL jsonb_array_elements(n.lines) AS taken
    JOIN invoices_invoiceline l ON l.invoice_id = n.invoice_id AND l.position = (taken ->> 'position')::int
    WHERE n.organisation_id = %(organisation)s AND n.issued_on >= %(since)s AND n.issued_on <= %(until)s
)
SELECT line.month, line.currency, line.code, coalesce(metered.service, ''), metered.unit_cost, sum(line.quantity),
       sum(line.revenue)
FROM line LEFT JOIN metered USING (code) GROUP BY 1, 2, 3, 4, 5 ORDER BY 1, 2, 3
"""


def since_for(until: date) -> date:
    """First day that is shown up to ``until`` when none is named: a year before."""
    return max(until, date(2, 2, 1)) - timedelta(days=365)


def services_by_month(*, organisation: Organisation, since: date, until: date) -> list[ServiceFigure]:
    """Revenue and cost of each service by month of issue, [since, until]."""
    return by_service(_lines(organisation, since, until), tags_of(organisation))


def charges_to_tag(*, organisation: Organisation, since: date, until: date) -> list[str]:
    """Codes of charges issued in [since, until] whose meter names no service, and those that were tagged before."""
    lines = _lines(organisation, since, until)
    return sorted({line.code for line in lines if not line.service and line.code} | set(tags_of(organisation)))


def _lines(organisation: Organisation, since: date, until: date) -> list[ServiceLine]:
    with connection.cursor() as cursor:
        cursor.execute(LINES, {"organisation": organisation.pk, "since": since, "until": until})
        return [ServiceLine(*row) for row in cursor.fetchall()]


def tags_of(organisation: Organisation) -> dict[str, Tag]:
    """What the organisation says of its charges; what is not readable is left out."""
    given = organisation.settings.get("services")
    found: dict[str, Tag] = {}
    for code, tag in given.items() if isinstance(given, dict) else ():
        try:
            found[code] = _tag(code, tag)
        except InvalidInput:
            continue
    return found


@transaction.atomic
def tag_charges(
    *, organisation: Organisation, tags: Mapping[str, Any], actor: Actor, reason: str = ""
) -> dict[str, Tag]:
    """Say of which service charges are, ``{code: {service, unit_cost}}``; takes the place of what was said before.

    Raises ``InvalidInput``.
    """
    if len(tags) > MAX_TAGS:
        raise InvalidInput(f"Expected at most {MAX_TAGS} charges.", field="services")
    checked = {code: _tag(code, tag) for code, tag in tags.items()}
    row = Organisation.objects.select_for_update().get(pk=organisation.pk)
    before = row.settings.get("services") or {}
    kept = {
        code: {"service": tag.service, "unit_cost": None if tag.unit_cost is None else f"{tag.unit_cost:f}"}
        for code, tag in checked.items()
    }
    row.settings = {**row.settings, "services": kept}
    row.save(update_fields=["settings"])
    organisation.settings = row.settings
    audit.record(
        actor=actor,
        action="services.tagged",
        target=row,
        before={"services": before},
        after={"services": kept},
        reason=reason,
    )
    return checked


def _tag(code: str, tag: Any) -> Tag:
    if not isinstance(tag, Mapping) or not isinstance(tag.get("service"), str):
        raise InvalidInput('Expected {"service": "…", "unit_cost": "0.10"} for each charge.', field="services")
    parties.clean_text(code, field="services", limit=60, required=True)
    service = parties.clean_text(tag["service"], field="services", limit=60, required=True)
    cost = tag.get("unit_cost")
    if cost is None:
        return Tag(service)
    try:
        number = Decimal(cost) if isinstance(cost, str) else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or not 0 <= number < MAX_COST:
        raise InvalidInput("Give the unit cost as a decimal string from 0 on.", field="services")
    return Tag(service, number)
