from django.db import migrations

# One function for every append-only table: the audit trail here, the ledger and the request log further up.
FORWARD = """
CREATE FUNCTION hypereal_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION '% is append-only: % refused', TG_TABLE_NAME, TG_OP USING ERRCODE = 'restrict_violation';
END $$;
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON events_auditevent
  FOR EACH STATEMENT EXECUTE FUNCTION hypereal_append_only();
"""
BACKWARD = """
DROP TRIGGER append_only ON events_auditevent;
DROP FUNCTION hypereal_append_only();
"""


class Migration(migrations.Migration):
    dependencies = [("events", "0001_initial")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
