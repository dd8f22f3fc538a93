"""mozilla-django-oidc's backend for one connection: its token work, with every check that the package leaves out.

It is no authentication backend of the site: nothing but `sso.oidc.callback` makes one, and it only tells what the
provider says. Who that is here, and whether they may come in, is for `sso.sign_in`.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Any, Final
from urllib.parse import quote_plus, urlencode

import jwt
from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest
from jwt.exceptions import (
    ExpiredSignatureError,
    ImmatureSignatureError,
    InvalidAudienceError,
    InvalidIssuerError,
    InvalidSignatureError,
    InvalidTokenError,
    PyJWTError,
)
from mozilla_django_oidc.auth import OIDCAuthenticationBackend

from core import clock, outbound, secrets
from core.egress import EgressError, Purpose, Response
from sso import addresses, flows
from sso.models import SsoConnection, SsoFlow
from sso.oidc import discovery
from sso.oidc.errors import ProviderProblem, Refused

LEEWAY_SECONDS: Final = 60
#: Keys are fetched anew after this time even where all are known: a withdrawn key must not live on here.
KEYS_LAST: Final = timedelta(hours=12)
LEAST_RSA_BITS: Final = 2048
_TOKEN_CHARACTERS: Final = 100_000
_ERROR_CODE: Final = re.compile(r"[A-Za-z0-9_.-]{1,64}")
_KEY_TYPES: Final = {"RS": "RSA", "PS": "RSA", "ES": "EC", "Ed": "OKP"}


class ConnectionBackend(OIDCAuthenticationBackend):  # type: ignore[misc]
    """Trades a code of ``connection`` for what its provider says about the person."""

    def __init__(self, connection: SsoConnection) -> None:
        self.connection = connection
        self.OIDC_OP_TOKEN_ENDPOINT = connection.discovery["token_endpoint"]
        self.OIDC_OP_USER_ENDPOINT = connection.discovery.get("userinfo_endpoint", "")
        self.OIDC_RP_CLIENT_ID = connection.client_id

    def get_settings(self, attr: str, *args: Any) -> Any:
        """No setting of the site is anything to a connection. What the package asks for is answered here or not at all.

        Raises KeyError for a name without a default.
        """
        if args:
            return args[0]
        raise KeyError(attr)

    def get_user(self, user_id: Any) -> Any:
        """Django's own: a deactivated person is nobody."""
        return ModelBackend.get_user(self, user_id)

    def authenticate(self, request: HttpRequest | None, **kwargs: Any) -> None:
        """Never: code and state in the address of some other form are no sign-in."""

    # ── The exchange ─────────────────────────────────────────────────────────────────────────────────────────────────
    def claims_of(self, code: str, flow: SsoFlow) -> tuple[Mapping[str, Any], str]:
        """All that the provider says of the person behind ``code``, signature and times checked; and the ID token.

        Raises Refused.
        """
        tokens = self.get_token(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": addresses.endpoint(self.connection),
                "code_verifier": flows.verifier(flow),
            }
        )
        id_token, access_token = tokens.get("id_token"), tokens.get("access_token")
        if not isinstance(id_token, str) or len(id_token) > _TOKEN_CHARACTERS:
            raise Refused("malformed", "the token endpoint sent no ID token")
        payload = self.verify_token(id_token, flow=flow)
        if not self.OIDC_OP_USER_ENDPOINT:
            return payload, id_token
        if not isinstance(access_token, str) or not access_token.isprintable():
            raise Refused("malformed", "the token endpoint sent no access token")
        return _merged(payload, self.get_userinfo(access_token, id_token, payload)), id_token

    def get_token(self, payload: dict[str, str]) -> dict[str, Any]:
        """The token endpoint's answer. Its error codes go to the trail, its texts nowhere."""
        secret = secrets.decrypt(bytes(self.connection.client_secret_sealed or b""))
        headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
        if self.connection.discovery["client_authentication"] == "client_secret_basic":
            pair = f"{quote_plus(self.OIDC_RP_CLIENT_ID)}:{quote_plus(secret)}"  # encoded first: RFC 6749, 2.3.1
            headers["authorization"] = "Basic " + base64.b64encode(pair.encode()).decode()
        else:
            payload = {**payload, "client_id": self.OIDC_RP_CLIENT_ID, "client_secret": secret}
        answer = _call(self.OIDC_OP_TOKEN_ENDPOINT, headers, body=urlencode(payload).encode())
        if answer.status != 200:
            raise Refused("token_endpoint", f"status {answer.status}, error {_error_code(answer.body)}")
        return _json(answer.body)

    def get_userinfo(self, access_token: str, id_token: str, payload: Mapping[str, Any]) -> dict[str, Any]:
        """What the userinfo endpoint says, of the very person that the ID token names."""
        answer = _call(self.OIDC_OP_USER_ENDPOINT, {"authorization": f"Bearer {access_token}"})
        if answer.status != 200:
            raise Refused("unreachable", f"the userinfo endpoint answered with status {answer.status}")
        if answer.headers.get("content-type", "").lower().startswith("application/jwt"):
            found = self._signed_userinfo(answer.body.decode("ascii", "replace").strip())
        else:
            found = _json(answer.body)
        if found.get("sub") != payload["sub"]:
            raise Refused("userinfo", "the subjects of ID token and userinfo differ")
        return found

    def _signed_userinfo(self, token: str) -> dict[str, Any]:
        """A userinfo answer that is a signed token; it need not carry times (OpenID Connect Core, 5.3.2)."""
        return self._verify_jws(token, self.retrieve_matching_jwk(token), required=("sub",))

    # ── Tokens ───────────────────────────────────────────────────────────────────────────────────────────────────────
    def verify_token(self, token: str, **kwargs: Any) -> dict[str, Any]:
        """The claims of an ID token that was made for this very sign-in. Raises Refused."""
        payload = self.get_payload_data(token, self.retrieve_matching_jwk(token))
        if not flows.check_nonce(kwargs["flow"], payload.get("nonce")):
            raise Refused("nonce")
        return payload

    def get_payload_data(self, token: str, key: jwt.PyJWK) -> dict[str, Any]:
        """The claims of an ID token for us: never of one without a signature."""
        payload = self._verify_jws(token, key, required=("iss", "sub", "aud", "exp", "iat"))
        parties = payload["aud"] if isinstance(payload["aud"], list) else [payload["aud"]]
        authorized = payload.get("azp")
        if authorized is None and len(parties) > 1:
            raise Refused("audience", "several audiences and no authorized party (azp)")
        if authorized is not None and authorized != self.OIDC_RP_CLIENT_ID:
            raise Refused("audience", "the authorized party (azp) is another client")
        return payload

    def _verify_jws(self, payload: str, key: jwt.PyJWK, required: tuple[str, ...] = ()) -> dict[str, Any]:
        algorithm = self._algorithm(_header(payload))
        options: Any = {"require": list(required), "verify_aud": True, "verify_iss": True}
        if "aud" not in required:
            options |= _where_present(payload)
        try:
            claims: dict[str, Any] = jwt.decode(
                payload,
                key,
                algorithms=[algorithm],
                audience=self.OIDC_RP_CLIENT_ID,
                issuer=self.connection.issuer,
                leeway=LEEWAY_SECONDS,
                options=options,
            )
        except PyJWTError as error:
            raise Refused(_reason(error), str(error)) from None
        if not isinstance(claims.get("sub"), str):
            raise Refused("malformed", "the subject (sub) is no text")
        return claims

    def _algorithm(self, header: Mapping[str, Any]) -> str:
        algorithm = header.get("alg")
        if not isinstance(algorithm, str) or algorithm not in self.connection.algorithms:
            raise Refused("algorithm", f"alg is {str(algorithm)[:20]!r}")
        return algorithm

    # ── Keys ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    def retrieve_matching_jwk(self, token: str) -> jwt.PyJWK:
        """The provider's key that the token names; its keys are fetched anew once where none fits. Raises Refused."""
        header = _header(token)
        algorithm = self._algorithm(header)
        if self._keys_are_older_than(KEYS_LAST):
            self._refetch()
        found = self._candidates(header.get("kid"), algorithm)
        if not found:  # the provider's own token endpoint sent this token, so nobody else can make us fetch
            self._refetch()
            found = self._candidates(header.get("kid"), algorithm)
        if len(found) != 1:
            count = "no key" if not found else "more than one key"
            raise Refused("unknown_key", f"{count} of the provider fits kid {str(header.get('kid'))[:80]!r}")
        return _key(found[0], algorithm)

    def _candidates(self, kid: object, algorithm: str) -> list[dict[str, Any]]:
        """Keys for this algorithm that bear ``kid``; without a kid in the token, every key for the algorithm."""
        keys = [
            key
            for key in self.connection.jwks.get("keys", [])
            if key.get("kty") == _KEY_TYPES[algorithm[:2]]
            and key.get("use", "sig") == "sig"
            and key.get("alg", algorithm) == algorithm
        ]
        if kid is None:
            return keys
        named = [key for key in keys if key.get("kid") == kid]
        nameless = [key for key in keys if "kid" not in key]
        return named or (nameless if len(keys) == 1 else [])

    def _keys_are_older_than(self, age: timedelta) -> bool:
        fetched_at = self.connection.jwks_fetched_at
        return fetched_at is None or fetched_at < clock.now() - age

    def _refetch(self) -> None:
        try:
            discovery.read_keys(self.connection)
        except ProviderProblem as problem:
            raise Refused("unreachable", str(problem)) from None
        self.connection.save(update_fields=["jwks", "jwks_fetched_at"])


def _header(token: str) -> Mapping[str, Any]:
    try:
        return jwt.get_unverified_header(token)
    except InvalidTokenError as error:
        raise Refused("malformed", str(error)) from None


def _where_present(token: str) -> dict[str, bool]:
    """Signed userinfo should name issuer and audience, but need not: each is checked where it stands."""
    try:
        seen = jwt.decode(token, options={"verify_signature": False})
    except PyJWTError as error:
        raise Refused("malformed", str(error)) from None
    return {"verify_aud": "aud" in seen, "verify_iss": "iss" in seen}


def _key(jwk: dict[str, Any], algorithm: str) -> jwt.PyJWK:
    try:
        key = jwt.PyJWK(jwk, algorithm=algorithm)
        bits = getattr(key.key, "key_size", None)
    except (PyJWTError, ValueError, TypeError, AttributeError):
        raise Refused("unknown_key", "the provider's key can't be read") from None
    if jwk["kty"] == "RSA" and (bits or 0) < LEAST_RSA_BITS:
        raise Refused("unknown_key", f"the provider's RSA key has fewer than {LEAST_RSA_BITS} bits")
    return key


def _reason(error: PyJWTError) -> str:
    reasons: tuple[tuple[type[PyJWTError], str], ...] = (
        (ExpiredSignatureError, "expired"),
        (ImmatureSignatureError, "early"),
        (InvalidAudienceError, "audience"),
        (InvalidIssuerError, "issuer"),
        (InvalidSignatureError, "signature"),
    )
    return next((reason for kind, reason in reasons if isinstance(error, kind)), "malformed")


def _merged(payload: Mapping[str, Any], userinfo: Mapping[str, Any]) -> Mapping[str, Any]:
    """Both answers as one; what was signed counts more. An address that either calls unconfirmed is unconfirmed."""
    merged = {**userinfo, **payload}
    if any(claims.get("email_verified") in (False, "false") for claims in (payload, userinfo)):
        merged["email_verified"] = False
    return merged


def _call(url: str, headers: Mapping[str, str], *, body: bytes = b"") -> Response:
    method = "POST" if body else "GET"
    try:
        return outbound.call(
            url, Purpose.IDENTITY_PROVIDER, method=method, headers=headers, body=body, limits=discovery.LIMITS
        )
    except EgressError as error:
        raise Refused("unreachable", str(error)) from None


def _json(body: bytes) -> dict[str, Any]:
    try:
        return discovery.read_json(body)
    except ProviderProblem as problem:
        raise Refused("malformed", str(problem)) from None


def _error_code(body: bytes) -> str:
    try:
        code = str(discovery.read_json(body).get("error"))
    except ProviderProblem:
        return "unreadable"
    return code if _ERROR_CODE.fullmatch(code) else "unreadable"
