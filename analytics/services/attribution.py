"""Reading what services earn and cost, and saying which charge is of which service."""

from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from django.db import connection, transaction

from analytics.attribution import DatedCost, ServiceFigure, ServiceLine, Tag, by_service
from billing import clock, parties
from billing.context import Actor
from billing.errors import InvalidInput
from billing.models import Organisation
from billing.services import audit
from billing.services.meter_costs import BEGINNING

MAX_TAGS = 500
MAX_COST = Decimal(10) ** 9

# The meter behind a line is that of a price with the line's code in the organisation; codes name one meter by custom, and where
# versions differ the newest price decides. A line is for its days up to the one it was issued on.
LINES = """
WITH metered AS (
    SELECT DISTINCT ON (p.code) p.code, m.service, m.id AS meter_id
    FROM subscriptions_price p JOIN billing_meter m ON m.id = p.meter_id
    WHERE p.organisation_id = %(organisation)s ORDER BY p.code, p.id DESC
), said AS (
    SELECT m.code, c.effective_on, c.unit_cost FROM metered m JOIN billing_metercost c USING (meter_id)
), dated AS (
    SELECT code, effective_on AS since, unit_cost,
           lead(effective_on, 1, 'infinity') OVER (PARTITION BY code ORDER BY effective_on) AS until
    FROM (SELECT * FROM said
          UNION ALL
          SELECT * FROM unnest(%(codes)s::text[], %(days)s::date[], %(costs)s::numeric[]) AS tag (code, effective_on, unit_cost)
          WHERE tag.code NOT IN (SELECT code FROM said)) known
), issued AS (
    SELECT date_trunc('month', i.issued_on)::date AS month, i.currency, l.code, l.amount AS revenue,
           CASE WHEN l.details -> 0 ->> 'kind' = 'usage_correction'
                THEN coalesce((l.details -> 0 ->> 'after')::numeric - (l.details -> 0 ->> 'before')::numeric, 0)
                WHEN l.details -> 0 ->> 'kind' IN ('minimum', 'interim') THEN 0
                ELSE l.quantity END AS quantity,
           l.period_start, least(l.period_end, i.issued_on) AS last_on
    FROM invoices_invoiceline l JOIN invoices_invoice i ON i.id = l.invoice_id
    WHERE i.organisation_id = %(organisation)s AND i.status NOT IN ('draft', 'void')
      AND i.issued_on >= %(since)s AND i.issued_on <= %(until)s
    UNION ALL
    SELECT date_trunc('month', n.issued_on)::date, n.currency, part.code, -part.amount, 0, NULL, n.issued_on
    FROM invoices_creditnote n CROSS JOIN LATERAL jsonb_array_elements(n.lines) AS taken
    JOIN invoices_invoiceline l ON l.invoice_id = n.invoice_id AND l.position = (taken ->> 'position')::int
    CROSS JOIN LATERAL (
        SELECT key, value::numeric FROM jsonb_each_text(taken -> 'instead_of')
        UNION ALL
        SELECT l.code, (taken ->> 'amount')::numeric
               - coalesce((SELECT sum(value::numeric) FROM jsonb_each_text(taken -> 'instead_of')), 0)
    ) AS part (code, amount)
    WHERE n.organisation_id = %(organisation)s AND n.issued_on >= %(since)s AND n.issued_on <= %(until)s
), line AS (
    SELECT month, currency, code, last_on, least(coalesce(period_start, last_on), last_on) AS first_on,
           sum(quantity) AS quantity, sum(revenue) AS revenue
    FROM issued GROUP BY 1, 2, 3, 4, 5
)
SELECT line.month, line.currency, line.code, coalesce(metered.service, ''),
       sum(line.quantity * cost.weighted / cost.days), sum(line.revenue)
FROM line LEFT JOIN metered USING (code)
CROSS JOIN LATERAL (
    SELECT sum(d.unit_cost * days) AS weighted, sum(days) AS days
    FROM dated d CROSS JOIN LATERAL (SELECT least(d.until, line.last_on + 1) - greatest(d.since, line.first_on) AS days) AS share
    WHERE d.code = line.code AND d.since <= line.last_on AND d.until > line.first_on AND d.unit_cost IS NOT NULL
) cost
GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3
"""


def since_for(until: date) -> date:
    """First day that is shown up to ``until`` when none is named: a year before."""
    return max(until, date(2, 2, 1)) - timedelta(days=365)


def services_by_month(*, organisation: Organisation, since: date, until: date) -> list[ServiceFigure]:
    """Revenue and cost of each service by month of issue, [since, until]."""
    tags = tags_of(organisation)
    return by_service(_lines(organisation, tags, since, until), tags)


def charges_to_tag(*, organisation: Organisation, since: date, until: date) -> list[str]:
    """Codes of charges issued in [since, until] whose meter names no service, and those that were tagged before."""
    tags = tags_of(organisation)
    lines = _lines(organisation, tags, since, until)
    return sorted({line.code for line in lines if not line.service and line.code} | set(tags))


def _lines(organisation: Organisation, tags: Mapping[str, Tag], since: date, until: date) -> list[ServiceLine]:
    costs = [(code, *cost) for code, tag in tags.items() for cost in tag.costs]
    codes, days, amounts = map(list, zip(*costs, strict=True)) if costs else ([], [], [])
    asked: dict[str, Any] = {
        "organisation": organisation.pk,
        "since": since,
        "until": until,
        "codes": codes,
        "days": days,
        "costs": amounts,
    }
    with connection.cursor() as cursor:
        cursor.execute(LINES, asked)
        return [ServiceLine(*row) for row in cursor.fetchall()]


def tags_of(organisation: Organisation) -> dict[str, Tag]:
    """What the organisation says of its charges; what is not readable is left out."""
    given = organisation.settings.get("services")
    found: dict[str, Tag] = {}
    for code, tag in given.items() if isinstance(given, dict) else ():
        try:
            found[code] = _kept(code, tag)
        except (InvalidInput, ValueError):
            continue
    return found


@transaction.atomic
def tag_charges(
    *, organisation: Organisation, tags: Mapping[str, Any], actor: Actor, reason: str = ""
) -> dict[str, Tag]:
    """Say of which service charges are, ``{code: {service, unit_cost}}``; takes the place of what was said before.

    Another unit cost of a charge counts from today on; the first one counts from the beginning. Raises ``InvalidInput``.
    """
    if len(tags) > MAX_TAGS:
        raise InvalidInput(f"Expected at most {MAX_TAGS} charges.", field="services")
    checked = {code: _tag(code, tag) for code, tag in tags.items()}
    row = Organisation.objects.select_for_update().get(pk=organisation.pk)
    before, today = row.settings.get("services") or {}, clock.today(organisation)
    known = tags_of(row)
    tags = {}
    for code, (service, cost) in checked.items():
        tag = known.get(code, Tag(service))._replace(service=service)
        tags[code] = tag.costing(cost, today if tag.costs else BEGINNING)
    kept = {
        code: {
            "service": tag.service,
            "costs": [[one.effective_on.isoformat(), _text(one.unit_cost)] for one in tag.costs],
        }
        for code, tag in tags.items()
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
    return tags


def _text(cost: Decimal | None) -> str | None:
    return None if cost is None else f"{cost:f}"


def _kept(code: str, tag: Any) -> Tag:
    """A tag as it was kept; before costs had dates one cost counted from the beginning."""
    service, cost = _tag(code, tag)
    costs = tag["costs"] if "costs" in tag else [] if cost is None else [[BEGINNING.isoformat(), f"{cost:f}"]]
    return Tag(
        service, tuple(DatedCost(date.fromisoformat(day), None if one is None else Decimal(one)) for day, one in costs)
    )


def _tag(code: str, tag: Any) -> tuple[str, Decimal | None]:
    if not isinstance(tag, Mapping) or not isinstance(tag.get("service"), str):
        raise InvalidInput('Expected {"service": "…", "unit_cost": "0.10"} for each charge.', field="services")
    parties.clean_text(code, field="services", limit=60, required=True)
    service = parties.clean_text(tag["service"], field="services", limit=60, required=True)
    cost = tag.get("unit_cost")
    if cost is None:
        return service, None
    try:
        number = Decimal(cost) if isinstance(cost, str) else Decimal("NaN")
    except InvalidOperation:
        number = Decimal("NaN")
    if not number.is_finite() or not 0 <= number < MAX_COST:
        raise InvalidInput("Give the unit cost as a decimal string from 0 on.", field="services")
    return service, number
