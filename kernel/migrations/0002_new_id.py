"""app_new_id(): what kernel.ids.new_id() makes, for rows that a statement makes by itself."""

from django.db import migrations

FORWARD = """
CREATE OR REPLACE FUNCTION app_new_id() RETURNS uuid
LANGUAGE sql VOLATILE PARALLEL SAFE AS $$
  SELECT (lpad(to_hex((extract(epoch FROM clock_timestamp()) * 1000)::bigint), 12, '0')
          || '7' || substr(replace(gen_random_uuid()::text, '-', ''), 14))::uuid
$$;
"""


class Migration(migrations.Migration):
    dependencies = [("kernel", "0001_app_now")]
    operations = [migrations.RunSQL(FORWARD, "DROP FUNCTION IF EXISTS app_new_id()")]
