"""A job as pages show it: its words, its money, its attempts, and its results as pictures, clips and sounds."""

from __future__ import annotations

import mimetypes
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec
from django.conf import settings
from django.utils.translation import gettext

from jobs import serving
from jobs.models import Job
from usage.items import Attempt

State = Job.State

TONES: Final[Mapping[str, str]] = {
    State.QUEUED: "neutral",
    State.RUNNING: "primary",
    State.SUCCEEDED: "success",
    State.FAILED: "error",
    State.CANCELLED: "neutral",
    State.EXPIRED: "warning",
}
_MEDIA: Final = ("image", "video", "audio")


@dataclass(frozen=True, slots=True)
class Preview:
    """One result: ``medium`` is image, video, audio, or file for what a browser can't show."""

    medium: str
    url: str


@dataclass(frozen=True, slots=True)
class Shown:
    """One job on a page."""

    job: Job
    previews: tuple[Preview, ...]
    attempts: tuple[Attempt, ...]

    @property
    def label(self) -> str:
        """The state in words."""
        return str(State(self.job.state).label)

    @property
    def reason(self) -> str:
        """Why it ended without a result: our own words in the reader's language, a provider's as they came."""
        return gettext(self.job.error_message) if self.job.error_message else ""

    @property
    def tone(self) -> str:
        """The state's colour."""
        return TONES[self.job.state]

    @property
    def is_open(self) -> bool:
        """Whether it may still change by itself, so that a page looks again."""
        return not self.job.is_final

    @property
    def is_stopping(self) -> bool:
        """Somebody asked to cancel, and the provider has not answered yet."""
        return self.is_open and self.job.cancel_asked_at is not None

    @property
    def may_be_cancelled(self) -> bool:
        """Whether asking to cancel would change anything."""
        return self.is_open and self.job.cancel_asked_at is None

    @property
    def given_back_microcredits(self) -> int:
        """What of the reservation went back to the wallet at the end."""
        return max(0, self.job.reserved_microcredits - (self.job.cost_microcredits or 0))

    @property
    def lasted_ms(self) -> int | None:
        """From submission to the end."""
        if self.job.finished_at is None:
            return None
        return (self.job.finished_at - self.job.created_at) // timedelta(milliseconds=1)


def of(job: Job) -> Shown:
    """``job`` as a page shows it."""
    attempts = tuple(msgspec.convert(attempt, Attempt) for attempt in job.attempt_trace)
    results = serving.body(job).get("data") if job.state == State.SUCCEEDED else None
    return Shown(job, tuple(_previews(results)), attempts)


def _previews(results: Any) -> list[Preview]:
    if not isinstance(results, list):
        return []
    found = [each for each in results if isinstance(each, Mapping) and isinstance(each.get("url"), str)]
    return [Preview(_medium(each), _address(each["url"])) for each in found]


def _medium(result: Mapping[str, Any]) -> str:
    """What kind of thing a result is: by its declared type, else by its address."""
    content_type = result.get("contentType") or mimetypes.guess_type(urlsplit(result["url"]).path)[0] or ""
    medium = str(content_type).partition("/")[0]
    if medium not in _MEDIA:
        medium = str(result.get("kind") or "")
    return medium if medium in _MEDIA else "file"


def _address(url: str) -> str:
    """Our own addresses as paths, so that they work by whatever name this page was reached."""
    own = settings.SITE_URL
    return url[len(own) :] if url.startswith(own + "/") else url
