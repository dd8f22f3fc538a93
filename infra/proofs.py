"""What must hold between warm workers and the books, for `usage.verify`."""

from __future__ import annotations

from typing import Final

#: Name, claim, and the query for what contradicts it.
PROOFS: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "warm workers",
        "workers that are kept warm are reserved, what is reserved for them is kept, and what ended cost what it says",
        """SELECT COALESCE(w.id, h.id), h.state, w.charged_microcredits, h.charged_microcredits
        FROM infra_warmcharge w FULL JOIN (SELECT * FROM billing_hold WHERE endpoint = 'gpu_warm') h ON h.id = w.id
        WHERE (w.id IS NULL AND h.state <> 'voided') OR (w.id IS NOT NULL AND h.id IS NULL)
           OR (w.charged_microcredits IS NULL) <> (h.state IN ('pending', 'voided'))
           OR (w.id IS NOT NULL AND h.state NOT IN ('pending', 'posted'))
           OR (h.state = 'posted' AND w.charged_microcredits <> h.charged_microcredits)""",
    ),
)
