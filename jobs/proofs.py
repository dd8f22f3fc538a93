"""What must hold between jobs and the books, for `usage.verify`."""

from __future__ import annotations

from typing import Final

#: Name, claim, and the query for what contradicts it.
PROOFS: Final[tuple[tuple[str, str, str], ...]] = (
    (
        "open jobs",
        "an open job has a pending hold of its size, and a pending hold of a job's an open job",
        """SELECT COALESCE(j.id, h.id), j.state FROM
        (SELECT id, state, reserved_microcredits FROM jobs_job WHERE finished_at IS NULL) j
        FULL JOIN (SELECT id, amount_microcredits FROM billing_hold
                   WHERE state = 'pending' AND owner_id IS NULL AND endpoint IN (SELECT DISTINCT kind FROM jobs_job)) h
          ON h.id = j.id
        WHERE h.id IS NULL OR j.id IS NULL OR h.amount_microcredits <> j.reserved_microcredits""",
    ),
    (
        "ended jobs",
        "a job that ended has a hold that ended with its cost, and one row in the log",
        """SELECT j.id, j.state, h.state FROM jobs_job j
        LEFT JOIN billing_hold h ON h.id = j.id
        LEFT JOIN (SELECT request_id, count(*) AS rows, sum(charged_microcredits) AS charged FROM usage_requestlog
                   WHERE request_id IN (SELECT id FROM jobs_job) GROUP BY request_id) l ON l.request_id = j.id
        WHERE j.finished_at IS NOT NULL
          AND (h.state IS NULL OR h.state NOT IN ('posted', 'voided') OR l.rows IS DISTINCT FROM 1
               OR COALESCE(h.charged_microcredits, 0) <> j.cost_microcredits OR l.charged <> j.cost_microcredits)""",
    ),
)
