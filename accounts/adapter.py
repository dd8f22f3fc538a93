"""How django-allauth is bent to this product: local accounts, our mails, secrets at rest, the client's true address."""

from __future__ import annotations

from typing import Any

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context
from allauth.mfa.adapter import DefaultMFAAdapter
from django.conf import settings
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.utils.http import url_has_allowed_host_and_scheme

from accounts import devices, emails
from accounts.models import User
from core import secrets
from events import audit


class AccountAdapter(DefaultAccountAdapter):
    """Local accounts: e-mail address and password."""

    def get_client_ip(self, request: HttpRequest) -> str:
        """The address that rate limits and session lists go by."""
        address = audit.address_of(request)
        if address is None:
            raise PermissionDenied("the request has no readable client address")
        return address

    def is_safe_url(self, url: str | None) -> bool:
        """Whether ``next`` may lead there: this site only, as the browser knows it, and never down from https."""
        request = context.request
        return url_has_allowed_host_and_scheme(
            url, allowed_hosts={request.get_host()}, require_https=request.is_secure()
        )

    def login(self, request: HttpRequest, user: User) -> None:
        """Sign ``user`` in, and tell them by mail where it is from a browser that is new to them.

        The first sign-in of all is no news to anybody.
        """
        news = user.last_login is not None and not devices.is_known(request, user)
        super().login(request, user)
        if news:
            self.send_notification_mail("account/email/new_device", user)

    def post_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponse:
        """The answer to a sign-in, which makes the browser a known one."""
        response: HttpResponse = super().post_login(request, user, **kwargs)
        devices.remember(request, response, user)
        return response

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Write the mail from our own template of that name and hand it over once the transaction stands."""
        name = template_prefix.rpartition("/")[2]
        emails.send(emails.message(name, {**context, "email": email}, to=email, request=self.request))


class MFAAdapter(DefaultMFAAdapter):
    """Second factors: TOTP seeds and recovery codes are sealed before they reach the table."""

    def encrypt(self, text: str) -> str:
        return secrets.encrypt(text).decode()

    def decrypt(self, encrypted_text: str) -> str:
        return secrets.decrypt(encrypted_text.encode())

    def _get_site_name(self) -> str:
        return str(settings.SITE_NAME)
