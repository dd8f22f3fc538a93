"""Two faces in one application: the gateway below /api/v1/ and /v1/, stock Django for everything else."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Literal

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hypereal_site.settings")
django.setup(set_prefix=False)

from gateway import runtime  # noqa: E402  (needs the settings)
from gateway.handler import PREFIXES, GatewayHandler  # noqa: E402
from hypereal_site.web import WebHandler  # noqa: E402

Application = Callable[[Mapping[str, Any], Callable[..., Any], Callable[..., Any]], Awaitable[None]]
Role = Literal["all", "web", "gateway"]

_BARE: Final = tuple(prefix.rstrip("/") for prefix in PREFIXES)


def make(role: Role = "all") -> Application:
    """The application of a process of that role. A role that is not served answers nothing but 404."""
    web: Any = WebHandler() if role != "gateway" else None
    gateway: Any = GatewayHandler() if role != "web" else None

    async def application(scope: Mapping[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        if scope["type"] == "http":
            face = gateway if is_gateway_path(scope["path"]) else web
            await (face or _not_here)(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(scope, receive, send, serves_gateway=gateway is not None)
        else:
            raise ValueError(f"{scope['type']} connections are not served")

    return application


def is_gateway_path(path: str) -> bool:
    """Which face answers."""
    return path.startswith(PREFIXES) or path in _BARE


async def _not_here(scope: Mapping[str, Any], receive: Callable[..., Any], send: Callable[..., Any]) -> None:
    body = b'{"error":{"type":"not_found_error","message":"This process does not serve this address."}}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": 404, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _lifespan(
    scope: Mapping[str, Any], receive: Callable[..., Any], send: Callable[..., Any], *, serves_gateway: bool
) -> None:
    """Starts the gateway before the first call and closes it after the last one."""
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            if serves_gateway:
                scope.get("state", {})[runtime.STATE] = await runtime.ensure()
            await send({"type": "lifespan.startup.complete"})
        else:
            await runtime.shut()
            await send({"type": "lifespan.shutdown.complete"})
            return


def __getattr__(name: str) -> Application:
    """``hypereal_site.asgi:application``, made when a server asks for it: a process of one role needs only its own."""
    if name == "application":
        made = globals()["application"] = make()
        return made
    raise AttributeError(name)
