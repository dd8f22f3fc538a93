"""What a person does at the front door, over HTTP."""

from __future__ import annotations

import re
import time
from typing import Any

from allauth.mfa.totp.internal.auth import format_hotp_value, hotp_value
from django.core import mail
from django.test import Client, TestCase

from tests.factories import PASSWORD

Answer = Any  # the test client's response has attributes that no type knows


class Browser(Client):
    """A client for whom each request's transaction is committed: mails leave then, and a test never commits."""

    def request(self, **request: Any) -> Answer:
        with TestCase.captureOnCommitCallbacks(execute=True):
            return super().request(**request)


def sign_up(client: Client, email: str, password: str = PASSWORD, **more: str) -> Answer:
    return client.post("/accounts/signup/", {"email": email, "password1": password, "password2": password, **more})


def sign_in(client: Client, email: str, password: str = PASSWORD, **more: str) -> Answer:
    return client.post("/accounts/login/", {"login": email, "password": password, **more})


def is_signed_in(client: Client) -> bool:
    return bool(client.get("/api/me").status_code == 200)


def last_link() -> str:
    """The address in the newest mail's text, without its host."""
    found = re.search(r"https?://[^/\s]+(/\S+)", str(mail.outbox[-1].body))
    assert found, mail.outbox[-1].body
    return found[1]


def totp_code(secret: str, *, at: float | None = None) -> str:
    """What an authenticator app shows for ``secret``."""
    return format_hotp_value(hotp_value(secret, int((at or time.time()) // 30)))
