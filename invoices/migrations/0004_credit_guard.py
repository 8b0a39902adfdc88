"""What the database itself refuses: credit for more than a line of the invoice is over, or than the invoice itself.

Whatever hands out credit, by hand or by proration, several notes on one line together stay between nothing and the line's
amount, and all notes together within the invoice's total. The statements work on PostgreSQL 15 to 18.
"""

from django.db import migrations

GUARD = """
CREATE FUNCTION invoices_credit_guard() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    claimed record;
    wrong record;
BEGIN
    SELECT number, total, organisation_id INTO claimed FROM invoices_invoice WHERE id = NEW.invoice_id FOR NO KEY UPDATE;
    IF claimed.organisation_id <> NEW.organisation_id THEN
        RAISE EXCEPTION 'credit note %: its invoice is of another organisation', NEW.number
            USING ERRCODE = 'check_violation';
    END IF;
    SELECT credited.position, credited.amount, line.amount AS of_line
      INTO wrong
      FROM (SELECT (row->>'position')::int AS position, sum((row->>'amount')::numeric) AS amount
              FROM invoices_creditnote AS note, jsonb_array_elements(note.lines) AS row
             WHERE note.invoice_id = NEW.invoice_id GROUP BY 1) AS credited
      LEFT JOIN invoices_invoiceline AS line ON line.invoice_id = NEW.invoice_id AND line.position = credited.position
     WHERE line.amount IS NULL
        OR credited.amount NOT BETWEEN least(line.amount, 0) AND greatest(line.amount, 0)
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'credit note %: % credited on line % of %, which is over %',
            NEW.number, wrong.amount, wrong.position, claimed.number, coalesce(wrong.of_line::text, 'nothing')
            USING ERRCODE = 'check_violation', HINT = 'Credit at most what is left of the line.';
    END IF;
    IF (SELECT sum(total) FROM invoices_creditnote WHERE invoice_id = NEW.invoice_id) > claimed.total THEN
        RAISE EXCEPTION 'credit note %: more is credited than % is over', NEW.number, claimed.number
            USING ERRCODE = 'check_violation', HINT = 'Credit at most what is left of the invoice.';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER invoices_credit_guard AFTER INSERT ON invoices_creditnote
    FOR EACH ROW EXECUTE FUNCTION invoices_credit_guard();
"""

UNDO = """
DROP TRIGGER invoices_credit_guard ON invoices_creditnote;
DROP FUNCTION invoices_credit_guard();
"""


class Migration(migrations.Migration):
    dependencies = [("invoices", "0003_line_subscription")]

    operations = [migrations.RunSQL(GUARD, UNDO)]
