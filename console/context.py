"""What the frame around every page shows."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.http import HttpRequest


def shell(request: HttpRequest) -> dict[str, Any]:
    """The context variable ``shell``."""
    return {"shell": {"demo_payments": settings.DEMO_PAYMENTS}}
