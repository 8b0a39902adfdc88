"""What the database itself refuses: a changed row of a payout, a changed line of a bank statement.

Both are somebody else's word, kept as it was read. What we make of a row (its state, the rule, what it was matched to)
may change; who said it, what it is and what it is over may not. The statements work on PostgreSQL 15 to 18.
"""

from django.db import migrations

MAY_CHANGE = {
    "payments_settlementline": ("state", "rule", "payment_id", "refund_id", "dispute_id"),
    "payments_bankline": ("state", "rule", "settlement_id", "payment_id"),
}

GUARD = """
CREATE FUNCTION payments_line_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'UPDATE' AND to_jsonb(NEW) - TG_ARGV IS NOT DISTINCT FROM to_jsonb(OLD) - TG_ARGV THEN
        RETURN NEW;
    END IF;
    RAISE EXCEPTION '% stays as it was read: % refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'restrict_violation', HINT = 'Resolve it with an adjustment instead.';
END $$;
"""


def guard(table: str) -> migrations.RunSQL:
    """Refuse DELETE and TRUNCATE on ``table``, and UPDATE of all columns but those that may change."""
    may_change = ", ".join(f"'{column}'" for column in MAY_CHANGE[table])
    return migrations.RunSQL(
        f"""
        CREATE TRIGGER {table}_guard BEFORE UPDATE OR DELETE ON {table}
            FOR EACH ROW EXECUTE FUNCTION payments_line_guard({may_change});
        CREATE TRIGGER {table}_no_truncate BEFORE TRUNCATE ON {table}
            FOR EACH STATEMENT EXECUTE FUNCTION billing_refuse_change();
        """,
        f"DROP TRIGGER {table}_guard ON {table}; DROP TRIGGER {table}_no_truncate ON {table};",
    )


class Migration(migrations.Migration):
    dependencies = [("payments", "0001_initial"), ("billing", "0002_guards")]

    operations = [
        migrations.RunSQL(GUARD, "DROP FUNCTION payments_line_guard();"),
        *[guard(table) for table in MAY_CHANGE],
    ]
