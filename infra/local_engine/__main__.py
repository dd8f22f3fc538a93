"""``python -m infra.local_engine --port 8093 --folder var/gpu``: serves until it is told to stop.

What callers must present stands in the variable GPU_LOCAL_SECRET, not on the command line.
"""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path

import uvicorn

from infra.local_engine.app import Engine
from upstreams.runpod import RESULT_KEPT_SECONDS


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m infra.local_engine", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, required=True, help="port to listen on")
    parser.add_argument("--folder", type=Path, required=True, help="where workers write their logs")
    parser.add_argument(
        "--result-seconds", type=float, default=RESULT_KEPT_SECONDS, help="how long results are kept (%(default)s)"
    )
    options = parser.parse_args()
    secret = os.environ.get("GPU_LOCAL_SECRET", "")
    if not secret:
        sys.exit("Set GPU_LOCAL_SECRET to what callers have to present.")
    engine = Engine(options.folder.resolve(), secret, result_seconds=options.result_seconds)
    uvicorn.run(engine, host=options.host, port=options.port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main()
