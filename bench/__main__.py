"""``python -m bench`` measures the gateway; ``python -m bench peers`` does so beside LiteLLM and Portkey."""

from __future__ import annotations

import argparse
import sys

from bench import own
from bench.stand import StandError
from hypereal_site.embedded import EmbeddedError


def main() -> int:
    """Exit code 1 where calls failed or the books do not agree."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each saturated block")
    parser.add_argument("--only", choices=("json", "sse", "latency"), help="one kind of measurement")
    chosen = parser.parse_args()
    try:
        return own.run(rounds=chosen.rounds, seconds=chosen.seconds, only=chosen.only)
    except (StandError, EmbeddedError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
