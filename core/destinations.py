"""Where a URL that a user gave us may lead. Every address its name resolves to is checked, not only the first."""

from __future__ import annotations

import re
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import ip_network
from typing import Any, Final, cast
from urllib.parse import quote, urlsplit

import idna

from core.addresses import Address, Network, is_public, parse

URL_LIMIT_CHARS: Final = 2048

Resolver = Callable[[str, int, float], Sequence[str]]

_FORBIDDEN_IN_URL = re.compile(r"[\x00-\x20\x7f\\]")
_LABEL = r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?"
_HOST_NAME = re.compile(rf"(?=.{{1,253}}\Z){_LABEL}(?:\.{_LABEL})*")
_NUMERIC_LABEL = re.compile(r"(?:0x[0-9a-f]*|[0-9]+)\Z")


class EgressError(Exception):
    """A call that was not made or did not succeed. ``reason`` is one word; the text may be shown to the user.

    EgressError
    ├── EgressRefused     our rules forbid it; trying again is useless
    ├── EgressFailed      name, connection, certificate or protocol
    ├── EgressTimedOut    the deadline passed
    └── EgressTooLarge    more came than was asked for
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class EgressRefused(EgressError):
    pass


class EgressFailed(EgressError):
    pass


class EgressTimedOut(EgressError):
    def __init__(self, message: str = "The server did not answer in time.") -> None:
        super().__init__("timeout", message)


class EgressTooLarge(EgressError):
    def __init__(self) -> None:
        super().__init__("too_large", "The server's answer is larger than allowed.")


class Purpose(StrEnum):
    """What a call is for; the operator allows private destinations for each purpose by itself."""

    WEBHOOK = "webhook"
    IDENTITY_PROVIDER = "identity_provider"
    REFERENCE_IMAGE = "reference_image"
    REFERENCE_AUDIO = "reference_audio"
    DOMAIN_PROOF = "domain_proof"
    RESULT = "result"


@dataclass(frozen=True, slots=True)
class Allowed:
    """A destination the operator vouches for: a host name or a network, on one port or on any. Plain HTTP is fine."""

    host: str = ""
    network: Network | None = None
    port: int | None = None

    @classmethod
    def read(cls, text: str) -> Allowed:
        """``host``, ``host:port``, ``10.0.0.0/8``, ``10.0.0.0/8:8080``, ``[fd00::/8]:8080``. Raises ValueError."""
        text = text.strip().lower()
        bracketed = re.fullmatch(r"\[([^\]]+)\](?::(\d{1,5}))?", text)
        if bracketed:
            place, port_text = bracketed[1], bracketed[2]
        elif text.count(":") > 1:
            place, port_text = text, None
        else:
            place, _, port_text = text.partition(":")
        if port_text is not None and port_text != "" and not 0 < int(port_text) < 65536:
            raise ValueError(f"{text!r} has no valid port")
        port = int(port_text) if port_text else None
        try:
            return cls(network=ip_network(place), port=port)
        except ValueError:
            if not _HOST_NAME.fullmatch(place):
                raise ValueError(f"{text!r} is neither a host nor a network") from None
            return cls(host=place, port=port)

    def covers(self, host: str, address: Address, port: int) -> bool:
        """Whether this entry lets a call to ``host`` at ``address`` and ``port`` pass."""
        if self.port is not None and self.port != port:
            return False
        if self.network is None:
            return self.host == host
        return address.version == self.network.version and address in self.network


AllowList = Mapping[Purpose, tuple[Allowed, ...]]
NOTHING: Final[AllowList] = {}


def read_allowed(text: str) -> tuple[Allowed, ...]:
    """Entries separated by commas or spaces, as a setting holds them. Raises ValueError naming the bad one."""
    return tuple(Allowed.read(entry) for entry in text.replace(",", " ").split())


@dataclass(frozen=True, slots=True)
class Destination:
    """A URL that passed the rules, with the addresses that were checked."""

    scheme: str
    host: str
    port: int
    target: str
    addresses: tuple[Address, ...]

    @property
    def authority(self) -> str:
        """The value of the Host header."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.scheme == "https" else 80) else f"{host}:{self.port}"


def resolve(host: str, port: int, seconds: float) -> Sequence[str]:
    """All addresses of a host. Raises OSError, or TimeoutError (the system's resolver has no time-out of its own)."""
    found: list[Any] = []

    def look_up() -> None:
        try:
            found.append(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except OSError as error:
            found.append(error)

    thread = threading.Thread(target=look_up, name="egress-resolver", daemon=True)
    thread.start()
    thread.join(seconds)
    if not found:
        raise TimeoutError
    if isinstance(found[0], OSError):
        raise found[0]
    return list(dict.fromkeys(str(entry[4][0]) for entry in found[0]))


def check_url(
    url: str,
    purpose: Purpose,
    *,
    allow: AllowList = NOTHING,
    resolver: Resolver = resolve,
    seconds: float = 5.0,
) -> Destination:
    """What ``url`` leads to, if a call for ``purpose`` may go there: HTTPS on port 443 at public addresses only,
    but for what ``allow`` lists. Raises EgressRefused, EgressFailed if the name does not resolve, EgressTimedOut.
    """
    scheme, host, port, target = _parts(url)
    literal = parse(host)
    addresses = (literal,) if literal is not None else _addresses(host, port, resolver, seconds)
    entries = allow.get(purpose, ())
    for address in addresses:
        if any(entry.covers(host, address, port) for entry in entries):
            continue
        if scheme != "https":
            raise EgressRefused("scheme", "Only https:// addresses can be called.")
        if port != 443:
            raise EgressRefused("port", "Only the standard HTTPS port can be called.")
        if not is_public(address):
            raise EgressRefused("address", "The address is not on the public internet.")
    return Destination(scheme, host, port, target, addresses)


def _parts(url: str) -> tuple[str, str, int, str]:
    """Scheme, host, port and request target of a URL of the only form that is accepted. Raises EgressRefused."""
    if len(url) > URL_LIMIT_CHARS or _FORBIDDEN_IN_URL.search(url):
        raise EgressRefused("url", "The address is too long or holds a character that no URL has.")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise EgressRefused("url", "The address is not a valid URL.") from None
    scheme = parts.scheme.lower()
    if scheme not in ("http", "https"):
        raise EgressRefused("scheme", "Only https:// addresses can be called.")
    if "@" in parts.netloc:
        raise EgressRefused("userinfo", "The address must not contain a user name or password.")
    if port is None:
        port = 443 if scheme == "https" else 80
    if not 0 < port < 65536:
        raise EgressRefused("port", "The port is not valid.")
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~-._")
    if parts.query:
        target += "?" + quote(parts.query, safe="/%:@!$&'()*+,;=~-._?[]")
    return scheme, _host(parts.hostname or ""), port, target


def _host(text: str) -> str:
    """A host name in ASCII, or an address in canonical notation. Raises EgressRefused.

    Numbers that only a system's resolver would take for an address (2130706433, 0x7f.1, 0177.0.0.1) are no hosts.
    """
    if ":" in text:
        address = parse(text)
        if address is None:
            raise EgressRefused("host", "The host is not valid.")
        return str(address)
    name = text.removesuffix(".")
    if not name.isascii():
        try:
            name = idna.encode(name, uts46=True).decode("ascii")
        except idna.IDNAError:
            raise EgressRefused("host", "The host is not valid.") from None
    name = name.lower()
    if _NUMERIC_LABEL.match(name.rpartition(".")[2]):
        if parse(name) is None:
            raise EgressRefused("host", "The host is not valid.")
        return name
    if not _HOST_NAME.fullmatch(name):
        raise EgressRefused("host", "The host is not valid.")
    return name


def _addresses(host: str, port: int, resolver: Resolver, seconds: float) -> tuple[Address, ...]:
    try:
        found = resolver(host, port, seconds)
    except TimeoutError:
        raise EgressTimedOut("The host's name could not be looked up in time.") from None
    except (OSError, UnicodeError):
        raise EgressFailed("dns", "The host's name does not resolve.") from None
    addresses = tuple(parse(text.partition("%")[0]) for text in found)
    if not addresses or any(address is None for address in addresses):
        raise EgressFailed("dns", "The host's name does not resolve.")
    return cast(tuple[Address, ...], addresses)
