"""Speech and transcripts: this gateway's own endpoint, and the three that OpenAI's callers know."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Final, NoReturn

from catalog import endpoints
from core.errors import ProductError
from gateway import unit_run
from gateway.audio_call import AudioCall
from gateway.dialects import audio
from gateway.endpoints import endpoint
from gateway.request import Answer, GatewayRequest

#: A recording in a body is measured when the body is read: hostile ones take their time, in a thread.
_READ_IN_THREAD_BYTES: Final = 16 * 1024


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
    parse: Callable[[], AudioCall] = partial(_call, request, shape)
    if len(request.body) > _READ_IN_THREAD_BYTES:
        parse = await asyncio.to_thread(_attempt, parse)
    return await unit_run.serve(request, parse)


def _call(request: GatewayRequest, shape: str) -> AudioCall:
    content_type = b"application/json" if request.quoting else request.raw_headers.get(b"content-type", b"")
    return AudioCall(request, audio.parse(shape, content_type, request.body))


def _attempt(parse: Callable[[], AudioCall]) -> Callable[[], AudioCall]:
    """What ``parse`` came to, ready to be asked for: the request is counted before its error is told."""
    try:
        call = parse()
    except ProductError as error:
        return partial(_raise, error)
    return lambda: call


def _raise(error: ProductError) -> NoReturn:
    raise error
