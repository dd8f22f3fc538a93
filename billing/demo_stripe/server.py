"""Runs the stand-in: the API, the pay page, and the delivery of webhooks.

``python -m billing.demo_stripe.server --port P`` takes the rest from the environment that the product runs with:
STRIPE_SECRET_KEY, STRIPE_WEBHOOK_SECRETS and SITE_URL. It binds loopback unless told otherwise.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final
from urllib.parse import parse_qs, urlsplit

from billing.demo_stripe import pages
from billing.demo_stripe.account import SLOW_PAYMENT_SECONDS, Account
from billing.demo_stripe.api import Api
from billing.demo_stripe.routes import ROUTES
from billing.demo_stripe.store import Store
from billing.demo_stripe.visits import Visit, Visits
from billing.demo_stripe.webhooks import Mishaps, Sender

log = logging.getLogger("demo_stripe")

WEBHOOK_PATH: Final = "/billing/webhooks/stripe"
MAX_BODY: Final = 64 * 1024
SOCKET_SECONDS: Final = 15
TICK_SECONDS: Final = 0.2


class DemoStripe:
    """The whole stand-in in one process. ``start`` serves on its own threads until ``stop``.

    With ``automatic=False`` neither time nor webhooks move by themselves: a test calls ``tick`` and ``sender.tick``.
    """

    def __init__(
        self,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        webhook_url: str = "",
        webhook_secret: str = "",
        api_key: str = "",
        public_url: str = "",
        state: Path | None = None,
        clock: Callable[[], float] = time.time,
        mishaps: Mishaps | None = None,
        slow_seconds: float = SLOW_PAYMENT_SECONDS,
        tax_percent: int = 0,
        automatic: bool = True,
    ) -> None:
        self._http = _Server((host, port), self)
        port = self._http.server_address[1]
        self.url = public_url.rstrip("/") or f"http://{f'[{host}]' if ':' in host else host}:{port}"
        self.sender = Sender(webhook_url, webhook_secret, clock=clock, mishaps=mishaps)
        self.account = Account(
            Store(self.url, state),
            clock=clock,
            on_event=self.sender.add,
            slow_seconds=slow_seconds,
            tax_percent=tax_percent,
        )
        self.api = Api(self.account, ROUTES, api_key)
        self.visits = Visits(self.account)
        self._automatic = automatic
        self._ended = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to serve."""
        loops: list[Callable[[], object]] = [lambda: self._http.serve_forever(poll_interval=TICK_SECONDS / 4)]
        if self._automatic:
            loops += [lambda: self._repeat(self.tick), lambda: self._repeat(self.sender.tick)]
        self._threads = [threading.Thread(target=loop, daemon=True) for loop in loops]
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Stop serving; what happened so far is on disk already."""
        self._ended.set()
        self._http.shutdown()
        for thread in self._threads:
            thread.join(timeout=SOCKET_SECONDS)
        self._http.server_close()

    def wait(self) -> None:
        """Until ``stop`` was called."""
        self._ended.wait()

    def tick(self) -> None:
        """Let time do its work: settle slow payments, expire old sessions."""
        store = self.account.store
        with store.lock:
            if self.account.tick():
                store.save()

    def _repeat(self, step: Callable[[], object]) -> None:
        while not self._ended.wait(TICK_SECONDS):
            try:
                step()
            except Exception:
                log.exception("a step of the stand-in failed")


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], demo: DemoStripe) -> None:
        self.demo = demo
        super().__init__(address, _Handler)


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SOCKET_SECONDS
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one packet an answer
    disable_nagle_algorithm = True
    server_version = "DemoStripe"
    sys_version = ""

    def do_GET(self) -> None:
        url = urlsplit(self.path)
        if url.path.startswith("/v1/"):
            return self._api("GET", url.path, url.query)
        if url.path == "/assets/pay.css":
            return self._send(200, pages.STYLE, "text/css; charset=utf-8")
        if url.path == "/health":
            return self._send(200, b"ok", "text/plain; charset=utf-8")
        return self._page(url.path)

    def do_POST(self) -> None:
        length = self.headers.get("content-length", "")
        if not length.isascii() or not length.isdigit() or int(length) > MAX_BODY:
            self.close_connection = True
            return self._send(413, b"", "text/plain; charset=utf-8")
        try:
            form = self.rfile.read(int(length)).decode("utf-8")
        except UnicodeDecodeError:
            return self._send(400, b"", "text/plain; charset=utf-8")
        path = urlsplit(self.path).path
        if path.startswith("/v1/"):
            return self._api("POST", path, form)
        return self._choose(path, form)

    def _api(self, method: str, path: str, form: str) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        answer = self.server.demo.api.answer(method, path, form, headers)
        body = json.dumps(answer.body).encode()
        self._send(answer.status, body, "application/json", **answer.headers)

    def _page(self, path: str) -> None:
        self._answer(self.server.demo.visits.get(path))

    def _choose(self, path: str, form: str) -> None:
        fields = {name: values[0] for name, values in parse_qs(form, max_num_fields=5).items()}
        self._answer(self.server.demo.visits.post(path, fields))

    def _answer(self, answer: Visit) -> None:
        if answer.location:
            return self._send(303, b"", "text/plain; charset=utf-8", Location=answer.location)
        return self._html(answer.status, answer.page, answer.back)

    def _html(self, status: int, page: str, addresses: Sequence[str]) -> None:
        # A browser holds the redirect that answers the form against form-action too.
        back = {_origin(address) for address in addresses}
        forms = " ".join(["'self'", *sorted(back)])
        policy = f"default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action {forms}"
        self._send(status, page.encode(), "text/html; charset=utf-8", **{"Content-Security-Policy": policy})

    def _send(self, status: int, body: bytes, content_type: str, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        log.debug(format, *args)


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until the process is told to end."""
    site = os.environ.get("SITE_URL", "").rstrip("/")
    secret = os.environ.get("STRIPE_WEBHOOK_SECRETS", "").split(",")[0].strip()
    parser = argparse.ArgumentParser(prog="billing.demo_stripe.server", description="Demo payments. No card charged.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--public-url", default="", help="where browsers and the product reach this server")
    parser.add_argument("--webhook-url", default=site + WEBHOOK_PATH)
    parser.add_argument("--secret", default=secret)
    parser.add_argument("--state", type=Path, default=Path("var", "demo-stripe.json"), help="keeps the history")
    chosen = parser.parse_args(arguments)
    if not chosen.secret or not chosen.webhook_url.startswith(("http://", "https://")):
        parser.error("needs --webhook-url (or SITE_URL) and --secret (or STRIPE_WEBHOOK_SECRETS)")
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    chosen.state.parent.mkdir(parents=True, exist_ok=True)
    demo = DemoStripe(
        host=chosen.host,
        port=chosen.port,
        public_url=chosen.public_url,
        webhook_url=chosen.webhook_url,
        webhook_secret=chosen.secret,
        # Not an option of the command line: every user of the machine can read those.
        api_key=os.environ.get("STRIPE_SECRET_KEY", ""),
        state=chosen.state,
    )
    demo.start()
    log.info("demo payments at %s: no card is charged", demo.url)
    try:
        demo.wait()
    except KeyboardInterrupt:
        pass
    demo.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
