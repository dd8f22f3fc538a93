"""What the books of a payer must show: the model that the machine keeps beside the real ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from tests.support.money import Payer
from usage.items import Admit, Settle


@dataclass
class Call:
    """One admission and what the model knows of its hold: ``settle`` once it was applied, ``planned`` before."""

    payer: Payer
    admit: Admit
    owner: int | None
    amount: int
    state: str = "pending"
    settle: Settle | None = None
    planned: Settle | None = None


@dataclass
class Books:
    """A payer as the model sees them."""

    payer: Payer
    limit: int | None
    granted: int = 0
    #: Charged without a hold that covered it: what a balance or a limit may be passed by.
    uncovered: int = 0
    enabled: bool = True
    calls: dict[UUID, Call] = field(default_factory=dict)

    @property
    def charged(self) -> int:
        return sum(call.settle.charge_microcredits for call in self.calls.values() if call.settle is not None)

    @property
    def held(self) -> int:
        return sum(call.amount for call in self.calls.values() if call.state == "pending")
