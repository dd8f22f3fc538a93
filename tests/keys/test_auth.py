"""Which key a request presents, the form of secrets, and what a key may do: rows of input and output."""

from __future__ import annotations

import ipaddress
from typing import Any
from uuid import uuid4

import pytest

from core.errors import AuthenticationFailed, PermissionDenied, ProductError
from keys import auth, secret
from keys.auth import KeyFacts

KEY = "ck_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZab"


def test_secrets_have_their_form_and_check_themselves() -> None:
    made = {secret.new_secret() for _ in range(100)}
    assert len(made) == 100
    for text in made:
        assert len(text) == 41
        assert text.startswith("ck_")
        assert secret.checksum_ok(text)
        assert not secret.checksum_ok(text[:-1] + ("A" if text[-1] != "A" else "B"))
        assert not secret.checksum_ok(text[:10] + ("A" if text[10] != "A" else "B") + text[11:])


@pytest.mark.parametrize("text", ["", "ck_", "ck_short", "sk_" + "0" * 38, "ck_" + "é" * 38, "ck_" + " " * 38])
def test_other_texts_are_no_secrets(text: str) -> None:
    assert not secret.checksum_ok(text)


@pytest.mark.parametrize(
    ("headers", "query", "allow_query"),
    [
        ({b"authorization": b"Bearer " + KEY.encode()}, b"", False),
        ({b"authorization": b"bearer   " + KEY.encode() + b" "}, b"", False),
        ({b"x-api-key": KEY.encode()}, b"", False),
        ({b"x-goog-api-key": KEY.encode()}, b"", False),
        ({}, b"alt=sse&key=" + KEY.encode(), True),
        ({b"authorization": b"Bearer placeholder", b"x-api-key": KEY.encode()}, b"", False),
        ({b"authorization": b"Bearer placeholder"}, b"key=" + KEY.encode(), True),
        ({b"x-api-key": b"dummy", b"x-goog-api-key": KEY.encode()}, b"key=other", False),
    ],
)
def test_a_key_is_found(headers: dict[bytes, bytes], query: bytes, allow_query: bool) -> None:
    assert auth.presented(headers, query, allow_query=allow_query) == KEY


@pytest.mark.parametrize(
    ("headers", "query", "word"),
    [
        ({}, b"", "No API key"),
        ({b"authorization": b"Basic " + KEY.encode()}, b"", "No API key"),
        ({b"authorization": b"Bearer "}, b"", "No API key"),
        ({b"authorization": b"Bearer sk-x"}, b"", "begin with ck_"),
        ({b"x-api-key": b"AIza"}, b"", "begin with ck_"),
        ({}, b"key=" + KEY.encode(), "address"),
        ({b"x-api-key": KEY.encode()}, b"key=" + KEY.encode(), "address"),
    ],
)
def test_no_key_is_found(headers: dict[bytes, bytes], query: bytes, word: str) -> None:
    with pytest.raises(AuthenticationFailed) as refused:
        auth.presented(headers, query, allow_query=False)
    assert word in refused.value.message
    assert KEY not in refused.value.message


def test_the_hash_is_keyed_and_of_one_purpose() -> None:
    assert len(auth.hash_of(KEY)) == 32
    assert auth.hash_of(KEY) == auth.hash_of(KEY) != auth.hash_of(KEY[:-1] + "c")


def facts(**fields: Any) -> KeyFacts:
    return KeyFacts(id=uuid4(), name="k", workspace_id=uuid4(), user_id=uuid4(), **fields)


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"expires_at": 100.0}, "expired"),
        ({"enabled": False}, "disabled"),
        ({"enabled": False, "disabled_reason": "spending_limit"}, "spending limit"),
        ({"deleted": True}, "deleted"),
        ({"workspace_active": False}, "suspended"),
        ({"member": False}, "no longer a member"),
    ],
)
def test_an_unusable_key_says_why(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(AuthenticationFailed, match=word):
        facts(**fields).check_usable(now=100.0)


def test_a_usable_key() -> None:
    facts(expires_at=100.1).check_usable(now=100.0)
    facts().check_usable(now=1e12)


@pytest.mark.parametrize(
    ("networks", "address", "allowed"),
    [
        ([], None, True),
        (["10.0.0.0/8"], "10.2.3.4", True),
        (["10.0.0.0/8"], "::ffff:10.2.3.4", True),
        (["10.0.0.0/8"], "11.0.0.1", False),
        (["10.0.0.0/8"], None, False),
        (["10.0.0.0/8"], "nonsense", False),
        (["2001:db8::/32", "10.0.0.0/8"], "2001:db8::1", True),
    ],
)
def test_networks(networks: list[str], address: str | None, allowed: bool) -> None:
    key = facts(allowed_networks=tuple(ipaddress.ip_network(text) for text in networks))
    try:
        key.check_address(address)
    except PermissionDenied:
        assert not allowed
    else:
        assert allowed


def test_models() -> None:
    facts().check_model("any")
    facts(allowed_models=frozenset({"a"})).check_model("a")
    with pytest.raises(ProductError) as refused:
        facts(allowed_models=frozenset({"a", "b"})).check_model("c")
    assert (refused.value.status, refused.value.param) == (403, "model")
    assert refused.value.extra == {"allowed_models": ["a", "b"]}
