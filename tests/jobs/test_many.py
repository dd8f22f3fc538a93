"""A thousand jobs and random faults in one run: nothing lost, nothing paid twice, and figures to show for it."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest
import pytest_django

from jobs import lifecycle
from jobs.models import Job
from tests.support.gateway import wait_for
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


class Trouble:
    """Cancels, kills and empties, spread over the time in which jobs come in."""

    def __init__(self, here: Yard, chance: random.Random, jobs: int) -> None:
        self.here, self.chance, self.jobs = here, chance, jobs
        self.roles = ["cron", "worker"]
        self.processes = [here.start(role) for role in self.roles]
        self.kills = self.flushes = 0
        self.made: list[UUID] = []

    def after(self, number: int) -> None:
        """What happens behind the submission of that number."""
        if number % 12 == 0:  # one that may have ended, runs, or has not begun
            lifecycle.cancel(self.chance.choice(self.made[-40:]))
        if number % (self.jobs // 6) == self.jobs // 12:
            self._kill(self.chance.randrange(2))
        if number % (self.jobs // 4) == self.jobs // 8:
            queue = self.here.queue()
            queue.flushall()
            queue.close()
            self.flushes += 1

    def _kill(self, which: int) -> None:
        self.processes[which].kill()
        self.processes[which] = self.here.start(self.roles[which])
        self.kills += 1


def run(here: Yard, jobs: int, *, seconds: float, seed: int, figures: Figures) -> None:
    chance = random.Random(seed)
    caller = here.caller(credits=100_000)
    began = time.monotonic()
    trouble, made = Trouble(here, chance, jobs), {}
    for number, plan in enumerate(chance.choices(list(PLANS), list(PLANS.values()), k=jobs), start=1):
        # Some end by their time alone: these get one that can be waited for.
        job = submit(caller, kind="paintings", reserved=RESERVED, input={"plan": plan},
                     deadline_seconds=5 if plan in ("never", "late") else 600)  # fmt: skip
        made[job.pk] = plan
        trouble.made.append(job.pk)
        trouble.after(number)
    wait_for(lambda: open_jobs(caller) == 0, seconds)
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
        f"{jobs} jobs in {took:.0f} s, {trouble.kills} processes killed, Redis emptied {trouble.flushes} times: "
        + ", ".join(f"{count} {state}" for state, count in sorted(states.items()))
        + f"; {sum(row.steps for row in rows)} steps, {asked_to_begin} times asked to begin, {tasks} tasks; 0 lost"
    )


@pytest.mark.timeout(900)  # a minute on two quiet cores, more beside other tests
def test_a_thousand_jobs_with_random_faults(here: Yard, figures: Figures) -> None:
    run(here, 1_000, seconds=500, seed=20_261, figures=figures)


@pytest.mark.torture
@pytest.mark.timeout(3_000)
def test_twenty_thousand_jobs_with_random_faults(here: Yard, figures: Figures) -> None:
    run(here, 20_000, seconds=2_700, seed=20_262, figures=figures)
