"""What the measured models cost, and so what each call must be charged."""

from __future__ import annotations

from typing import Final

from bench.formats import OTHERS, OUTPUT_TOKENS, PROMPT_TOKENS
from catalog.pricing import TOKENS_PER_MTOK, Rates, TokenRates

#: Model by the pace of the address behind it.
MODELS: Final = {"fast": "bench-fast", "paced": "bench-paced"}
#: Models of the formats beside chat, whose upstream is always the fast one.
MODELS_OF_OTHERS: Final = {form.name: f"bench-{form.name}" for form in OTHERS}
_INPUT_MICROCREDITS_PER_MTOK: Final = 250_000_000
_OUTPUT_MICROCREDITS_PER_MTOK: Final = 1_500_000_000
RATES: Final = Rates(TokenRates(input=_INPUT_MICROCREDITS_PER_MTOK, output=_OUTPUT_MICROCREDITS_PER_MTOK))
#: Microcredits of one call, worked out beside the product's own pricing. It comes out even.
CALL_MICROCREDITS: Final = (
    PROMPT_TOKENS * _INPUT_MICROCREDITS_PER_MTOK + OUTPUT_TOKENS * _OUTPUT_MICROCREDITS_PER_MTOK
) // TOKENS_PER_MTOK
