"""A small OpenID provider over real HTTP on loopback. Honest by default; a test changes one thing at a time.

It checks what it is sent as real ones do (client, redirect URI, PKCE, a code's single use), so that a wrong request
fails here and not only elsewhere.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl, unquote_plus, urlencode, urlsplit

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa

CLIENT_ID, CLIENT_SECRET = "hypereal:client", "s3cret/+%&ü, of a length that nobody guesses"


@functools.cache
def key(name: str = "first", kind: str = "RSA", bits: int = 2048) -> Any:
    """The private key of that name, made once a run."""
    return rsa.generate_private_key(public_exponent=65537, key_size=bits) if kind == "RSA" else _ec()


def _ec() -> Any:
    return ec.generate_private_key(ec.SECP256R1())


def public_jwk(private: Any, kid: str | None, **more: str) -> dict[str, Any]:
    """The published half of a key."""
    kind = jwt.algorithms.RSAAlgorithm if isinstance(private, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    jwk = kind.to_jwk(private.public_key(), as_dict=True) | more
    return jwk | ({"kid": kid} if kid else {})


Raw = tuple[int, dict[str, str], bytes]


@dataclass
class OidcProvider:
    """``person`` is who signs in there; the other fields are what the provider says and how it behaves."""

    person: dict[str, Any] = field(default_factory=lambda: {"sub": "u-1", "email": "sana@acme.example"})
    #: Members that replace those of the document, the ID token, the userinfo answer; None removes one.
    discovery: dict[str, Any] = field(default_factory=dict)
    token: dict[str, Any] = field(default_factory=dict)
    userinfo: dict[str, Any] = field(default_factory=dict)
    callback: dict[str, str] = field(default_factory=dict)
    private: Any = field(default_factory=key)
    algorithm: str = "RS256"
    kid: str | None = "first"
    keys: list[dict[str, Any]] | None = None
    #: The ID token made some other way, out of its claims.
    encode: Callable[[dict[str, Any]], str] | None = None
    #: Whole answers instead of the honest ones, by path.
    instead: dict[str, Callable[[], Raw]] = field(default_factory=dict)
    seen: list[str] = field(default_factory=list)
    authorizations: list[dict[str, str]] = field(default_factory=list)
    departures: list[dict[str, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._codes: dict[str, dict[str, str]] = {}
        provider = self

        class Handler(_Handler):
            owner = provider

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def visit(self, address: str) -> str:
        """What a browser does over there: follow the address, be signed in; returns where it is sent back to."""
        given = dict(parse_qsl(urlsplit(address).query))
        assert address.startswith(f"{self.issuer}/authorize?"), address
        assert given["response_type"] == "code"
        assert given["code_challenge_method"] == "S256"
        assert set(given["scope"].split()) >= {"openid", "email"}
        assert given["client_id"] == CLIENT_ID
        self.authorizations.append(given)
        code = f"code-{len(self.authorizations)}"
        self._codes[code] = given
        answer = {"code": code, "state": given["state"], **self.callback}
        return f"{given['redirect_uri']}?{urlencode({k: v for k, v in answer.items() if v})}"

    def leave(self, address: str) -> str:
        """What a browser does over there to sign out: follow the address; returns where it is sent back to."""
        given = dict(parse_qsl(urlsplit(address).query))
        assert address.startswith(f"{self.issuer}/logout?tenant=acme&"), address
        assert given["client_id"] == CLIENT_ID
        if "id_token_hint" in given:  # without one a provider asks the person
            hint = jwt.decode(given["id_token_hint"], self.private.public_key(), [self.algorithm], audience=CLIENT_ID)
            assert hint["sub"] == self.person["sub"]
        self.departures.append(given)
        return f"{given['post_logout_redirect_uri']}?{urlencode({'state': given['state']})}"

    # ── Endpoints ────────────────────────────────────────────────────────────────────────────────────────────────────
    def document(self) -> dict[str, Any]:
        honest = {
            "issuer": self.issuer,
            "authorization_endpoint": f"{self.issuer}/authorize",
            "token_endpoint": f"{self.issuer}/token",
            "userinfo_endpoint": f"{self.issuer}/userinfo",
            "jwks_uri": f"{self.issuer}/jwks",
            "end_session_endpoint": f"{self.issuer}/logout?tenant=acme",
            "response_types_supported": ["code"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [self.algorithm, "HS256"],
            "token_endpoint_auth_methods_supported": ["client_secret_post", "client_secret_basic"],
        }
        return _changed(honest, self.discovery)

    def jwks(self) -> dict[str, Any]:
        return {"keys": [public_jwk(self.private, self.kid)] if self.keys is None else self.keys}

    def exchange(self, headers: Mapping[str, str], form: Mapping[str, str]) -> Raw:
        """The token endpoint."""
        if not self._is_client(headers, form):
            return _json({"error": "invalid_client", "error_description": "secret text of the provider"}, 401)
        asked = self._codes.pop(form.get("code", ""), None)
        if asked is None or asked["redirect_uri"] != form.get("redirect_uri"):
            return _json({"error": "invalid_grant"}, 400)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != asked["code_challenge"]:
            return _json({"error": "invalid_grant"}, 400)
        tokens = {"access_token": "at-1", "token_type": "Bearer", "expires_in": 60, "id_token": self.id_token(asked)}
        return _json(tokens)

    def _is_client(self, headers: Mapping[str, str], form: Mapping[str, str]) -> bool:
        if "client_secret_basic" not in self.document()["token_endpoint_auth_methods_supported"]:
            return (form.get("client_id"), form.get("client_secret")) == (CLIENT_ID, CLIENT_SECRET)
        scheme, _, pair = headers.get("authorization", "").partition(" ")
        name, _, secret = base64.b64decode(pair).decode().partition(":")
        mine = (CLIENT_ID, CLIENT_SECRET)
        return scheme == "Basic" and (unquote_plus(name), unquote_plus(secret)) == mine and "client_secret" not in form

    def id_token(self, asked: Mapping[str, str]) -> str:
        now = int(time.time())
        honest = {"iss": self.issuer, "sub": self.person["sub"], "aud": CLIENT_ID, "exp": now + 300, "iat": now}
        claims = _changed({**honest, "nonce": asked["nonce"]}, self.token)
        if self.encode is not None:
            return self.encode(claims)
        headers = {"kid": self.kid} if self.kid else None
        return jwt.encode(claims, self.private, algorithm=self.algorithm, headers=headers)

    def who(self, headers: Mapping[str, str]) -> Raw:
        """The userinfo endpoint."""
        if headers.get("authorization") != "Bearer at-1":
            return _json({"error": "invalid_token"}, 401)
        return _json(_changed(self.person, self.userinfo))


class _Handler(BaseHTTPRequestHandler):
    owner: OidcProvider

    def do_GET(self) -> None:
        self._answer({})

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("content-length", 0))).decode()
        self._answer(dict(parse_qsl(body)))

    def _answer(self, form: dict[str, str]) -> None:
        path, owner = urlsplit(self.path).path, self.owner
        owner.seen.append(f"{self.command} {path}")
        headers = {name.lower(): value for name, value in self.headers.items()}
        honest: dict[str, Callable[[], Raw]] = {
            "/.well-known/openid-configuration": lambda: _json(owner.document()),
            "/jwks": lambda: _json(owner.jwks()),
            "/token": lambda: owner.exchange(headers, form),
            "/userinfo": lambda: owner.who(headers),
        }
        make = owner.instead.get(path) or honest.get(path) or (lambda: (404, {}, b"nothing here"))
        status, sent, body = make()
        self.send_response(status)
        for name, value in {"content-length": str(len(body)), **sent}.items():
            self.send_header(name, value)
        self.end_headers()
        try:
            if "drip" in sent:  # one byte at a time, for ever as far as a waiting client can tell
                for byte in body:
                    self.wfile.write(bytes([byte]))
                    time.sleep(0.2)
            else:
                self.wfile.write(body)
        except OSError:
            pass  # whoever asked has left

    def log_message(self, *_: Any) -> None:
        pass


def _json(content: object, status: int = 200) -> Raw:
    return status, {"content-type": "application/json"}, json.dumps(content).encode()


def _changed(honest: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in {**honest, **changes}.items() if value is not None}
