"""What a page that htmx changes says to the person: the server's side of ``static/js/toast.js``."""

from __future__ import annotations

import json
from typing import Final

from django.http import HttpResponse

#: Not before the new parts are in place: the region of toasts may lie in a dialog that this very answer replaces.
HEADER: Final = "HX-Trigger-After-Settle"


def say(response: HttpResponse, text: str, *, tone: str = "success") -> None:
    """Have the page say ``text`` once ``response`` is in it. Without a tone only screen readers hear it."""
    response[HEADER] = json.dumps({"toast": {"text": text, "tone": tone}})
