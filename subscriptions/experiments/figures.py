"""What came of an experiment: who was shown what, who subscribed and paid, what it brings, and what may be said of it. Reads only."""

import uuid
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from moneyed import Money

from billing import money
from subscriptions.experiments import verdicts
from subscriptions.experiments.offers import variants_of
from subscriptions.experiments.statistics import Interval
from subscriptions.experiments.verdicts import Counted, Rate, Verdict
from subscriptions.models import Experiment, ExperimentVariant

COUNTS = """
WITH first_bill AS (
    SELECT DISTINCT ON (p.subscription_id) p.subscription_id, i.status
    FROM subscriptions_experimentexposure e
    JOIN subscriptions_billedperiod p ON p.subscription_id = e.subscription_id
    JOIN invoices_invoice i ON i.id = p.invoice_id
    WHERE e.experiment_id = %s AND i.status <> 'void'
    ORDER BY p.subscription_id, p.starts_at, p.id
)
SELECT e.variant_id, count(*), count(e.subscription_id), count(*) FILTER (WHERE b.status = 'paid'),
       count(*) FILTER (WHERE e.channel = 'subscribe'),
       count(*) FILTER (WHERE e.subscription_id IS NULL AND e.exposed_at > %s)
FROM subscriptions_experimentexposure e
LEFT JOIN first_bill b ON b.subscription_id = e.subscription_id
WHERE e.experiment_id = %s
GROUP BY e.variant_id
"""
REVENUE = """
WITH taken AS (
    SELECT variant_id, subscription_id FROM subscriptions_experimentexposure
    WHERE experiment_id = %s AND subscription_id IS NOT NULL
), claimed AS (
    SELECT t.variant_id, i.id AS invoice_id, i.currency, l.position, l.amount
    FROM taken t
    JOIN invoices_invoice i ON i.subscription_ref = t.subscription_id
    JOIN invoices_invoiceline l ON l.invoice_id = i.id AND coalesce(l.subscription_ref, t.subscription_id) = t.subscription_id
    WHERE i.status NOT IN ('draft', 'void')
    UNION ALL
    SELECT t.variant_id, i.id, i.currency, l.position, l.amount
    FROM taken t
    JOIN invoices_invoiceline l ON l.subscription_ref = t.subscription_id
    JOIN invoices_invoice i ON i.id = l.invoice_id AND i.subscription_ref IS DISTINCT FROM t.subscription_id
    WHERE i.status NOT IN ('draft', 'void')
), moved AS (
    SELECT variant_id, currency, amount FROM claimed
    UNION ALL
    SELECT c.variant_id, c.currency, -x.amount
    FROM claimed c
    JOIN invoices_creditnote n ON n.invoice_id = c.invoice_id
    CROSS JOIN LATERAL jsonb_to_recordset(n.lines) AS x (position int, amount numeric)
    WHERE x.position = c.position
)
SELECT variant_id, currency, sum(amount) FROM moved GROUP BY variant_id, currency ORDER BY currency
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class VariantFigures:
    """A variant's figures. ``revenue``: invoiced without tax less what was credited, by currency; ``per_customer``: of those exposed."""

    variant: ExperimentVariant
    counted: Counted
    converted: Rate
    paid: Rate
    revenue: tuple[Money, ...]
    per_customer: tuple[Money, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """The figures of an experiment and what may be said of them."""

    experiment: Experiment
    variants: tuple[VariantFigures, ...]
    verdict: Verdict
    at: datetime

    @property
    def exposed(self) -> int:
        return sum(one.counted.exposed for one in self.variants)


def figures_of(experiment: Experiment, *, at: datetime) -> Figures:
    """The figures of an experiment that has begun, in three statements."""
    variants = variants_of(experiment)
    counts, revenue = _counts(experiment, at), _revenue(experiment)
    counted = [_counted(variant, counts.get(variant.pk)) for variant in variants]
    plan = plan_of(experiment)
    found = [
        _figures(variant, one, revenue[variant.pk], plan.risk) for variant, one in zip(variants, counted, strict=True)
    ]
    verdict = verdicts.weigh(
        counted=counted, plan=plan, looks=experiment.look_count, was_reweighed=experiment.reweighed_at is not None
    )
    return Figures(experiment=experiment, variants=tuple(found), verdict=verdict, at=at)


def plan_of(experiment: Experiment) -> verdicts.Plan:
    """What was said before its start."""
    return verdicts.Plan(
        sample=experiment.planned_sample or 0,
        baseline=float(experiment.baseline_rate or 0),
        effect=float(experiment.minimum_effect or 0),
        risk=float(experiment.significance),
        power=float(experiment.power),
        days=experiment.conversion_days,
    )


def _counts(experiment: Experiment, at: datetime) -> dict[uuid.UUID, tuple[int, ...]]:
    since = at - timedelta(days=experiment.conversion_days)
    with connection.cursor() as cursor:
        cursor.execute(COUNTS, [experiment.pk, since, experiment.pk])
        return {row[0]: row[1:] for row in cursor.fetchall()}


def _revenue(experiment: Experiment) -> dict[uuid.UUID, list[Money]]:
    found: dict[uuid.UUID, list[Money]] = defaultdict(list)
    with connection.cursor() as cursor:
        cursor.execute(REVENUE, [experiment.pk])
        for variant_id, currency, amount in cursor.fetchall():
            found[variant_id].append(Money(money.quantize(amount, currency), currency))
    return found


def _counted(variant: ExperimentVariant, row: tuple[int, ...] | None) -> Counted:
    exposed, converted, paid, at_once, waiting = row or (0, 0, 0, 0, 0)
    return Counted(
        code=variant.code, weight=variant.weight, is_control=variant.is_control, exposed=exposed, converted=converted,
        paid=paid, at_once=at_once, waiting=waiting,
    )  # fmt: skip


def _figures(variant: ExperimentVariant, counted: Counted, revenue: list[Money], risk: float) -> VariantFigures:
    each = [_per(total, counted.exposed) for total in revenue]
    return VariantFigures(
        variant=variant, counted=counted, revenue=tuple(revenue), per_customer=tuple(each),
        converted=verdicts.rate_of(counted.converted, counted.exposed, risk),
        paid=verdicts.rate_of(counted.paid, counted.exposed, risk),
    )  # fmt: skip


def _per(total: Money, count: int) -> Money:
    return money.round_money(Money(total.amount / Decimal(max(1, count)), total.currency))


def as_json(figures: Figures) -> dict[str, Any]:
    """The figures as they are kept with a conclusion."""
    return {
        "at": figures.at.isoformat(),
        "words": figures.verdict.words,
        "cautions": list(figures.verdict.cautions),
        "is_full": figures.verdict.is_full,
        "look_count": figures.experiment.look_count,
        "variants": [_variant_json(one) for one in figures.variants],
        "comparisons": [
            {"variant": one.code, "difference": _short(one.difference), "interval": _pair(one.interval),
             "p": _short(one.test.p), "method": one.test.method, "claim": one.claim}
            for one in figures.verdict.comparisons
        ],
    }  # fmt: skip


def _variant_json(one: VariantFigures) -> dict[str, Any]:
    return {
        "variant": one.variant.code, "version": str(one.variant.version), "exposed": one.counted.exposed,
        "converted": one.counted.converted, "paid": one.counted.paid, "rate": _short(one.converted.value),
        "interval": _pair(one.converted.interval),
        "revenue": [{"amount": f"{total.amount:f}", "currency": total.currency.code} for total in one.revenue],
    }  # fmt: skip


def _short(share: float) -> float:
    return round(share, 6)


def _pair(interval: Interval) -> list[float]:
    return [_short(interval.low), _short(interval.high)]
