"""What a call may use up, what it reserves for that, and what it cost. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final
from uuid import UUID

from msgspec import structs

from catalog import pricing
from catalog.entries import ModelEntry, PriceEntry
from gateway.dialects.base import Call
from gateway.limits import Limits
from upstreams import estimate
from upstreams.wire import Usage

PriceOf = Callable[[str], PriceEntry | None]


def _unknown(_: str) -> PriceEntry | None:
    return None


class Meter:
    """One call's reservation and its growth.

    A call that is answered in one piece reserves its whole output ceiling. A stream reserves a step of it and more when
    half of the last step is used, so that a large ceiling does not lock a small wallet out.
    """

    __slots__ = (
        "_body",
        "_dearest",
        "_input_tokens",
        "_price_of",
        "_rates",
        "_step",
        "ceiling_tokens",
        "granted_tokens",
        "price_id",
    )

    def __init__(
        self,
        call: Call,
        price: PriceEntry,
        input_tokens: int,
        ceiling_tokens: int,
        step_tokens: int,
        price_of: PriceOf = _unknown,
    ) -> None:
        self._rates = price.rates
        self._price_of = price_of
        self.price_id = price.id
        self._dearest = _dearest(price, input_tokens, call.service_tier)
        for name, _ in call.other_models:
            if other := price_of(name):
                dearest_input, dearest_output = _dearest(other, input_tokens, call.service_tier)
                self._dearest = max(self._dearest[0], dearest_input), max(self._dearest[1], dearest_output)
        self._input_tokens = input_tokens
        self._body = call.body
        self._step = step_tokens
        self.ceiling_tokens = ceiling_tokens
        #: Output tokens that the hold covers.
        self.granted_tokens = min(ceiling_tokens, step_tokens) if call.stream else ceiling_tokens

    @classmethod
    def of(cls, call: Call, entry: ModelEntry, limits: Limits, price_of: PriceOf = _unknown) -> Meter:
        """The meter of a call to a priced model. Weighs the body, which takes a while for megabytes.

        ``price_of`` knows the prices of other models that the provider may bring in.
        """
        assert entry.price is not None
        input_tokens = estimate.ceiling_input_tokens(call.body)
        ceiling = output_ceiling(call, entry, limits)
        return cls(call, entry.price, input_tokens, ceiling, limits.step_output_tokens, price_of)

    @property
    def reserved_microcredits(self) -> int:
        """What the hold must be for the tokens granted so far."""
        return self.microcredits_for(self.granted_tokens)

    @property
    def extend_above_tokens(self) -> int:
        """With more output tokens than this the hold should grow: half of the last step, or all of the ceiling."""
        if self.granted_tokens < self.ceiling_tokens:
            return self.granted_tokens - self._step // 2
        return self.granted_tokens

    def next_tokens(self, used_tokens: int) -> int:
        """What to grant next: one step more than is granted or, where a piece was larger than that, than is used."""
        return max(self.granted_tokens, used_tokens) + self._step

    def microcredits_for(self, output_tokens: int) -> int:
        """What the hold must be to cover this much output."""
        return pricing.ceiling_at(*self._dearest, self._input_tokens, output_tokens)

    def input_estimate(self) -> int:
        """Input tokens to bill where the upstream gives no count."""
        return estimate.estimate_input_tokens(self._body)

    def charge(self, usage: Usage) -> pricing.Charge:
        """What the usage costs. What ran on another model costs that one's price, or ours where it has none."""
        if not usage.elsewhere and not usage.model:
            return pricing.charge(self._rates, usage)
        parts = [(usage.model, _rest_of(usage)), *usage.elsewhere]
        return pricing.together([self._part(name, part) for name, part in parts])

    def _part(self, model: str, usage: Usage) -> pricing.Charge:
        price = self._price_of(model) if model else None
        charge = pricing.charge(price.rates if price is not None else self._rates, usage)
        if model and price is None:
            return structs.replace(charge, unpriced=(*charge.unpriced, f"model:{model}"))
        if model:
            return structs.replace(charge, lines=tuple(structs.replace(line, model=model) for line in charge.lines))
        return charge

    def saved_microcredits(self, usage: Usage, charged_microcredits: int) -> int:
        """What the prompt cache saved: the same tokens at the full input rate, less the charge. Never negative."""
        if not usage.cached_input_tokens:
            return 0
        uncached = structs.replace(usage, cached_input_tokens=0, cache_write_5m_tokens=0, cache_write_1h_tokens=0)
        return max(0, self.charge(uncached).amount_microcredits - charged_microcredits)


def _rest_of(usage: Usage) -> Usage:
    """``usage`` without its parts that ran elsewhere."""
    parts = [part for _, part in usage.elsewhere]
    return structs.replace(
        usage,
        input_tokens=usage.input_tokens - sum(part.input_tokens for part in parts),
        cached_input_tokens=usage.cached_input_tokens - sum(part.cached_input_tokens for part in parts),
        cache_write_5m_tokens=usage.cache_write_5m_tokens - sum(part.cache_write_5m_tokens for part in parts),
        cache_write_1h_tokens=usage.cache_write_1h_tokens - sum(part.cache_write_1h_tokens for part in parts),
        output_tokens=usage.output_tokens - sum(part.output_tokens for part in parts),
        elsewhere=(),
    )


_known_dearest: dict[tuple[UUID, str | None, int], tuple[int, int]] = {}
_MOST_KNOWN: Final = 10_000


def _dearest(price: PriceEntry, input_tokens: int, service_tier: str | None) -> tuple[int, int]:
    """Kept by price version, which never changes, speed class and context tiers reached."""
    reached = sum(input_tokens > tier.above_input_tokens for tier in price.rates.long_context)
    name = (price.id, service_tier, reached)
    found = _known_dearest.get(name)
    if found is None:
        if len(_known_dearest) >= _MOST_KNOWN:
            _known_dearest.clear()
        tiers = (service_tier,) if service_tier else ()
        found = _known_dearest[name] = pricing.dearest(price.rates, input_tokens, tiers)
    return found


def output_ceiling(call: Call, entry: ModelEntry, limits: Limits) -> int:
    """Output tokens that the call can't exceed: what it names, no more than the model can do, all choices together."""
    most = entry.max_output_tokens * call.choices if entry.max_output_tokens else None
    if call.output_ceiling is not None:
        return call.output_ceiling if most is None else min(call.output_ceiling, most)
    one = entry.default_max_output_tokens or entry.max_output_tokens or limits.default_output_tokens
    return one * call.choices
