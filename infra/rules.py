"""What a deployment may be. Each rule takes what somebody sent and returns it in its final form, or says why not."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from django.conf import settings
from django.utils.translation import gettext as _

from core import ids
from core.errors import InvalidRequest
from core.storable import storable
from infra import engine, rates
from webhooks import rules as webhook_rules

#: Words of addresses beside ``/v1/gpu/{slug}``.
RESERVED: Final = frozenset({"run", "jobs", "new"})
#: What is said to this gateway on any path, and goes no further.
OWN_MEMBER: Final = "hypereal"
NAME_LENGTH: Final = 80
MOST_WORKERS: Final = 20
MOST_IDLE_SECONDS: Final = 3_600
LEAST_SECONDS: Final = 5
MOST_SECONDS: Final = 86_400
MOST_VARIABLES: Final = 100
MOST_ENV_CHARACTERS: Final = 32_768

_SLUG: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_IMAGE: Final = re.compile(
    r"(?=.{1,300}\Z)[a-z0-9][\w.-]*(?::\d+)?(?:/[\w.-]+)*(?::[\w.-]{1,128})?(?:@sha256:[0-9a-f]{64})?"
)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_VOLUME: Final = re.compile(r"[A-Za-z0-9-]{1,64}")
#: What the engine or the system sets itself, or what changes how programs are loaded.
_TAKEN_VARIABLES: Final = re.compile(r"RUNPOD_.*|LD_.*|PYTHON.*|PATH|HOME|HYPEREAL_RUN", re.IGNORECASE)


def slug(value: Any) -> str:
    """The name in addresses. Raises InvalidRequest (``slug``)."""
    if not isinstance(value, str) or not _SLUG.fullmatch(value):
        raise InvalidRequest(
            _("slug takes 1 to 63 lower-case letters, digits and hyphens, and no hyphen at its ends."), param="slug"
        )
    if ids.parse(value) is not None:  # it would stand for another deployment's id
        raise InvalidRequest(_("slug must not have the form of an id."), param="slug")
    if value in RESERVED:
        raise InvalidRequest(_("“%(slug)s” is reserved. Take another slug.") % {"slug": value}, param="slug")
    return value


def name(value: Any) -> str:
    """What people call it. Raises InvalidRequest (``name``)."""
    text = " ".join(value.split()) if isinstance(value, str) else ""
    if not text or len(text) > NAME_LENGTH or not text.isprintable():
        raise InvalidRequest(_("name takes 1 to %(most)d characters.") % {"most": NAME_LENGTH}, param="name")
    return text


def docker_image(value: Any) -> str:
    """The image that workers run. Raises InvalidRequest (``dockerImage``), also for one that this engine has not."""
    text = value.strip() if isinstance(value, str) else ""
    if not _IMAGE.fullmatch(text):
        raise InvalidRequest(
            _("dockerImage must be the name of an image, such as runpod/worker-comfyui:5.5.0."), param="dockerImage"
        )
    if engine.chosen() == engine.LOCAL and text.partition(":")[0] != engine.SAMPLE_IMAGE:
        raise InvalidRequest(
            _("This installation runs workers on its own machine, which has the image %(image)s only. "
              "With a RunPod key it runs any image.") % {"image": engine.SAMPLE_IMAGE},
            param="dockerImage", code="image_not_available",
        )  # fmt: skip
    return text


def gpu_types(value: Any) -> list[str]:
    """GPU types in order, from ``"ADA_48_PRO,AMPERE_80"`` or a list. Raises InvalidRequest (``gpuTypes``)."""
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, Sequence) or not all(isinstance(part, str) for part in parts):
        raise InvalidRequest(_("gpuTypes must be a list of GPU types, or one text with commas."), param="gpuTypes")
    chosen = [part.strip().upper() for part in parts if part.strip()]
    known = rates.gpu_types()
    unknown = [part for part in chosen if part not in known]
    if unknown or not chosen or len(set(chosen)) != len(chosen):
        message = _("gpuTypes must name at least one of the available types, each once.")
        raise InvalidRequest(message, param="gpuTypes", extra={"available_gpu_types": list(known)})
    return chosen


def workers(least: Any, most: Any) -> tuple[int, int]:
    """Least and most workers. Raises InvalidRequest (``minWorkers``, ``maxWorkers``)."""
    high = whole("maxWorkers", most, 1, MOST_WORKERS)
    low = whole("minWorkers", least, 0, MOST_WORKERS)
    if low > high:
        raise InvalidRequest(_("minWorkers can't be more than maxWorkers."), param="minWorkers")
    return low, high


def idle_timeout(value: Any) -> int:
    """Seconds. Raises InvalidRequest (``idleTimeoutSeconds``)."""
    return whole("idleTimeoutSeconds", value, 1, MOST_IDLE_SECONDS)


def max_seconds(value: Any) -> int:
    """Longest run, in seconds; the installation's usual one for None. Raises InvalidRequest (``maxSeconds``)."""
    return int(settings.GPU_MAX_SECONDS) if value is None else whole("maxSeconds", value, LEAST_SECONDS, MOST_SECONDS)


def webhook_url(value: Any) -> str:
    """An address that run notices go to, or an empty text. Raises InvalidRequest (``webhookUrl``)."""
    if value is None or value == "":
        return ""
    if not isinstance(value, str):
        raise InvalidRequest(_("webhookUrl must be a text."), param="webhookUrl")
    return webhook_rules.url(value, param="webhookUrl")


def volume_id(value: Any) -> str:
    """The engine's id of a volume, or an empty text. Raises InvalidRequest (``volumeId``)."""
    if value is None or value == "":
        return ""
    if not isinstance(value, str) or not _VOLUME.fullmatch(value):
        raise InvalidRequest(_("volumeId must be the id of a network volume at the engine."), param="volumeId")
    return value


def env(value: Any) -> dict[str, str]:
    """Environment variables of the workers. Raises InvalidRequest (``env``); the message never holds a value."""
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise InvalidRequest(_("env must be an object of texts."), param="env")
    if len(value) > MOST_VARIABLES or sum(len(key) + len(text) for key, text in value.items()) > MOST_ENV_CHARACTERS:
        raise InvalidRequest(_("env is too large."), param="env")
    for key, text in value.items():
        if not _VARIABLE.fullmatch(key) or _TAKEN_VARIABLES.fullmatch(key) or storable(text) != text:
            shown = key if _VARIABLE.fullmatch(key) else _("A name")
            message = _("%(name)s can't be an environment variable of a worker.") % {"name": shown}
            raise InvalidRequest(message, param="env")
    return dict(value)


def whole(param: str, value: Any, least: int, most: int) -> int:
    """A whole number within bounds. Raises InvalidRequest that names ``param``."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        message = _("%(name)s must be a whole number from %(least)d to %(most)d.")
        raise InvalidRequest(message % {"name": param, "least": least, "most": most}, param=param)
    return value
