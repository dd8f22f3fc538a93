"""A whole site of run.py's, and its own figures, read as a person reads them: signed in, over HTTP."""

from __future__ import annotations

import http.cookiejar
import json
import os
import re
import shutil
import signal
import sys
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import ROUND_HALF_UP, Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from clients.packages import FOLDER, ROOT, CannotTry
from hypereal_site import processes

_START_SECONDS: Final = 180.0
_STOP_STEPS: Final = ((signal.SIGTERM, 60.0),)
_TOKEN: Final = re.compile(r'name="csrfmiddlewaretoken" value="([^"]+)"')
_MICROCREDIT: Final = Decimal("0.000001")
_DIRECT: Final = urllib.request.ProxyHandler({})
#: Settings of the outside that reach the site. Provider keys do not: the sandbox must answer.
_KEPT: Final = ("PATH", "HOME", "LANG")


class Site:
    """One installation, by what its demo file tells: ``url``, ``api_key``, ``email`` and ``password``."""

    def __init__(self, demo: dict[str, str]) -> None:
        self.url = demo["url"]
        self.key = demo["api_key"]
        self._demo = demo
        self._prices: dict[str, dict[str, Any]] = {}

    def calls(self) -> dict[str, dict[str, Any]]:
        """The day's newest calls in the log by their request id, amounts as Decimal credits."""
        rows = self._json(f"{self.url}/api/api-usage?days=1")["logs"]
        return {row["requestId"]: row for row in rows}

    def price_of(self, call: dict[str, Any]) -> Decimal:
        """Credits of a call by its tokens and the listed price, rounded once, half up, to the microcredit."""
        price = self._price(call["model"])
        cached, written = call["cachedInputTokens"], call["cacheWriteTokens"]
        fresh = call["inputTokens"] - cached - written
        exact = fresh * price["input"] + call["outputTokens"] * price["output"]
        exact += cached * price.get("cached_input", price["input"])
        exact += written * price.get("cache_write_5m", price["input"])
        return (Decimal(exact) / 1_000_000).quantize(_MICROCREDIT, ROUND_HALF_UP)

    def _price(self, model: str) -> dict[str, Any]:
        if model not in self._prices:
            asked = urllib.request.Request(f"{self.url}/api/v1/models/{model}")
            asked.add_header("authorization", f"Bearer {self.key}")
            self._prices[model] = self._json(asked)["pricing"]
        return self._prices[model]

    def _json(self, asked: str | urllib.request.Request) -> Any:
        with self._browser.open(asked, timeout=30) as answer:
            return json.load(answer, parse_float=Decimal)

    @cached_property
    def _browser(self) -> urllib.request.OpenerDirector:
        """One that is signed in."""
        jar = urllib.request.HTTPCookieProcessor(http.cookiejar.CookieJar())
        browser = urllib.request.build_opener(_DIRECT, jar)
        address = f"{self.url}/accounts/login/"
        with browser.open(address, timeout=30) as page:
            found = _TOKEN.search(page.read().decode())
        assert found is not None
        form = {
            "csrfmiddlewaretoken": found[1],
            "login": self._demo["email"],
            "password": self._demo["password"],
        }
        with browser.open(address, urllib.parse.urlencode(form).encode(), timeout=30) as page:
            if "/login" in page.url:
                raise CannotTry("The demo account could not sign in.")
        return browser


@contextmanager
def running(folder: Path | None) -> Iterator[Site]:
    """The site whose data lie in ``folder``, which runs already; without one a new site for as long as the block lasts.

    Raises CannotTry.
    """
    if folder is not None:
        yield Site(_told(folder / "demo.json"))
        return
    data = FOLDER / "site"
    shutil.rmtree(data, ignore_errors=True)
    data.mkdir(parents=True)
    env = {name: os.environ[name] for name in _KEPT if name in os.environ}
    env |= {"HYPEREAL_VAR": str(data), "PORT": str(processes.free_port())}
    log = data / "run.log"
    process = processes.spawn([sys.executable, "run.py"], log=log, directory=ROOT, env=env)

    def is_up() -> bool:
        return process.poll() is not None or (log.exists() and "Hypereal runs at" in log.read_text())

    try:
        if not processes.wait_until(is_up, _START_SECONDS, every=0.2) or process.poll() is not None:
            raise CannotTry(f"The site does not start:\n{processes.last_lines(log)}")
        yield Site(_told(data / "demo.json"))
    finally:
        processes.stop([process], _STOP_STEPS)


def _told(file: Path) -> dict[str, str]:
    try:
        return dict(json.loads(file.read_text("utf-8")))
    except (OSError, ValueError):
        raise CannotTry(f"{file} does not tell of a running site.") from None
