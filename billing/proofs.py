"""What the books must show about payments, each as a query for rows that contradict it. `usage.verify` runs them."""

from __future__ import annotations

from typing import Final, NamedTuple


class Proof(NamedTuple):
    """``query`` selects what contradicts ``claim``."""

    name: str
    claim: str
    query: str


PROOFS: Final = (
    Proof(
        "reversals",
        "what a refund or dispute took from a wallet is what its row says, and nothing else was taken as one",
        """SELECT COALESCE(r.id, t.reference), r.taken_microcredits, t.net FROM billing_reversal r
        FULL JOIN (SELECT reference, kind, sum(CASE WHEN debit_account = workspace_id THEN amount_microcredits
                                                    ELSE -amount_microcredits END) AS net
                   FROM billing_transfer WHERE kind IN ('refund', 'dispute') GROUP BY reference, kind) t
          ON t.reference = r.id AND t.kind = r.kind
        WHERE r.id IS NULL OR r.taken_microcredits <> COALESCE(t.net, 0)""",
    ),
    Proof(
        "reversed",
        "no payment gave back more credits than it brought",
        """SELECT u.id, u.credits_microcredits, sum(r.taken_microcredits) FROM billing_topup u
        JOIN billing_reversal r ON r.topup_id = u.id GROUP BY u.id
        HAVING sum(r.taken_microcredits) > CASE WHEN u.lot_id IS NULL THEN 0 ELSE u.credits_microcredits END""",
    ),
    Proof(
        "expiry",
        "credits expired only at the end of their lot, and no more than the lot held",
        """SELECT t.id FROM billing_transfer t LEFT JOIN billing_creditlot l ON l.id = t.lot_id AND l.id = t.reference
        WHERE t.kind = 'expiry' AND (l.id IS NULL OR l.expires_at IS NULL OR l.expires_at > t.billed_at
                                     OR l.wallet_id <> t.debit_account)""",
    ),
    Proof(
        "stripe",
        "the newest comparison with Stripe found no difference",
        """SELECT r.id, r.created_at, jsonb_array_length(r.differences) FROM billing_stripereport r
        WHERE r.id IN (SELECT id FROM billing_stripereport ORDER BY id DESC LIMIT 1)
          AND jsonb_array_length(r.differences) > 0""",
    ),
)
