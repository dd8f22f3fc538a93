"""allauth's forms, closed to addresses that must sign in with a provider; and the first step of the sign-in page."""

from __future__ import annotations

from allauth.account.fields import EmailField
from allauth.account.forms import AddEmailForm as AllauthAddEmailForm
from allauth.account.forms import SignupForm as AllauthSignupForm
from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

from sso import routing


class EmailStep(forms.Form):
    """Who wants to sign in: all that is asked before it is known where."""

    login = EmailField()


class SignupForm(AllauthSignupForm):  # type: ignore[misc]
    """No local account for an address that must sign in elsewhere."""

    def clean_email(self) -> str:
        return _free(super().clean_email())


class AddEmailForm(AllauthAddEmailForm):  # type: ignore[misc]
    """No such address for an existing account either."""

    def clean_email(self) -> str:
        return _free(super().clean_email())


def _free(email: str) -> str:
    if routing.enforced_for(email) is not None:
        domain = email.rpartition("@")[2]
        raise ValidationError(
            _("Addresses at %(domain)s sign in with their organization's identity provider. Go to the sign-in page.")
            % {"domain": domain}
        )
    return email
