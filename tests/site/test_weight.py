"""What a process loads before it serves: a gateway's memory, and the seconds of a start."""

from __future__ import annotations

import subprocess
import sys

import pytest

LATE = ("scim2_models", "reportlab", "dns.resolver", "boto3", "runpod", "PIL")


@pytest.mark.parametrize(("role", "absent"), [("gateway", (*LATE, "stripe", "ninja")), ("all", LATE)])
def test_what_is_seldom_needed_is_loaded_when_it_is(role: str, absent: tuple[str, ...]) -> None:
    code = (
        f"import os, sys; os.environ['HYPEREAL_ROLE'] = '{role}'; import hypereal_site.asgi as a; a.make('{role}');"
        "from django.conf import settings; from django.urls import get_resolver;"
        "[get_resolver(name).url_patterns for name in (settings.ROOT_URLCONF, settings.GATEWAY_URLCONF)"
        f" if name == settings.GATEWAY_URLCONF or '{role}' == 'all'];"
        f"print([name for name in {absent!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "[]"
