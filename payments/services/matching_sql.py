"""The set-based statements of matching. Each works on a locked batch and leaves rows that others hold alone."""

# Whether there is anything to match: rows of settlements, lines of statements.
OPEN_WORK = """
SELECT EXISTS (SELECT 1 FROM payments_settlementline
               WHERE organisation_id = %(organisation)s AND state IN ('unmatched', 'exception')),
       EXISTS (SELECT 1 FROM payments_bankline
               WHERE organisation_id = %(organisation)s AND state IN ('unmatched', 'exception'))
"""

# Rows of settlements ↔ captured payments, refunds, disputes: gateway id, amount and currency equal.
_BATCH = """
WITH batch AS MATERIALIZED (
    SELECT l.id, l.gateway_ref, l.amount, l.currency, s.gateway_account_id
    FROM payments_settlementline l JOIN payments_settlement s ON s.id = l.settlement_id
    WHERE l.organisation_id = %(organisation)s AND l.state IN ('unmatched', 'exception') AND l.kind = ANY(%(kinds)s)
      AND l.id > %(after)s
    ORDER BY l.id LIMIT %(size)s FOR UPDATE OF l SKIP LOCKED
), found AS (
    {found}
), done AS (
    UPDATE payments_settlementline l SET state = 'matched', rule = 'gateway_id', {column} = found.item_id
    FROM found WHERE l.id = found.id RETURNING l.id
)
SELECT (SELECT count(*) FROM batch), (SELECT id FROM batch ORDER BY id DESC LIMIT 1), (SELECT count(*) FROM done)
"""

PAYMENTS = _BATCH.format(
    column="payment_id",
    found="""
    SELECT DISTINCT ON (a.payment_id) b.id, a.payment_id AS item_id
    FROM batch b
    JOIN payments_paymentattempt a
      ON a.gateway_ref = b.gateway_ref AND a.gateway_account_id = b.gateway_account_id AND a.status = 'captured'
    WHERE a.amount = b.amount AND a.currency = b.currency AND NOT EXISTS (
        SELECT 1 FROM payments_settlementline o
        WHERE o.payment_id = a.payment_id AND o.kind = 'payment' AND o.state = 'matched')
    ORDER BY a.payment_id, b.id""",
)
REFUNDS = _BATCH.format(
    column="refund_id",
    found="""
    SELECT DISTINCT ON (r.id) b.id, r.id AS item_id
    FROM batch b
    JOIN payments_refund r
      ON r.gateway_ref = b.gateway_ref AND r.organisation_id = %(organisation)s AND r.status IN ('succeeded', 'processing')
    WHERE r.amount = -b.amount AND r.currency = b.currency AND NOT EXISTS (
        SELECT 1 FROM payments_settlementline o WHERE o.refund_id = r.id AND o.state = 'matched')
    ORDER BY r.id, b.id""",
)
DISPUTES = _BATCH.format(
    column="dispute_id",
    found="""
    SELECT DISTINCT ON (d.id, sign(b.amount)) b.id, d.id AS item_id
    FROM batch b
    JOIN payments_dispute d ON d.gateway_ref = b.gateway_ref AND d.gateway_account_id = b.gateway_account_id
    WHERE d.amount = abs(b.amount) AND d.currency = b.currency AND (b.amount < 0 OR d.status = 'won') AND NOT EXISTS (
        SELECT 1 FROM payments_settlementline o
        WHERE o.dispute_id = d.id AND o.state = 'matched' AND sign(o.amount) = sign(b.amount))
    ORDER BY d.id, sign(b.amount), b.id""",
)

# Fees of the account itself need no counterpart.
FEES = """
UPDATE payments_settlementline SET state = 'matched', rule = 'fee'
WHERE organisation_id = %(organisation)s AND kind = 'fee' AND state = 'unmatched'
"""

# Attempts of which the gateway settled money and we do not know that it was captured.
UNRECORDED = """
SELECT DISTINCT ON (a.id) l.id, a.id
FROM payments_settlementline l
JOIN payments_settlement s ON s.id = l.settlement_id
JOIN payments_paymentattempt a
  ON a.gateway_account_id = s.gateway_account_id AND a.status <> 'captured' AND a.amount = l.amount AND a.currency = l.currency
 AND (a.gateway_ref = l.gateway_ref OR (a.gateway_ref = '' AND a.gateway_order_ref <> '' AND a.gateway_order_ref = l.order_ref))
WHERE l.organisation_id = %(organisation)s AND l.kind = 'payment' AND l.state IN ('unmatched', 'exception')
ORDER BY a.id, l.id LIMIT %(size)s
"""

# Rows that stayed without a match, and what is known about their gateway id.
LEFT_OVER = """
SELECT l.id, l.kind, l.gateway_ref, l.amount, l.currency, a.payment_id, a.amount, a.currency, r.id, r.amount, r.currency,
       d.id, d.amount, d.currency,
       EXISTS (SELECT 1 FROM payments_settlementline o WHERE o.state = 'matched' AND o.id <> l.id AND o.kind = l.kind
               AND o.gateway_ref = l.gateway_ref AND o.organisation_id = l.organisation_id)
FROM payments_settlementline l
JOIN payments_settlement s ON s.id = l.settlement_id
LEFT JOIN payments_paymentattempt a
  ON l.kind = 'payment' AND a.gateway_ref = l.gateway_ref AND a.gateway_account_id = s.gateway_account_id AND a.status = 'captured'
LEFT JOIN payments_refund r ON l.kind = 'refund' AND r.gateway_ref = l.gateway_ref AND r.organisation_id = l.organisation_id
LEFT JOIN payments_dispute d
  ON l.kind IN ('dispute', 'dispute_reversal') AND d.gateway_ref = l.gateway_ref AND d.gateway_account_id = s.gateway_account_id
WHERE l.organisation_id = %(organisation)s AND l.state = 'unmatched'
ORDER BY l.id LIMIT %(size)s FOR UPDATE OF l SKIP LOCKED
"""

# Bank lines and settlements that have a reference or an amount in common. The window of days comes with the statement.
CANDIDATES = """
WITH payouts AS MATERIALIZED (
    SELECT s.id, s.amount, s.currency, s.status, upper(s.utr) AS utr, upper(s.gateway_ref) AS ref, w.first_day, w.last_day
    FROM payments_settlement s
    LEFT JOIN unnest(%(ids)s::uuid[], %(first_days)s::date[], %(last_days)s::date[]) AS w (id, first_day, last_day) ON w.id = s.id
    WHERE s.organisation_id = %(organisation)s AND s.status IN ('paid', 'in_bank', 'failed') AND NOT EXISTS (
        SELECT 1 FROM payments_reconciliationexception x  -- a person has given it up: its transit is closed
        WHERE x.source_id = s.id AND x.kind = 'missing_in_bank' AND x.resolution IN ('write_off', 'adjustment'))
), open_lines AS MATERIALIZED (
    SELECT b.id, b.amount, b.currency, b.booked_on, b.row_number, upper(left(b.reference || ' ' || b.description, 8000)) AS text
    FROM payments_bankline b
    WHERE b.organisation_id = %(organisation)s AND b.state IN ('unmatched', 'exception')
), words AS MATERIALIZED (
    SELECT o.id AS line_id, o.currency, word
    FROM open_lines o CROSS JOIN LATERAL regexp_split_to_table(o.text, '[^A-Z0-9_]+') AS word
    WHERE length(word) >= 6
), refs AS MATERIALIZED (
    SELECT id, currency, utr AS word FROM payouts WHERE length(utr) >= 6
    UNION
    SELECT id, currency, ref FROM payouts WHERE length(ref) >= 6
), named AS MATERIALIZED (
    SELECT DISTINCT w.line_id, r.id AS payout_id FROM words w JOIN refs r ON r.word = w.word AND r.currency = w.currency
), pairs AS (
    SELECT line_id, payout_id FROM named
    UNION
    SELECT o.id, p.id FROM open_lines o
    JOIN payouts p ON p.amount = o.amount AND p.currency = o.currency AND p.status = 'paid'
     AND o.booked_on BETWEEN p.first_day AND p.last_day
    LEFT JOIN named n ON n.line_id = o.id
    WHERE n.line_id IS NULL
)
SELECT o.id, p.id, n.line_id IS NOT NULL, p.amount = o.amount, p.status = 'paid' AND o.booked_on BETWEEN p.first_day AND p.last_day,
       EXISTS (SELECT 1 FROM payments_bankline m WHERE m.settlement_id = p.id AND m.state = 'matched' AND m.rule <> 'returned'),
       p.status = 'failed' AND p.amount = -o.amount AND NOT EXISTS (
           SELECT 1 FROM payments_bankline m WHERE m.settlement_id = p.id AND m.state = 'matched' AND m.rule = 'returned'),
       o.booked_on, o.row_number
FROM pairs
JOIN open_lines o ON o.id = pairs.line_id
JOIN payouts p ON p.id = pairs.payout_id
LEFT JOIN named n ON n.line_id = o.id AND n.payout_id = p.id
"""

# Offline payments ↔ bank lines: our reference, or the one the payer gave, in the text, and the amount.
OFFLINE = """
WITH waiting AS MATERIALIZED (
    SELECT p.id, p.amount, p.currency, upper(a.gateway_ref) AS given,
           CASE WHEN a.gateway_order_ref ~ '^received_\\d{4}-\\d{2}-\\d{2}$' THEN substring(a.gateway_order_ref from 10)::date
                ELSE a.finished_at::date END AS received_on, upper(p.reference) AS ours,
           upper(split_part(p.reference, ':', 2)) AS ours_short, upper(p.description) AS said
    FROM payments_gatewayaccount g
    JOIN payments_paymentattempt a ON a.gateway_account_id = g.id AND a.status = 'captured'
    JOIN payments_payment p ON p.id = a.payment_id AND p.status = 'succeeded'
    WHERE g.organisation_id = %(organisation)s AND g.provider = 'offline'
      AND NOT EXISTS (SELECT 1 FROM payments_bankline o WHERE o.payment_id = p.id)
), refs AS MATERIALIZED (
    SELECT id, amount, currency, received_on, word
    FROM waiting CROSS JOIN LATERAL (VALUES (given), (ours), (ours_short)) AS v (word) WHERE length(word) >= 5
    UNION  -- a number that the note of the person who recorded it names: cheque, UTR
    SELECT id, amount, currency, received_on, word
    FROM waiting CROSS JOIN LATERAL regexp_split_to_table(said, '[^A-Z0-9_/-]+') AS word WHERE length(word) >= 5 AND word ~ '[0-9]{3}'
), words AS MATERIALIZED (
    SELECT b.id, b.amount, b.currency, b.booked_on, word
    FROM payments_bankline b
    CROSS JOIN LATERAL regexp_split_to_table(upper(left(b.reference || ' ' || b.description, 8000)), '[^A-Z0-9_/-]+') AS word
    WHERE b.organisation_id = %(organisation)s AND b.state IN ('unmatched', 'exception') AND length(word) >= 5
      AND EXISTS (SELECT 1 FROM waiting)
)
SELECT w.id, array_agg(DISTINCT r.id)
FROM words w JOIN refs r ON r.word = w.word AND r.amount = w.amount AND r.currency = w.currency
WHERE w.booked_on BETWEEN r.received_on - 10 AND r.received_on + 10
GROUP BY w.id
"""
