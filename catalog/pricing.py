"""What a call costs: pure integer arithmetic over a price and a usage, no Django, no I/O.

Every rate is an integer number of microcredits, per million tokens or per unit. A call is rounded once, half up, at
its very end; the exact parts stay beside the sum for receipts. A rate that is not set is None, never zero, and falls
back by one documented rule (``TokenRates.of``), always to a dearer or equal bucket of the same direction.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import Final

import msgspec

from core.money import round_half_up
from upstreams.wire import Usage

TOKENS_PER_MTOK: Final = 1_000_000

#: Words of an upstream's ``service_tier`` that mean its ordinary rate.
STANDARD_TIERS: Final = frozenset({"", "auto", "default", "on_demand", "standard", "standard_only"})

#: The tier of a unit price that has only one.
DEFAULT_TIER: Final = "default"

INPUT_BUCKETS: Final = ("input", "cached_input", "cache_write_5m", "cache_write_1h", "audio_input")
OUTPUT_BUCKETS: Final = ("output", "audio_output")
BUCKETS: Final = INPUT_BUCKETS + OUTPUT_BUCKETS

#: Where a bucket without a rate of its own finds one: no discount is assumed that the price list does not name.
_FALLBACK: Final = {
    "cached_input": "input",
    "cache_write_5m": "input",
    "cache_write_1h": "cache_write_5m",
    "audio_input": "input",
    "audio_output": "output",
}


class NotPriced(ValueError):
    """The price has no rate for what was asked of it: such a call may not be made."""


@dataclass(frozen=True, slots=True)
class TokenRates:
    """Microcredits per million tokens, by bucket. ``input`` is uncached input, writes are whole prices."""

    input: int | None = None
    cached_input: int | None = None
    cache_write_5m: int | None = None
    cache_write_1h: int | None = None
    output: int | None = None
    audio_input: int | None = None
    audio_output: int | None = None

    def of(self, bucket: str) -> int | None:
        """The rate of ``bucket``, its fallback's where it has none, None where the price knows neither.

        Cached input and 5-minute writes fall back to input, 1-hour writes to 5-minute ones, audio to the text rate
        of its direction.
        """
        rate: int | None = getattr(self, bucket)
        if rate is None and bucket in _FALLBACK:
            return self.of(_FALLBACK[bucket])
        return rate

    def items(self) -> Iterator[tuple[str, int]]:
        """The rates that are set, in the order of ``BUCKETS``."""
        for bucket in BUCKETS:
            rate = getattr(self, bucket)
            if rate is not None:
                yield bucket, rate


@dataclass(frozen=True, slots=True)
class ContextTier:
    """Rates that the whole call moves to when its total input exceeds a number of tokens."""

    above_input_tokens: int
    rates: TokenRates


@dataclass(frozen=True, slots=True)
class ServiceTier:
    """Rates of a speed class (``priority``, ``flex``) as the upstream's answer names it."""

    name: str
    rates: TokenRates


@dataclass(frozen=True, slots=True)
class Rates:
    """One price: tokens, their tiers, server tools and unit prices, everything in microcredits."""

    tokens: TokenRates = TokenRates()
    long_context: tuple[ContextTier, ...] = ()
    service_tiers: tuple[ServiceTier, ...] = ()
    server_tools: tuple[tuple[str, int], ...] = ()
    unit: str = ""
    unit_prices: tuple[tuple[str, int], ...] = ()

    @property
    def per_token(self) -> bool:
        """Whether tokens are priced at all (a picture at a flat price is not)."""
        return self.tokens.input is not None and self.tokens.output is not None

    @property
    def is_set(self) -> bool:
        """Whether a call can be priced. A price that is not set is not zero: the model can't be called."""
        return self.per_token or bool(self.unit and self.unit_prices)

    def service_tier(self, name: str | None) -> ServiceTier | None:
        """The speed class of that name, None for the ordinary one and for one this price does not know."""
        for tier in self.service_tiers:
            if tier.name == name:
                return tier
        return None

    def knows_service_tier(self, name: str | None) -> bool:
        """Whether a call in that speed class can be billed at its own rate."""
        return name is None or name in STANDARD_TIERS or self.service_tier(name) is not None

    def server_tool(self, name: str) -> int | None:
        """Microcredits for one use of a server tool, None where it has no price (an explicit zero is a price)."""
        return next((price for tool, price in self.server_tools if tool == name), None)

    def unit_price(self, tier: str = DEFAULT_TIER) -> int:
        """Microcredits for one unit (picture, second, clip, request) of ``tier``. Raises NotPriced."""
        price = next((price for name, price in self.unit_prices if name == tier), None)
        if price is None:
            raise NotPriced(f"no price per {self.unit or 'unit'} is set for {tier}")
        return price


@dataclass(frozen=True, slots=True)
class Units:
    """What a media call delivered: a number of pictures, seconds, clips or requests of one price tier."""

    quantity: int
    tier: str = DEFAULT_TIER


class Line(msgspec.Struct, frozen=True):
    """One part of a charge: ``quantity`` × ``price_microcredits`` / ``per``, exact and unrounded.

    ``model`` is set where another model's price applied.
    """

    bucket: str
    quantity: int
    price_microcredits: int
    per: int
    model: str = ""

    @property
    def numerator(self) -> int:
        """The part's cost in millionths of a microcredit."""
        return self.quantity * self.price_microcredits * (TOKENS_PER_MTOK // self.per)

    @property
    def exact_microcredits(self) -> Fraction:
        """The part's cost as a rational number of microcredits."""
        return Fraction(self.numerator, TOKENS_PER_MTOK)


class Charge(msgspec.Struct, frozen=True):
    """The cost of one call. ``amount_microcredits`` is the one rounded number; ``lines`` add up to it before rounding.

    ``unpriced`` names what the upstream did and this price does not know: it costs nothing here, and the caller is
    expected to make it seen.
    """

    amount_microcredits: int
    lines: tuple[Line, ...] = ()
    above_input_tokens: int = 0
    service_tier: str | None = None
    unpriced: tuple[str, ...] = ()


def charge(rates: Rates, usage: Usage | None = None, units: Units | None = None) -> Charge:
    """What ``usage`` and ``units`` cost under ``rates``. Never raises for what an upstream may report.

    Raises NotPriced only for a unit tier without a price, which admission has to have refused.
    """
    lines: list[Line] = []
    unpriced: list[str] = []
    tier = service = None
    if usage is not None and rates.per_token:
        tier = _context_tier(rates, usage.input_tokens)
        service = rates.service_tier(usage.service_tier)
        if service is None and not rates.knows_service_tier(usage.service_tier):
            unpriced.append(f"service_tier:{usage.service_tier}")
        lines += _token_lines(rates, usage, tier, service)
    if usage is not None:
        for name, count in usage.server_tool_calls:
            price = rates.server_tool(name)
            if price is None:
                unpriced.append(name)
            elif count > 0:
                lines.append(Line(name, count, price, per=1))
    if units is not None and units.quantity > 0:
        lines.append(Line(rates.unit, units.quantity, rates.unit_price(units.tier), per=1))
    return Charge(
        amount_microcredits=round_half_up(sum([line.numerator for line in lines]), TOKENS_PER_MTOK),
        lines=tuple(lines),
        above_input_tokens=tier.above_input_tokens if tier else 0,
        service_tier=service.name if service else None,
        unpriced=tuple(unpriced),
    )


def together(charges: Collection[Charge]) -> Charge:
    """Parts of one call that ran under several prices, as one charge: rounded once, over all of their lines.

    Tiers are those of the first.
    """
    first, *_ = charges
    lines = tuple(line for part in charges for line in part.lines)
    return Charge(
        amount_microcredits=round_half_up(sum(line.numerator for line in lines), TOKENS_PER_MTOK),
        lines=lines,
        above_input_tokens=first.above_input_tokens,
        service_tier=first.service_tier,
        unpriced=tuple(name for part in charges for name in part.unpriced),
    )


def ceiling(rates: Rates, input_tokens: int, output_tokens: int, service_tiers: Collection[str] = ()) -> int:
    """Microcredits that a call of at most these tokens can't exceed: what a reservation holds.

    All input at the dearest input bucket and all output at the dearest output bucket of every context tier that this
    many input tokens can reach, rounded up. ``service_tiers`` are the speed classes that the upstream may choose; the
    ordinary one always counts. Server tools are not foreseen.
    """
    if not rates.per_token:
        return 0
    dearest_input, dearest_output = dearest(rates, input_tokens, service_tiers)
    return ceiling_at(dearest_input, dearest_output, input_tokens, output_tokens)


def ceiling_at(dearest_input: int, dearest_output: int, input_tokens: int, output_tokens: int) -> int:
    """`ceiling` for rates that `dearest` gave: what a gateway may keep between calls of one price."""
    numerator = max(input_tokens, 0) * dearest_input + max(output_tokens, 0) * dearest_output
    return -(-numerator // TOKENS_PER_MTOK)


def dearest(rates: Rates, input_tokens: int, service_tiers: Collection[str] = ()) -> tuple[int, int]:
    """The dearest input and the dearest output rate that a call of this many input tokens can meet."""
    tiers = [tier for tier in rates.long_context if tier.above_input_tokens < input_tokens]
    services = [service for service in rates.service_tiers if service.name in service_tiers]
    reachable = [rates.tokens, *(tier.rates for tier in tiers), *(service.rates for service in services)]
    dearest_input = max(table.of(bucket) or 0 for table in reachable for bucket in INPUT_BUCKETS)
    dearest_output = max(table.of(bucket) or 0 for table in reachable for bucket in OUTPUT_BUCKETS)
    return dearest_input, dearest_output


def unit_ceiling(rates: Rates, units: Units) -> int:
    """Microcredits that a media call reserves: known before it, so exactly its price. Raises NotPriced."""
    return units.quantity * rates.unit_price(units.tier)


def blended(rates: Rates) -> int | None:
    """Microcredits per million tokens of a usual call (three tokens in to one out): only to compare models by price."""
    price_in, price_out = rates.tokens.input, rates.tokens.output
    if price_in is None or price_out is None:
        return None
    return (3 * price_in + price_out) // 4


def scaled(rates: Rates, basis_points: int) -> Rates:
    """The same price times ``basis_points`` / 10,000, each rate rounded half up to a whole microcredit.

    This is how a customer's price comes of a provider's list price; it happens when a price is published, never at a
    charge.
    """

    def times(amount: int) -> int:
        return round_half_up(amount * basis_points, 10_000)

    def table(tokens: TokenRates) -> TokenRates:
        return TokenRates(**{bucket: times(rate) for bucket, rate in tokens.items()})

    return Rates(
        tokens=table(rates.tokens),
        long_context=tuple(ContextTier(tier.above_input_tokens, table(tier.rates)) for tier in rates.long_context),
        service_tiers=tuple(ServiceTier(tier.name, table(tier.rates)) for tier in rates.service_tiers),
        server_tools=tuple((name, times(price)) for name, price in rates.server_tools),
        unit=rates.unit,
        unit_prices=tuple((name, times(price)) for name, price in rates.unit_prices),
    )


def split_input(usage: Usage) -> dict[str, int]:
    """The input tokens of a call by bucket, none negative, whatever the upstream reported.

    Reads are believed first. Some upstreams report one stretch of tokens as read and as written too (the write is a
    storage fee): where both don't fit into the total, such a write is not counted a second time. Otherwise writes get
    at most what the reads leave over.
    """
    cached = max(usage.cached_input_tokens, 0)
    left = max(usage.input_tokens - cached, 0)
    write_1h = max(usage.cache_write_1h_tokens, 0)
    write_5m = max(usage.cache_write_5m_tokens, 0)
    if left < write_1h + write_5m <= cached:
        write_1h = write_5m = 0
    write_1h = min(write_1h, left)
    left -= write_1h
    write_5m = min(write_5m, left)
    left -= write_5m
    audio = min(max(usage.audio_input_tokens, 0), left)
    return {
        "input": left - audio,
        "cached_input": cached,
        "cache_write_5m": write_5m,
        "cache_write_1h": write_1h,
        "audio_input": audio,
    }


def split_output(usage: Usage) -> dict[str, int]:
    """The output tokens of a call by bucket; reasoning is inside ``output``."""
    left = max(usage.output_tokens, 0)
    audio = min(max(usage.audio_output_tokens, 0), left)
    return {"output": left - audio, "audio_output": audio}


def _token_lines(rates: Rates, usage: Usage, tier: ContextTier | None, service: ServiceTier | None) -> list[Line]:
    return [
        Line(bucket, tokens, _rate(rates, bucket, tier, service), TOKENS_PER_MTOK)
        for bucket, tokens in (*split_input(usage).items(), *split_output(usage).items())
        if tokens
    ]


def _rate(rates: Rates, bucket: str, tier: ContextTier | None, service: ServiceTier | None) -> int:
    """The rate that applies to a bucket.

    Where a long context meets a speed class the dearer of the two holds: providers do not publish the combination. A
    table that does not name a bucket that the base price names may not make it cheaper than there.
    """
    base = rates.tokens.of(bucket) or 0
    if tier is None and service is None:
        return base
    special = [
        (table.rates.of(bucket) or 0)
        if getattr(table.rates, bucket) is not None
        else max(table.rates.of(bucket) or 0, base)
        for table in (tier, service)
        if table is not None
    ]
    return max(special, default=base)


def _context_tier(rates: Rates, input_tokens: int) -> ContextTier | None:
    if not rates.long_context:
        return None
    reached = [tier for tier in rates.long_context if input_tokens > tier.above_input_tokens]
    return max(reached, key=lambda tier: tier.above_input_tokens, default=None)
