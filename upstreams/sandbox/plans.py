"""What the sandbox says, whatever format it is asked in. Pure but for the memory of prefixes it has seen."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

MOST_OUTPUT_TOKENS = 4000
CACHE_BLOCK_BYTES = 512
CACHE_BLOCK_TOKENS = 128
CACHE_LEAST_TOKENS = 1024
CACHE_BLOCKS = 512
CACHE_ENTRIES = 20_000
MOST_OBJECTS_READ = 20

_TOKEN = re.compile(r"\s?\w{1,6}|\s?[^\w\s]|\s+")
_decoder = json.JSONDecoder()
_WORDS_WANTED = re.compile(r"\b(\d{1,4}) words\b")
_OPENING = "This is the Hypereal sandbox speaking: no provider was called, and the text means nothing."
_SUBJECTS = ("the ledger", "a quiet server", "the morning train", "an old lighthouse", "the library", "a paper boat",
             "the night shift", "a lemon tree")  # fmt: skip
_VERBS = ("keeps", "counts", "remembers", "carries", "answers", "mends", "measures", "follows")
_OBJECTS = ("every small coin", "the second tide", "a list of names", "the sound of rain", "seven letters",
            "its own shadow", "the last bus", "a row of lamps")  # fmt: skip
_ENDINGS = ("before dawn", "without hurry", "twice a day", "by the river", "for no reward", "in good order",
            "until it is done", "as agreed")  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tool:
    """A function the caller offers. ``schema`` is the JSON Schema of its arguments."""

    name: str
    schema: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request, freed of its format. ``text`` is everything that counts as input, in order."""

    model: str
    text: str
    question: str
    max_tokens: int | None = None
    stop: tuple[str, ...] = ()
    tools: tuple[Tool, ...] = ()
    forced_tool: str | None = None
    answers_tool: bool = False
    schema: Mapping[str, Any] | None = None
    thinks: bool = False


@dataclass(frozen=True, slots=True)
class Plan:
    """An answer, not yet in any format. ``pieces`` are the deltas of the text, or of the tool's arguments."""

    pieces: tuple[str, ...]
    tool: Tool | None
    tool_call_id: str
    truncated: bool
    input_tokens: int
    cached_tokens: int
    output_tokens: int
    reasoning_tokens: int
    first_delay_seconds: float
    gap_seconds: float


class Planner:
    """Makes plans, and knows which long prefixes came before."""

    def __init__(self) -> None:
        self._seen: OrderedDict[bytes, None] = OrderedDict()

    def plan(self, prompt: Prompt, choice: int = 0) -> Plan:
        """The answer to a prompt. The same prompt and choice always get the same words."""
        digest = hashlib.sha256(f"{prompt.model}\0{choice}\0{prompt.text}".encode("utf-8", "replace")).digest()
        chance = random.Random(digest)  # noqa: S311 the point is that it can be foreseen
        tool = _tool_wanted(prompt)
        if tool is not None:
            text = json.dumps(_arguments(tool, prompt.question, chance))
        elif prompt.schema is not None:
            text = json.dumps(sample(prompt.schema, chance))
        else:
            text = _cut_at_stop(_prose(prompt, chance), prompt.stop)
        tokens = _TOKEN.findall(text)
        limit = min(prompt.max_tokens or MOST_OUTPUT_TOKENS, MOST_OUTPUT_TOKENS)
        reasoning = min(chance.randrange(16, 200), max(0, limit - 1)) if prompt.thinks else 0
        kept = tokens[: max(0, limit - reasoning)]
        input_tokens = count_tokens(prompt.text)
        return Plan(
            pieces=_in_pieces(kept, chance),
            tool=tool,
            tool_call_id=f"call_{digest.hex()[:24]}",
            truncated=len(kept) < len(tokens),
            input_tokens=input_tokens,
            cached_tokens=self._cached(prompt, input_tokens) if choice == 0 else 0,
            output_tokens=max(1, len(kept)) + reasoning,
            reasoning_tokens=reasoning,
            first_delay_seconds=chance.uniform(0.12, 0.4) + reasoning * 0.004,
            gap_seconds=chance.uniform(0.012, 0.03),
        )

    def _cached(self, prompt: Prompt, input_tokens: int) -> int:
        """Input tokens that an earlier request of this model began with, in steps as large providers count them."""
        data = prompt.text.encode("utf-8", "replace")
        state = hashlib.sha256(prompt.model.encode("utf-8", "replace"))
        hits, still_hits = 0, True
        for start in range(0, min(len(data), CACHE_BLOCKS * CACHE_BLOCK_BYTES) - CACHE_BLOCK_BYTES, CACHE_BLOCK_BYTES):
            state.update(data[start : start + CACHE_BLOCK_BYTES])
            mark = state.digest()[:12]
            still_hits = still_hits and mark in self._seen
            hits += still_hits
            self._seen[mark] = None
            self._seen.move_to_end(mark)
        while len(self._seen) > CACHE_ENTRIES:
            self._seen.popitem(last=False)
        cached = min(hits * CACHE_BLOCK_TOKENS, input_tokens // CACHE_BLOCK_TOKENS * CACHE_BLOCK_TOKENS)
        return cached if cached >= CACHE_LEAST_TOKENS else 0


def count_tokens(text: str) -> int:
    """Tokens as the sandbox counts them; by length where the text is very long."""
    if len(text) > 200_000:
        return len(text) // 4
    return max(1, sum(1 for _ in _TOKEN.finditer(text)))


def sample(schema: Mapping[str, Any], chance: random.Random, depth: int = 0) -> Any:
    """A value that fits a JSON Schema, for the common keywords."""
    if "const" in schema:
        return schema["const"]
    if schema.get("enum"):
        return chance.choice(list(schema["enum"]))
    for word in ("anyOf", "oneOf", "allOf"):
        options = schema.get(word)
        if isinstance(options, list) and options and isinstance(options[0], Mapping):
            return sample(options[0], chance, depth + 1)
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if isinstance(kind, list):
        kind = kind[0] if kind else "null"
    if kind == "object":
        properties = schema.get("properties")
        if depth > 6 or not isinstance(properties, Mapping):
            return {}
        members = [(name, part) for name, part in properties.items() if isinstance(part, Mapping)]
        return {name: sample(part, chance, depth + 1) for name, part in members[:50]}
    if kind == "array":
        items = schema.get("items")
        return [sample(items, chance, depth + 1)] if depth <= 6 and isinstance(items, Mapping) else []
    if kind == "boolean":
        return chance.random() < 0.5
    if kind in ("integer", "number"):
        low = schema.get("minimum", 1)
        return low if isinstance(low, (int, float)) else 1
    return "sandbox" if kind == "string" else None


def _arguments(tool: Tool, question: str, chance: random.Random) -> Any:
    """Those that the question spells out as a JSON object, with what the tool requires besides; else made up."""
    properties = tool.schema.get("properties")
    if not isinstance(properties, Mapping):
        return sample(tool.schema, chance)
    given = _object_in(question, properties)
    if given is None:
        return sample(tool.schema, chance)
    required = tool.schema.get("required")
    wanted = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
    missing = {name: part for name in wanted if name not in given and isinstance(part := properties.get(name), Mapping)}
    return {**{name: sample(part, chance, 1) for name, part in missing.items()}, **given}


def _object_in(question: str, properties: Mapping[str, Any]) -> dict[str, Any] | None:
    """The first JSON object in a text that names nothing but these properties."""
    for found in islice(re.finditer(r"\{", question), MOST_OBJECTS_READ):
        try:
            value, _ = _decoder.raw_decode(question, found.start())
        except (ValueError, RecursionError):
            continue
        if value and value.keys() <= properties.keys():
            return dict(value)
    return None


def _tool_wanted(prompt: Prompt) -> Tool | None:
    """The tool to call: one that is forced, or one that the question names; never right after a tool's result."""
    if not prompt.tools or prompt.answers_tool:
        return None
    if prompt.forced_tool is not None:
        return next((tool for tool in prompt.tools if tool.name == prompt.forced_tool), prompt.tools[0])
    question = prompt.question.lower()
    named = frozenset(re.findall(r"[\w-]+", question))
    for tool in prompt.tools:
        if tool.name.lower() in named:
            return tool
    for tool in prompt.tools:
        words = [word for word in re.split(r"[^a-z0-9]+", tool.name.lower()) if len(word) > 3]
        if tool.name.lower() in question or any(word in question for word in words):
            return tool
    return prompt.tools[0] if re.search(r"\b(tool|function)\b", question) else None


def _prose(prompt: Prompt, chance: random.Random) -> str:
    wanted = _WORDS_WANTED.search(prompt.question)
    words = min(int(wanted[1]), 2000) if wanted else chance.randrange(40, 110)
    sentences = [_OPENING]
    if question := " ".join(prompt.question.split()):
        shown = question if len(question) <= 80 else question[:79] + "…"
        sentences.append(f"You wrote: “{shown}”")
    if prompt.answers_tool:
        sentences.append("Your tool's result has arrived.")
    written = 0
    while written < words:
        parts = [chance.choice(list_) for list_ in (_SUBJECTS, _VERBS, _OBJECTS, _ENDINGS)]
        sentence = " ".join(parts).capitalize() + "."
        sentences.append(sentence)
        written += sentence.count(" ") + 1
    return " ".join(sentences)


def _cut_at_stop(text: str, stops: tuple[str, ...]) -> str:
    ends = [at for stop in stops if stop and (at := text.find(stop)) >= 0]
    return text[: min(ends)] if ends else text


def _in_pieces(tokens: list[str], chance: random.Random) -> tuple[str, ...]:
    """Tokens as they leave a provider: mostly one by one, now and then a few at once."""
    pieces, at = [], 0
    while at < len(tokens):
        size = chance.choice((1, 1, 1, 2, 3))
        pieces.append("".join(tokens[at : at + size]))
        at += size
    return tuple(pieces)
