"""Speech and transcripts: this gateway's own endpoint, and the three that OpenAI's callers know."""

from __future__ import annotations

from functools import partial

from catalog import endpoints
from gateway import unit_run
from gateway.audio_call import AudioCall
from gateway.dialects import audio
from gateway.endpoints import endpoint
from gateway.request import Answer, GatewayRequest


@endpoint("POST", kind=endpoints.AUDIO)
async def audio_generations(request: GatewayRequest) -> Answer:
    """``POST /audio/generations``: to speak, to speak like somebody, or to write down, as the model does."""
    return await _serve(request, audio.GENERATIONS)


@endpoint("POST", kind=endpoints.AUDIO)
async def audio_speech(request: GatewayRequest) -> Answer:
    """``POST /audio/speech``, OpenAI's: the answer is the sound."""
    return await _serve(request, audio.SPEECH)


@endpoint("POST", kind=endpoints.AUDIO)
async def audio_transcriptions(request: GatewayRequest) -> Answer:
    """``POST /audio/transcriptions``, OpenAI's: a form with the recording in it."""
    return await _serve(request, audio.TRANSCRIPTIONS)


@endpoint("POST", kind=endpoints.AUDIO)
async def audio_translations(request: GatewayRequest) -> Answer:
    """``POST /audio/translations``, OpenAI's: what is said, in English."""
    return await _serve(request, audio.TRANSLATIONS)


async def _serve(request: GatewayRequest, shape: str) -> Answer:
    return await unit_run.serve(request, partial(_call, request, shape))


def _call(request: GatewayRequest, shape: str) -> AudioCall:
    content_type = b"application/json" if request.quoting else request.raw_headers.get(b"content-type", b"")
    return AudioCall(request, audio.parse(shape, content_type, request.body))
