from django.db import migrations

# Two additions to the neck.
#
# Credits end at their moment, not when a sweep comes by: a lot whose time is over is told with the number of entries
# that it expired by so far, and the visit writes the next one before it decides over anything. Decisions over
# remembered rows name the moment at which the first of the remembered lots ends, and are not applied from then on.
#
# A call whose hold was lost is settled with the meters of its key as the key is at that moment.
READ = """
CREATE OR REPLACE FUNCTION hypereal_calls_read(p json) RETURNS text LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
  v_p record;
  v_now timestamptz;
  v_month date;
  v_scopes uuid[];
  v_wallets json;
  v_lots json;
  v_holds json;
  v_meters json;
  v_keys json;
  v_stored json;
BEGIN
  SELECT * INTO v_p FROM json_to_record(p) AS x(
    now timestamptz, wallets uuid[], holds uuid[], keys uuid[], asking boolean, claims json);
  v_now := COALESCE(v_p.now, now());
  v_month := date_trunc('month', v_now AT TIME ZONE 'UTC')::date;
  SELECT json_agg(x) INTO v_wallets FROM (
    SELECT workspace_id AS id, balance_microcredits AS balance, held_microcredits AS held, xmin::text AS version
    FROM billing_wallet WHERE workspace_id = ANY(v_p.wallets) ORDER BY workspace_id FOR NO KEY UPDATE) x;
  -- Order of use: what expires first, then gifts before money, then the oldest.
  SELECT json_agg(x) INTO v_lots FROM (
    SELECT l.id, l.wallet_id, l.remaining_microcredits AS remaining, extract(epoch FROM l.expires_at) AS expires,
           CASE WHEN l.expires_at <= v_now THEN (
             SELECT count(*) FROM billing_transfer t WHERE t.reference = l.id AND t.kind = 'expiry') END AS expiries
    FROM billing_creditlot l WHERE l.wallet_id = ANY(v_p.wallets) AND l.remaining_microcredits > 0
    ORDER BY l.expires_at NULLS LAST, (l.kind = 'paid'), l.id) x;
  SELECT json_agg(x) INTO v_holds FROM (
    SELECT id, wallet_id, state, amount_microcredits AS amount, charged_microcredits AS charged, key_id, month,
           resolved_at, meter_ids
    FROM billing_hold WHERE id = ANY(v_p.holds)) x;
  -- Is the key still good? Asked again in the transaction that takes the money: a cache may be seconds old. A call
  -- whose hold is nowhere (a crash of the server lost it) is counted by what its key is now.
  IF v_p.asking OR COALESCE(json_array_length(v_holds), 0) < cardinality(v_p.holds) THEN
    v_keys := hypereal_keys_read(v_p.keys, v_now);
  END IF;
  v_scopes := v_p.keys
    || ARRAY(SELECT unnest(meter_ids) FROM billing_hold WHERE id = ANY(v_p.holds))
    || ARRAY(SELECT (a->>'id')::uuid FROM json_array_elements(v_keys) k, json_array_elements(k->'above') a);
  SELECT json_agg(x) INTO v_meters FROM (
    SELECT scope_id AS id, month, scope, spent_microcredits AS spent, held_microcredits AS held,
           reached_at IS NOT NULL AS reached
    FROM billing_spendmeter
    WHERE scope IN ('key', 'member', 'workspace') AND scope_id = ANY(v_scopes)
      AND (month = v_month OR month IN (SELECT month FROM billing_hold WHERE id = ANY(v_p.holds)))) x;
  IF v_p.claims IS NOT NULL THEN
    SELECT json_agg(x) INTO v_stored FROM (
      SELECT s.scope_id, encode(s.key_hash, 'hex') AS key_hash, encode(s.request_hash, 'hex') AS request_hash,
             s.request_id, s.status, s.content_type, convert_from(s.sealed_body, 'UTF8') AS sealed_body, s.is_stream
      FROM idempotency_storedanswer s
      JOIN json_to_recordset(v_p.claims) AS c(scope_id uuid, key_hash text)
        ON s.scope_id = c.scope_id AND s.key_hash = decode(c.key_hash, 'hex')
      WHERE s.expires_at > v_now) x;
  END IF;
  RETURN json_build_object(
    'now', v_now, 'month', v_month, 'version', pg_current_xact_id()::xid::text,
    'wallets', COALESCE(v_wallets, '[]'), 'lots', COALESCE(v_lots, '[]'), 'holds', COALESCE(v_holds, '[]'),
    'meters', COALESCE(v_meters, '[]'), 'keys', COALESCE(v_keys, '[]'), 'stored', COALESCE(v_stored, '[]'))::text;
END $$;
"""

APPLY = """
CREATE OR REPLACE FUNCTION hypereal_calls_apply(p json) RETURNS text LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
  v_p record;
  v_now timestamptz := now();
  v_standing bigint;
BEGIN
  SELECT * INTO v_p FROM json_to_record(p) AS x(
    month date, wallets uuid[], versions text[], key_ids uuid[], keys jsonb, changes json,
    until double precision);
  IF v_p.month <> date_trunc('month', v_now AT TIME ZONE 'UTC')::date OR v_p.until <= extract(epoch FROM v_now) THEN
    RETURN NULL;
  END IF;
  -- A row that another transaction is at counts as changed. Who waits here would commit even if the process that asked
  -- died meanwhile; the ordinary way waits too, but then nothing comes of it.
  SELECT count(*) INTO v_standing FROM (
    SELECT 1 FROM unnest(v_p.wallets, v_p.versions) AS s(id, version)
    JOIN billing_wallet w ON w.workspace_id = s.id AND w.xmin::text = s.version
    ORDER BY w.workspace_id FOR NO KEY UPDATE OF w SKIP LOCKED) x;
  IF v_standing <> cardinality(v_p.wallets) THEN
    RETURN NULL;
  END IF;
  IF cardinality(v_p.key_ids) > 0 AND hypereal_keys_read(v_p.key_ids, v_now)::jsonb <> v_p.keys THEN
    RETURN NULL;
  END IF;
  IF v_p.changes IS NOT NULL THEN
    PERFORM hypereal_calls_write(v_p.changes);
  END IF;
  RETURN json_build_object('now', v_now, 'version', pg_current_xact_id()::xid::text)::text;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [("usage", "0004_visits")]
    operations = [
        migrations.RunSQL(READ, migrations.RunSQL.noop),
        migrations.RunSQL(APPLY, migrations.RunSQL.noop),
    ]
