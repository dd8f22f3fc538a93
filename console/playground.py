"""What the playground offers: which models can be tried in which way, with the choices that each of them takes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from catalog import endpoints as kinds
from catalog.entries import ModelEntry, Snapshot

CHAT: Final = "chat"
IMAGE: Final = "image"
VIDEO: Final = "video"
SPEECH: Final = "speech"

#: Wire formats of a conversation, in the order in which they are offered.
FORMATS: Final[tuple[tuple[str, str | Promise], ...]] = (
    (kinds.CHAT, _("Chat completions")),
    (kinds.MESSAGES, _("Messages")),
    (kinds.RESPONSES, _("Responses")),
    (kinds.GEMINI, _("Gemini")),
)
#: What is preselected where it is to be had.
_FIRST: Final = {CHAT: "gpt-5.5", IMAGE: "gemini-3-1-flash-t2i", VIDEO: "seedance-2-0-t2v", SPEECH: "audio-tts"}


def offered(snapshot: Snapshot) -> dict[str, list[dict[str, Any]]]:
    """The models of each way to try, those first that stand preselected. Plain values, for a page's script."""
    ways: dict[str, Callable[[ModelEntry], bool]] = {
        CHAT: lambda entry: bool(formats_of(entry)),
        IMAGE: lambda entry: kinds.IMAGES in entry.endpoints,
        VIDEO: lambda entry: kinds.VIDEOS in entry.endpoints,
        SPEECH: lambda entry: (
            kinds.AUDIO in entry.endpoints
            and "speech" in entry.capabilities
            and "voice_cloning" not in entry.capabilities
        ),
    }
    entries = [entry for entry in snapshot.models.values() if entry.price is not None and entry.targets]
    entries.sort(key=lambda entry: entry.name.casefold())
    return {
        way: sorted((_shown(entry) for entry in entries if fits(entry)), key=lambda m: m["id"] != _FIRST[way])
        for way, fits in ways.items()
    }


def formats_of(entry: ModelEntry) -> list[str]:
    """The wire formats that a model answers in."""
    return [kind for kind, _label in FORMATS if kind in entry.endpoints]


def _shown(entry: ModelEntry) -> dict[str, Any]:
    media = entry.media
    lengths = media.durations
    return {
        "id": entry.slug,
        "name": entry.name,
        "formats": formats_of(entry),
        "ratios": list(media.aspect_ratios),
        "sizes": [name for name, _tier in media.sizes],
        "resolutions": [name for name, _tier in media.resolutions],
        "durations": (list(lengths.choices) or list(range(lengths.minimum, lengths.maximum + 1))) if lengths else [],
        "mostImages": media.max_images,
        "sandbox": entry.sandboxed,
    }
