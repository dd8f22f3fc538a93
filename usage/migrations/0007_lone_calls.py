from django.db import migrations

# The neck's shortest way, for a call that comes alone: one admission, or one settlement, over remembered rows.
#
# They do what `hypereal_calls_apply` does, of which they are the same rules for one item: nothing unless the wallet's
# row is as it was, free to be locked, and the key is as it was. Half of PostgreSQL's time for a lone call went into
# taking JSON apart and into joining what came of it with tables; here every value has its place in one array of texts
# (`usage/lone.py` writes it), and every row is found by its key.
#
# What an organization's call has above a key comes in arrays, NULL for a personal call: ids, scopes, sums, limits.
_SETTINGS = """LANGUAGE plpgsql
SET plan_cache_mode = force_generic_plan SET jit = off
SET enable_seqscan = off SET enable_hashjoin = off SET enable_mergejoin = off"""

# A row that another transaction is at counts as changed, see hypereal_calls_apply.
_STANDING = """
  PERFORM FROM billing_wallet
  WHERE workspace_id = p[3]::uuid AND xmin::text = p[4]
    AND p[1]::date = date_trunc('month', v_now AT TIME ZONE 'UTC')::date
    AND (p[2] IS NULL OR p[2]::double precision > extract(epoch FROM v_now))
  FOR NO KEY UPDATE SKIP LOCKED;
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;"""

_WALLET_AND_METERS = """
  UPDATE billing_wallet SET balance_microcredits = p[5]::bigint, held_microcredits = p[6]::bigint
  WHERE workspace_id = p[3]::uuid;
  UPDATE billing_spendmeter SET spent_microcredits = p[10]::bigint, held_microcredits = p[11]::bigint
  WHERE scope = 'key' AND scope_id = p[8]::uuid AND month = p[9]::date;
  IF NOT FOUND THEN
    INSERT INTO billing_spendmeter (scope, scope_id, month, spent_microcredits, held_microcredits)
    VALUES ('key', p[8]::uuid, p[9]::date, p[10]::bigint, p[11]::bigint);
  END IF;
  IF p[12] IS NOT NULL THEN
    INSERT INTO billing_spendmeter (scope, scope_id, month, spent_microcredits, held_microcredits)
    SELECT v.scope, v.id, p[9]::date, v.spent, v.held
    FROM unnest(p[12]::uuid[], p[13]::text[], p[14]::bigint[], p[15]::bigint[]) AS v(id, scope, spent, held)
    ON CONFLICT (scope, scope_id, month) DO UPDATE
    SET spent_microcredits = EXCLUDED.spent_microcredits, held_microcredits = EXCLUDED.held_microcredits;
  END IF;"""

_ANSWER = """
  RETURN json_build_object('now', v_now, 'version', pg_current_xact_id()::xid::text)::text;"""

# The key is asked behind the lock, as by hypereal_calls_apply; it is a good one, or nothing would be placed.
ADMIT = f"""
CREATE FUNCTION hypereal_calls_apply_admit(p text[]) RETURNS text {_SETTINGS} AS $$
DECLARE
  v_now timestamptz := now();
BEGIN{_STANDING}
  PERFORM FROM keys_apikey k JOIN orgs_workspace w ON w.id = k.workspace_id
  LEFT JOIN orgs_membership m ON m.workspace_id = k.workspace_id AND m.user_id = k.created_by_id
  LEFT JOIN accounts_user u ON u.id = k.created_by_id
  WHERE k.id = p[8]::uuid AND k.name = p[16] AND k.created_by_id IS NOT DISTINCT FROM p[17]::uuid
    AND k.spending_limit_microcredits IS NOT DISTINCT FROM p[18]::bigint
    AND k.enabled AND k.deleted_at IS NULL AND w.active
    AND (k.expires_at IS NULL OR k.expires_at > v_now)
    AND (k.created_by_id IS NULL OR (m.id IS NOT NULL AND u.is_active))
    AND CASE WHEN w.kind = 'organization' THEN array_remove(ARRAY[m.id, w.id], NULL) END
        IS NOT DISTINCT FROM p[12]::uuid[];
  IF NOT FOUND THEN
    RETURN NULL;
  END IF;
  IF p[12] IS NOT NULL AND p[19]::bigint[] IS DISTINCT FROM (
    SELECT array_agg(l.amount_microcredits ORDER BY v.n)
    FROM unnest(p[12]::uuid[], p[13]::text[]) WITH ORDINALITY AS v(id, scope, n)
    LEFT JOIN limits_spendinglimit l ON l.scope = v.scope AND l.scope_id = v.id)
  THEN
    RETURN NULL;
  END IF;{_WALLET_AND_METERS}
  INSERT INTO billing_hold
    (id, wallet_id, state, amount_microcredits, owner_id, key_id, key_name, user_id, month, endpoint, model, price_id,
     created_at, meter_ids)
  VALUES (p[7]::uuid, p[3]::uuid, 'pending', p[20]::bigint, p[21]::uuid, p[8]::uuid, p[16], p[17]::uuid, p[9]::date,
          p[22], p[23], p[24]::uuid, v_now, p[12]::uuid[]);{_ANSWER}
END $$;
"""  # noqa: S608

# The log row is a plain INSERT: the hold was pending at this version, so the call is not in the log. Where the version
# lied, the whole visit fails, and no sum counts a call twice.
SETTLE = f"""
CREATE FUNCTION hypereal_calls_apply_settle(p text[]) RETURNS text {_SETTINGS} AS $$
DECLARE
  v_now timestamptz := now();
BEGIN{_STANDING}{_WALLET_AND_METERS}
  IF p[16] IS NOT NULL THEN
    UPDATE billing_creditlot SET remaining_microcredits = p[17]::bigint WHERE id = p[16]::uuid;
  END IF;
  UPDATE billing_hold SET state = 'posted', charged_microcredits = p[18]::bigint, resolved_at = v_now
  WHERE id = p[7]::uuid;
  IF p[19] IS NOT NULL THEN
    INSERT INTO billing_transfer
      (id, kind, reference, sequence, debit_account, credit_account, amount_microcredits, workspace_id, lot_id,
       billed_at)
    VALUES (p[19]::uuid, 'usage', p[7]::uuid, 0, p[3]::uuid, p[20]::uuid, p[18]::bigint, p[3]::uuid, p[16]::uuid,
            v_now);
  END IF;
  INSERT INTO usage_requestlog
    (id, workspace_id, billed_at, charged_microcredits, late, request_id, endpoint, model, status, latency_ms, user_id,
     key_id, key_name, provider, target, attempts, error_type, stream, ttfb_ms, input_tokens, cached_input_tokens,
     cache_write_tokens, output_tokens, units, saved_microcredits, price_id, estimated, client_disconnected, sandbox,
     response_id, attempt_trace, charge_lines)
  VALUES (p[7]::uuid, p[3]::uuid, v_now, p[18]::bigint, false, p[21]::uuid, p[22], p[23], p[24]::smallint,
          p[25]::integer, p[26]::uuid, p[27]::uuid, p[28], p[29], p[30], p[31]::smallint, p[32], p[33]::boolean,
          p[34]::integer, p[35]::bigint, p[36]::bigint, p[37]::bigint, p[38]::bigint, p[39]::numeric, p[40]::bigint,
          p[41]::uuid, p[42]::boolean, p[43]::boolean, p[44]::boolean, p[45], p[46]::jsonb, p[47]::jsonb);
  UPDATE usage_rollup
  SET requests = requests + 1,
      input_tokens = input_tokens + p[35]::bigint,
      cached_input_tokens = cached_input_tokens + p[36]::bigint,
      output_tokens = output_tokens + p[38]::bigint,
      charged_microcredits = charged_microcredits + p[18]::bigint,
      saved_microcredits = saved_microcredits + p[40]::bigint,
      latency_ms = latency_ms + p[25]::bigint
  WHERE workspace_id = p[3]::uuid AND day = (v_now AT TIME ZONE 'UTC')::date
    AND key_id = COALESCE(p[27]::uuid, '00000000-0000-0000-0000-000000000000') AND model = p[23] AND endpoint = p[22]
    AND status = p[24]::smallint;
  IF NOT FOUND THEN
    INSERT INTO usage_rollup AS r
      (workspace_id, day, key_id, model, endpoint, status, requests, input_tokens, cached_input_tokens, output_tokens,
       charged_microcredits, saved_microcredits, latency_ms)
    VALUES (p[3]::uuid, (v_now AT TIME ZONE 'UTC')::date,
            COALESCE(p[27]::uuid, '00000000-0000-0000-0000-000000000000'), p[23], p[22], p[24]::smallint, 1,
            p[35]::bigint, p[36]::bigint, p[38]::bigint, p[18]::bigint, p[40]::bigint, p[25]::bigint)
    ON CONFLICT (workspace_id, day, key_id, model, endpoint, status) DO UPDATE
    SET requests = r.requests + EXCLUDED.requests,
        input_tokens = r.input_tokens + EXCLUDED.input_tokens,
        cached_input_tokens = r.cached_input_tokens + EXCLUDED.cached_input_tokens,
        output_tokens = r.output_tokens + EXCLUDED.output_tokens,
        charged_microcredits = r.charged_microcredits + EXCLUDED.charged_microcredits,
        saved_microcredits = r.saved_microcredits + EXCLUDED.saved_microcredits,
        latency_ms = r.latency_ms + EXCLUDED.latency_ms;
  END IF;{_ANSWER}
END $$;
"""  # noqa: S608


class Migration(migrations.Migration):
    dependencies = [("usage", "0006_kept_responses")]
    operations = [
        migrations.RunSQL(ADMIT, "DROP FUNCTION hypereal_calls_apply_admit(text[])"),
        migrations.RunSQL(SETTLE, "DROP FUNCTION hypereal_calls_apply_settle(text[])"),
    ]
