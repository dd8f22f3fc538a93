from django.db import migrations

# The gateway keeps keys in memory; these tell it at once when one changed. `last_used_at` alone is no change.
FORWARD = """
CREATE FUNCTION hypereal_key_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('hypereal_keys', encode(COALESCE(NEW.secret_hash, OLD.secret_hash), 'hex'));
  RETURN NULL;
END $$;
CREATE FUNCTION hypereal_workspace_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_notify('hypereal_keys', '');
  RETURN NULL;
END $$;
CREATE TRIGGER changed AFTER INSERT OR DELETE OR UPDATE OF workspace_id, created_by_id, name, enabled, expires_at,
  spending_limit_microcredits, auto_disable, allowed_models, allowed_networks, deleted_at ON keys_apikey
  FOR EACH ROW EXECUTE FUNCTION hypereal_key_changed();
CREATE TRIGGER changed AFTER UPDATE OF active OR DELETE ON orgs_workspace
  FOR EACH STATEMENT EXECUTE FUNCTION hypereal_workspace_changed();
CREATE TRIGGER changed AFTER UPDATE OR DELETE ON orgs_membership
  FOR EACH STATEMENT EXECUTE FUNCTION hypereal_workspace_changed();
CREATE TRIGGER changed AFTER UPDATE OF is_active ON accounts_user
  FOR EACH STATEMENT EXECUTE FUNCTION hypereal_workspace_changed();
ALTER TABLE keys_apikey SET (fillfactor = 70);
"""
BACKWARD = """
DROP TRIGGER changed ON accounts_user;
DROP TRIGGER changed ON orgs_membership;
DROP TRIGGER changed ON orgs_workspace;
DROP TRIGGER changed ON keys_apikey;
DROP FUNCTION hypereal_workspace_changed();
DROP FUNCTION hypereal_key_changed();
"""


class Migration(migrations.Migration):
    dependencies = [
        ("keys", "0001_initial"),
        ("orgs", "0001_initial"),
        ("accounts", "0001_initial"),
    ]
    operations = [migrations.RunSQL(FORWARD, BACKWARD)]
