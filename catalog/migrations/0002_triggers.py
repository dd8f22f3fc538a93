"""What the tables alone can't promise: prices that never change, names that mean one thing, changes that are announced."""

from __future__ import annotations

from django.db import migrations

TABLES = ("provider", "model", "alias", "price", "target")

#: Every number in a price's JSON is a whole one, zero or more; nothing in it is text or a truth value.
JSON_OF_PRICES = """
ALTER TABLE catalog_price ADD CONSTRAINT catalog_price_json_not_negative CHECK (
    NOT jsonb_path_exists(
        jsonb_build_array(long_context, service_tiers, server_tools, unit_prices),
        'lax $.** ? (@.type() == "string" || @.type() == "boolean"
                     || (@.type() == "number" && (@ < 0 || @.floor() != @)))'
    )
)
"""

PRICES_STAND = """
CREATE FUNCTION catalog_price_stands() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF TG_OP = 'DELETE' OR to_jsonb(OLD) - '{note,guess}'::text[] IS DISTINCT FROM to_jsonb(NEW) - '{note,guess}'::text[] THEN
        RAISE EXCEPTION 'a price version is never changed or deleted: publish a new version'
            USING ERRCODE = 'restrict_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER catalog_price_stands BEFORE UPDATE OR DELETE ON catalog_price
    FOR EACH ROW EXECUTE FUNCTION catalog_price_stands()
"""

#: The lock orders two writers that would each add one half of a clash.
NAMES_ARE_UNIQUE = """
CREATE FUNCTION catalog_name_is_free() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE taken boolean;
BEGIN
    PERFORM pg_advisory_xact_lock(hashtext('catalog_names'));
    IF TG_TABLE_NAME = 'catalog_alias' THEN
        SELECT EXISTS (SELECT 1 FROM catalog_model WHERE slug = to_jsonb(NEW) ->> 'name') INTO taken;
    ELSE
        SELECT EXISTS (SELECT 1 FROM catalog_alias WHERE name = to_jsonb(NEW) ->> 'slug') INTO taken;
    END IF;
    IF taken THEN
        RAISE EXCEPTION 'an alias may not have the name of a model' USING ERRCODE = 'unique_violation';
    END IF;
    RETURN NEW;
END
$$;
CREATE TRIGGER catalog_alias_is_free BEFORE INSERT OR UPDATE OF name ON catalog_alias
    FOR EACH ROW EXECUTE FUNCTION catalog_name_is_free();
CREATE TRIGGER catalog_model_is_free BEFORE INSERT OR UPDATE OF slug ON catalog_model
    FOR EACH ROW EXECUTE FUNCTION catalog_name_is_free()
"""

ANNOUNCE = """
CREATE FUNCTION catalog_announce() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('hypereal_catalog', '');
    RETURN NULL;
END
$$
"""

ANNOUNCE_ON = """
CREATE TRIGGER catalog_announce AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON catalog_{table}
    FOR EACH STATEMENT EXECUTE FUNCTION catalog_announce()
"""


class Migration(migrations.Migration):
    dependencies = [("catalog", "0001_initial")]

    operations = [
        migrations.RunSQL(JSON_OF_PRICES, "ALTER TABLE catalog_price DROP CONSTRAINT catalog_price_json_not_negative"),
        migrations.RunSQL(PRICES_STAND, "DROP FUNCTION catalog_price_stands() CASCADE"),
        migrations.RunSQL(NAMES_ARE_UNIQUE, "DROP FUNCTION catalog_name_is_free() CASCADE"),
        migrations.RunSQL(ANNOUNCE, "DROP FUNCTION catalog_announce() CASCADE"),
        *(migrations.RunSQL(ANNOUNCE_ON.format(table=table), migrations.RunSQL.noop) for table in TABLES),
    ]
