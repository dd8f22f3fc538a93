"""How django-allauth is bent to this product."""

from __future__ import annotations

from allauth.account.adapter import DefaultAccountAdapter


class AccountAdapter(DefaultAccountAdapter):
    """Local accounts: e-mail address and password."""
