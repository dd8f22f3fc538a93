"""``manage.py check_prices``: where do the list prices of the catalog files drift from a second source?

For developers: the second source (genai-prices) is installed by the developers' lock only. Nothing is changed; a
person decides what a difference means, since either side may be old.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from catalog import source
from core.money import usd

#: Our vendor to the second source's provider.
VENDORS = {
    "openai": "openai",
    "anthropic": "anthropic",
    "google": "google",
    "zai": "zai",
    "deepseek": "deepseek",
    "moonshot": "moonshotai",
    "minimax": "minimax",
}

#: Few enough tokens to stay below every long-context threshold.
PROBE_TOKENS = 1_000
PER_MTOK = 1_000_000 // PROBE_TOKENS


class Command(BaseCommand):
    help = "Compare the catalog's list prices with genai-prices (a developer's dependency)."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            import genai_prices  # absent where only the product's own lock is installed
        except ImportError:
            raise CommandError("genai-prices is not installed: make install brings the developers' lock.") from None
        compared = 0
        differences = []
        for model in source.read().models.values():
            found = list(_compare(genai_prices, model))
            compared += bool(found)
            differences += [f"{model.slug}: {line}" for line in found if line]
        for line in differences:
            self.stdout.write(line)
        self.stdout.write(f"{compared} models compared, {len(differences)} differences.")


def _compare(genai_prices: Any, model: source.ModelSource) -> Iterator[str]:
    """A line for each bucket that both sides price: empty where they agree. Nothing for a model the other lacks."""
    provider = VENDORS.get(model.vendor)
    if model.price is None or provider is None or not model.price.rates.per_token or not model.targets:
        return
    upstream = model.targets[0].upstream_model
    probes = {
        "input": {"input_tokens": PROBE_TOKENS},
        "cached_input": {"input_tokens": PROBE_TOKENS, "cache_read_tokens": PROBE_TOKENS},
        "cache_write_5m": {"input_tokens": PROBE_TOKENS, "cache_write_tokens": PROBE_TOKENS},
        "output": {"output_tokens": PROBE_TOKENS},
    }
    for bucket, tokens in probes.items():
        rate = getattr(model.price.rates.tokens, bucket)
        if rate is None:
            continue
        try:
            answer = genai_prices.calc_price(genai_prices.Usage(**tokens), upstream, provider_id=provider)
        except LookupError:
            return
        theirs = Decimal(answer.total_price) * PER_MTOK
        agree = theirs == usd(rate)
        named = "" if answer.model.id == upstream else f" (as {answer.model.id})"
        yield "" if agree else f"{bucket} {usd(rate).normalize():f} here, {theirs.normalize():f} there{named}"
