"""The one LemonLDAP::NG of a test session. A test registers its own service or client under a name of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.sso import lemonldap as provider


@pytest.fixture(scope="session")
def lemonldap_process(tmp_path_factory: pytest.TempPathFactory) -> Iterator[provider.LemonLdap]:
    """Started for the first test that asks. Tests that use it carry ``@pytest.mark.lemonldap``."""
    if not provider.is_installed():
        pytest.skip(provider.MISSING)
    with provider.running(tmp_path_factory.mktemp("lemonldap")) as running:
        yield running


@pytest.fixture
def lemonldap(lemonldap_process: provider.LemonLdap) -> provider.LemonLdap:
    """The session's provider, with nothing registered at it and its first keys."""
    lemonldap_process.registered = provider.Registered()
    return lemonldap_process
