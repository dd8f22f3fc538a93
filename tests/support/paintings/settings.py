"""The product's settings with one app more."""

from __future__ import annotations

from hypereal_site.settings import *  # noqa: F403
from hypereal_site.settings import INSTALLED_APPS as _APPS

INSTALLED_APPS = [*_APPS, "tests.support.paintings"]
GATEWAY_URLCONF = "tests.support.paintings.urls"
