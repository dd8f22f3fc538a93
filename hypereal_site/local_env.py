"""The environment of a Hypereal that run.py starts: what the outside sets wins, the rest stands in for it."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from hypereal_site import processes

#: What each secret is made of, once, when var/secrets.json does not hold it yet.
_SECRETS: dict[str, Callable[[], str]] = {
    "DJANGO_SECRET_KEY": lambda: secrets.token_urlsafe(48),
    "ENCRYPTION_KEYS": lambda: base64.urlsafe_b64encode(os.urandom(32)).decode(),  # a Fernet key
    "API_KEY_PEPPER": lambda: secrets.token_urlsafe(32),
    "DEMO_STRIPE_SECRET_KEY": lambda: "sk_test_demo" + secrets.token_hex(16),
    "DEMO_STRIPE_WEBHOOK_SECRET": lambda: "whsec_" + secrets.token_hex(24),
    "GPU_LOCAL_SECRET": lambda: secrets.token_urlsafe(32),
}


def kept_secrets(path: Path) -> dict[str, str]:
    """The secrets of this installation: made once, kept in a file only its owner can read."""
    kept: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
    missing = {name: make() for name, make in _SECRETS.items() if name not in kept}
    if missing:
        kept |= missing
        processes.write_private(path, json.dumps(kept, indent=1) + "\n")
    return kept


def uses_real_stripe(outside: Mapping[str, str]) -> bool:
    """True when the outside brings its own Stripe key; otherwise the demo's stand-in for Stripe serves."""
    return bool(outside.get("STRIPE_SECRET_KEY"))


def uses_local_engine(outside: Mapping[str, str]) -> bool:
    """True unless the outside brings a GPU engine: a key of RunPod's, or the address of one."""
    if outside.get("GPU_ENGINE"):
        return outside["GPU_ENGINE"] == "local" and not outside.get("GPU_LOCAL_URL")
    return not (outside.get("RUNPOD_API_KEY") or outside.get("GPU_LOCAL_URL"))


def environment(
    outside: Mapping[str, str],
    var: Path,
    *,
    database_url: str,
    redis_url: str,
    port: int,
    sandbox_port: int,
    stripe_port: int,
    gpu_port: int = 0,
) -> dict[str, str]:
    """All variables that the processes of this installation get."""
    kept = kept_secrets(var / "secrets.json")
    site_url = f"http://127.0.0.1:{port}"
    mail = (var / "mail").resolve()
    defaults = {
        "DJANGO_SECRET_KEY": kept["DJANGO_SECRET_KEY"],
        "ENCRYPTION_KEYS": kept["ENCRYPTION_KEYS"],
        "API_KEY_PEPPER": kept["API_KEY_PEPPER"],
        "HYPEREAL_DEMO": "1",
        "HYPEREAL_DEMO_FILE": str((var / "demo.json").resolve()),
        "SITE_URL": site_url,
        "SANDBOX_BASE_URL": f"http://127.0.0.1:{sandbox_port}",
        "EMAIL_URL": f"filemail:///{mail}",
    }
    if not uses_real_stripe(outside):
        defaults |= {
            "STRIPE_API_BASE": f"http://127.0.0.1:{stripe_port}",
            "STRIPE_SECRET_KEY": kept["DEMO_STRIPE_SECRET_KEY"],
            "STRIPE_WEBHOOK_SECRETS": kept["DEMO_STRIPE_WEBHOOK_SECRET"],
            "DEMO_PAYMENTS": "1",
        }
    if uses_local_engine(outside) and gpu_port:
        url = f"http://127.0.0.1:{gpu_port}"
        defaults |= {"GPU_LOCAL_URL": url, "GPU_LOCAL_SECRET": kept["GPU_LOCAL_SECRET"]}
    fixed = {
        "DJANGO_SETTINGS_MODULE": "hypereal_site.settings",
        "DATABASE_URL": database_url,
        "REDIS_URL": redis_url,
        "PORT": str(port),
        "PYTHONUNBUFFERED": "1",
        "TZ": "UTC",
    }
    return {**defaults, **outside, **fixed}
