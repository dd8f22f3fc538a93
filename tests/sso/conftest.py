from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache

from sso.models import SsoConnection
from tests.accounts.front_door import Browser
from tests.fakes.oidc import OidcProvider
from tests.sso import company


@pytest.fixture(autouse=True)
def no_limits_from_before() -> None:
    cache.clear()


@pytest.fixture
def provider(settings: Any) -> Iterator[OidcProvider]:
    """An honest OpenID provider that the operator lets us call."""
    made = OidcProvider()
    settings.EGRESS_ALLOW = [f"identity_provider=127.0.0.1:{made.port}"]
    settings.SITE_URL = "http://testserver"
    yield made
    made.stop()


@pytest.fixture
def connection(provider: OidcProvider, db: None) -> SsoConnection:
    """Acme's active connection to it; acme.example is proven."""
    return company.oidc(provider)


@pytest.fixture
def browser() -> Browser:
    return Browser()


@pytest.fixture
def browsers() -> Callable[[], Browser]:
    return Browser
