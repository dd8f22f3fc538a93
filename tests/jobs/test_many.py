"""A thousand jobs and random faults in one run: nothing lost, nothing paid twice, and figures to show for it."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator

import pytest
import pytest_django

from jobs import lifecycle
from jobs.models import Job
from tests.support.job_yard import Yard, open_jobs, yard
from tests.support.jobs import declared, submit
from tests.support.paintings.kind import PRICE, Paintings
from usage import verify

RESERVED = 10_000_000
#: How providers behave, by how many of a thousand jobs meet it.
PLANS = {
    "quick": 380, "ok": 330, "fails": 80, "refuses": 50, "flaky": 50, "cut": 40, "forgets": 30, "never": 25, "late": 15,
}  # fmt: skip
#: What may become of each. A cancel that came in time is possible for any.
ENDS = {
    "quick": {"succeeded"},
    "ok": {"succeeded"},
    "flaky": {"succeeded"},
    "cut": {"succeeded"},
    "fails": {"failed"},
    "refuses": {"failed"},
    "forgets": {"failed"},
    "never": {"expired"},
    "late": {"expired", "succeeded"},
}
Figures = Callable[[str], None]


@pytest.fixture
def here(
    test_database: None, django_db_blocker: pytest_django.DjangoDbBlocker, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Yard]:
    with django_db_blocker.unblock(), declared(Paintings()), yard(tmp_path_factory.mktemp("many")) as made:
        yield made


def run(here: Yard, jobs: int, *, seconds: float, seed: int, figures: Figures) -> None:
    chance = random.Random(seed)
    caller = here.caller(credits=100_000)
    plans = chance.choices(list(PLANS), list(PLANS.values()), k=jobs)
    processes = [here.start("cron"), here.start("worker")]
    began = time.monotonic()
    made = {}
    for plan in plans:
        # These end by their time alone, so they get one that a busy machine can wait for.
        job = submit(caller, kind="paintings", reserved=RESERVED, input={"plan": plan},
                     deadline_seconds=15 if plan in ("never", "late") else 600)  # fmt: skip
        made[job.pk] = plan
    cancelled = chance.sample(sorted(made), jobs // 12)
    kills = flushed = 0
    end = time.monotonic() + seconds
    while open_jobs(caller):
        assert time.monotonic() < end, f"{open_jobs(caller)} jobs are still open"
        time.sleep(chance.uniform(1.0, 3.0))
        for job_id in cancelled[:10]:
            lifecycle.cancel(job_id)
        del cancelled[:10]
        if kills < 3 + jobs // 500:
            number = chance.randrange(len(processes))
            here.kill(processes[number])
            processes[number] = here.start(("cron", "worker")[number])
            kills += 1
        if flushed < 3:
            queue = here.queue()
            queue.flushall()
            queue.close()
            flushed += 1
    took = time.monotonic() - began

    rows = list(Job.objects.filter(workspace_id=caller.workspace.pk))
    states = Counter(row.state for row in rows)
    assert len(rows) == jobs
    for row in rows:
        asked = row.cancel_asked_at is not None
        assert row.state in ENDS[made[row.pk]] or (asked and row.state == "cancelled"), (made[row.pk], row.state)
        assert row.cost_microcredits == (PRICE if row.state == "succeeded" else 0)
    books = caller.books()
    assert books.held == 0
    assert books.transfers == [PRICE] * states["succeeded"]
    assert books.balance == 100_000 * 1_000_000 - PRICE * states["succeeded"]
    assert len({row["request_id"] for row in books.log}) == len(books.log) == jobs
    assert verify.verify().findings == ()
    tasks, asked_to_begin = len(here.provider.tasks), sum(here.provider.begun.values())
    figures(
        f"{jobs} jobs in {took:.0f} s, {kills} processes killed, Redis emptied {flushed} times: "
        + ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        + f"; {sum(row.steps for row in rows)} steps, {asked_to_begin} times asked to begin, {tasks} tasks; 0 lost"
    )


def test_a_thousand_jobs_with_random_faults(here: Yard, figures: Figures) -> None:
    run(here, 1_000, seconds=240, seed=20_261, figures=figures)


@pytest.mark.torture
@pytest.mark.timeout(3_000)
def test_twenty_thousand_jobs_with_random_faults(here: Yard, figures: Figures) -> None:
    run(here, 20_000, seconds=2_700, seed=20_262, figures=figures)
