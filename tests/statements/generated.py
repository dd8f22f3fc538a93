"""A month of calls made by the database itself: log, ledger, rollup, lot and wallet as settlement would leave them."""

from __future__ import annotations

from typing import Any

from django.db import connection

from billing import ledger
from billing.models import HOUSE_ACCOUNTS, Account, CreditLot, Wallet
from core import ids
from statements.months import Month
from tests.support.money import Payer

#: Models that the calls are spread over, and what a call costs at most, in microcredits.
MODELS = 7
DEAREST = 1_000_003

_ID = """(lpad(to_hex((extract(epoch FROM at) * 1000)::bigint), 12, '0') || '7' || lpad(to_hex(n % 4096), 3, '0')
  || '8' || lpad(to_hex(n), 15, '0'))::uuid"""
_CALLS = f"""
CREATE TEMPORARY TABLE generated_calls ON COMMIT DROP AS
SELECT n, at, {_ID} AS id, 'model-' || n % %(models)s AS model, 1 + n * 7919 %% %(dearest)s AS charged,
       CASE WHEN n %% 10 = 0 THEN NULL ELSE %(user)s::uuid END AS user_id
FROM (SELECT n, %(start)s::timestamptz + n * (%(end)s::timestamptz - %(start)s::timestamptz) / (%(count)s + 1) AS at
      FROM generate_series(1::bigint, %(count)s) n) x""".replace("n % %(models)s", "n %% %(models)s").replace(
    "n % 4096", "n %% 4096"
)
_LOG = """
INSERT INTO usage_requestlog (id, request_id, billed_at, workspace_id, user_id, key_id, key_name, endpoint, model,
  provider, target, attempts, status, error_type, stream, latency_ms, ttfb_ms, input_tokens, cached_input_tokens,
  cache_write_tokens, output_tokens, units, charged_microcredits, saved_microcredits, price_id, estimated, late,
  client_disconnected, sandbox)
SELECT id, id, at, %(workspace)s, user_id, %(key)s, 'prod', 'chat', model, 'acme', 'acme//m', 1, 200, '', false, 900,
  300, 1000, 100, 0, 50, NULL, charged, 0, NULL, false, false, false, false FROM generated_calls"""
_TRANSFERS = """
INSERT INTO billing_transfer (id, kind, reference, sequence, debit_account, credit_account, amount_microcredits,
  workspace_id, lot_id, billed_at)
SELECT id, 'usage', id, 0, %(workspace)s, %(revenue)s, charged, %(workspace)s, %(lot)s, at FROM generated_calls"""
_ROLLUP = """
INSERT INTO usage_rollup (workspace_id, day, key_id, model, endpoint, status, requests, input_tokens,
  cached_input_tokens, output_tokens, charged_microcredits, saved_microcredits, latency_ms)
SELECT %(workspace)s, (at AT TIME ZONE 'UTC')::date, %(key)s, model, 'chat', 200, count(*), sum(1000), sum(100),
  sum(50), sum(charged), 0, sum(900) FROM generated_calls GROUP BY 2, 4"""
_SPENT = """
UPDATE billing_wallet SET balance_microcredits = balance_microcredits - s.total
FROM (SELECT sum(charged) AS total FROM generated_calls) s WHERE workspace_id = %(workspace)s;
UPDATE billing_creditlot SET remaining_microcredits = remaining_microcredits - s.total
FROM (SELECT sum(charged) AS total FROM generated_calls) s WHERE id = %(lot)s"""


def fill(payer: Payer, month: Month, calls: int) -> None:
    """``calls`` calls of one key, spread over the month and paid out of one lot. Call it inside a transaction."""
    amount = calls * (DEAREST + 1)
    lot = ledger.grant(
        payer.workspace.pk,
        kind=CreditLot.Kind.PAID,
        amount_microcredits=amount,
        transfer_kind="grant",
        reference=ids.uuid7(),
        source_account=HOUSE_ACCOUNTS[Account.Kind.DEMO],
        at=month.start,
    )
    assert lot is not None
    values: dict[str, Any] = {
        "count": calls,
        "models": MODELS,
        "dearest": DEAREST,
        "start": month.start,
        "end": month.end,
        "workspace": payer.workspace.pk,
        "key": payer.key.pk,
        "user": payer.user.pk,
        "lot": lot.pk,
        "revenue": HOUSE_ACCOUNTS[Account.Kind.REVENUE],
    }
    with connection.cursor() as cursor:
        for statement in (_CALLS, _LOG, _TRANSFERS, _ROLLUP, *_SPENT.split(";")):
            cursor.execute(statement, values)
    assert Wallet.objects.get(pk=payer.workspace.pk).balance_microcredits >= 0
