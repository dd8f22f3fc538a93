"""Proof that the books agree: ledger, balances, holds, meters, log and sums, to the microcredit.

Each check is one query that gives the rows that are wrong; none is the answer hoped for. All of them read the same
REPEATABLE READ snapshot, since a call that settles between two queries would look like a difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date

from django.db import connection, transaction

from billing import proofs as billing_proofs
from vouchers import proofs as voucher_proofs

#: Wrong rows that a finding shows.
EXAMPLES = 5


@dataclass(frozen=True, slots=True)
class Check:
    """``query`` selects what contradicts ``claim``."""

    name: str
    claim: str
    query: str


@dataclass(frozen=True, slots=True)
class Finding:
    check: Check
    wrong: int
    examples: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Report:
    """What `verify` found, with a few sums that say how much was looked at."""

    findings: tuple[Finding, ...]
    wallets: int
    transfers: int
    log_rows: int
    charged_microcredits: int

    @property
    def clean(self) -> bool:
        return not self.findings


_LOG_SUMS = """
SELECT workspace_id, (billed_at AT TIME ZONE 'UTC')::date AS day,
       COALESCE(key_id, '00000000-0000-0000-0000-000000000000') AS key_id, model, endpoint, status,
       count(*) AS requests, sum(input_tokens) AS input_tokens, sum(cached_input_tokens) AS cached_input_tokens,
       sum(output_tokens) AS output_tokens, sum(charged_microcredits) AS charged_microcredits,
       sum(saved_microcredits) AS saved_microcredits, sum(latency_ms) AS latency_ms
FROM usage_requestlog GROUP BY 1, 2, 3, 4, 5, 6"""

CHECKS: tuple[Check, ...] = (
    Check(
        "accounts",
        "both sides of every transfer are accounts",
        """SELECT t.id FROM billing_transfer t
        LEFT JOIN billing_account d ON d.id = t.debit_account LEFT JOIN billing_account c ON c.id = t.credit_account
        WHERE d.id IS NULL OR c.id IS NULL""",
    ),
    Check(
        "sides",
        "every transfer moves credits between its workspace's wallet and the house's account for its kind",
        """SELECT t.id, t.kind, d.kind, c.kind FROM billing_transfer t
        LEFT JOIN billing_account d ON d.id = t.debit_account LEFT JOIN billing_account c ON c.id = t.credit_account
        WHERE (d.kind = 'wallet' AND d.id = t.workspace_id AND (t.kind, c.kind) IN (
                 ('usage', 'revenue'), ('expiry', 'expired'), ('adjustment', 'adjustment'), ('refund', 'stripe'),
                 ('refund', 'demo'), ('dispute', 'stripe'), ('dispute', 'demo'))
            OR c.kind = 'wallet' AND c.id = t.workspace_id AND (t.kind, d.kind) IN (
                 ('topup', 'stripe'), ('topup', 'demo'), ('grant', 'promotion'), ('grant', 'demo'),
                 ('adjustment', 'adjustment'), ('refund', 'stripe'), ('refund', 'demo'), ('dispute', 'stripe'),
                 ('dispute', 'demo'))) IS NOT TRUE""",
    ),
    Check(
        "balance",
        "a wallet's balance is what was credited to it less what was debited",
        """SELECT w.workspace_id, w.balance_microcredits, COALESCE(s.total, 0) FROM billing_wallet w
        LEFT JOIN (SELECT account, sum(amount) AS total FROM (
            SELECT credit_account AS account, amount_microcredits AS amount FROM billing_transfer
            UNION ALL SELECT debit_account, -amount_microcredits FROM billing_transfer) x GROUP BY account) s
          ON s.account = w.workspace_id
        WHERE w.balance_microcredits <> COALESCE(s.total, 0)""",
    ),
    Check(
        "held",
        "a wallet holds what its pending holds reserve",
        """SELECT w.workspace_id, w.held_microcredits, COALESCE(h.total, 0) FROM billing_wallet w
        LEFT JOIN (SELECT wallet_id, sum(amount_microcredits) AS total FROM billing_hold WHERE state = 'pending'
                   GROUP BY wallet_id) h ON h.wallet_id = w.workspace_id
        WHERE w.held_microcredits <> COALESCE(h.total, 0)""",
    ),
    Check(
        "lots",
        "what remains in a wallet's lots is its balance, or zero below that",
        """SELECT w.workspace_id, w.balance_microcredits, COALESCE(l.total, 0) FROM billing_wallet w
        LEFT JOIN (SELECT wallet_id, sum(remaining_microcredits) AS total FROM billing_creditlot GROUP BY wallet_id) l
          ON l.wallet_id = w.workspace_id
        WHERE COALESCE(l.total, 0) <> GREATEST(w.balance_microcredits, 0)""",
    ),
    Check(
        "lot",
        "no lot gave more than it was granted, and what is missing from it was taken by transfers or paid a debt",
        """SELECT l.id FROM billing_creditlot l
        LEFT JOIN (SELECT lot_id, sum(amount_microcredits) AS used FROM billing_transfer
                   WHERE debit_account = workspace_id GROUP BY lot_id) t ON t.lot_id = l.id
        WHERE l.remaining_microcredits > l.granted_microcredits - COALESCE(t.used, 0)""",
    ),
    Check(
        "grants",
        "every lot came in by one transfer of its size",
        """SELECT l.id FROM billing_creditlot l
        LEFT JOIN billing_transfer t ON t.lot_id = l.id AND t.credit_account = l.wallet_id
        GROUP BY l.id HAVING COALESCE(sum(t.amount_microcredits), 0) <> l.granted_microcredits OR count(t.id) <> 1""",
    ),
    Check(
        "topups",
        "every paid top-up was credited once with what its money buys, and nothing else was credited as a top-up",
        """SELECT COALESCE(u.id, t.reference) FROM (SELECT * FROM billing_topup WHERE state = 'paid') u
        FULL JOIN (SELECT * FROM billing_transfer WHERE kind = 'topup') t ON t.reference = u.id
        WHERE u.id IS NULL OR t.id IS NULL OR t.amount_microcredits <> u.credits_microcredits
           OR t.lot_id <> u.lot_id OR t.credit_account <> u.wallet_id
           OR u.credits_microcredits <> u.amount_cents::bigint * 1000000""",  # a cent is a credit
    ),
    Check(
        "calls",
        "what the log charges a call is what the ledger took for it",
        """SELECT COALESCE(l.request_id, t.reference), l.charged, t.charged FROM
        (SELECT request_id, sum(charged_microcredits) AS charged FROM usage_requestlog
         GROUP BY request_id HAVING sum(charged_microcredits) > 0) l
        FULL JOIN (SELECT reference, sum(amount_microcredits) AS charged FROM billing_transfer WHERE kind = 'usage'
                   GROUP BY reference) t ON t.reference = l.request_id
        WHERE l.charged IS DISTINCT FROM t.charged""",
    ),
    Check(
        "dates",
        "a call's log row and its transfers bear the same moment",
        """SELECT t.id FROM billing_transfer t JOIN usage_requestlog l
          ON l.request_id = t.reference AND l.charged_microcredits > 0
        WHERE t.kind = 'usage' AND t.billed_at <> l.billed_at""",
    ),
    Check(
        "holds",
        "each hold that ended is logged as it ended: a posted one with its charge, an expired one as interrupted",
        """SELECT h.id, h.state FROM billing_hold h LEFT JOIN usage_requestlog l ON l.id = h.id
        WHERE (h.state = 'posted' AND (l.id IS NULL OR l.charged_microcredits <> h.charged_microcredits))
           OR (h.state = 'expired' AND (l.id IS NULL OR l.error_type <> 'interrupted'))
           OR (h.state IN ('voided', 'expired') AND l.charged_microcredits > 0)
           OR (h.state = 'pending' AND l.id IS NOT NULL)""",
    ),
    Check(
        "meters",
        "a key's month is what its calls were charged, and holds what its pending holds reserve",
        """WITH spent AS (
          SELECT key_id, month, sum(charged) AS spent FROM (
            SELECT key_id, month, charged_microcredits AS charged FROM billing_hold WHERE state = 'posted'
            UNION ALL
            SELECT l.key_id, COALESCE(h.month, date_trunc('month', l.billed_at AT TIME ZONE 'UTC')::date),
                   l.charged_microcredits
            FROM usage_requestlog l LEFT JOIN billing_hold h ON h.id = l.request_id
            WHERE l.late AND h.state IS DISTINCT FROM 'posted') x
          WHERE key_id IS NOT NULL GROUP BY key_id, month),
        held AS (
          SELECT key_id, month, sum(amount_microcredits) AS held FROM billing_hold
          WHERE state = 'pending' AND key_id IS NOT NULL GROUP BY key_id, month)
        SELECT COALESCE(m.scope_id, s.key_id, h.key_id), COALESCE(m.month, s.month, h.month)
        FROM (SELECT * FROM billing_spendmeter WHERE scope = 'key') m
        FULL JOIN spent s ON s.key_id = m.scope_id AND s.month = m.month
        FULL JOIN held h ON h.key_id = COALESCE(m.scope_id, s.key_id) AND h.month = COALESCE(m.month, s.month)
        WHERE COALESCE(m.spent_microcredits, 0) <> COALESCE(s.spent, 0)
           OR COALESCE(m.held_microcredits, 0) <> COALESCE(h.held, 0)""",
    ),
    Check(
        "meters above keys",
        "a member's or organization's month is what its holds were charged, and holds what they reserve",
        """WITH counted AS (
          SELECT h.id, h.month, h.state, h.amount_microcredits, h.charged_microcredits, unnest(h.meter_ids) AS scope_id
          FROM billing_hold h WHERE h.meter_ids IS NOT NULL),
        sums AS (
          SELECT scope_id, month, sum(spent) AS spent, sum(held) AS held FROM (
            SELECT scope_id, month, CASE WHEN state = 'posted' THEN charged_microcredits ELSE 0 END AS spent,
                   CASE WHEN state = 'pending' THEN amount_microcredits ELSE 0 END AS held FROM counted
            UNION ALL
            SELECT c.scope_id, c.month, l.charged_microcredits, 0 FROM counted c
            JOIN usage_requestlog l ON l.request_id = c.id AND l.late AND c.state <> 'posted') x
          GROUP BY scope_id, month)
        SELECT COALESCE(m.scope_id, s.scope_id), COALESCE(m.month, s.month)
        FROM (SELECT * FROM billing_spendmeter WHERE scope <> 'key') m
        FULL JOIN sums s ON s.scope_id = m.scope_id AND s.month = m.month
        WHERE COALESCE(m.spent_microcredits, 0) <> COALESCE(s.spent, 0)
           OR COALESCE(m.held_microcredits, 0) <> COALESCE(s.held, 0)""",
    ),
    Check(
        "rollups",
        "the sums that pages show are the sums of the log",
        f"""SELECT COALESCE(r.workspace_id, l.workspace_id), COALESCE(r.day, l.day), COALESCE(r.model, l.model)
        FROM usage_rollup r FULL JOIN ({_LOG_SUMS}) l
          ON (l.workspace_id, l.day, l.key_id, l.model, l.endpoint, l.status)
           = (r.workspace_id, r.day, r.key_id, r.model, r.endpoint, r.status)
        WHERE (r.requests, r.input_tokens, r.cached_input_tokens, r.output_tokens, r.charged_microcredits,
               r.saved_microcredits, r.latency_ms)
          IS DISTINCT FROM (l.requests, l.input_tokens, l.cached_input_tokens, l.output_tokens,
               l.charged_microcredits, l.saved_microcredits, l.latency_ms)""",  # noqa: S608 (a constant)
    ),
    Check(
        "statements",
        "what a workspace's statement of a month shows by model and key is what the ledger took in that month",
        """SELECT COALESCE(r.workspace_id, t.workspace_id), COALESCE(r.month, t.month), r.charged, t.charged FROM
        (SELECT workspace_id, date_trunc('month', day)::date AS month, sum(charged_microcredits) AS charged
         FROM usage_rollup GROUP BY 1, 2 HAVING sum(charged_microcredits) > 0) r
        FULL JOIN (SELECT workspace_id, date_trunc('month', billed_at AT TIME ZONE 'UTC')::date AS month,
                          sum(amount_microcredits) AS charged
                   FROM billing_transfer WHERE kind = 'usage' GROUP BY 1, 2) t
          ON t.workspace_id = r.workspace_id AND t.month = r.month
        WHERE r.charged IS DISTINCT FROM t.charged""",
    ),
    Check(
        "checkpoints",
        "days that were sealed have not changed since",
        """SELECT c.day FROM usage_checkpoint c
        LEFT JOIN (SELECT (billed_at AT TIME ZONE 'UTC')::date AS day, count(*) AS n, sum(amount_microcredits) AS total
                   FROM billing_transfer GROUP BY 1) t ON t.day = c.day
        LEFT JOIN (SELECT (billed_at AT TIME ZONE 'UTC')::date AS day, count(*) AS n,
                          sum(charged_microcredits) AS total
                   FROM usage_requestlog GROUP BY 1) l ON l.day = c.day
        WHERE (c.transfers, c.amount_microcredits, c.log_rows, c.charged_microcredits)
          IS DISTINCT FROM (COALESCE(t.n, 0), COALESCE(t.total, 0), COALESCE(l.n, 0), COALESCE(l.total, 0))""",
    ),
    *(Check(*proof) for proof in (*billing_proofs.PROOFS, *voucher_proofs.PROOFS)),
)

_registered: dict[str, Check] = {}


def register(name: str, claim: str, query: str) -> None:
    """Have `verify` prove one thing more, of an app above this one; from its AppConfig's ``ready``."""
    _registered[name] = Check(name, claim, query)


def checks() -> tuple[Check, ...]:
    """Everything that is proved."""
    return (*CHECKS, *_registered.values())


_TOTALS = """
SELECT (SELECT count(*) FROM billing_wallet), (SELECT count(*) FROM billing_transfer),
       (SELECT count(*) FROM usage_requestlog), (SELECT COALESCE(sum(charged_microcredits), 0) FROM usage_requestlog)"""
# Yesterday and before: a day is sealed once, when no call that began in it can still be running.
_SEAL = """
INSERT INTO usage_checkpoint (day, transfers, amount_microcredits, log_rows, charged_microcredits, sealed_at)
SELECT d.day, COALESCE(t.n, 0), COALESCE(t.total, 0), COALESCE(l.n, 0), COALESCE(l.total, 0), now()
FROM (SELECT DISTINCT (billed_at AT TIME ZONE 'UTC')::date AS day FROM usage_requestlog
      UNION SELECT (billed_at AT TIME ZONE 'UTC')::date FROM billing_transfer) d
LEFT JOIN (SELECT (billed_at AT TIME ZONE 'UTC')::date AS day, count(*) AS n, sum(amount_microcredits) AS total
           FROM billing_transfer GROUP BY 1) t ON t.day = d.day
LEFT JOIN (SELECT (billed_at AT TIME ZONE 'UTC')::date AS day, count(*) AS n, sum(charged_microcredits) AS total
           FROM usage_requestlog GROUP BY 1) l ON l.day = d.day
WHERE d.day < (now() AT TIME ZONE 'UTC')::date ON CONFLICT (day) DO NOTHING RETURNING day"""


def verify() -> Report:
    """Run every check over one snapshot. Inside a caller's transaction that transaction's view is checked."""
    with _snapshot(), connection.cursor() as cursor:
        findings = []
        for check in checks():
            cursor.execute(check.query)
            if rows := cursor.fetchall():
                examples = tuple(" ".join(map(str, row)) for row in rows[:EXAMPLES])
                findings.append(Finding(check, len(rows), examples))
        cursor.execute(_TOTALS)
        wallets, transfers, log_rows, charged = cursor.fetchone()
    return Report(tuple(findings), wallets, transfers, log_rows, int(charged))


def seal() -> list[date]:
    """Seal the days before today (UTC) that are not sealed yet; returns them. Call only after a clean report."""
    with connection.cursor() as cursor:
        cursor.execute(_SEAL)
        return sorted(row[0] for row in cursor.fetchall())


@contextmanager
def _snapshot() -> Iterator[None]:
    outer = connection.in_atomic_block
    with transaction.atomic():
        if not outer:
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield
