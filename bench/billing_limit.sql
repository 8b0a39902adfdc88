-- One statement that writes what the billing run writes for the organisation: the rows of bench/population.py only (flat, per
-- unit and graduated prices in rupees, some charged for a part of May, at most one coupon in percent for each customer, one tax
-- of 18 percent, monthly periods in Kolkata). The run itself and its closing event are left out.
WITH org AS (
    SELECT o.id, o.party_id, t.now FROM billing_organisation o JOIN billing_testclock t ON t.id = o.test_clock_id WHERE o.code = %(code)s
),
locked AS MATERIALIZED (
    SELECT s.* FROM subscriptions_subscription s JOIN org ON org.id = s.organisation_id
    WHERE s.next_billing_at <= org.now AND s.failure = '' AND s.status IN ('active', 'past_due')
      AND (s.next_change_at IS NULL OR s.next_change_at > s.next_billing_at)
    FOR NO KEY UPDATE OF s
),
due AS MATERIALIZED (
    SELECT s.id, s.external_id, s.organisation_id, s.customer_id, s.plan_version_id, s.quantity, s.status, s.net_days,
           s.collect_automatically, s.method_id, s.usage_from, s.next_billing_at, c.party_id AS buyer_id, org.party_id AS seller_id,
           org.now, pg_temp.new_id() AS invoice_id, pg_temp.new_id() AS entry_id,
           (s.next_billing_at AT TIME ZONE 'Asia/Kolkata' + interval '1 month') AT TIME ZONE 'Asia/Kolkata' AS next_at,
           (s.next_billing_at AT TIME ZONE 'Asia/Kolkata')::date AS first_on,
           (s.next_billing_at AT TIME ZONE 'Asia/Kolkata' + interval '1 month - 1 day')::date AS last_on,
           (s.usage_from AT TIME ZONE 'Asia/Kolkata')::date AS used_from_on,
           (s.next_billing_at AT TIME ZONE 'Asia/Kolkata' - interval '1 day')::date AS used_until_on,
           (s.usage_from AT TIME ZONE 'Asia/Kolkata')::date - (s.next_billing_at AT TIME ZONE 'Asia/Kolkata' - interval '1 month')::date
               AS missed,
           (s.next_billing_at AT TIME ZONE 'Asia/Kolkata')::date - (s.next_billing_at AT TIME ZONE 'Asia/Kolkata' - interval '1 month')::date
               AS days,
           (org.now AT TIME ZONE 'Asia/Kolkata')::date AS today,
           row_number() OVER (ORDER BY s.next_billing_at, s.id) AS n
    FROM locked s JOIN org ON org.id = s.organisation_id JOIN billing_customer c ON c.id = s.customer_id
),
held AS MATERIALIZED (
    SELECT a.id, due.id AS subscription_id, a.periods_left, k.code, k.name, k.percent
    FROM due JOIN subscriptions_appliedcoupon a ON a.customer_id = due.customer_id AND a.status = 'active'
    JOIN subscriptions_coupon k ON k.id = a.coupon_id
    FOR NO KEY UPDATE OF a
),
used AS MATERIALIZED (  -- whole hours by their sums, the rest of the window by its events
    SELECT due.id, p.code, p.meter_id, h.changes, coalesce(h.total, 0) + e.total AS quantity, coalesce(h.events, 0) + e.events AS events
    FROM due JOIN subscriptions_price p ON p.version_id = due.plan_version_id AND p.meter_id IS NOT NULL
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(row.changes), 0) AS changes,
               sum(row.total) FILTER (WHERE row.hour >= due.usage_from AND row.hour + interval '1 hour' <= due.next_billing_at) AS total,
               sum(row.events) FILTER (WHERE row.hour >= due.usage_from AND row.hour + interval '1 hour' <= due.next_billing_at) AS events
        FROM billing_usagehour row
        WHERE row.customer_id = due.customer_id AND row.meter_id = p.meter_id
          AND row.hour >= date_trunc('hour', due.usage_from, 'UTC') AND row.hour < due.next_billing_at
    ) AS h
    CROSS JOIN LATERAL (
        SELECT coalesce(sum(row.quantity), 0) AS total, count(*) AS events
        FROM (VALUES (due.usage_from, date_trunc('hour', due.usage_from - interval '1 microsecond', 'UTC') + interval '1 hour'),
                     (date_trunc('hour', due.next_billing_at, 'UTC'), due.next_billing_at)) AS edge (since, until)
        JOIN billing_usageevent row ON row.customer_id = due.customer_id AND row.meter_id = p.meter_id
         AND row.occurred_at >= edge.since AND row.occurred_at < edge.until
    ) AS e
),
priced AS MATERIALIZED (  -- in advance, then usage, then what else is charged afterwards: by its days
    SELECT due.id, p.code, p.tax_category, late.is_part,
           row_number() OVER (PARTITION BY due.id ORDER BY CASE WHEN p.meter_id IS NOT NULL THEN 1 WHEN p.pay_in_advance THEN 0 ELSE 2 END, p.position) AS line,
           p.name || CASE WHEN late.is_part THEN format(' (%%s of %%s days)', due.days - due.missed, due.days) ELSE '' END AS name,
           CASE WHEN late.is_part THEN '' ELSE p.unit END AS unit,
           CASE WHEN late.is_part THEN 1 WHEN p.meter_id IS NOT NULL THEN used.quantity WHEN p.model = 'flat' THEN 1 ELSE due.quantity END
               AS quantity,
           CASE WHEN late.is_part THEN whole.amount - round(whole.amount * due.missed / due.days, 2)
                WHEN p.model = 'graduated' THEN round(tiers.amount / used.quantity, 12) ELSE p.unit_price END AS unit_price,
           CASE WHEN late.is_part THEN whole.amount - round(whole.amount * due.missed / due.days, 2) ELSE whole.amount END AS amount,
           CASE WHEN p.meter_id IS NULL AND p.pay_in_advance THEN due.first_on ELSE due.used_from_on END AS first_on,
           CASE WHEN p.meter_id IS NULL AND p.pay_in_advance THEN due.last_on ELSE due.used_until_on END AS last_on,
           CASE WHEN late.is_part THEN jsonb_build_array(jsonb_build_object('kind', 'part', 'unit', 'days', 'days', due.days - due.missed,
                    'of', due.days, 'quantity', due.quantity::text, 'unit_price', trim_scale(p.unit_price)::text, 'whole', whole.amount::text))
                ELSE coalesce(tiers.details, '[]') END AS details
    FROM due JOIN subscriptions_price p ON p.version_id = due.plan_version_id
    LEFT JOIN used ON used.id = due.id AND used.meter_id = p.meter_id
    LEFT JOIN LATERAL (
        SELECT sum(part.amount) AS amount,
               jsonb_agg(jsonb_build_object('kind', 'tier', 'up_to', part.up_to, 'quantity', part.units::text,
                   'unit_price', part.unit_price::text, 'flat_fee', part.flat_fee::text, 'amount', part.amount::text)) AS details
        FROM (
            SELECT tier.up_to, tier.unit_price, tier.flat_fee,
                   least(used.quantity, coalesce(tier.up_to::numeric, used.quantity)) - tier.floor AS units,
                   (least(used.quantity, coalesce(tier.up_to::numeric, used.quantity)) - tier.floor) * tier.unit_price + tier.flat_fee AS amount
            FROM (SELECT t ->> 'up_to' AS up_to, (t ->> 'unit_price')::numeric AS unit_price,
                         (t ->> 'flat_fee')::numeric AS flat_fee,
                         coalesce(lag((t ->> 'up_to')::numeric) OVER (ORDER BY ordinal), 0) AS floor
                  FROM jsonb_array_elements(p.tiers) WITH ORDINALITY AS tiers (t, ordinal)) AS tier
            WHERE tier.floor < used.quantity
        ) AS part
    ) AS tiers ON p.model = 'graduated'
    CROSS JOIN LATERAL (SELECT p.meter_id IS NULL AND NOT p.pay_in_advance AND due.missed > 0 AS is_part) AS late
    CROSS JOIN LATERAL (SELECT round(CASE p.model WHEN 'flat' THEN p.unit_price WHEN 'per_unit' THEN p.unit_price * due.quantity
                                     ELSE tiers.amount END, 2) AS amount) AS whole
    WHERE p.currency = 'INR' AND (p.meter_id IS NULL OR used.quantity > 0)
),
wanted AS (  -- what the coupon takes off the invoice, rounded once, and each line's share of it
    SELECT priced.*, held.id AS applied_id, held.code AS coupon, held.name AS coupon_name,
           round(sum(priced.amount * held.percent / 100) OVER whole, 2) AS off,
           round(sum(priced.amount * held.percent / 100) OVER whole, 2) * priced.amount / nullif(sum(priced.amount) OVER whole, 0) AS share
    FROM priced LEFT JOIN held ON held.subscription_id = priced.id WINDOW whole AS (PARTITION BY priced.id)
),
floored AS (
    SELECT *, trunc(share, 2) AS floor, (off - sum(trunc(share, 2)) OVER (PARTITION BY id)) * 100 AS spare,
           row_number() OVER (PARTITION BY id ORDER BY trunc(share, 2) - share, line) AS turn
    FROM wanted
),
shared AS (
    SELECT *, coalesce(floor + CASE WHEN turn <= spare THEN 0.01 ELSE 0 END, 0) AS discount FROM floored
),
taxed AS MATERIALIZED (
    SELECT id, line, code, name, unit, tax_category, quantity, unit_price, first_on, last_on, applied_id, discount,
           amount - discount AS amount, round((amount - discount) * 0.18, 2) AS tax,
           CASE WHEN discount > 0 THEN details || jsonb_build_object('kind', 'discount', 'coupon', coupon, 'name', coupon_name,
               'applied', applied_id, 'amount', discount::text) ELSE details END AS details
    FROM shared
),
totals AS MATERIALIZED (
    SELECT id, sum(amount) AS net, sum(tax) AS tax, sum(amount) + sum(tax) AS total, sum(discount) AS discount
    FROM taxed GROUP BY id
),
taken AS (
    INSERT INTO invoices_numberseries AS series (id, recorded_at, organisation_id, kind, code, financial_year, next_number)
    SELECT pg_temp.new_id(), now(), org.id, 'invoice', 'SB', '26-27', 1 + (SELECT count(*) FROM due) FROM org
    ON CONFLICT (organisation_id, kind, code, financial_year) DO UPDATE SET next_number = series.next_number + excluded.next_number - 1
    RETURNING next_number - (SELECT count(*) FROM due) AS first
),
numbered AS MATERIALIZED (
    SELECT due.id, 'SB/26-27/' || lpad(n.text, greatest(length(n.text), 5), '0') AS number
    FROM due CROSS JOIN taken CROSS JOIN LATERAL (SELECT (taken.first + due.n - 1)::text AS text) AS n
),
invoices AS (
    INSERT INTO invoices_invoice (id, recorded_at, organisation_id, customer_id, buyer_id, seller_id, origin, status, number, issued_on,
        due_on, net_days, period_start, period_end, net, tax, rounding, total, paid, credited, due, currency, prices_include_tax,
        place_of_supply, reverse_charge, memo, custom_fields, subscription_ref, collect_automatically, method_ref, created_at,
        finalized_at, version)
    SELECT due.invoice_id, now(), due.organisation_id, due.customer_id, due.buyer_id, due.seller_id, 'subscription', 'open',
           numbered.number, due.today, due.today + due.net_days, due.net_days, due.first_on,
           due.last_on, t.net, t.tax, 0, t.total, 0, 0, t.total, 'INR', false, '27', false, '', '{}', due.id,
           due.collect_automatically, due.method_id, due.now, due.now, 1
    FROM due JOIN totals t ON t.id = due.id JOIN numbered ON numbered.id = due.id
    RETURNING id, number
),
lines AS (
    INSERT INTO invoices_invoiceline (organisation_id, invoice_id, position, description, code, quantity, unit, unit_price, given, amount,
        currency, tax_category, tax_code, tax_letter, tax_rate, tax, revenue_account, period_start, period_end, details)
    SELECT due.organisation_id, due.invoice_id, t.line, t.name, t.code, t.quantity, t.unit, t.unit_price, t.amount, t.amount, 'INR',
           t.tax_category, '998315', 'S', 18, t.tax, 'revenue', t.first_on, t.last_on, t.details
    FROM taxed t JOIN due ON due.id = t.id
),
taxes AS (
    INSERT INTO invoices_invoicetax (organisation_id, invoice_id, component, category, rate, base, tax, reverse_charged, currency, reason)
    SELECT due.organisation_id, due.invoice_id, 'IGST', 'S', 18, t.net, t.tax, 0, 'INR', '' FROM totals t JOIN due ON due.id = t.id
),
accounts AS (
    INSERT INTO billing_ledgeraccount AS account (id, recorded_at, organisation_id, code, currency, kind)
    SELECT pg_temp.new_id(), now(), org.id, a.code, 'INR', a.kind
    FROM org, (VALUES ('receivable', 'asset'), ('revenue', 'income'), ('tax_payable:igst', 'liability')) AS a (code, kind)
    ON CONFLICT (organisation_id, code, currency) DO UPDATE SET recorded_at = account.recorded_at
    RETURNING id, code
),
entries AS (
    INSERT INTO billing_journalentry (id, recorded_at, organisation_id, kind, source_type, source_id, occurred_at, idempotency_key, description)
    SELECT due.entry_id, now(), due.organisation_id, 'invoice_finalized', 'invoices.invoice', due.invoice_id, due.now,
           'invoice_finalized:' || due.invoice_id, numbered.number
    FROM due JOIN numbered ON numbered.id = due.id
),
postings AS (
    INSERT INTO billing_posting (organisation_id, entry_id, account_id, side, amount, currency, customer_id)
    SELECT due.organisation_id, due.entry_id, accounts.id, CASE accounts.code WHEN 'receivable' THEN 'D' ELSE 'C' END,
           CASE accounts.code WHEN 'receivable' THEN t.total WHEN 'revenue' THEN t.net ELSE t.tax END, 'INR',
           CASE accounts.code WHEN 'receivable' THEN due.customer_id END
    FROM due JOIN totals t ON t.id = due.id CROSS JOIN accounts
),
facts AS (
    INSERT INTO billing_event (uid, organisation_id, type, aggregate_type, aggregate_id, payload, occurred_at, correlation_id, recorded_at)
    SELECT pg_temp.new_id(), due.organisation_id, 'subscription.renewed', 'subscriptions.subscription', due.id,
           jsonb_build_object('subscription_id', due.id, 'external_id', due.external_id, 'customer_id', due.customer_id, 'plan', 'team',
               'quantity', due.quantity, 'status', due.status, 'mrr', jsonb_build_object('amount', recurring.amount::text, 'currency', 'INR')),
           due.now, '', now()
    FROM due CROSS JOIN LATERAL (
        SELECT round(sum(CASE p.model WHEN 'flat' THEN p.unit_price ELSE p.unit_price * due.quantity END), 2) AS amount
        FROM subscriptions_price p WHERE p.version_id = due.plan_version_id AND p.meter_id IS NULL
    ) AS recurring
    UNION ALL
    SELECT pg_temp.new_id(), due.organisation_id, 'invoice.finalized', 'invoices.invoice', due.invoice_id,
           jsonb_build_object('invoice_id', due.invoice_id, 'customer_id', due.customer_id, 'number',
               numbered.number, 'total', t.total::text, 'due', t.total::text,
               'currency', 'INR', 'due_on', due.today + due.net_days, 'subscription_ref', due.id, 'collect_automatically',
               due.collect_automatically, 'method_ref', due.method_id),
           due.now, '', now()
    FROM due JOIN totals t ON t.id = due.id JOIN numbered ON numbered.id = due.id
),
periods AS (
    INSERT INTO subscriptions_billedperiod (id, recorded_at, organisation_id, subscription_id, starts_at, ends_at, kind, invoice_id, billed_at)
    SELECT pg_temp.new_id(), now(), due.organisation_id, due.id, due.next_billing_at, due.next_at, 'cycle', due.invoice_id, due.now FROM due
),
windows AS (
    INSERT INTO billing_usagewindow (id, recorded_at, organisation_id, customer_id, meter_id, subscription_ref, price_ref, component,
        starts_at, ends_at, parts, changes, least, owed, billed_at)
    SELECT pg_temp.new_id(), now(), due.organisation_id, due.customer_id, used.meter_id, due.id, due.plan_version_id, used.code,
           due.usage_from, due.next_billing_at,
           CASE WHEN used.events > 0 THEN jsonb_build_array(jsonb_build_object('segment', '', 'group', '[]'::jsonb,
               'quantity', used.quantity::text, 'events', used.events, 'amount', '0.000000000000')) ELSE '[]' END,
           used.changes, '{}', 0, due.now
    FROM used JOIN due ON due.id = used.id
),
taken_off AS (
    INSERT INTO subscriptions_couponuse (id, recorded_at, organisation_id, applied_id, invoice_id, amount, available, currency, used_at,
        counted)
    SELECT pg_temp.new_id(), now(), due.organisation_id, held.id, due.invoice_id, t.discount, 0, 'INR', due.now, true
    FROM held JOIN due ON due.id = held.subscription_id JOIN totals t ON t.id = due.id WHERE t.discount > 0
),
counted AS (
    UPDATE subscriptions_appliedcoupon a
    SET uses = a.uses + 1, discounted = a.discounted + t.discount, left_over = 0, periods_left = a.periods_left - 1,
        status = CASE a.periods_left WHEN 1 THEN 'used_up' ELSE a.status END,
        ended_at = CASE a.periods_left WHEN 1 THEN due.now ELSE a.ended_at END
    FROM held JOIN due ON due.id = held.subscription_id JOIN totals t ON t.id = due.id WHERE a.id = held.id AND t.discount > 0
),
moved AS (
    UPDATE subscriptions_subscription s
    SET period_number = s.period_number + 1, period_start = due.next_billing_at, period_end = due.next_at, next_billing_at = due.next_at,
        usage_from = due.next_billing_at, usage_version_id = NULL, earlier_terms = '[]', version = s.version + 1
    FROM due WHERE s.id = due.id
)
SELECT count(*) FROM invoices
