"""What the measured models cost, and so what each call must be charged."""

from __future__ import annotations

from typing import Final

from bench import upstream
from catalog.pricing import TOKENS_PER_MTOK, Rates, TokenRates

#: Model by the pace of the address behind it.
MODELS: Final = {"fast": "bench-fast", "paced": "bench-paced"}
_INPUT_MICROCREDITS_PER_MTOK: Final = 250_000_000
_OUTPUT_MICROCREDITS_PER_MTOK: Final = 1_500_000_000
RATES: Final = Rates(TokenRates(input=_INPUT_MICROCREDITS_PER_MTOK, output=_OUTPUT_MICROCREDITS_PER_MTOK))
#: Microcredits of one call, worked out beside the product's own pricing. It comes out even.
CALL_MICROCREDITS: Final = (
    upstream.PROMPT_TOKENS * _INPUT_MICROCREDITS_PER_MTOK + upstream.OUTPUT_TOKENS * _OUTPUT_MICROCREDITS_PER_MTOK
) // TOKENS_PER_MTOK
