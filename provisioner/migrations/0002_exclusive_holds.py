"""A slot is never held twice at the same time, and the database itself says so.

The partial unique index of 0001 refuses a second open hold; this exclusion constraint also keeps
closed holds apart, so that history cannot overlap either. Its GiST index answers "who held this
slot then" as well.
"""

from django.db import migrations

FORWARD = """
ALTER TABLE provisioner_hold ADD CONSTRAINT hold_never_overlaps
  EXCLUDE USING gist (slot_id WITH =, tstzrange(from_ts, to_ts) WITH &&)
"""


class Migration(migrations.Migration):
    dependencies = [("provisioner", "0001_initial")]
    operations = [
        migrations.RunSQL(
            FORWARD, "ALTER TABLE provisioner_hold DROP CONSTRAINT hold_never_overlaps"
        )
    ]
