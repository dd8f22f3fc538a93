"""Why a provider can't be used, or an answer of it not be believed."""

from __future__ import annotations

from typing import Any, Final

from django.utils.translation import gettext_lazy as _

from sso.refusals import SignInRefused


class ProviderProblem(Exception):
    """The provider does not answer, or says something that can't be right. The text is for admins."""


class Refused(SignInRefused):
    """An answer that signs nobody in, for a reason of `TEXTS`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, str(TEXTS[reason]), detail=detail)


TEXTS: Final[dict[str, Any]] = {
    "malformed": _("The identity provider's answer is incomplete."),
    "provider_error": _("The identity provider did not sign you in."),
    "issuer": _("The answer comes from another identity provider than the one that is registered."),
    "token_endpoint": _("The identity provider did not confirm the sign-in. Try again in a moment."),
    "unreachable": _("The identity provider can't be reached at this moment. Try again shortly."),
    "algorithm": _("The identity provider's answer is signed in a way that is not accepted."),
    "unknown_key": _("The identity provider's answer is signed with a key that it does not publish."),
    "signature": _("The signature of the identity provider's answer is not valid."),
    "audience": _("The identity provider's answer is meant for another service."),
    "nonce": _("The identity provider's answer does not belong to this sign-in."),
    "expired": _("The identity provider's answer has expired. Sign in again."),
    "early": _("The identity provider's answer is not valid yet: its clock and ours disagree."),
    "userinfo": _("The identity provider gave two different answers about who you are."),
    "email_unverified": _("Your identity provider says that your e-mail address is not confirmed. Confirm it there."),
}
