"""What the database itself refuses: changed books, unbalanced entries, rewritten history.

Code may have errors; the tables that prove what happened must not depend on it. Refusals are integrity errors
(SQLSTATE class 23). The statements work on PostgreSQL 15 to 18.
"""

from django.db import migrations

REFUSE = """
CREATE FUNCTION billing_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION '% is append only: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation', HINT = 'Write a correcting row instead.';
END $$;
"""

APPEND_ONLY = (
    "billing_posting",
    "billing_journalentry",
    "billing_auditrecord",
    "billing_billingparty",
    "billing_usageevent",
)

# Columns that may not change once written, on tables of which other columns may.
FIXED_COLUMNS = {
    "billing_ledgeraccount": "organisation_id, code, currency, kind",
    "billing_event": "uid, organisation_id, type, aggregate_type, aggregate_id, payload, occurred_at",
}

# Functions keep the plan they first made, often while the tables were empty: they are told to use the indexes.

# An entry is sealed when the transaction that wrote it ends: its postings come with it or never. The column holds the
# top-level transaction's id (the same under every savepoint), filled by the database alone.
SEAL = """
ALTER TABLE billing_journalentry ADD COLUMN written_by bigint NOT NULL DEFAULT (pg_current_xact_id()::text::bigint);

CREATE FUNCTION billing_postings_belong() RETURNS trigger LANGUAGE plpgsql
    SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
    wrong record;
BEGIN
    SELECT posting.id,
           CASE WHEN entry.organisation_id <> posting.organisation_id THEN 'its entry is of another organisation'
                WHEN entry.written_by <> pg_current_xact_id()::text::bigint THEN 'its entry is closed'
                WHEN account.organisation_id <> posting.organisation_id THEN 'its account is of another organisation'
                WHEN account.currency <> posting.currency THEN 'its account is kept in another currency'
                ELSE 'its customer is of another organisation' END AS reason
      INTO wrong
      FROM added AS posting
      JOIN billing_journalentry AS entry ON entry.id = posting.entry_id
      JOIN billing_ledgeraccount AS account ON account.id = posting.account_id
      LEFT JOIN billing_customer AS customer ON customer.id = posting.customer_id
     WHERE entry.organisation_id <> posting.organisation_id
        OR entry.written_by <> pg_current_xact_id()::text::bigint
        OR account.organisation_id <> posting.organisation_id
        OR account.currency <> posting.currency
        OR customer.organisation_id <> posting.organisation_id
     LIMIT 1;
    IF FOUND THEN
        RAISE EXCEPTION 'posting % refused: %', wrong.id, wrong.reason USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE TRIGGER posting_belongs AFTER INSERT ON billing_posting
    REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION billing_postings_belong();
"""

# Checked once per entry, when its transaction commits.
BALANCE = """
CREATE FUNCTION billing_entry_balances() RETURNS trigger LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
    number_of_postings integer;
    difference numeric;
    one_currency boolean;
    unbalanced text;
BEGIN
    SELECT count(*), sum(CASE side WHEN 'D' THEN amount ELSE -amount END), min(currency) = max(currency)
      INTO number_of_postings, difference, one_currency
      FROM billing_posting WHERE entry_id = NEW.id;
    IF number_of_postings >= 2 AND one_currency AND difference = 0 THEN
        RETURN NULL;
    END IF;
    SELECT currency INTO unbalanced
      FROM billing_posting WHERE entry_id = NEW.id
     GROUP BY currency HAVING sum(CASE side WHEN 'D' THEN amount ELSE -amount END) <> 0
     ORDER BY currency DESC LIMIT 1;
    IF unbalanced IS NOT NULL THEN
        RAISE EXCEPTION 'journal entry % does not balance in %', NEW.id, unbalanced USING ERRCODE = 'check_violation';
    END IF;
    IF number_of_postings < 2 THEN
        RAISE EXCEPTION 'journal entry % has % postings; it needs two or more', NEW.id, number_of_postings
            USING ERRCODE = 'check_violation';
    END IF;
    RETURN NULL;
END $$;

CREATE CONSTRAINT TRIGGER entry_balances AFTER INSERT ON billing_journalentry
    DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION billing_entry_balances();
"""

UNDO_FUNCTIONS = """
DROP TRIGGER entry_balances ON billing_journalentry;
DROP TRIGGER posting_belongs ON billing_posting;
ALTER TABLE billing_journalentry DROP COLUMN written_by;
DROP FUNCTION billing_entry_balances();
DROP FUNCTION billing_postings_belong();
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


def fixed_columns(table: str, columns: str) -> migrations.RunSQL:
    """Refuse updates of ``columns`` of ``table``."""
    return migrations.RunSQL(
        f"""
        CREATE TRIGGER {table}_fixed BEFORE UPDATE OF {columns} ON {table}
            FOR EACH ROW EXECUTE FUNCTION billing_refuse_change();
        """,
        f"DROP TRIGGER {table}_fixed ON {table};",
    )


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial")]

    operations = [
        migrations.RunSQL(REFUSE, "DROP FUNCTION billing_refuse_change();"),
        *[append_only(table) for table in APPEND_ONLY],
        *[fixed_columns(table, columns) for table, columns in FIXED_COLUMNS.items()],
        migrations.RunSQL(SEAL + BALANCE, UNDO_FUNCTIONS),
    ]
