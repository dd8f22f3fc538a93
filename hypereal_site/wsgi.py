"""The web face alone, for servers that speak WSGI. The gateway needs an event loop and is not here."""

from __future__ import annotations

import os

from django.core.wsgi import get_wsgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "hypereal_site.settings")

application = get_wsgi_application()
