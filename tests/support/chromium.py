"""Where the browser for browser tests is: HYPEREAL_CHROMIUM, else PATH. Never downloaded."""

from __future__ import annotations

import os
import shutil

VARIABLE = "HYPEREAL_CHROMIUM"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
#: No sandbox: CI runs as root, where Chromium's does not work. The rest keeps it from calling home.
ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def find() -> str | None:
    """The path of a Chromium to drive, or None. A wrong HYPEREAL_CHROMIUM is an error, not a skip."""
    if chosen := os.environ.get(VARIABLE):
        path = shutil.which(chosen)
        if path is None:
            raise FileNotFoundError(f"{VARIABLE} is {chosen!r}, which is no program.")
        return path
    return next((path for name in NAMES if (path := shutil.which(name))), None)
