"""Where the proof of a domain lies, and whether it is there: DNS over the operator's resolver, or a file over HTTPS."""

from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import dns.exception
from django.conf import settings
from django.utils.translation import gettext as _

from core import outbound
from core.egress import EgressError, Limits, Purpose
from sso.models import OrgDomain

if TYPE_CHECKING:
    from dns.resolver import Resolver

logger = logging.getLogger(__name__)

RECORD_LABEL: Final = "_hypereal-challenge"
RECORD_PREFIX: Final = "hypereal-domain-verification="
FILE_PATH: Final = "/.well-known/hypereal-domain-verification.txt"
DNS_SECONDS: Final = 5.0
_FILE_LIMITS: Final = Limits(body_bytes=4096)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a look found. ``answered``: somebody who speaks for the domain said that there is no proof."""

    method: OrgDomain.Method | None
    answered: bool
    message: str = ""


def record_name(domain: str) -> str:
    """The name of the TXT record."""
    return f"{RECORD_LABEL}.{domain}"


def expected(token: str) -> str:
    """The text of the record, and of the file."""
    return f"{RECORD_PREFIX}{token}"


def file_url(domain: str) -> str:
    """Where the file must be served."""
    return f"https://{domain}{FILE_PATH}"


def look(domain: str, token: str) -> Outcome:
    """Whether the proof is there now. Never raises."""
    try:
        if _is_in(expected(token), _texts(record_name(domain))):
            return Outcome(OrgDomain.Method.DNS, answered=True)
        by_dns, answered = _("There is no such record yet; new ones may take up to an hour to be seen."), True
    except dns.exception.DNSException as error:
        logger.info("a domain's record could not be looked up", extra={"error": type(error).__name__})
        by_dns, answered = _("The name servers of the domain did not answer."), False
    try:
        if _is_in(expected(token), _lines(file_url(domain))):
            return Outcome(OrgDomain.Method.FILE, answered=True)
    except EgressError as error:
        logger.info("a domain's file could not be fetched", extra={"reason": error.reason})
    return Outcome(None, answered, by_dns)


def _texts(name: str) -> list[str]:
    """All TXT records of a name; none where the name does not exist. Raises DNSException where nobody answers."""
    from dns import resolver  # with all that DNS can be carried over; few processes ever look

    try:
        found = _resolver().resolve(f"{name}.", "TXT", lifetime=DNS_SECONDS, search=False)
    except (resolver.NXDOMAIN, resolver.NoAnswer):
        return []
    return [b"".join(record.strings).decode("utf-8", "replace").strip() for record in found]


def _resolver() -> Resolver:
    """The machine's resolver, or the one that the operator names as ``address`` or ``address:port``."""
    from dns.resolver import Resolver

    if not settings.DNS_RESOLVER:
        return Resolver()
    resolver = Resolver(configure=False)
    address, _sign, port = settings.DNS_RESOLVER.rpartition(":")
    if not address or address.endswith(":") or not port.isdigit():  # no port, also of a bare IPv6 address
        address, port = settings.DNS_RESOLVER, "53"
    resolver.nameservers = [address.strip("[]")]
    resolver.port = int(port)
    return resolver


def _lines(url: str) -> list[str]:
    """The lines of a small text file; none where there is no such file. Raises EgressError."""
    answer = outbound.call(url, Purpose.DOMAIN_PROOF, limits=_FILE_LIMITS)
    if answer.status != 200:
        return []
    return [line.strip() for line in answer.body.decode("utf-8", "replace").splitlines()]


def _is_in(text: str, found: list[str]) -> bool:
    return any(secrets.compare_digest(text.encode(), one.encode()) for one in found)
