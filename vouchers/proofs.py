"""What the books must show about vouchers. `usage.verify` runs the queries, each for rows that contradict its claim."""

from __future__ import annotations

from typing import Final

#: Name, claim, and the query for what contradicts it.
PROOFS: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "vouchers",
        "every redemption was credited once, out of the house's promotions, and nothing else came from there",
        """SELECT COALESCE(r.id, t.reference), r.amount_microcredits, t.amount_microcredits FROM vouchers_redemption r
        FULL JOIN (SELECT t.* FROM billing_transfer t JOIN billing_account a ON a.id = t.debit_account
                   WHERE a.kind = 'promotion') t ON t.reference = r.id
        WHERE r.id IS NULL OR t.id IS NULL OR t.kind <> 'grant' OR t.credit_account <> r.workspace_id
           OR t.amount_microcredits <> r.amount_microcredits""",
    ),
    (
        "voucher counts",
        "a voucher counts its redemptions, and each was worth what the voucher says",
        """SELECT v.id, v.redeemed_count, count(r.id) FROM vouchers_voucher v
        LEFT JOIN vouchers_redemption r ON r.voucher_id = v.id
        GROUP BY v.id
        HAVING v.redeemed_count <> count(r.id) OR bool_or(r.amount_microcredits <> v.amount_microcredits)""",
    ),
)
