from django.db import migrations

# Fixed ids of the house's accounts; billing.models.HOUSE_ACCOUNTS names them in code.
FORWARD = """
INSERT INTO billing_account (id, kind) VALUES
  ('00000000-0000-7000-8000-000000000001', 'revenue'),
  ('00000000-0000-7000-8000-000000000002', 'stripe'),
  ('00000000-0000-7000-8000-000000000003', 'demo'),
  ('00000000-0000-7000-8000-000000000004', 'promotion'),
  ('00000000-0000-7000-8000-000000000005', 'adjustment'),
  ('00000000-0000-7000-8000-000000000006', 'expired');
CREATE TRIGGER append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON billing_transfer
  FOR EACH STATEMENT EXECUTE FUNCTION hypereal_append_only();
-- Pages of a wallet change in place very often: leave room on them, and let vacuum come early.
ALTER TABLE billing_wallet SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE billing_spendmeter SET (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.02);
ALTER TABLE billing_hold SET (fillfactor = 70);
"""
BACKWARD = """
DROP TRIGGER append_only ON billing_transfer;
DELETE FROM billing_account WHERE kind <> 'wallet';
"""


class Migration(migrations.Migration):
    dependencies = [("billing", "0001_initial"), ("events", "0002_append_only")]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
