"""One short function an endpoint. By the time they run, key and body have been checked by the handler."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from catalog import gemini_listing, listing
from core import ids
from core.errors import InvalidRequest, NotFound, UpgradeRequired
from gateway import engine, free, gemini_list, kept_responses, openapi
from gateway import quote as quotes
from gateway.dialects import anthropic_messages, gemini, gemini_embed, openai_chat, openai_embeddings, openai_responses
from gateway.endpoints import endpoint
from gateway.request import Answer, GatewayRequest, StreamAnswer
from usage import receipts

_ANTHROPIC = b"anthropic-version"


@endpoint("POST", kind=openai_chat.DIALECT.kind, dialect=openai_chat.DIALECT)
async def chat_completions(request: GatewayRequest) -> Answer | StreamAnswer:
    """``POST /chat/completions``"""
    return await engine.serve(request, openai_chat.DIALECT)


@endpoint("POST", kind=anthropic_messages.DIALECT.kind, dialect=anthropic_messages.DIALECT, id_header=b"request-id")
async def messages(request: GatewayRequest) -> Answer | StreamAnswer:
    """``POST /messages``"""
    return await engine.serve(request, anthropic_messages.dialect_for(request.scope["headers"], request.query))


@endpoint("POST", dialect=anthropic_messages.DIALECT, id_header=b"request-id")
async def count_tokens(request: GatewayRequest) -> Answer:
    """``POST /messages/count_tokens``"""
    dialect = anthropic_messages.dialect_for(request.scope["headers"], request.query)
    return await free.count_tokens(request, dialect.parse_count(request.body))


@endpoint("GET")
async def receipt(request: GatewayRequest, request_id: str) -> Answer:
    """``GET /receipts/{request_id}``: of the key's own workspace; others' and invented ones are not there."""
    await engine.count(request)
    identifier, workspace_id = ids.parse(request_id), request.key.workspace_id
    if identifier is not None:
        found = await request.runtime.read(partial(receipts.of_request, workspace_id, identifier))
        if found is not None:
            return Answer.of(receipts.as_json(found))
    raise NotFound("There is no receipt of that id. A call has one as soon as it is settled.")


@endpoint("GET")
async def models(request: GatewayRequest) -> Answer:
    """``GET /models``, in the shape that the client's headers ask for."""
    snapshot = request.runtime.catalog.snapshot
    if _ANTHROPIC not in request.raw_headers:
        return Answer.of(listing.openai_list(snapshot))
    return Answer.of(
        listing.anthropic_list(
            snapshot,
            limit=_limit(request.GET.get("limit")),
            after_id=request.GET.get("after_id"),
            before_id=request.GET.get("before_id"),
        )
    )


@endpoint("GET")
async def model(request: GatewayRequest, name: str) -> Answer:
    """``GET /models/{id}``"""
    snapshot = request.runtime.catalog.snapshot
    if _ANTHROPIC in request.raw_headers:
        return Answer.of(listing.anthropic_model(snapshot, name))
    return Answer.of(listing.openai_model(snapshot, name))


@endpoint("POST", kind=openai_embeddings.DIALECT.kind, dialect=openai_embeddings.DIALECT)
async def embeddings(request: GatewayRequest) -> Answer | StreamAnswer:
    """``POST /embeddings``"""
    return await engine.serve(request, openai_embeddings.DIALECT)


@endpoint(
    "GET", "POST", kind=openai_responses.DIALECT.kind, dialect=openai_responses.DIALECT, keyless_methods=("GET", "HEAD")
)
async def responses(request: GatewayRequest) -> Answer | StreamAnswer:
    """``POST /responses``; on ``GET`` Codex asks for a WebSocket first and takes 426 as "use HTTP" at once."""
    if request.method == "POST":
        only_json = openai_responses.names_only_json(request.raw_headers.get(b"accept", b""))
        return await engine.serve(request, openai_responses.DIALECT if only_json else openai_responses.TAKES_EVENTS)
    if b"websocket" in request.raw_headers.get(b"upgrade", b"").lower():
        raise UpgradeRequired("WebSockets are not served here. Use HTTP.", headers={"Upgrade": "HTTP/1.1"})
    raise NotFound("There is nothing at this address.")


@endpoint("POST", kind=openai_responses.DIALECT.kind, dialect=openai_responses.DIALECT)
async def compact(request: GatewayRequest) -> Answer | StreamAnswer:
    """``POST /responses/compact``"""
    return await engine.serve(request, openai_responses.COMPACTION)


@endpoint("POST", dialect=openai_responses.DIALECT)
async def input_tokens(request: GatewayRequest) -> Answer:
    """``POST /responses/input_tokens``"""
    return await free.count_tokens(request, openai_responses.DIALECT.parse_count(request.body))


@endpoint("GET", "DELETE", dialect=openai_responses.DIALECT)
async def one_response(request: GatewayRequest, response_id: str) -> Answer:
    """``GET`` and ``DELETE /responses/{id}``: a response that its provider keeps, of the key's own workspace."""
    if request.method == "GET" and request.GET.get("stream", "").lower() in ("true", "1"):
        raise InvalidRequest("A response that is kept is read in one piece.", param="stream")
    await engine.count(request)
    return await kept_responses.ask(request, response_id)


@endpoint("GET", dialect=openai_responses.DIALECT)
async def input_items(request: GatewayRequest, response_id: str) -> Answer:
    """``GET /responses/{id}/input_items``: what a response that is kept was made from."""
    await engine.count(request)
    return await kept_responses.ask(request, response_id, "/input_items")


@endpoint("POST", dialect=openai_responses.DIALECT)
async def cancel_response(request: GatewayRequest, response_id: str) -> Answer:
    """``POST /responses/{id}/cancel``: only responses in the background can be, and none are made here."""
    await engine.count(request)
    await kept_responses.known(request, response_id)
    message = "Only background responses can be cancelled, and none are made here: close the connection instead."
    raise InvalidRequest(message, param="response_id", code="background_not_offered")


@endpoint("POST", kind=gemini.DIALECT.kind, dialect=gemini.DIALECT, key_in_query=True)
async def gemini_plain(request: GatewayRequest) -> Answer | StreamAnswer:
    """``POST /gemini``, in Gemini's own format or in OpenAI's."""
    return await engine.serve(request, gemini.PlainGemini(request.query))


@endpoint("POST", kind=gemini.DIALECT.kind, dialect=gemini.DIALECT, key_in_query=True)
async def gemini_generate(request: GatewayRequest, name: str) -> Answer | StreamAnswer:
    """Google's ``models/{model}:generateContent``"""
    return await engine.serve(request, gemini.method(name))


@endpoint("POST", kind=gemini.DIALECT.kind, dialect=gemini.DIALECT, key_in_query=True)
async def gemini_stream(request: GatewayRequest, name: str) -> Answer | StreamAnswer:
    """Google's ``models/{model}:streamGenerateContent``: events with ``alt=sse``, else one list piece by piece."""
    answer = await engine.serve(request, gemini.method(name, stream=True))
    if isinstance(answer, StreamAnswer) and not gemini.asks_events(request.query):
        return replace(answer, pipe=gemini_list.ListReader(answer.pipe), content_type=gemini_list.CONTENT_TYPE)
    return answer


@endpoint("POST", dialect=gemini.DIALECT, key_in_query=True)
async def gemini_count_tokens(request: GatewayRequest, name: str) -> Answer:
    """Google's ``models/{model}:countTokens``"""
    return await free.count_tokens(request, gemini.method(name).parse_count(request.body))


@endpoint("POST", kind=gemini_embed.KIND, dialect=gemini.DIALECT, key_in_query=True)
async def gemini_embed_one(request: GatewayRequest, name: str) -> Answer | StreamAnswer:
    """Google's ``models/{model}:embedContent``"""
    return await engine.serve(request, gemini_embed.GeminiEmbed(name, batch=False))


@endpoint("POST", kind=gemini_embed.KIND, dialect=gemini.DIALECT, key_in_query=True)
async def gemini_embed_batch(request: GatewayRequest, name: str) -> Answer | StreamAnswer:
    """Google's ``models/{model}:batchEmbedContents``"""
    return await engine.serve(request, gemini_embed.GeminiEmbed(name, batch=True))


@endpoint("GET", dialect=gemini.DIALECT, key_in_query=True)
async def gemini_models(request: GatewayRequest) -> Answer:
    """Google's ``GET models``: those that can be called here."""
    size, token = request.GET.get("pageSize"), request.GET.get("pageToken", "")
    return Answer.of(gemini_listing.page(request.runtime.catalog.snapshot, size, token))


@endpoint("GET", dialect=gemini.DIALECT, key_in_query=True)
async def gemini_model(request: GatewayRequest, name: str) -> Answer:
    """Google's ``GET models/{model}``"""
    return Answer.of(gemini_listing.model(request.runtime.catalog.snapshot, name))


@endpoint("POST")
async def quote(request: GatewayRequest) -> Answer:
    """``POST /quote``: what a call would reserve and likely cost."""
    return await quotes.ask(request)


@endpoint("GET", needs_key=False)
async def openapi_document(request: GatewayRequest) -> Answer:
    """``GET /openapi.json``: this document."""
    return Answer.of(openapi.document())


def _limit(text: str | None) -> int:
    if text is None:
        return listing.ANTHROPIC_DEFAULT_LIMIT
    if not text.isdigit() or len(text) > 6:
        raise InvalidRequest(f"limit must lie between 1 and {listing.ANTHROPIC_MOST}.", param="limit")
    return int(text)
