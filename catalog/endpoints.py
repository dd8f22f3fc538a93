"""The endpoint kinds, their paths and their words: which model may be called where is a list of these kinds."""

from __future__ import annotations

from typing import Final

CHAT: Final = "chat"
MESSAGES: Final = "messages"
RESPONSES: Final = "responses"
GEMINI: Final = "gemini"
EMBEDDINGS: Final = "embeddings"
IMAGES: Final = "images"
VIDEOS: Final = "videos"
AUDIO: Final = "audio"
GPU: Final = "gpu"
GPU_RUN: Final = "gpu_run"

#: Path of each kind under the gateway's base, as messages to callers name it.
PATHS: Final = {
    CHAT: "/v1/chat/completions",
    MESSAGES: "/v1/messages",
    RESPONSES: "/v1/responses",
    GEMINI: "/v1/gemini",
    EMBEDDINGS: "/v1/embeddings",
    IMAGES: "/v1/images/generations",
    VIDEOS: "/v1/videos/generate",
    AUDIO: "/v1/audio/generations",
    GPU: "/v1/gpu/{slug}",
    GPU_RUN: "/v1/gpu/run/{slug}",
}

KINDS: Final = tuple(PATHS)

#: Adapter words: how a provider is spoken to.
ADAPTERS: Final = ("openai", "anthropic", "gemini", "task", "fish", "runpod")

#: What a model can do, as data on the model; lists and pages show these words.
CAPABILITIES: Final = (
    "tools",
    "vision",
    "reasoning",
    "structured_output",
    "prompt_caching",
    "audio_input",
    "audio_output",
    "image_output",
    "web_search",
    "image_to_image",
    "image_to_video",
    "last_frame",
    "speech",
    "voice_cloning",
    "transcription",
)
