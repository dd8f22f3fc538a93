"""The certificates that a provider signs with, in words for people, and how long they last."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from core import clock


@dataclass(frozen=True, slots=True)
class Described:
    """One certificate: whose, until when, and its SHA-256 fingerprint in hex."""

    subject: str
    ends_at: datetime
    fingerprint: str

    @property
    def expired(self) -> bool:
        """Whether its time is over. Sign-ins go on: the key was registered, not its certificate's dates."""
        return self.ends_at <= clock.now()


def described(pem: str) -> Described:
    """A certificate in PEM, as it was stored. Raises ValueError for anything else."""
    certificate = x509.load_pem_x509_certificate(pem.encode())
    fingerprint = certificate.fingerprint(hashes.SHA256()).hex()
    return Described(certificate.subject.rfc4514_string(), certificate.not_valid_after_utc, fingerprint)
