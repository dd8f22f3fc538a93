"""The vendors' libraries for Node: one turn is one run of node/turns.mjs."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path

from clients import python_sdks
from clients.packages import NODE, NODE_PACKAGES
from clients.programs import run
from clients.site import Site
from clients.turns import QUESTION, Answer, Client, Kind, Turn, gathered


def all_of_them(packages: Path) -> Iterator[Client]:
    """Every library and endpoint."""
    for package, endpoint, model, path in (
        ("openai", "chat", python_sdks.CHAT_MODEL, "/api/v1"),
        ("openai", "responses", python_sdks.RESPONSES_MODEL, "/api/v1"),
        ("@anthropic-ai/sdk", "messages", python_sdks.MESSAGES_MODEL, "/api"),
        ("@google/genai", "gemini", python_sdks.GEMINI_MODEL, "/api/v1/gemini"),
    ):
        ask = functools.partial(_ask, packages, endpoint, model)
        yield Client(f"{package} (Node)", NODE_PACKAGES[package], endpoint, f"base URL `…{path}`", ask)


def _ask(packages: Path, endpoint: str, model: str, site: Site, turn: Turn) -> Answer:
    question = python_sdks.tool_question(turn) if turn.kind is Kind.TOOL else QUESTION
    env = {
        "ORIGIN": site.url,
        "API_KEY": site.key,
        "MODEL": model,
        "QUESTION": question,
        "TOOL": python_sdks.TOOL,
    }
    command: list[str | Path] = [NODE, "turns.mjs", endpoint, turn.kind.value]
    told = json.loads(run(f"node-{endpoint}-{turn.kind.value}", command, packages, env))
    return gathered(told["pieces"]) if turn.kind is Kind.STREAM else Answer(told["text"], ran=told["ran"])
