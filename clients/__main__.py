"""``python -m clients`` lets every client finish a plain, a streamed and a tool turn, and prints what came of it."""

from __future__ import annotations

import argparse
import sys
from datetime import UTC, datetime
from pathlib import Path

from clients import agents, node_sdks, packages, python_sdks, site, table
from clients.packages import CannotTry
from clients.turns import Client, Kind, Result, attempt


def main() -> int:
    """Exit code 1 where a turn went wrong, 2 where nothing could be tried."""
    parser = argparse.ArgumentParser(prog="python -m clients", description=__doc__)
    parser.add_argument("--only", default="", help="clients whose name or endpoint has this in it")
    parser.add_argument("--turns", nargs="+", choices=[kind.value for kind in Kind], help="only these turns")
    parser.add_argument("--site", type=Path, help="data folder of a site that runs already, such as var")
    parser.add_argument("--write", action="store_true", help="put the table into the README")
    chosen = parser.parse_args()
    kinds = [kind for kind in Kind if chosen.turns is None or kind.value in chosen.turns]
    try:
        wanted = [client for client in _clients() if _is_meant(client, chosen.only)]
        if not wanted:
            raise CannotTry(f"No client is called {chosen.only!r}.")
        with site.running(chosen.site) as running:
            rows = [(client, _tried(running, client, kinds)) for client in wanted]
    except CannotTry as error:
        print(error, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    told = table.text(rows, datetime.now(UTC).date())
    print(f"\n{told}")
    if chosen.write:
        table.write(told)
    return int(any(result.trouble for _, results in rows for result in results.values()))


def _clients() -> list[Client]:
    folder = packages.installed()
    return [*python_sdks.all_of_them(), *node_sdks.all_of_them(folder), *agents.all_of_them(folder)]


def _is_meant(client: Client, only: str) -> bool:
    return only.lower() in f"{client.name} {client.endpoint}".lower()


def _tried(running: site.Site, client: Client, kinds: list[Kind]) -> dict[Kind, Result]:
    results = {}
    for kind in kinds:
        result = results[kind] = attempt(running, client, kind)
        told = result.trouble or f"{result.calls} calls, {result.credits} credits, {result.seconds:.1f} s"
        print(f"{client.name}, {client.endpoint}, {kind.value}: {told}", flush=True)
    return results


if __name__ == "__main__":
    sys.exit(main())
