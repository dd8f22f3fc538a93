"""The coding agents, headless: their settings are what our pages tell people, and what keeps them from phoning home."""

from __future__ import annotations

import functools
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from clients.packages import FOLDER, NODE, NODE_PACKAGES, binary, script_of
from clients.programs import run
from clients.python_sdks import CHAT_MODEL, GEMINI_MODEL, MESSAGES_MODEL, RESPONSES_MODEL
from clients.site import Site
from clients.turns import QUESTION, Answer, Client, Kind, Turn, gathered

_PROOF: Final = "proof.txt"
#: OpenCode's packages for a provider, by the endpoint that they call.
_COMPATIBLE: Final = "@ai-sdk/openai-compatible"
_ANTHROPIC: Final = "@ai-sdk/anthropic"
_GOOGLE: Final = "@ai-sdk/google"


class Place:
    """A home and a working folder for one turn, both new."""

    def __init__(self, name: str, turn: Turn) -> None:
        self.name = f"{name}-{turn.kind.value}"
        self.home = FOLDER / "homes" / self.name
        shutil.rmtree(self.home, ignore_errors=True)
        self.work = self.home / "work"
        self.work.mkdir(parents=True)

    def write(self, path: str, text: str) -> Path:
        """A file of the home."""
        file = self.home / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def run(self, command: list[str | Path], env: Mapping[str, str], said: str = "") -> str:
        """Its output. Raises TurnFailed."""
        return run(self.name, command, self.work, {"HOME": str(self.home), **env}, said)

    def ran(self) -> str:
        """What the tool left behind."""
        file = self.work / _PROOF
        return file.read_text() if file.exists() else ""


def all_of_them(packages: Path) -> Iterator[Client]:
    """Every agent and endpoint."""
    for name, package, endpoint, setting, ask in (
        ("Claude Code", "@anthropic-ai/claude-code", "messages", "`ANTHROPIC_BASE_URL=…/api`", _claude),
        ("Codex CLI", "@openai/codex", "responses", '`base_url = "…/api/v1"`', _codex),
        ("Gemini CLI", "@google/gemini-cli", "gemini", "`GOOGLE_GEMINI_BASE_URL=…/api/v1/gemini`", _gemini),
        ("OpenCode", "opencode-ai", "chat", f"`{_COMPATIBLE}`", _opencode(_COMPATIBLE, CHAT_MODEL)),
        ("OpenCode", "opencode-ai", "messages", f"`{_ANTHROPIC}`", _opencode(_ANTHROPIC, MESSAGES_MODEL)),
        ("OpenCode", "opencode-ai", "gemini", f"`{_GOOGLE}`", _opencode(_GOOGLE, GEMINI_MODEL, "/gemini/v1beta")),
    ):  # fmt: skip
        yield Client(name, NODE_PACKAGES[package], endpoint, setting, functools.partial(ask, packages))


def _question(turn: Turn, tool: str, argument: str) -> str:
    """What makes the sandbox call the agent's own shell."""
    if turn.kind is not Kind.TOOL:
        return QUESTION
    return f"Call {tool} with {json.dumps({argument: f'printf {turn.proof} > {_PROOF}'})}"


def _events(output: str) -> list[Any]:
    """One JSON value a line; other lines are talk."""
    return [json.loads(line) for line in output.splitlines() if line.startswith("{")]


def _claude(packages: Path, site: Site, turn: Turn) -> Answer:
    place = Place("claude-code", turn)
    env = {
        "CLAUDE_CONFIG_DIR": str(place.home / ".claude"),
        "ANTHROPIC_BASE_URL": f"{site.url}/api",
        "ANTHROPIC_API_KEY": site.key,
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "CLAUDE_CODE_MAX_RETRIES": "1",
        "DISABLE_AUTOUPDATER": "1",
    }
    command: list[str | Path] = [binary(packages, "@anthropic-ai/claude-code", "claude")]
    command += ["-p", _question(turn, "Bash", "command"), "--model", MESSAGES_MODEL, "--allowedTools", "Bash"]
    if turn.kind is not Kind.STREAM:
        return Answer(place.run(command, env), ran=place.ran())
    command += ["--output-format", "stream-json", "--verbose", "--include-partial-messages"]
    events = [value["event"] for value in _events(place.run(command, env)) if value["type"] == "stream_event"]
    return gathered(event["delta"].get("text") for event in events if event["type"] == "content_block_delta")


def _codex(packages: Path, site: Site, turn: Turn) -> Answer:
    place = Place("codex", turn)
    place.write(
        ".codex/config.toml",
        f"""model = "{RESPONSES_MODEL}"
model_provider = "hypereal"
check_for_update_on_startup = false
[model_providers.hypereal]
name = "Hypereal"
base_url = "{site.url}/api/v1"
env_key = "HYPEREAL_API_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
[analytics]
enabled = false
""",
    )
    env = {"CODEX_HOME": str(place.home / ".codex"), "HYPEREAL_API_KEY": site.key}
    command: list[str | Path] = [binary(packages, "@openai/codex", "codex"), "exec", "--skip-git-repo-check"]
    command += ["--dangerously-bypass-approvals-and-sandbox"]
    if turn.kind is Kind.STREAM:
        command.append("--json")
    output = place.run([*command, _question(turn, "exec_command", "cmd")], env)
    if turn.kind is not Kind.STREAM:
        return Answer(output, ran=place.ran())
    events = _events(output)  # it understands streams alone, and prints what it made of one
    texts = [event["item"]["text"] for event in events if event.get("item", {}).get("type") == "agent_message"]
    return Answer("".join(texts), streamed=bool(texts) and events[-1]["type"] == "turn.completed")


def _gemini(packages: Path, site: Site, turn: Turn) -> Answer:
    place = Place("gemini-cli", turn)
    settings = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"enableAutoUpdate": False},
    }
    place.write(".gemini/settings.json", json.dumps(settings))
    env = {
        "GOOGLE_GEMINI_BASE_URL": f"{site.url}/api/v1/gemini",
        "GEMINI_API_KEY": site.key,
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
    }
    command: list[str | Path] = [NODE, script_of(packages, "@google/gemini-cli", "gemini")]
    command += ["-m", GEMINI_MODEL, "--approval-mode", "yolo"]
    if turn.kind is Kind.STREAM:
        command += ["-o", "stream-json"]
    output = place.run([*command, "-p", _question(turn, "run_shell_command", "command")], env)
    if turn.kind is not Kind.STREAM:
        return Answer(output, ran=place.ran())
    return gathered(event["content"] for event in _events(output) if event.get("role") == "assistant")


def _opencode(package: str, model: str, path: str = "") -> Callable[[Path, Site, Turn], Answer]:
    def ask(packages: Path, site: Site, turn: Turn) -> Answer:
        place = Place(f"opencode-{package.rpartition('/')[2]}", turn)
        options = {"baseURL": f"{site.url}/api/v1{path}", "apiKey": site.key}
        provider = {"npm": package, "name": "Hypereal", "options": options, "models": {model: {"name": model}}}
        config = {
            "model": f"hypereal/{model}",
            "small_model": f"hypereal/{model}",
            "autoupdate": False,
            "share": "disabled",
            "permission": {"bash": "allow"},
            "provider": {"hypereal": provider},
        }
        env = {
            "OPENCODE_CONFIG": str(place.write("opencode.json", json.dumps(config))),
            "OPENCODE_DISABLE_AUTOUPDATE": "1",
            "OPENCODE_DISABLE_DEFAULT_PLUGINS": "1",
            "OPENCODE_DISABLE_LSP_DOWNLOAD": "1",
            "OPENCODE_DISABLE_MODELS_FETCH": "1",
        }
        command: list[str | Path] = [binary(packages, "opencode", "opencode"), "run"]
        if turn.kind is Kind.STREAM:
            command += ["--format", "json"]
        # By its input: of an argument it quotes and escapes the words.
        output = place.run(command, env, _question(turn, "bash", "command"))
        if turn.kind is not Kind.STREAM:
            return Answer(output, ran=place.ran())
        parts = [event["part"] for event in _events(output)]
        texts = [part["text"] for part in parts if part["type"] == "text"]
        return Answer("".join(texts), streamed=bool(texts) and parts[-1]["type"] == "step-finish")

    return ask
