"""What the ledger refuses whoever asks: unbalanced, overdrawn, changed or removed entries.

Plain triggers and not django-pgtrigger's: those obey a session setting that switches them off,
and a ledger's guard must have no such door.
"""

from django.db import migrations

POSTED = """
CREATE FUNCTION billing_posted() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
  bad record;
BEGIN
  SELECT txn_id, currency, sum(amount_micro) AS total INTO bad
    FROM new_rows GROUP BY txn_id, currency HAVING sum(amount_micro) <> 0 LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'transaction % is unbalanced by % %', bad.txn_id, bad.total, bad.currency
      USING ERRCODE = 'check_violation', CONSTRAINT = 'billing_posting_balanced';
  END IF;
  SELECT n.account_id, n.currency INTO bad
    FROM (SELECT DISTINCT account_id, currency FROM new_rows) n
    JOIN billing_account a ON a.id = n.account_id AND a.currency <> n.currency LIMIT 1;
  IF FOUND THEN
    RAISE EXCEPTION 'account % does not hold %', bad.account_id, bad.currency
      USING ERRCODE = 'check_violation', CONSTRAINT = 'billing_posting_currency';
  END IF;
  UPDATE billing_account a SET balance_micro = a.balance_micro + n.total
    FROM (SELECT account_id, sum(amount_micro)::bigint AS total FROM new_rows GROUP BY account_id) n
   WHERE a.id = n.account_id AND a.balance_micro IS NOT NULL AND n.total <> 0;
  RETURN NULL;
END $$;
CREATE TRIGGER billing_posting_balance AFTER INSERT ON billing_posting
  REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION billing_posted();
"""

STORED = """
CREATE FUNCTION billing_balance_guard() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'INSERT' THEN
    IF NEW.balance_micro <> 0 THEN
      RAISE EXCEPTION 'an account starts at zero' USING ERRCODE = 'check_violation';
    END IF;
  ELSIF pg_trigger_depth() < 2 THEN
    RAISE EXCEPTION 'a stored balance moves by postings only' USING ERRCODE = 'check_violation';
  END IF;
  RETURN NEW;
END $$;
CREATE TRIGGER billing_account_opened BEFORE INSERT ON billing_account
  FOR EACH ROW WHEN (NEW.balance_micro IS NOT NULL) EXECUTE FUNCTION billing_balance_guard();
CREATE TRIGGER billing_account_balance BEFORE UPDATE ON billing_account
  FOR EACH ROW WHEN (OLD.balance_micro IS DISTINCT FROM NEW.balance_micro)
  EXECUTE FUNCTION billing_balance_guard();
"""

APPEND_ONLY = """
CREATE FUNCTION billing_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only: post a new linked transaction instead', TG_TABLE_NAME
    USING ERRCODE = 'restrict_violation';
END $$;
"""

TABLES = ("billing_transaction", "billing_posting", "billing_usageline")


def protect(table: str) -> str:
    return f"""
CREATE TRIGGER {table}_fixed BEFORE UPDATE OR DELETE ON {table}
  FOR EACH ROW EXECUTE FUNCTION billing_append_only();
CREATE TRIGGER {table}_kept BEFORE TRUNCATE ON {table}
  FOR EACH STATEMENT EXECUTE FUNCTION billing_append_only();
"""


def unprotect(table: str) -> str:
    return f"DROP TRIGGER {table}_fixed ON {table}; DROP TRIGGER {table}_kept ON {table};"


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_tables")]
    operations = [
        migrations.RunSQL(
            POSTED,
            "DROP TRIGGER billing_posting_balance ON billing_posting;"
            "DROP FUNCTION billing_posted();",
        ),
        migrations.RunSQL(
            STORED,
            "DROP TRIGGER billing_account_opened ON billing_account;"
            "DROP TRIGGER billing_account_balance ON billing_account;"
            "DROP FUNCTION billing_balance_guard();",
        ),
        migrations.RunSQL(APPEND_ONLY, "DROP FUNCTION billing_append_only();"),
        migrations.RunSQL(
            "".join(protect(table) for table in TABLES),
            "".join(unprotect(table) for table in TABLES),
        ),
    ]
