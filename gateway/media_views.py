"""Pictures: ``/images/generations``, ``/images/generate`` and ``/images/edits``."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from catalog import endpoints as kinds
from catalog.entries import ModelEntry, TargetEntry
from catalog.pricing import Units
from core.errors import InvalidRequest, ProductError
from gateway import multipart, reference_fetch, unit_run
from gateway.dialects import base
from gateway.dialects import images as dialect
from gateway.dialects.base import Receipt
from gateway.endpoints import endpoint
from gateway.request import Answer, GatewayRequest
from gateway.unit_run import Made
from media import images, references
from media.images import ImageAsk
from upstreams import images_gemini, images_openai, images_tasks
from upstreams.errors import TargetUnusable, TotalTimedOut
from upstreams.images import Answered, Draw, Drawn, Order, Picture, Source
from upstreams.wire import Timeouts, UpstreamRequest

#: How pictures are asked for, by the provider's adapter word.
ADAPTERS: Final[Mapping[str, Draw]] = {
    "openai": images_openai.draw,
    "gemini": images_gemini.draw,
    "task": images_tasks.draw,
}
#: What an adapter that waits by itself gets of an attempt's time; with the rest it tidies up.
_SHARE_OF_TIME: Final = 0.95
#: Copies to storage that one call makes at the same time.
_COPIES: Final = 2


@endpoint("POST", kind=kinds.IMAGES)
async def generations(request: GatewayRequest) -> Answer:
    """``POST /images/generations``"""
    return await unit_run.serve(request, partial(_parse, request, edits=False))


@endpoint("POST", kind=kinds.IMAGES)
async def generate(request: GatewayRequest) -> Answer:
    """``POST /images/generate``: the same, usually with ``intent`` in place of ``model``."""
    return await unit_run.serve(request, partial(_parse, request, edits=False))


@endpoint("POST", kind=kinds.IMAGES)
async def edits(request: GatewayRequest) -> Answer:
    """``POST /images/edits``: a form with files, or JSON with URLs."""
    return await unit_run.serve(request, partial(_parse, request, edits=True))


def _parse(request: GatewayRequest, *, edits: bool) -> ImageCall:
    """Raises InvalidRequest."""
    content_type = request.raw_headers.get(b"content-type", b"")
    if multipart.is_form(content_type):
        form = multipart.read(content_type, request.body)
        fields, files, mask = dialect.parse_form(form)
        canonical = form.digest()
    else:
        fields, files, mask, canonical = base.read_object(request.body), [], None, request.body
    model, intent = dialect.names(fields)
    ask = dialect.parse(fields, files, mask)
    if edits and not ask.sources:
        raise InvalidRequest("The member image is missing: send the picture to begin with.", param="image")
    return ImageCall(request, model, intent, ask, canonical)


@dataclass(slots=True)
class ImageCall:
    """A call for pictures; see `gateway.unit_run.UnitCall`."""

    request: GatewayRequest
    model: str
    intent: str
    asked: ImageAsk = field(repr=False)
    canonical: bytes = field(repr=False)
    kind: str = kinds.IMAGES
    _order: Order | None = field(default=None, repr=False)
    _loaded: dict[Source, asyncio.Task[Source]] = field(default_factory=dict, repr=False)

    def chain(self, entry: ModelEntry) -> list[TargetEntry]:
        """Those whose adapter draws; a mask or a transparent background narrows them down to those that know it."""
        able = [each for each in entry.targets if self.kind in each.kinds and each.target.adapter in ADAPTERS]
        if images.wants_transparency(self.asked):
            able = [each for each in able if images.draws_transparency(each.target.adapter)] or able
        if self.asked.mask is None:
            return able
        return [
            each for each in able if images.takes_mask(each.target.adapter, each.target.options.images, each.sandbox)
        ] or able

    def order(self, entry: ModelEntry) -> Units:
        """By the model's rules."""
        self._order, units = images.order_of(entry, self.asked)
        return units

    async def before_hold(self, entry: ModelEntry) -> None:
        """References must lead to the public internet, whoever fetches them."""
        if any(source.kind == "https" for source in self._sources()):
            await reference_fetch.fetch(self.request.key.workspace_id, partial(references.check, self._sources()))

    async def ask(self, entry: TargetEntry, timeouts: Timeouts) -> Made:
        """Have one target draw. Raises UpstreamError, InvalidRequest for a reference that can't be read."""
        assert self._order is not None
        draw = ADAPTERS[entry.target.adapter]
        try:
            async with asyncio.timeout(timeouts.total_seconds):
                drawn = await draw(_Hands(self, entry, timeouts), entry.target, self._order)
        except TimeoutError:
            raise TotalTimedOut("the upstream did not draw in time") from None
        except ValueError:
            raise TargetUnusable("the target's settings make no request") from None
        return Made(entry, len(drawn.pictures), drawn)

    async def answer(self, made: Made, receipt: Receipt) -> tuple[bytes, str]:
        """OpenAI's answer, each picture in the form that was asked for, where it can be had."""
        drawn = made.things
        assert isinstance(drawn, Drawn)
        gate = asyncio.Semaphore(_COPIES)
        wanted = drawn.pictures[: receipt.units]
        pictures = await asyncio.gather(
            *(self._shaped(picture, f"{receipt.request_id}-{place}", made.entry, gate)
              for place, picture in enumerate(wanted))
        )  # fmt: skip
        if len(pictures) * max(len(each.b64) for each in pictures) > self.request.runtime.limits.parse_in_thread_bytes:
            return await asyncio.to_thread(dialect.answer, drawn, pictures, receipt), unit_run.JSON_TYPE
        return dialect.answer(drawn, pictures, receipt), unit_run.JSON_TYPE

    async def _shaped(self, picture: Picture, name: str, entry: TargetEntry, gate: asyncio.Semaphore) -> Picture:
        key, base_url, finish = self.request.key, entry.target.base_url, self.asked.finish
        if self.asked.wants_base64 and images.is_ready(picture, finish):
            return Picture(b64=picture.b64, revised_prompt=picture.revised_prompt, content_type=picture.inline_type)
        shape = images.as_base64 if self.asked.wants_base64 else images.kept
        async with gate:
            try:
                return await self.request.runtime.work(partial(shape, key, picture, name, base_url, finish))
            except ProductError:  # no database, or no time: the picture is paid for and goes out as it came
                return picture

    async def loaded(self, source: Source) -> Source:
        """The source with its bytes, fetched once however many targets are asked."""
        if source.data:
            return source
        if source not in self._loaded:
            fetching = reference_fetch.fetch(self.request.key.workspace_id, partial(references.load, source))
            self._loaded[source] = self.request.runtime.loop.create_task(fetching)
        return await asyncio.shield(self._loaded[source])

    def _sources(self) -> list[Source]:
        mask = self.asked.mask
        return [*self.asked.sources, *([mask] if mask is not None else [])]


class _Hands:
    """What an adapter acts through; see `upstreams.images.Hands`."""

    def __init__(self, call: ImageCall, entry: TargetEntry, timeouts: Timeouts) -> None:
        self._call = call
        self._entry = entry
        self._timeouts = timeouts

    @property
    def known(self) -> bytes:
        """The caller's own URLs and prompt may stand in a refusal's message."""
        urls = [source.url for source in self._call.asked.sources if source.url]
        return "\n".join([self._call.asked.prompt, *urls]).encode("utf-8", "replace")

    @property
    def seconds(self) -> float:
        return self._timeouts.total_seconds * _SHARE_OF_TIME

    async def exchange(self, request: UpstreamRequest) -> Answered:
        return Answered(*await unit_run.exchange(self._call.request.runtime, request, self._timeouts))

    async def send(self, request: UpstreamRequest) -> bytes:
        runtime = self._call.request.runtime
        return (await unit_run.send(runtime, self._entry, request, self._timeouts, known=self.known)).body

    async def load(self, source: Source) -> Source:
        return await self._call.loaded(source)

    async def pause(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
