"""What several files here share: somebody who visits the database as the committer does, and a payer."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from tests.support.money import Payer, new_payer
from tests.support.visitor import CREDIT, Visitor, dsn, later
from usage import verify
from usage.line import Line


@pytest_asyncio.fixture
async def visitor(committed: None) -> AsyncIterator[Visitor]:
    visitor = Visitor(await Line.open(await dsn(), options="-c timezone=UTC"))
    yield visitor
    visitor.close()
    assert await later(lambda: verify.verify().findings) == ()


@pytest_asyncio.fixture
async def payer(committed: None) -> Payer:
    return await later(lambda: new_payer(balance=1_000 * CREDIT))
