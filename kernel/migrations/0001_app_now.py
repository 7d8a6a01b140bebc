"""app_now(): the platform's only clock.

It is clock_timestamp(), not now(): a charge must not be based on the start of a transaction that
waited for locks. A session setting replaces it in simulations, so that product code and SQL
triggers see the same virtual time.
"""

from django.db import migrations

FORWARD = """
CREATE OR REPLACE FUNCTION app_now() RETURNS timestamptz
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
  SELECT coalesce(
    nullif(current_setting('gpuyard.now', true), '')::timestamptz,
    clock_timestamp()
  )
$$;
"""


class Migration(migrations.Migration):
    initial = True
    dependencies: list[tuple[str, str]] = []
    operations = [
        migrations.RunSQL(FORWARD, "DROP FUNCTION IF EXISTS app_now()"),
        # Exclusion constraints over (slot, time range) need equality on uuid in a gist index.
        migrations.RunSQL("CREATE EXTENSION IF NOT EXISTS btree_gist", migrations.RunSQL.noop),
    ]
