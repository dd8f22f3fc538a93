"""XML that strangers send: read once, by one parser, and only in the plain form that SAML has use for.

A comment, a processing instruction or a document type in a message has one purpose only: to be seen by one reader and
not by another. So has an unusual encoding. All of them are refused before anything is read.
"""

from __future__ import annotations

import re
from typing import Any, Final

from lxml import etree
from onelogin.saml2.constants import OneLogin_Saml2_Constants as Constants
from onelogin.saml2.xml_utils import OneLogin_Saml2_XML as Toolkit

#: An element of lxml.
Element = Any

NAMES: Final[dict[str, str]] = {**Constants.NSMAP, "xs": Constants.NS_XS}
MOST_BYTES: Final = 500_000

_DECLARATION = re.compile(r"\s*<\?xml\b([^>]*)\?>")
_ENCODING = re.compile(r"""encoding\s*=\s*["']([^"']*)["']""")
_ENCODINGS = frozenset({"utf-8", "utf8", "us-ascii", "ascii"})
_FORBIDDEN = (
    ("<!DOCTYPE", "a document type"),
    ("<!ENTITY", "an entity"),
    ("<!--", "a comment"),
    ("<?", "a processing instruction"),
)


class Malformed(ValueError):
    """A document that is not taken; the text says why and may be shown."""


def read(document: bytes, *, comments: bool = False) -> Element:
    """The root of ``document``. Raises Malformed.

    ``comments``: comments may stand in it (metadata that people keep by hand); the parser drops them.
    """
    check(document, comments=comments)
    try:
        return Toolkit.to_etree(document)
    except (etree.XMLSyntaxError, ValueError):
        raise Malformed("It is not well-formed XML.") from None


def check(document: bytes, *, comments: bool = False) -> None:
    """Raise Malformed for what no reader of ours shall see."""
    if len(document) > MOST_BYTES:
        raise Malformed(f"It is larger than {MOST_BYTES // 1000} kB.")
    try:
        text = document.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise Malformed("It is not encoded in UTF-8.") from None
    declaration = _DECLARATION.match(text)
    if declaration:
        encoding = _ENCODING.search(declaration[1])
        if encoding and encoding[1].lower() not in _ENCODINGS:
            raise Malformed("It is not encoded in UTF-8.")
        text = text[declaration.end() :]
    for mark, name in _FORBIDDEN:
        if mark in text and not (comments and mark == "<!--"):
            raise Malformed(f"It holds {name}.")


def find(node: Element, path: str) -> list[Element]:
    """The nodes at an XPath; prefixes are SAML's usual ones."""
    found: list[Element] = node.xpath(path, namespaces=NAMES)
    return found


def text_of(node: Element) -> str:
    """The text of an element that has nothing but text in it. Raises Malformed where it has more."""
    if len(node.xpath("node()[not(self::text())]")):
        raise Malformed("A value holds more than text.")
    return "".join(node.xpath("text()")).strip()


def element(prefix: str, name: str, attributes: dict[str, str] | None = None, text: str | None = None) -> Element:
    """A new element; whatever is put in is escaped by the writer."""
    made = etree.Element(f"{{{NAMES[prefix]}}}{name}", attributes or {}, nsmap={prefix: NAMES[prefix]})
    made.text = text
    return made


def written(root: Element) -> bytes:
    """The document as bytes, in UTF-8."""
    return bytes(etree.tostring(root, xml_declaration=True, encoding="UTF-8"))
