"""How to set up each client for this installation: what to paste, with its own address in it."""

from __future__ import annotations

from dataclasses import dataclass

from django.conf import settings
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

#: Models that the examples name; each answers on the path that its client calls.
CHAT_MODEL = "gpt-5.5"
CODEX_MODEL = "gpt-5.3-codex"
CLAUDE_MODEL = "claude-sonnet-4-6"
GEMINI_MODEL = "gemini-3.5-fast"


@dataclass(frozen=True, slots=True)
class Snippet:
    """One client: its name, what to do, and the text to paste."""

    id: str
    label: str
    lead: str | Promise
    code: str
    note: str | Promise = ""


def snippets(origin: str | None = None) -> list[Snippet]:
    """The setup of every client against ``origin`` (scheme and host), this site's own by default."""
    origin = (origin or settings.SITE_URL).rstrip("/")
    makers = (_curl, _python, _node, _claude_code, _codex, _gemini_cli, _cursor)
    return [make(origin) for make in makers]


def base_url(origin: str | None = None) -> str:
    """The base URL that OpenAI-compatible clients want."""
    return f"{(origin or settings.SITE_URL).rstrip('/')}/api/v1"


def _curl(origin: str) -> Snippet:
    return Snippet(
        "curl",
        "curl",
        _("Put your key into HYPEREAL_API_KEY, then:"),
        f"""export HYPEREAL_API_KEY=ck_...
curl {origin}/api/v1/chat/completions \\
  -H "Authorization: Bearer $HYPEREAL_API_KEY" \\
  -H "Content-Type: application/json" \\
  -d '{{
    "model": "{CHAT_MODEL}",
    "messages": [{{"role": "user", "content": "Say hi in one word."}}]
  }}'""",
    )


def _python(origin: str) -> Snippet:
    return Snippet(
        "python",
        "Python",
        _("With the official OpenAI library: pip install openai"),
        f"""import os
from openai import OpenAI

client = OpenAI(
    base_url="{origin}/api/v1",
    api_key=os.environ["HYPEREAL_API_KEY"],
)
answer = client.chat.completions.create(
    model="{CHAT_MODEL}",
    messages=[{{"role": "user", "content": "Say hi in one word."}}],
)
print(answer.choices[0].message.content)""",
    )


def _node(origin: str) -> Snippet:
    return Snippet(
        "node",
        "Node",
        _("With the official OpenAI library: npm install openai"),
        f"""import OpenAI from "openai";

const client = new OpenAI({{
  baseURL: "{origin}/api/v1",
  apiKey: process.env.HYPEREAL_API_KEY,
}});
const answer = await client.chat.completions.create({{
  model: "{CHAT_MODEL}",
  messages: [{{ role: "user", content: "Say hi in one word." }}],
}});
console.log(answer.choices[0].message.content);""",
    )


def _claude_code(origin: str) -> Snippet:
    return Snippet(
        "claude-code",
        "Claude Code",
        _("Two variables, then start it as always:"),
        f"""export ANTHROPIC_BASE_URL={origin}/api
export ANTHROPIC_AUTH_TOKEN=$HYPEREAL_API_KEY
claude --model {CLAUDE_MODEL}""",
        _("The base URL ends in /api: Claude Code adds /v1/messages itself."),
    )


def _codex(origin: str) -> Snippet:
    return Snippet(
        "codex",
        "Codex CLI",
        _("Into ~/.codex/config.toml:"),
        f"""model_provider = "hypereal"
model = "{CODEX_MODEL}"

[model_providers.hypereal]
name = "Hypereal"
base_url = "{origin}/api/v1"
wire_api = "responses"
env_key = "HYPEREAL_API_KEY\"""",
        _(
            "Set HYPEREAL_API_KEY in the shell that starts codex. "
            "Its warning that it does not know the model does no harm."
        ),
    )


def _gemini_cli(origin: str) -> Snippet:
    return Snippet(
        "gemini-cli",
        "Gemini CLI",
        _("Once, so that it takes the key from its variable; then start it with its address:"),
        f"""mkdir -p ~/.gemini
[ -e ~/.gemini/settings.json ] ||
  echo '{{"security": {{"auth": {{"selectedType": "gemini-api-key"}}}}}}' > ~/.gemini/settings.json

export GOOGLE_GEMINI_BASE_URL={origin}/api/v1/gemini
export GEMINI_API_KEY=$HYPEREAL_API_KEY
gemini -m {GEMINI_MODEL}""",
        _(
            "A settings.json that is there already stays as it is: add the member security to it. "
            "Google's SDKs take the same base URL."
        ),
    )


def _cursor(origin: str) -> Snippet:
    return Snippet(
        "cursor",
        "Cursor",
        _("In Cursor's settings under Models, turn on the OpenAI API key and “Override OpenAI Base URL”:"),
        f"""OpenAI API Key            ck_...
Override OpenAI Base URL  {origin}/api/v1
Add model                 {CHAT_MODEL}""",
        _("Cursor calls from its own servers: the address must be reachable from the internet."),
    )
