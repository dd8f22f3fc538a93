"""Refuses to start with a pair of XML libraries that would fail at the first sign-in."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from django.apps.config import AppConfig
from django.core.checks import CheckMessage, Error, register


@register()
def xml_libraries(app_configs: Sequence[AppConfig] | None, **_: Any) -> list[CheckMessage]:
    """lxml and xmlsec must be built on one libxml2: together they import, or no SAML sign-in works."""
    try:
        for name in ("lxml.etree", "xmlsec"):
            importlib.import_module(name)
    except Exception as error:  # a mismatch is an xmlsec.InternalError, a missing wheel an ImportError
        return [
            Error(
                f"lxml and xmlsec can't be loaded together: {error}",
                hint="Install both as wheels, in the versions that requirements.lock names.",
                id="sso.E001",
            )
        ]
    return []
