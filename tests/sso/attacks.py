"""Signature wrapping (XSW 1–8): a document that was signed honestly, and a forgery put where it will be read.

The names are those of “On Breaking SAML” (Somorovsky et al., 2012). Each takes an honestly signed response and returns
one that still holds the signed part somewhere, but speaks of ``victim``.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any, Final

from lxml import etree

from tests.fakes.identity_provider import NAMES, node

Element = Any


def assertion_of(root: Element) -> Element:
    return root.find("saml:Assertion", NAMES)


def signature_of(root: Element) -> Element:
    return root.find("ds:Signature", NAMES)


def forged(element: Element, victim: str, *, identifier: str = "_evil") -> Element:
    """A copy without a signature that speaks of somebody else."""
    copy = deepcopy(element)
    for signature in copy.findall(".//ds:Signature", NAMES):
        signature.getparent().remove(signature)
    for place in (*copy.iter(f"{{{NAMES['saml']}}}NameID"), *copy.iter(f"{{{NAMES['saml']}}}AttributeValue")):
        place.text = victim
    if identifier:
        copy.set("ID", identifier)
    return copy


def without_signature(element: Element) -> Element:
    copy = deepcopy(element)
    copy.remove(signature_of(copy))
    return copy


# ── The whole response is signed ─────────────────────────────────────────────────────────────────────────────────────
def xsw1(root: Element, victim: str) -> Element:
    """The signed response inside its own signature, which stands in the forged one."""
    evil, signature = forged(root, victim), deepcopy(signature_of(root))
    signature.append(without_signature(root))
    evil.insert(1, signature)
    return evil


def xsw2(root: Element, victim: str) -> Element:
    """The signed response beside its signature, both in the forged one."""
    evil = forged(root, victim)
    evil.insert(1, deepcopy(signature_of(root)))
    evil.insert(1, without_signature(root))
    return evil


# ── The assertion is signed ──────────────────────────────────────────────────────────────────────────────────────────
def xsw3(root: Element, victim: str) -> Element:
    """A forged assertion before the signed one."""
    evil = deepcopy(root)
    assertion_of(evil).addprevious(forged(assertion_of(root), victim))
    return evil


def xsw4(root: Element, victim: str) -> Element:
    """The signed assertion inside a forged one."""
    evil = deepcopy(root)
    signed = assertion_of(evil)
    outer = forged(signed, victim)
    evil.replace(signed, outer)
    outer.append(signed)
    return evil


def xsw5(root: Element, victim: str) -> Element:
    """The signature in a forged assertion, the signed one behind it."""
    evil = deepcopy(root)
    signed = assertion_of(evil)
    outer, signature = forged(signed, victim), signature_of(signed)
    evil.replace(signed, outer)
    outer.insert(1, signature)
    evil.append(signed)
    return evil


def xsw6(root: Element, victim: str) -> Element:
    """The signed assertion inside its own signature, which stands in a forged one."""
    evil = deepcopy(root)
    signed = assertion_of(evil)
    outer, signature = forged(signed, victim), signature_of(signed)
    evil.replace(signed, outer)
    outer.insert(1, signature)
    signature.append(signed)
    return evil


def xsw7(root: Element, victim: str) -> Element:
    """A forged assertion of the same id among the extensions."""
    evil = deepcopy(root)
    extensions = node("samlp", "Extensions")
    extensions.append(forged(assertion_of(root), victim, identifier=""))
    evil.insert(1, extensions)
    return evil


def xsw8(root: Element, victim: str) -> Element:
    """The signed assertion in an Object of its signature, which stands in a forged one of the same id."""
    evil = deepcopy(root)
    signed = assertion_of(evil)
    outer, signature = forged(signed, victim, identifier=""), signature_of(signed)
    evil.replace(signed, outer)
    outer.insert(1, signature)
    holder = node("ds", "Object")
    holder.append(signed)
    signature.append(holder)
    return evil


Attack = Callable[[Element, str], Element]
#: Name, whether the whole response is signed, and how.
WRAPPINGS: Final[list[tuple[str, bool, Attack]]] = [
    ("xsw1", True, xsw1),
    ("xsw2", True, xsw2),
    ("xsw3", False, xsw3),
    ("xsw4", False, xsw4),
    ("xsw5", False, xsw5),
    ("xsw6", False, xsw6),
    ("xsw7", False, xsw7),
    ("xsw8", False, xsw8),
]


def reparsed(root: Element) -> Element:
    """The tree as it is after it went over the wire."""
    return etree.fromstring(etree.tostring(root))
