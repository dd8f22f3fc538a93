"""The catalog's own descriptions of providers, pointed at servers of a test."""

from __future__ import annotations

import base64
import tomllib
from typing import Any, Final

from catalog.source import DATA
from tests.fakes.video_apis import VideoApi
from upstreams.sandbox.images import png
from upstreams.tasks import Ask
from upstreams.wire import Target, TargetOptions

PROVIDERS: Final[dict[str, Any]] = tomllib.loads((DATA / "providers.toml").read_text())["providers"]
#: A model of each provider, by its own name.
MODELS: Final = {
    "openai": "sora-2",
    "google": "veo-3.1-fast-generate-preview",
    "alibaba-video": "wan2.6-t2v",
    "minimax-video": "MiniMax-Hailuo-02",
    "xai-video": "grok-imagine-video",
    "bytedance-video": "seedance-1-5-pro-251215",
    "kling": "kling-v3",
    "vidu": "viduq3-pro",
    "black-forest-labs": "flux-2-pro",
}
#: A small picture.
POINT: Final = f"data:image/png;base64,{base64.b64encode(png('a point', 8, 8)).decode()}"


def target_of(api: VideoApi, model: str = "", **options: Any) -> Target:
    """A target at ``api``, with the catalog's options of its provider."""
    told = {**PROVIDERS[api.provider].get("options", {}), **options}
    return Target(
        provider=api.provider,
        adapter=api.adapter,
        base_url=api.base_url + api.prefix,
        upstream_model=model or model_of(api),
        secret=api.secret,
        options=TargetOptions.from_mapping(told),
    )


def model_of(api: VideoApi) -> str:
    """The model that tests ask this provider for."""
    return "gemini-omni-flash-preview" if type(api).__name__ == "Omni" else MODELS[api.provider]


def ask_of(target: Target, **more: Any) -> Ask:
    """What a job asks for, as `media.video_jobs` puts it."""
    values: dict[str, Any] = {
        "model": target.upstream_model,
        "prompt": "a white cube {not a name} rotates",
        "duration": 5,
        "aspect_ratio": "16:9",
        "resolution": "720P",
        "job_id": "0199-job",
        **more,
    }
    return Ask({name: value for name, value in values.items() if value})
