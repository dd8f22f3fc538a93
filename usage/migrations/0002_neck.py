from django.db import migrations

# One visit of the neck is two statements: read (and lock) everything that a batch needs, write everything back. The
# decisions between them are made in Python (billing/books.py, usage/metering.py); these two only carry rows.
#
# Generic plans: every statement reaches a handful of rows through a unique index, and planning them again for each call
# took eight times as long as running them. Such a plan may be made while a table is still empty, which invites plans
# that read all of it, and keeps them while the table grows: so only nested loops over index look-ups are allowed.
#
# The first statement locks the wallets in the order of their ids. Whoever changes a wallet's lots, meters or holds
# locks its wallet first, so nothing else needs a lock, and each later statement of the function sees the latest commit.
READ = """
CREATE FUNCTION hypereal_calls_read(p json) RETURNS text LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
DECLARE
  v_now timestamptz := COALESCE((p->>'now')::timestamptz, now());
  v_month date := date_trunc('month', v_now AT TIME ZONE 'UTC')::date;
  v_wallet_ids uuid[] := ARRAY(SELECT json_array_elements_text(p->'wallets')::uuid);
  v_hold_ids uuid[] := ARRAY(SELECT json_array_elements_text(p->'holds')::uuid);
  v_key_ids uuid[] := ARRAY(SELECT json_array_elements_text(p->'keys')::uuid);
  v_wallets json;
  v_lots json;
  v_holds json;
  v_meters json;
  v_keys json;
  v_stored json;
BEGIN
  SELECT json_agg(x) INTO v_wallets FROM (
    SELECT workspace_id AS id, balance_microcredits AS balance, held_microcredits AS held
    FROM billing_wallet WHERE workspace_id = ANY(v_wallet_ids) ORDER BY workspace_id FOR NO KEY UPDATE) x;
  -- Order of use: what expires first, then gifts before money, then the oldest.
  SELECT json_agg(x) INTO v_lots FROM (
    SELECT id, wallet_id, remaining_microcredits AS remaining FROM billing_creditlot
    WHERE wallet_id = ANY(v_wallet_ids) AND remaining_microcredits > 0
    ORDER BY expires_at NULLS LAST, (kind = 'paid'), id) x;
  SELECT json_agg(x) INTO v_holds FROM (
    SELECT id, wallet_id, state, amount_microcredits AS amount, charged_microcredits AS charged, key_id, month,
           resolved_at
    FROM billing_hold WHERE id = ANY(v_hold_ids)) x;
  SELECT json_agg(x) INTO v_meters FROM (
    SELECT scope_id AS key_id, month, spent_microcredits AS spent, held_microcredits AS held FROM billing_spendmeter
    WHERE scope = 'key' AND scope_id = ANY(v_key_ids)
      AND (month = v_month OR (scope_id, month) IN (
            SELECT key_id, month FROM billing_hold WHERE id = ANY(v_hold_ids)))) x;
  -- Is the key still good? Asked again in the transaction that takes the money: a cache may be seconds old.
  IF (p->>'asking')::boolean THEN
    SELECT json_agg(x) INTO v_keys FROM (
      SELECT k.id, k.name, k.created_by_id, k.spending_limit_microcredits AS limit,
             k.enabled AND k.deleted_at IS NULL AND w.active
               AND (k.expires_at IS NULL OR k.expires_at > v_now)
               AND (k.created_by_id IS NULL OR EXISTS (
                     SELECT 1 FROM orgs_membership m JOIN accounts_user u ON u.id = m.user_id AND u.is_active
                     WHERE m.workspace_id = k.workspace_id AND m.user_id = k.created_by_id)) AS good
      FROM keys_apikey k JOIN orgs_workspace w ON w.id = k.workspace_id
      WHERE k.id = ANY(v_key_ids)) x;
  END IF;
  IF p->'claims' IS NOT NULL THEN
    SELECT json_agg(x) INTO v_stored FROM (
      SELECT s.scope_id, encode(s.key_hash, 'hex') AS key_hash, encode(s.request_hash, 'hex') AS request_hash,
             s.request_id, s.status, s.content_type, convert_from(s.sealed_body, 'UTF8') AS sealed_body, s.is_stream
      FROM idempotency_storedanswer s
      JOIN json_to_recordset(p->'claims') AS c(scope_id uuid, key_hash text)
        ON s.scope_id = c.scope_id AND s.key_hash = decode(c.key_hash, 'hex')
      WHERE s.expires_at > v_now) x;
  END IF;
  RETURN json_build_object(
    'now', v_now, 'month', v_month, 'wallets', COALESCE(v_wallets, '[]'), 'lots', COALESCE(v_lots, '[]'),
    'holds', COALESCE(v_holds, '[]'), 'meters', COALESCE(v_meters, '[]'), 'keys', COALESCE(v_keys, '[]'),
    'stored', COALESCE(v_stored, '[]'))::text;
END $$;
"""

WRITE = """
CREATE FUNCTION hypereal_calls_write(p json) RETURNS void LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off AS $$
BEGIN
  IF p->'wallets' IS NOT NULL THEN
    UPDATE billing_wallet w SET balance_microcredits = v.balance, held_microcredits = v.held
    FROM json_to_recordset(p->'wallets') AS v(id uuid, balance bigint, held bigint) WHERE w.workspace_id = v.id;
  END IF;
  IF p->'lots' IS NOT NULL THEN
    UPDATE billing_creditlot l SET remaining_microcredits = v.remaining
    FROM json_to_recordset(p->'lots') AS v(id uuid, remaining bigint) WHERE l.id = v.id;
  END IF;
  IF p->'meters' IS NOT NULL THEN
    INSERT INTO billing_spendmeter (scope, scope_id, month, spent_microcredits, held_microcredits)
    SELECT 'key', v.key_id, v.month, v.spent, v.held
    FROM json_to_recordset(p->'meters') AS v(key_id uuid, month date, spent bigint, held bigint)
    ON CONFLICT (scope, scope_id, month) DO UPDATE
    SET spent_microcredits = EXCLUDED.spent_microcredits, held_microcredits = EXCLUDED.held_microcredits;
  END IF;
  IF p->'placed' IS NOT NULL THEN
    INSERT INTO billing_hold SELECT * FROM json_populate_recordset(NULL::billing_hold, p->'placed');
  END IF;
  IF p->'holds' IS NOT NULL THEN
    UPDATE billing_hold h SET state = v.state, amount_microcredits = v.amount,
      charged_microcredits = v.charged, resolved_at = v.resolved_at
    FROM json_to_recordset(p->'holds') AS v(id uuid, state text, amount bigint, charged bigint, resolved_at timestamptz)
    WHERE h.id = v.id;
  END IF;
  IF p->'transfers' IS NOT NULL THEN
    INSERT INTO billing_transfer SELECT * FROM json_populate_recordset(NULL::billing_transfer, p->'transfers');
  END IF;
  IF p->'claims' IS NOT NULL THEN
    INSERT INTO idempotency_storedanswer
      (id, scope_id, key_hash, request_hash, request_id, content_type, is_stream, created_at, expires_at)
    SELECT v.request_id, v.scope_id, decode(v.key_hash, 'hex'), decode(v.request_hash, 'hex'), v.request_id, '',
           v.is_stream, v.created_at, v.expires_at
    FROM json_to_recordset(p->'claims') AS v(request_id uuid, scope_id uuid, key_hash text, request_hash text,
                                             is_stream boolean, created_at timestamptz, expires_at timestamptz)
    ON CONFLICT (scope_id, key_hash) DO UPDATE
    SET request_hash = EXCLUDED.request_hash, request_id = EXCLUDED.request_id, status = NULL, content_type = '',
        sealed_body = NULL, is_stream = EXCLUDED.is_stream, created_at = EXCLUDED.created_at,
        expires_at = EXCLUDED.expires_at;
  END IF;
  IF p->'answers' IS NOT NULL THEN
    UPDATE idempotency_storedanswer s
    SET status = v.status, content_type = v.content_type, sealed_body = convert_to(v.sealed_body, 'UTF8')
    FROM json_to_recordset(p->'answers') AS v(request_id uuid, status smallint, content_type text, sealed_body text)
    WHERE s.request_id = v.request_id;
  END IF;
  IF p->'unclaimed' IS NOT NULL THEN
    DELETE FROM idempotency_storedanswer
    WHERE request_id IN (SELECT json_array_elements_text(p->'unclaimed')::uuid);
  END IF;
  -- A row that is already there was written by an earlier try of the same batch: it must not be summed again. Sums are
  -- written in the order of their keys, so that two batches can't deadlock on them.
  IF p->'rows' IS NOT NULL THEN
    WITH new AS (
      INSERT INTO usage_requestlog SELECT * FROM json_populate_recordset(NULL::usage_requestlog, p->'rows')
      ON CONFLICT (id) DO NOTHING
      RETURNING workspace_id, billed_at, key_id, model, endpoint, status, input_tokens, cached_input_tokens,
                output_tokens, charged_microcredits, saved_microcredits, latency_ms)
    INSERT INTO usage_rollup AS r (workspace_id, day, key_id, model, endpoint, status, requests, input_tokens,
      cached_input_tokens, output_tokens, charged_microcredits, saved_microcredits, latency_ms)
    SELECT workspace_id, (billed_at AT TIME ZONE 'UTC')::date,
           COALESCE(key_id, '00000000-0000-0000-0000-000000000000'), model, endpoint, status, count(*),
           sum(input_tokens), sum(cached_input_tokens), sum(output_tokens), sum(charged_microcredits),
           sum(saved_microcredits), sum(latency_ms)
    FROM new GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6
    ON CONFLICT (workspace_id, day, key_id, model, endpoint, status) DO UPDATE
    SET requests = r.requests + EXCLUDED.requests,
        input_tokens = r.input_tokens + EXCLUDED.input_tokens,
        cached_input_tokens = r.cached_input_tokens + EXCLUDED.cached_input_tokens,
        output_tokens = r.output_tokens + EXCLUDED.output_tokens,
        charged_microcredits = r.charged_microcredits + EXCLUDED.charged_microcredits,
        saved_microcredits = r.saved_microcredits + EXCLUDED.saved_microcredits,
        latency_ms = r.latency_ms + EXCLUDED.latency_ms;
  END IF;
END $$;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("usage", "0001_initial"),
        ("billing", "0002_books"),
        ("keys", "0002_notices"),
        ("idempotency", "0001_initial"),
    ]
    operations = [
        migrations.RunSQL(READ, "DROP FUNCTION hypereal_calls_read(json)"),
        migrations.RunSQL(WRITE, "DROP FUNCTION hypereal_calls_write(json)"),
    ]
