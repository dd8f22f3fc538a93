"""Why an answer of an identity provider is not taken, in words for the person and in one word for the trail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from django.utils.translation import gettext_lazy as _
from onelogin.saml2.errors import OneLogin_Saml2_ValidationError as Fault

from sso.refusals import SignInRefused


class Refused(SignInRefused):
    """An answer that signs nobody in, for a reason of `TEXTS`."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason, str(TEXTS[reason]), detail=detail)


TEXTS: Final[Mapping[str, Any]] = {
    "off": _("This way to sign in is switched off."),
    "unregistered": _("This way to sign in is not set up yet."),
    "malformed": _("The identity provider's answer is not a readable SAML response."),
    "too_large": _("The identity provider's answer is too large."),
    "status": _("The identity provider did not sign you in."),
    "unsigned": _("The identity provider's answer is not signed."),
    "signature": _("The signature of the identity provider's answer does not fit the certificates registered for it."),
    "signature_form": _("The identity provider's answer is signed in a way that is not accepted."),
    "algorithm": _("The identity provider's answer uses an algorithm that is no longer accepted, such as SHA-1."),
    "encryption": _("The identity provider's answer could not be decrypted."),
    "assertions": _("The identity provider's answer must hold exactly one assertion."),
    "issuer": _("The answer comes from another identity provider than the one that is registered."),
    "audience": _("The identity provider's answer is meant for another service."),
    "destination": _("The identity provider's answer is addressed to another place than this one."),
    "confirmation": _("The identity provider's answer does not confirm that it is meant for this sign-in."),
    "in_response_to": _("The identity provider's answer does not belong to this sign-in."),
    "unsolicited": _("The identity provider sent an answer that nobody here asked for. Start signing in here."),
    "expired": _("The identity provider's answer has expired. Sign in again."),
    "early": _("The identity provider's answer is not valid yet: its clock and ours disagree."),
    "lifetime": _("The identity provider's answer is valid for longer than is accepted."),
    "conditions": _("The identity provider's answer has conditions that are missing or not understood."),
    "subject": _("The identity provider's answer does not say in a lasting way who you are."),
    "email": _("The identity provider's answer must hold exactly one valid e-mail address."),
}

#: The package's complaints in our words; what is missing here is malformed.
_OF_TOOLKIT: Final[Mapping[int, str]] = {
    Fault.WRONG_NUMBER_OF_ASSERTIONS: "assertions",
    Fault.STATUS_CODE_IS_NOT_SUCCESS: "status",
    Fault.WRONG_SIGNED_ELEMENT: "signature_form",
    Fault.ID_NOT_FOUND_IN_SIGNED_ELEMENT: "signature_form",
    Fault.DUPLICATED_ID_IN_SIGNED_ELEMENTS: "signature_form",
    Fault.INVALID_SIGNED_ELEMENT: "signature_form",
    Fault.DUPLICATED_REFERENCE_IN_SIGNED_ELEMENTS: "signature_form",
    Fault.UNEXPECTED_SIGNED_ELEMENTS: "signature_form",
    Fault.WRONG_NUMBER_OF_SIGNATURES_IN_RESPONSE: "signature_form",
    Fault.WRONG_NUMBER_OF_SIGNATURES_IN_ASSERTION: "signature_form",
    Fault.WRONG_NUMBER_OF_SIGNATURES: "signature_form",
    Fault.WRONG_INRESPONSETO: "in_response_to",
    Fault.MISSING_CONDITIONS: "conditions",
    Fault.WRONG_NUMBER_OF_AUTHSTATEMENTS: "conditions",
    Fault.ASSERTION_TOO_EARLY: "early",
    Fault.ASSERTION_EXPIRED: "expired",
    Fault.SESSION_EXPIRED: "expired",
    Fault.RESPONSE_EXPIRED: "expired",
    Fault.WRONG_DESTINATION: "destination",
    Fault.EMPTY_DESTINATION: "destination",
    Fault.WRONG_AUDIENCE: "audience",
    Fault.ISSUER_MULTIPLE_IN_RESPONSE: "issuer",
    Fault.ISSUER_NOT_FOUND_IN_ASSERTION: "issuer",
    Fault.WRONG_ISSUER: "issuer",
    Fault.WRONG_SUBJECTCONFIRMATION: "confirmation",
    Fault.NO_SIGNATURE_FOUND: "unsigned",
    Fault.INVALID_SIGNATURE: "signature",
    Fault.KEYINFO_NOT_FOUND_IN_ENCRYPTED_DATA: "encryption",
    Fault.CHILDREN_NODE_NOT_FOUND_IN_KEYINFO: "encryption",
    Fault.UNSUPPORTED_RETRIEVAL_METHOD: "encryption",
    Fault.NO_NAMEID: "subject",
    Fault.EMPTY_NAMEID: "subject",
    Fault.SP_NAME_QUALIFIER_NAME_MISMATCH: "subject",
    Fault.DEPRECATED_SIGNATURE_METHOD: "algorithm",
    Fault.DEPRECATED_DIGEST_METHOD: "algorithm",
}


def of_toolkit(fault: Fault) -> Refused:
    """A complaint of python3-saml as a refusal."""
    return Refused(_OF_TOOLKIT.get(fault.code, "malformed"), str(fault))
