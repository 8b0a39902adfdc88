"""What a billing run wrote for an organisation, table by table, so that two of them can be compared: rows, money and content.

Ids, wall clock and invoice numbers differ between two organisations and are left out; everything else has to be the same,
customer by customer.
"""

from typing import Any

from django.db import connection

from billing.models import Organisation

# What belongs to the row, by the customer's or the subscription's own name; the rows' texts are hashed and the hashes summed,
# so that neither order nor number of rows matters.
CONTENT = {
    "invoices_invoice": (
        (
            "c.external_id, i.origin, i.status, i.issued_on, i.due_on, i.net_days, i.period_start, i.period_end, i.net, i.tax, i.rounding,"
            " i.total, i.paid, i.credited, i.due, i.currency, i.prices_include_tax, i.place_of_supply, i.reverse_charge, i.memo,"
            " i.custom_fields, i.collect_automatically, i.created_at, i.finalized_at, i.version, s.external_id"
        ),
        "invoices_invoice i JOIN billing_customer c ON c.id = i.customer_id JOIN subscriptions_subscription s ON s.id = i.subscription_ref",
        "i",
    ),
    "invoices_invoiceline": (
        (
            "c.external_id, l.position, l.description, l.code, l.quantity, l.unit, l.unit_price, l.given, l.amount, l.currency,"
            " l.tax_category, l.tax_code, l.tax_letter, l.tax_rate, l.tax, l.revenue_account, l.period_start, l.period_end,"
            """ regexp_replace(l.details::text, '"applied": "[^"]*"', ''), l.subscription_ref"""
        ),
        "invoices_invoiceline l JOIN invoices_invoice i ON i.id = l.invoice_id JOIN billing_customer c ON c.id = i.customer_id",
        "l",
    ),
    "invoices_invoicetax": (
        "c.external_id, t.component, t.category, t.rate, t.base, t.tax, t.reverse_charged, t.currency, t.reason",
        "invoices_invoicetax t JOIN invoices_invoice i ON i.id = t.invoice_id JOIN billing_customer c ON c.id = i.customer_id",
        "t",
    ),
    "billing_journalentry": (
        "c.external_id, e.kind, e.source_type, e.occurred_at, e.idempotency_key = 'invoice_finalized:' || i.id, e.description = i.number",
        "billing_journalentry e JOIN invoices_invoice i ON i.id = e.source_id JOIN billing_customer c ON c.id = i.customer_id",
        "e",
    ),
    "billing_posting": (
        "c.external_id, a.code, a.kind, p.side, p.amount, p.currency, p.customer_id IS NULL",
        (
            "billing_posting p JOIN billing_ledgeraccount a ON a.id = p.account_id JOIN billing_journalentry e ON e.id = p.entry_id"
            " JOIN invoices_invoice i ON i.id = e.source_id JOIN billing_customer c ON c.id = i.customer_id"
        ),
        "p",
    ),
    "billing_event": (
        (
            "c.external_id, e.type, e.aggregate_type, e.occurred_at, e.correlation_id,"
            " e.payload - ARRAY['invoice_id', 'customer_id', 'number', 'subscription_id', 'subscription_ref']"
        ),
        "billing_event e JOIN billing_customer c ON c.id = (e.payload ->> 'customer_id')::uuid",
        "e",
    ),
    "subscriptions_billedperiod": (
        "s.external_id, p.starts_at, p.ends_at, p.kind, p.billed_at, p.invoice_id IS NULL",
        "subscriptions_billedperiod p JOIN subscriptions_subscription s ON s.id = p.subscription_id",
        "p",
    ),
    "billing_usagewindow": (
        (
            "s.external_id, w.component, w.starts_at, w.ends_at, w.parts, w.changes, w.least, w.owed, w.owed_minimum,"
            " w.billed_at, w.closed_at, w.price_ref = s.plan_version_id, w.customer_id = s.customer_id"
        ),
        "billing_usagewindow w JOIN subscriptions_subscription s ON s.id = w.subscription_ref",
        "w",
    ),
    "subscriptions_couponuse": (
        "c.external_id, u.amount, u.available, u.currency, u.used_at, u.counted",
        "subscriptions_couponuse u JOIN invoices_invoice i ON i.id = u.invoice_id JOIN billing_customer c ON c.id = i.customer_id",
        "u",
    ),
    "subscriptions_appliedcoupon": (
        "c.external_id, a.status, a.periods_left, a.left_over, a.uses, a.discounted, a.currency, a.applied_at, a.ended_at",
        "subscriptions_appliedcoupon a JOIN billing_customer c ON c.id = a.customer_id",
        "a",
    ),
    "subscriptions_subscription": (
        (
            "s.external_id, s.status, s.period_number, s.period_start, s.period_end, s.next_billing_at, s.next_change_at, s.usage_from,"
            " s.usage_version_id, s.earlier_terms, s.failure, s.version"
        ),
        "subscriptions_subscription s",
        "s",
    ),
}
MONEY = {
    "invoices": "SELECT sum(net), sum(tax), sum(total) FROM invoices_invoice",
    "numbers": "SELECT count(DISTINCT number), sum(split_part(number, '/', 3)::bigint) FROM invoices_invoice",
    "lines": "SELECT sum(given), sum(amount), sum(tax) FROM invoices_invoiceline",
    "taxes": "SELECT sum(base), sum(tax) FROM invoices_invoicetax",
    "postings": "SELECT sum(amount) FILTER (WHERE side = 'D'), sum(amount) FILTER (WHERE side = 'C') FROM billing_posting",
    "coupon uses": "SELECT sum(amount) FROM subscriptions_couponuse",
    "coupons": "SELECT sum(uses), sum(discounted), sum(periods_left) FROM subscriptions_appliedcoupon",
    "numbers taken": "SELECT sum(next_number) FROM invoices_numberseries",
}
ALL = "SELECT count(*) FROM {} WHERE organisation_id = %s"
ITS_EVENTS = " AND type NOT LIKE 'billing_run.%%'"


def written(code: str) -> dict[str, tuple[Any, ...]]:
    """By table the number of rows and what is in them, and the sums of money; the run's own row and events do not count."""
    owner = Organisation.objects.get(code=code).pk
    found: dict[str, tuple[Any, ...]] = {}
    with connection.cursor() as cursor:
        for table, (columns, rows, alias) in CONTENT.items():
            cursor.execute(
                f"SELECT count(*), sum(hashtextextended(ROW({columns})::text, 0)::numeric) FROM {rows} "  # noqa: S608
                f"WHERE {alias}.organisation_id = %s",
                [owner],
            )
            found[table] = cursor.fetchone()
            cursor.execute(ALL.format(table) + (ITS_EVENTS if table == "billing_event" else ""), [owner])
            assert found[table][0] == cursor.fetchone()[0], f"rows of {table} without an owner"
        for name, statement in MONEY.items():
            cursor.execute(f"{statement} WHERE organisation_id = %s", [owner])
            found[name] = cursor.fetchone()
    return found


def differences(one: str, other: str) -> dict[str, tuple[Any, Any]]:
    """What two organisations (by code) do not have in common; empty when a run wrote the same for both."""
    here, there = written(one), written(other)
    return {name: (here[name], there[name]) for name in here if here[name] != there[name]}
