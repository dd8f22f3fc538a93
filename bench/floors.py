"""What a run beside the peers must show, as ratios of that same run: the speed of the machine drops out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Final

from bench.measure import Added, Saturated

OURS: Final = "Hypereal"


@dataclass(slots=True)
class Figures:
    """What was measured of one gateway, a value a round."""

    json: list[Saturated] = field(default_factory=list)
    sse: list[Saturated] = field(default_factory=list)
    #: By requests a second.
    added: dict[float, list[Added]] = field(default_factory=dict)
    streamed: list[Added] = field(default_factory=list)
    #: The formats beside chat, by name: whole answers and streams.
    others: dict[str, tuple[list[Saturated], list[Saturated]]] = field(default_factory=dict)

    @property
    def rss_mb(self) -> float:
        """The most memory it was seen to hold."""
        others = (blocks for pair in self.others.values() for blocks in pair)
        return max(block.memory.rss_mb for blocks in (self.json, self.sse, *others) for block in blocks)


Run = Mapping[str, Figures]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One claim with its figure. ``least``: the figure must be at least floor and aim, else at most."""

    claim: str
    figure: float
    floor: float
    aim: float
    least: bool
    unit: str = "×"

    @property
    def met(self) -> bool:
        """Whether the floor is kept."""
        return self.figure >= self.floor if self.least else self.figure <= self.floor

    @property
    def aim_met(self) -> bool:
        """Whether the aim is reached."""
        return self.figure >= self.aim if self.least else self.figure <= self.aim


def judge(run: Run, rate: float) -> list[Verdict]:
    """Every floor, over medians of ratios within rounds."""
    ours, litellm, portkey = run[OURS], run["LiteLLM"], run["Portkey"]

    def cpu(peer: Figures) -> float:
        return _ratio(peer.json, ours.json, lambda block: block.cpu_us)

    return [
        Verdict("CPU a request, times less than LiteLLM", cpu(litellm), 15, 40, least=True),
        Verdict("CPU a request, times less than Portkey", cpu(portkey), 2.5, 5, least=True),
        Verdict(
            "SSE events a second, times Portkey's",
            _ratio(ours.sse, portkey.sse, lambda block: block.events_per_second),
            2,
            5,
            least=True,
        ),
        Verdict(
            f"added p50 at {rate:.0f}/s, part of Portkey's",
            median(each.p50_ms for each in ours.added[rate]) / median(each.p50_ms for each in portkey.added[rate]),
            1,
            1 / 3,
            least=False,
        ),
        Verdict("memory, RSS", ours.rss_mb, 120, 120, least=False, unit="MB"),
    ]


def _ratio(above: Sequence[Saturated], below: Sequence[Saturated], figure: Callable[[Saturated], float]) -> float:
    return median(figure(one) / figure(other) for one, other in zip(above, below, strict=True))
