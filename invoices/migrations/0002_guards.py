"""What the database itself refuses: a changed document, a reused number, a second set of lines.

A finalised invoice may change its state, what was paid and credited, and nothing else. The statements work on
PostgreSQL 15 to 18.
"""

from django.db import migrations

MAY_CHANGE = "ARRAY['status', 'paid', 'credited', 'due', 'paid_at', 'overdue_at', 'version']"

INVOICE = f"""
CREATE FUNCTION invoices_invoice_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.status = 'draft' THEN
        RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
    END IF;
    IF TG_OP = 'DELETE' THEN
        RAISE EXCEPTION 'invoice % is finalised and stays', OLD.number
            USING ERRCODE = 'restrict_violation', HINT = 'Void it or issue a credit note.';
    END IF;
    IF NEW.status = 'draft' OR to_jsonb(NEW) - {MAY_CHANGE} IS DISTINCT FROM to_jsonb(OLD) - {MAY_CHANGE} THEN
        RAISE EXCEPTION 'invoice % is finalised; only what is paid and its state may change', OLD.number
            USING ERRCODE = 'restrict_violation', HINT = 'Issue a credit note.';
    END IF;
    RETURN NEW;
END $$;

CREATE TRIGGER invoices_invoice_guard BEFORE UPDATE OR DELETE ON invoices_invoice
    FOR EACH ROW EXECUTE FUNCTION invoices_invoice_guard();
CREATE TRIGGER invoices_invoice_no_truncate BEFORE TRUNCATE ON invoices_invoice
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse_change();
"""

# Lines and taxes may change while the invoice is a draft. A finalised invoice gets all of them in the one statement of
# the billing run that writes them, or had them as a draft.
ROWS = """
CREATE FUNCTION invoices_row_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (SELECT FROM invoices_invoice WHERE id = OLD.invoice_id AND status <> 'draft') THEN
        RAISE EXCEPTION '% of a finalised invoice: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
"""


def rows_guard(table: str) -> str:
    """Triggers of one table of rows that belong to an invoice."""
    return f"""
CREATE FUNCTION {table}_complete() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF EXISTS (
        SELECT FROM (SELECT invoice_id, count(*) AS rows FROM added GROUP BY invoice_id) AS fresh
          JOIN invoices_invoice AS invoice ON invoice.id = fresh.invoice_id AND invoice.status <> 'draft'
         WHERE (SELECT count(*) FROM {table} WHERE invoice_id = fresh.invoice_id) <> fresh.rows
    ) THEN
        RAISE EXCEPTION '{table}: a finalised invoice gets no further rows' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NULL;
END $$;
CREATE TRIGGER {table}_guard BEFORE UPDATE OR DELETE ON {table}
    FOR EACH ROW EXECUTE FUNCTION invoices_row_guard();
CREATE TRIGGER {table}_complete AFTER INSERT ON {table}
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION {table}_complete();
CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table}
    FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse_change();
"""  # noqa: S608


# A series only counts up, so that no number comes twice even where a document is missing.
SERIES = """
CREATE FUNCTION invoices_series_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR NEW.next_number < OLD.next_number
       OR (NEW.organisation_id, NEW.kind, NEW.code, NEW.financial_year)
          IS DISTINCT FROM (OLD.organisation_id, OLD.kind, OLD.code, OLD.financial_year) THEN
        RAISE EXCEPTION 'a number series only counts up' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER invoices_series_guard BEFORE UPDATE OR DELETE ON invoices_numberseries
    FOR EACH ROW EXECUTE FUNCTION invoices_series_guard();
"""

RECOGNITION = """
CREATE FUNCTION invoices_recognition_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF OLD.posted_at IS NOT NULL THEN
        RAISE EXCEPTION 'earned revenue stays as it was posted' USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END;
END $$;
CREATE TRIGGER invoices_recognition_guard BEFORE UPDATE OR DELETE ON invoices_recognitionentry
    FOR EACH ROW EXECUTE FUNCTION invoices_recognition_guard();
"""

ROW_TABLES = ("invoices_invoiceline", "invoices_invoicetax")
APPEND_ONLY = ("invoices_creditnote", "invoices_paymentallocation")

UNDO = """
DROP TRIGGER invoices_recognition_guard ON invoices_recognitionentry;
DROP FUNCTION invoices_recognition_guard();
DROP TRIGGER invoices_series_guard ON invoices_numberseries;
DROP FUNCTION invoices_series_guard();
DROP TRIGGER invoices_invoice_guard ON invoices_invoice;
DROP TRIGGER invoices_invoice_no_truncate ON invoices_invoice;
DROP FUNCTION invoices_invoice_guard();
"""


def undo_rows(table: str) -> str:
    """Take the triggers of ``rows_guard`` away."""
    return f"""
DROP TRIGGER {table}_guard ON {table};
DROP TRIGGER {table}_complete ON {table};
DROP TRIGGER {table}_no_truncate ON {table};
DROP FUNCTION {table}_complete();
"""


def append_only(table: str) -> migrations.RunSQL:
    """Refuse UPDATE, DELETE and TRUNCATE on ``table``."""
    return migrations.RunSQL(
        f"""
        CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE ON {table}
            FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();
        CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse_change();
        """,
        f"DROP TRIGGER {table}_no_change ON {table}; DROP TRIGGER {table}_no_truncate ON {table};",
    )


class Migration(migrations.Migration):
    dependencies = [("invoices", "0001_initial"), ("billing", "0002_guards")]

    operations = [
        migrations.RunSQL(INVOICE + SERIES + RECOGNITION, UNDO),
        migrations.RunSQL(ROWS, "DROP FUNCTION invoices_row_guard();"),
        *[migrations.RunSQL(rows_guard(table), undo_rows(table)) for table in ROW_TABLES],
        *[append_only(table) for table in APPEND_ONLY],
    ]
