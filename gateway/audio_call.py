"""A call for speech or for a transcript, as `gateway.unit_run` runs it, whichever shape it came in."""

from __future__ import annotations

import asyncio
import base64
import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, Protocol, TypeVar
from uuid import UUID

from catalog import endpoints
from catalog.entries import ModelEntry, TargetEntry
from catalog.pricing import Units
from core.errors import InvalidRequest, ProductError
from gateway import reference_fetch, unit_run
from gateway.dialects import audio as dialect
from gateway.dialects import audio_answers
from gateway.dialects.audio import AudioBody
from gateway.dialects.base import Receipt
from gateway.request import GatewayRequest
from gateway.unit_run import Made
from media import audio as rules
from media import fetching
from media.audio import Measured
from storage import objects
from upstreams import fish, openai_audio
from upstreams.audio import WAV, Recording, Sound, Speech, Transcript
from upstreams.errors import TargetUnusable, UpstreamError, UpstreamRefusal
from upstreams.sandbox import audio as sandbox
from upstreams.wire import Target, Timeouts, UpstreamRequest

logger = logging.getLogger(__name__)

T = TypeVar("T")

_SPEECH, _CLONING, _WRITING = "speech", "voice_cloning", "transcription"


class AudioAdapter(Protocol):
    """How one provider is asked; see `upstreams.openai_audio`."""

    def speech_request(self, target: Target, speech: Speech) -> UpstreamRequest: ...

    def recording_request(self, target: Target, recording: Recording) -> UpstreamRequest: ...

    def cannot_speak(self, speech: Speech) -> tuple[str, str] | None: ...

    def cannot_write(self, recording: Recording) -> tuple[str, str] | None: ...

    def sound(self, body: bytes, speech: Speech, *, secret: str = "") -> Sound: ...

    def transcript(self, body: bytes, *, secret: str = "") -> Transcript: ...

    def refuse(
        self, status: int, headers: Mapping[str, str], body: bytes, *, secret: str = "", known: bytes = b""
    ) -> UpstreamError: ...


#: What this gateway calls members that providers call otherwise.
_OWN_NAMES: Final = {
    "input": "text", "voice": "voice_id", "file": "audio", "reference_id": "voice_id", "references": "audio",
}  # fmt: skip
#: By the adapter's word of a provider that speaks the kind ``audio``.
ADAPTERS: Final[Mapping[str, AudioAdapter]] = {"fish": fish, "openai": openai_audio}


class AudioCall:
    """One understood request. What it is for, the model decides: to speak, to speak like somebody, or to write down."""

    kind = endpoints.AUDIO

    def __init__(self, request: GatewayRequest, body: AudioBody) -> None:
        self._runtime = request.runtime
        self._key = request.key
        self._body = body
        self._heard: Measured | None = None
        self._unheard: InvalidRequest | None = None
        self._chosen = _SPEECH
        self._ordered = Units(1)
        if body.audio is not None or body.audio_url[:5].lower() == "data:":
            self._measure(body.audio)

    @property
    def model(self) -> str:
        """The model that was named."""
        return self._body.model

    @property
    def intent(self) -> str:
        """What was named in place of a model."""
        return self._body.intent

    @property
    def canonical(self) -> bytes:
        """The same for the same request: a form's boundary is drawn anew each time."""
        return self._body.canonical

    def chain(self, entry: ModelEntry) -> list[TargetEntry]:
        """The targets that can do what is asked; all that speak of sound where none can, for `order` to say why."""
        usable = [each for each in entry.chain(self.kind) if each.target.adapter in ADAPTERS]
        return [each for each in usable if self._obstacle(entry, each) is None] or usable

    def order(self, entry: ModelEntry) -> Units:
        """The call by the model's rules, and what it counts as. Raises InvalidRequest."""
        body, task = self._body, self._task(entry)
        if task != _WRITING:
            rules.check_text(entry.media, body.text, body.param("text"))
        if task == _SPEECH and (body.audio is not None or body.audio_url):
            name = body.param("audio")
            raise InvalidRequest(f"{entry.slug} takes no recording; a model that clones voices does.", param=name)
        if task != _SPEECH:
            self._check_heard(entry)
        obstacles = [self._obstacle(entry, each) for each in self.chain(entry)]
        if obstacles and None not in obstacles and obstacles[0] is not None:
            param, message = obstacles[0]
            raise InvalidRequest(message, param=body.param(param))
        return self._units(entry)

    async def before_hold(self, entry: ModelEntry) -> None:
        """Fetch a recording that is named by address, and check it like one that was sent. Raises ProductError.

        Where only the sandbox answers, an address of documentation stands for a recording that the sandbox makes.
        """
        if self._heard is not None or self._task(entry) == _SPEECH:
            return
        url, name = self._body.audio_url, self._body.param("audio")
        fetch: Callable[[], bytes] = partial(fetching.recording, url, name)
        if entry.sandboxed and fetching.is_of_documentation(url):
            fetch = sandbox.sample
        self._heard = await reference_fetch.fetch(self._key.workspace_id, lambda: rules.measured(fetch(), name))
        self._check_heard(entry)

    async def ask(self, entry: TargetEntry, timeouts: Timeouts) -> Made:
        """Have one target speak or write. Raises UpstreamError."""
        adapter, target = ADAPTERS[entry.target.adapter], entry.target
        build: Callable[[], UpstreamRequest]
        read: Callable[[bytes], Sound | Transcript]
        if self._chosen == _WRITING:
            known, recording = b"", self._recording()
            build = partial(adapter.recording_request, target, recording)
            read = partial(adapter.transcript, secret=target.secret)
        else:
            known, speech = self._body.text.encode(), self._speech()
            build = partial(adapter.speech_request, target, speech)
            read = partial(adapter.sound, speech=speech, secret=target.secret)
        try:
            request = await self._heavy(build)
        except ValueError:
            raise TargetUnusable("the target's settings make no request") from None
        status, headers, body = await unit_run.exchange(self._runtime, request, timeouts)
        if status != 200:
            raise self._in_callers_words(adapter.refuse(status, headers, body, secret=target.secret, known=known))
        return Made(entry, self._ordered.quantity, read(body))

    def _in_callers_words(self, error: UpstreamError) -> UpstreamError:
        """A refusal that names a member as its caller calls it."""
        if isinstance(error, UpstreamRefusal) and error.param:
            error.param = self._body.param(_OWN_NAMES.get(error.param, error.param))
        return error

    async def answer(self, made: Made, receipt: Receipt) -> tuple[bytes, str]:
        """The sound itself, where it can be fetched, or what was said, in the shape that was asked for."""
        if isinstance(made.things, Transcript):
            seconds = self._heard.seconds if self._heard is not None else 0.0
            return audio_answers.written(self._body.shape, self._body.written, made.things, seconds)
        sound = made.things
        assert isinstance(sound, Sound)
        if self._body.shape == dialect.SPEECH:
            return sound.data, sound.container.content_type
        return audio_answers.spoken(await self._kept(sound, receipt), sound), audio_answers.JSON

    async def _kept(self, sound: Sound, receipt: Receipt) -> str:
        """An address of the sound. It is paid for: where it can't be stored, the address holds the sound itself."""
        key, container = self._key, sound.container
        store = partial(
            _stored_url,
            key.workspace_id,
            sound.data,
            filename=f"{receipt.model}-{receipt.request_id.hex[-8:]}.{container.extension}",
            content_type=container.content_type,
            key_id=key.id,
            user_id=key.user_id,
        )
        try:
            return await self._runtime.work(store)
        except (ProductError, OSError) as error:
            logger.warning("speech could not be stored: %s", type(error).__name__)
            return f"data:{container.content_type};base64,{base64.b64encode(sound.data).decode()}"

    def _task(self, entry: ModelEntry) -> str:
        """What this model does with the call. Raises InvalidRequest for a model of another endpoint."""
        shape, able = self._body.shape, entry.capabilities
        if shape == dialect.GENERATIONS:
            return next((task for task in (_WRITING, _CLONING) if task in able), _SPEECH)
        if shape == dialect.SPEECH:
            if _CLONING in able or _SPEECH not in able:
                raise _wrong_endpoint(entry, "/v1/audio/speech")
            return _SPEECH
        if _WRITING not in able:
            raise _wrong_endpoint(entry, f"/v1/audio/{shape}")
        return _WRITING

    def _obstacle(self, entry: ModelEntry, target: TargetEntry) -> tuple[str, str] | None:
        """The member that this target can't fulfil and why; None where it can, or where that is not the question."""
        adapter = ADAPTERS[target.target.adapter]
        try:
            task = self._task(entry)
        except InvalidRequest:
            return None  # `order` says it better
        return adapter.cannot_write(self._recording()) if task == _WRITING else adapter.cannot_speak(self._speech())

    def _units(self, entry: ModelEntry) -> Units:
        """What the call counts as. A recording that is still to be fetched counts as the longest one allowed."""
        assert entry.price is not None
        unit = entry.price.rates.unit
        self._chosen = self._task(entry)
        if self._chosen != _WRITING:
            self._ordered = rules.units_of_text(unit, self._body.text, self._body.instructions)
        else:
            seconds = self._heard.seconds if self._heard is not None else float(entry.media.max_audio_seconds)
            self._ordered = rules.units_of_recording(unit, seconds)
        return self._ordered

    def _check_heard(self, entry: ModelEntry) -> None:
        """Raises InvalidRequest for a recording that is missing, unreadable or against the model's rules."""
        if self._unheard is not None:
            raise self._unheard
        name = self._body.param("audio")
        if self._heard is not None:
            rules.check_recording(entry.media, self._heard, name)
        elif not self._body.audio_url:
            raise InvalidRequest(
                f"The member {name} is missing: send a recording as a file, an https URL or a base64 data URL.",
                param=name,
            )

    def _measure(self, data: bytes | None) -> None:
        """Find out about a recording that is here already; what is wrong with it counts once a model is to hear it."""
        name = self._body.param("audio")
        try:
            self._heard = rules.measured(data if data is not None else rules.decoded(self._body.audio_url, name), name)
        except InvalidRequest as error:
            self._unheard = error

    def _speech(self) -> Speech:
        body, heard = self._body, self._heard
        return Speech(
            text=body.text,
            voice=body.voice,
            format=body.format,
            speed=body.speed,
            instructions=body.instructions,
            reference=heard.data if heard is not None else b"",
            reference_text=body.reference_text,
        )

    def _recording(self) -> Recording:
        body, heard = self._body, self._heard or _NOT_HEARD
        own = body.shape == dialect.GENERATIONS
        return Recording(
            data=heard.data,
            container=heard.container,
            seconds=heard.seconds,
            language=body.language,
            prompt=body.prompt,
            temperature=body.temperature,
            timestamps=body.written in ("verbose_json", "srt", "vtt"),
            segments_if_any=own,
            granularities=body.granularities,
            translate=body.shape == dialect.TRANSLATIONS,
        )

    async def _heavy(self, build: Callable[[], T]) -> T:
        """A recording makes a large request: that takes a while, in a thread."""
        size = len(self._heard.data) if self._heard is not None else 0
        if size > self._runtime.limits.parse_in_thread_bytes:
            return await asyncio.to_thread(build)
        return build()


_NOT_HEARD: Final = Measured(b"", WAV, 0.0)


def _stored_url(workspace_id: UUID, data: bytes, **facts: Any) -> str:
    """Keep a sound in the workspace's storage; where it can be fetched."""
    return objects.signed_url(objects.store(workspace_id, data, kind="audio", source="result", **facts))


def _wrong_endpoint(entry: ModelEntry, path: str) -> InvalidRequest:
    if _CLONING in entry.capabilities:
        right = "it needs a recording of a voice, which /v1/audio/generations takes"
    elif _WRITING in entry.capabilities:
        right = "it writes down what is said: call it at /v1/audio/transcriptions"
    else:
        right = "it speaks: call it at /v1/audio/speech"
    return InvalidRequest(
        f"The model {entry.slug} is not served at {path}: {right}.", param="model", code="wrong_endpoint"
    )
