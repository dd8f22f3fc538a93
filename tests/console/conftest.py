"""Browser tests of these pages use the same browser, site and visitor as those of the look."""

from __future__ import annotations

from tests.look.conftest import browser, person, server, site, visit

__all__ = ["browser", "person", "server", "site", "visit"]
