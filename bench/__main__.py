"""``python -m bench`` measures the gateway by itself; ``python -m bench peers`` does so beside LiteLLM and Portkey."""

from __future__ import annotations

import argparse
import sys

from bench import compare, own
from bench.stand import StandError
from hypereal_site.embedded import EmbeddedError


def main() -> int:
    """Exit code 1 where calls failed, the books do not agree or (beside peers) a floor is missed; 2: nothing stood."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("what", nargs="?", choices=("own", "peers"), default="own")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each saturated block")
    parser.add_argument(
        "--only", choices=("json", "sse", "formats", "latency"), help="one kind of measurement (not beside peers)"
    )
    chosen = parser.parse_args()
    try:
        if chosen.what == "peers":
            return compare.run(rounds=chosen.rounds, seconds=chosen.seconds)
        return own.run(rounds=chosen.rounds, seconds=chosen.seconds, only=chosen.only)
    except (StandError, EmbeddedError) as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
