"""Reconciliation in sums: captured, refunded, fees, settled, in transit, in bank, down to an explicit zero."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.db import connection
from django.db.models import Count, F, Q, QuerySet, Sum
from moneyed import Money

from billing import clock
from billing.errors import InvalidInput
from billing.models import Organisation
from billing.money import quantize
from payments.bridge import Flows, Identity, identity
from payments.models import BankLine, ReconciliationException, Settlement, SettlementLine

LONGEST = timedelta(days=3700)


@dataclass(frozen=True, kw_only=True)
class Summary:
    """One currency in a period of days (first and last included), and where it stands at its end."""

    currency: str
    captured: Money
    refunded: Money
    disputes: Money
    fees: Money
    tax: Money
    adjustments: Money
    settled: Money
    sent_back: Money
    in_bank: Money
    clearing: Money
    in_transit: Money
    not_in_books: Money
    unexplained: Money
    identity: Identity

    def rows(self) -> list[tuple[str, Money]]:
        """The page of figures, top to bottom."""
        return [
            ("Captured", self.captured), ("Refunded", -self.refunded), ("Disputes", -self.disputes), ("Fees", -self.fees),
            ("Tax on fees", -self.tax), ("Adjustments", self.adjustments), ("Paid out", self.settled),
            ("Sent back", self.sent_back), ("In bank", self.in_bank), ("In transit", self.in_transit),
            ("Captured, not yet settled", self.clearing), ("Settled, not in the books", self.not_in_books),
            ("Unexplained", self.unexplained),
        ]  # fmt: skip


# Every sum up to a moment (or day) and, of the same thing, up to the moment before the period: one statement, all currencies.
_FLOWS = """
WITH online AS (
    SELECT id, code FROM payments_gatewayaccount WHERE organisation_id = %(organisation)s AND provider <> 'offline'
), taken AS (
    SELECT d.id, d.currency, d.amount, d.fee, d.status, d.closed_at, e.occurred_at AS taken_at  -- not while a bank only asks
    FROM payments_dispute d JOIN online o ON o.id = d.gateway_account_id
    JOIN billing_journalentry e ON e.source_id = d.id AND e.kind = 'dispute_opened' AND e.organisation_id = d.organisation_id
), changed AS (
    SELECT e.source_id AS dispute_id, p.currency, e.occurred_at AS at, CASE p.side WHEN 'D' THEN p.amount ELSE -p.amount END AS amount
    FROM taken d JOIN billing_journalentry e ON e.source_id = d.id AND e.kind = 'dispute_changed' AND e.organisation_id = %(organisation)s
    JOIN billing_posting p ON p.entry_id = e.id JOIN billing_ledgeraccount l ON l.id = p.account_id AND l.code = 'dispute_pending'
), facts AS (
    SELECT 'captured' AS name, a.currency, a.amount, a.finished_at AS at
    FROM payments_paymentattempt a JOIN online o ON o.id = a.gateway_account_id WHERE a.status = 'captured'
    UNION ALL
    SELECT 'refunded', r.currency, r.amount, r.finished_at
    FROM payments_refund r JOIN payments_payment p ON p.id = r.payment_id JOIN online o ON o.id = p.gateway_account_id
    WHERE r.status = 'succeeded'
    UNION ALL
    SELECT 'disputed', d.currency,
        d.fee + d.amount - COALESCE((SELECT sum(c.amount) FROM changed c WHERE c.dispute_id = d.id), 0), d.taken_at
    FROM taken d
    UNION ALL
    SELECT 'disputed', c.currency, c.amount, c.at FROM changed c
    UNION ALL
    SELECT 'disputed', d.currency, -d.amount, d.closed_at FROM taken d WHERE d.status = 'won'
), paid AS MATERIALIZED (
    SELECT s.*, e.occurred_at AS paid_at, f.occurred_at AS failed_at
    FROM payments_settlement s
    JOIN billing_journalentry e ON e.source_id = s.id AND e.kind = 'settlement_paid' AND e.organisation_id = s.organisation_id
    LEFT JOIN LATERAL (SELECT max(x.occurred_at) AS occurred_at FROM billing_journalentry x
                       WHERE x.source_id = s.id AND x.kind = 'settlement_failed') f ON s.status = 'failed'
    WHERE s.organisation_id = %(organisation)s
), lines AS MATERIALIZED (
    SELECT l.settlement_id,
           coalesce(sum(l.amount) FILTER (WHERE l.kind IN ('payment', 'refund')), 0)
         + coalesce(sum(l.net) FILTER (WHERE l.kind IN ('dispute', 'dispute_reversal')), 0)
         + coalesce(sum(l.amount) FILTER (WHERE l.rule = 'failed_payout'), 0) AS gross,
           coalesce(sum(l.fee) FILTER (WHERE l.kind NOT IN ('dispute', 'dispute_reversal')), 0)
         - coalesce(sum(l.amount) FILTER (WHERE l.kind = 'fee'), 0) AS fees,
           coalesce(sum(l.tax) FILTER (WHERE l.kind NOT IN ('dispute', 'dispute_reversal')), 0) AS tax,
           coalesce(sum(l.amount) FILTER (WHERE l.kind = 'adjustment' AND l.rule <> 'failed_payout'), 0) AS adjustments,
           sum(l.net) AS net
    FROM payments_settlementline l WHERE l.organisation_id = %(organisation)s AND l.state <> 'returned' GROUP BY l.settlement_id
), rows AS MATERIALIZED (
    SELECT p.id, p.currency, p.paid_at, p.failed_at, p.status, coalesce(l.gross, 0) AS gross, coalesce(l.fees, 0) AS fees,
           coalesce(l.tax, 0) AS tax, coalesce(l.adjustments, 0) AS adjustments,
           CASE WHEN p.status = 'failed' THEN coalesce(l.net, 0) ELSE p.amount END AS net
    FROM paid p LEFT JOIN lines l ON l.settlement_id = p.id
), flows AS (
    SELECT name, currency, amount, at FROM facts
    UNION ALL SELECT 'gross', currency, gross, paid_at FROM rows
    UNION ALL SELECT 'fees', currency, fees, paid_at FROM rows
    UNION ALL SELECT 'tax', currency, tax, paid_at FROM rows
    UNION ALL SELECT 'adjustments', currency, adjustments, paid_at FROM rows
    UNION ALL SELECT 'settled', currency, net, paid_at FROM rows
    UNION ALL SELECT 'sent_back', currency, net, coalesce(failed_at, paid_at) FROM rows WHERE status = 'failed'
    UNION ALL
    SELECT 'in_bank', s.currency, CASE WHEN b.rule = 'returned' THEN -s.amount ELSE s.amount END,
           (b.booked_on + time '12:00') AT TIME ZONE %(zone)s
    FROM payments_bankline b JOIN payments_settlement s ON s.id = b.settlement_id
    WHERE b.organisation_id = %(organisation)s AND b.state = 'matched'
    UNION ALL
    SELECT CASE WHEN e.kind IN ('settlement_line_adjustment', 'settlement_line_write_off', 'payment_adjustment', 'payment_write_off')
                THEN 'resolved_clearing' ELSE 'resolved_transit' END,
           g.currency, CASE t.side WHEN 'C' THEN t.amount ELSE -t.amount END, e.occurred_at
    FROM billing_journalentry e
    JOIN billing_posting t ON t.entry_id = e.id
    JOIN billing_ledgeraccount g ON g.id = t.account_id
    WHERE e.organisation_id = %(organisation)s AND (
        (e.kind IN ('settlement_line_adjustment', 'settlement_line_write_off', 'payment_adjustment', 'payment_write_off')
         AND g.code LIKE 'gateway_clearing:%%')
     OR (e.kind IN ('settlement_adjustment', 'settlement_write_off') AND g.code LIKE 'settlement_in_transit:%%'))
    UNION ALL
    SELECT 'explained', x.currency, x.amount, x.resolved_at FROM payments_reconciliationexception x
    WHERE x.organisation_id = %(organisation)s AND x.source_type = 'settlement' AND x.kind = 'amount_differs'
      AND x.status = 'resolved' AND x.resolution <> 'cause_gone'
    UNION ALL
    SELECT CASE WHEN g.code LIKE 'gateway_clearing:%%' THEN 'ledger_clearing' ELSE 'ledger_transit' END,
           g.currency, CASE t.side WHEN 'D' THEN t.amount ELSE -t.amount END, e.occurred_at
    FROM billing_ledgeraccount g
    JOIN billing_posting t ON t.account_id = g.id
    JOIN billing_journalentry e ON e.id = t.entry_id
    WHERE g.organisation_id = %(organisation)s
      AND g.code IN (SELECT 'gateway_clearing:' || code FROM online UNION ALL SELECT 'settlement_in_transit:' || code FROM online)
)
SELECT currency, name, coalesce(sum(amount) FILTER (WHERE at < %(end)s), 0), coalesce(sum(amount) FILTER (WHERE at < %(start)s), 0)
FROM flows WHERE at < %(end)s GROUP BY currency, name
"""


def summary(*, organisation: Organisation, first: date, last: date) -> list[Summary]:
    """Sums of the days ``first`` to ``last`` in the organisation's zone, one per currency that ever moved.

    ``unexplained`` adds up all differences between documents and ledger without their signs; it must be 0.00.
    Raises ``InvalidInput`` for days in the wrong order or more than ten years.
    """
    start, end = _moments(organisation, first, last)
    with connection.cursor() as cursor:
        cursor.execute(
            _FLOWS, {"organisation": organisation.pk, "start": start, "end": end, "zone": organisation.time_zone}
        )
        rows = cursor.fetchall()
    sums: dict[str, dict[str, tuple[Decimal, Decimal]]] = {}
    for currency, name, up_to_end, before in rows:
        sums.setdefault(currency, {})[name] = (up_to_end, before)
    missing = _not_in_books(organisation)
    return [_summary(code, sums[code], missing.get(code, Decimal(0))) for code in sorted(sums)]


def _moments(organisation: Organisation, first: date, last: date) -> tuple[datetime, datetime]:
    if not first <= last <= first + LONGEST:
        raise InvalidInput("Give 'from' and 'to' in this order, at most ten years apart.", field="from")
    if first.year < 1970 or last.year > 9000:
        raise InvalidInput("Give days between 1970 and 9000.", field="from")
    zone = clock.zone(organisation)
    return datetime.combine(first, time(0), tzinfo=zone), datetime.combine(
        last + timedelta(days=1), time(0), tzinfo=zone
    )


def _summary(code: str, sums: dict[str, tuple[Decimal, Decimal]], missing: Decimal) -> Summary:
    def total(name: str) -> Money:
        return Money(quantize(sums.get(name, (Decimal(0), Decimal(0)))[0], code), code)

    def moved(name: str) -> Money:
        end, before = sums.get(name, (Decimal(0), Decimal(0)))
        return Money(quantize(end - before, code), code)

    found = identity(
        Flows(
            captured=total("captured"), refunded=total("refunded"), disputed=total("disputed"), gross_settled=total("gross"),
            fees=total("fees"), tax=total("tax"), adjustments=total("adjustments"), explained_by_people=total("explained"),
            settled=total("settled"), sent_back=total("sent_back"), in_bank=total("in_bank"),
            resolved_clearing=total("resolved_clearing"), resolved_transit=total("resolved_transit"),
            ledger_clearing=total("ledger_clearing"), ledger_transit=total("ledger_transit"),
        )
    )  # fmt: skip
    return Summary(
        currency=code, captured=moved("captured"), refunded=moved("refunded"), disputes=moved("disputed"), fees=moved("fees"),
        tax=moved("tax"), adjustments=moved("adjustments"), settled=moved("settled"), sent_back=moved("sent_back"),
        in_bank=moved("in_bank"), clearing=found.unsettled, in_transit=found.in_transit,
        not_in_books=Money(quantize(missing, code), code), unexplained=found.unexplained, identity=found,
    )  # fmt: skip


def _not_in_books(organisation: Organisation) -> dict[str, Decimal]:
    """What settlements carried of items that the books do not know, open now, by currency."""
    rows = (
        SettlementLine.objects.of(organisation)
        .filter(state__in=["unmatched", "exception"], settlement__status__in=["paid", "in_bank"])
        .exclude(kind__in=["adjustment", "fee"])
        .values("currency")
        .annotate(total=Sum("amount"))
    )
    return {row["currency"]: getattr(row["total"], "amount", row["total"]) for row in rows}


def board(organisations: Iterable[Any]) -> QuerySet[ReconciliationException]:
    """Open exceptions of the organisations, the most urgent first."""
    found = ReconciliationException.objects.filter(organisation_id__in=list(organisations), status="open")
    return found.order_by("due_on", "opened_at")


def today_tiles(*, organisations: list[Any], user_id: Any, now: datetime) -> dict[str, Any]:
    """Figures of the Today page: open lines, exceptions by age, mine, payouts on their way, refused imports."""
    ages = {"0-1": (0, 2), "2-3": (2, 4), "4-7": (4, 8), "8+": (8, 100_000)}
    days = {
        name: (now - timedelta(days=oldest), now - timedelta(days=youngest))
        for name, (youngest, oldest) in ages.items()
    }
    open_ones = board(organisations)
    counted = open_ones.aggregate(
        total=Count("pk"),
        mine=Count("pk", filter=Q(owner_id=user_id)),
        **{
            name: Count("pk", filter=Q(opened_at__gt=oldest, opened_at__lte=youngest))
            for name, (oldest, youngest) in days.items()
        },
    )
    waiting = Settlement.objects.filter(organisation_id__in=organisations, status=Settlement.Status.PAID)
    return {
        "unmatched": BankLine.objects.filter(organisation_id__in=organisations, state="unmatched").count()
        + SettlementLine.objects.filter(organisation_id__in=organisations, state="unmatched").count(),
        "exceptions": counted["total"],
        "ages": {name: counted[name] for name in ages},
        "mine": counted["mine"],
        "on_the_way": waiting.count(),
        "on_the_way_sums": [
            Money(row["total"].amount if hasattr(row["total"], "amount") else row["total"], row["currency"])
            for row in waiting.values("currency").annotate(total=Sum(F("amount"))).order_by("currency")
        ],
    }


_BY_DAY = """
WITH lines AS (
    SELECT (l.occurred_at AT TIME ZONE %(zone)s)::date AS day, l.state, l.rule FROM payments_settlementline l
    WHERE l.organisation_id = %(organisation)s AND l.occurred_at >= %(start)s AND l.state <> 'returned'
    UNION ALL
    SELECT b.booked_on, b.state, b.rule FROM payments_bankline b
    WHERE b.organisation_id = %(organisation)s AND b.booked_on >= %(first)s
)
SELECT d::date, count(l.day) FILTER (WHERE l.state = 'matched' AND l.rule <> 'by_hand'),
       count(l.day) FILTER (WHERE l.state = 'resolved' OR l.rule = 'by_hand'),
       count(l.day) FILTER (WHERE l.state IN ('unmatched', 'exception'))
FROM generate_series(%(first)s::date, %(last)s::date, interval '1 day') AS d LEFT JOIN lines l ON l.day = d::date
GROUP BY d ORDER BY d
"""


def matched_by_day(*, organisation: Organisation, first: date, last: date) -> list[tuple[date, int, int, int]]:
    """Per day: lines matched by themselves, ended by people, and open. Empty when there is none at all."""
    start, _ = _moments(organisation, first, last)
    given = {
        "organisation": organisation.pk,
        "zone": organisation.time_zone,
        "start": start,
        "first": first,
        "last": last,
    }
    with connection.cursor() as cursor:
        cursor.execute(_BY_DAY, given)
        rows = cursor.fetchall()
    return rows if any(sum(counts) for _, *counts in rows) else []
