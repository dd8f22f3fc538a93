"""No prompt, no answer and no secret in a table, a log file, an error or an export (C-USE).

One call after another is made that goes well or wrong in its own way, all with words that stand nowhere else. Then
every table is dumped, every log is read, and the words are looked for: plain, in hexadecimal, and in base64.
"""

from __future__ import annotations

import base64
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.cookies import SimpleCookie
from urllib.parse import urlencode

import psycopg
import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.urls import reverse

from catalog.models import Provider
from tests.fakes import upstream as fake
from tests.fakes.upstream import Behaviour, Conversation
from tests.support import http
from tests.support.gateway import Caller, Server, wait_for
from tests.support.http import Reply
from tests.support.installation import Installation, own_redis

PROMPT = "Quokkaprompt5d1f says what nobody else may read"
ANSWER = "Wombatanswer8c2e is for one reader alone"
PROVIDER_SECRET = "sk-numbatprovider41a7b93e5c2d8f60"
PASSWORD = "Bilbypassword77e0"
FAKE_KEY = "ck_dingofake000000000000000000000000000000000000"
IDEMPOTENCY_KEY = "echidnaonce-93b1"
NOT_WRITTEN = b"an item could not be written"
NOT_FOR_CALLERS = (PROVIDER_SECRET, "internal.provider.example", ANSWER)


@pytest.fixture(scope="module")
def server(installation: Installation) -> Server:
    return installation.start(LOG_LEVEL="DEBUG", GATEWAY_MAX_BODY_BYTES="100000")


@pytest.fixture(scope="module")
def web(installation: Installation) -> Server:
    return installation.start("web", LOG_LEVEL="DEBUG")


@pytest.fixture(scope="module")
def caller(installation: Installation, server: Server) -> Caller:
    return installation.caller(5_000, server)


@pytest.fixture
def model(installation: Installation) -> Callable[[Behaviour], str]:
    """A model whose provider knows a secret that stands nowhere else."""

    def make(behave: Behaviour) -> str:
        slug = installation.new_model(behave, options={"first_byte_seconds": 0.5} if behave is hangs else None)
        provider = Provider.objects.get(slug=f"{slug}-p0")
        provider.set_secret(PROVIDER_SECRET)
        provider.save()
        installation.until_known(slug)
        return slug

    return make


async def telling(talk: Conversation) -> None:
    await fake.answers(ANSWER)(talk)


#: What a provider might give away.
INDISCREET = f"{PROMPT} / {ANSWER} / {PROVIDER_SECRET} / https://internal.provider.example/v1?key={PROVIDER_SECRET}"


async def breaks_off(talk: Conversation) -> None:
    await talk.start()
    await talk.chunk(ANSWER)
    await talk.taken()
    talk.cut()


async def fails_midway(talk: Conversation) -> None:
    await talk.start()
    await talk.chunk(ANSWER)
    await talk.taken()
    await talk.send(fake.event("", error={"message": INDISCREET, "type": "server_error"}))
    await talk.end()


async def talks_nonsense(talk: Conversation) -> None:
    await talk.json(f'{{"choices": [{{"message": {{"content": "{ANSWER}'.encode())


async def streams_nonsense(talk: Conversation) -> None:
    await talk.start()
    await talk.chunk(ANSWER)
    await talk.taken()
    await talk.send(f"data: {{{ANSWER}\n\n".encode())
    await talk.end()


async def answers_oddly(talk: Conversation) -> None:
    await talk.json({"choices": [[ANSWER]], "usage": {"prompt_tokens": ANSWER, "completion_tokens": {"a": PROMPT}}})


async def hangs(talk: Conversation) -> None:
    await talk.gone()


async def goes_on(talk: Conversation) -> None:
    await talk.start()
    while True:
        await talk.chunk(ANSWER)
        await talk.pause(0.02)


FAILING: list[tuple[Behaviour, int]] = [
    (fake.fails(400, INDISCREET, type="invalid_request_error"), 400),
    (fake.fails(404, INDISCREET), 404),
    (fake.fails(401, INDISCREET), 502),
    (fake.fails(429, INDISCREET), 503),
    (fake.fails(500, INDISCREET), 502),
    (talks_nonsense, 502),
    (hangs, 504),
]


@pytest.mark.parametrize(("behave", "status"), FAILING)
@pytest.mark.parametrize("stream", [False, True])
def test_errors_before_the_first_content(
    caller: Caller, model: Callable[[Behaviour], str], behave: Behaviour, status: int, stream: bool
) -> None:
    reply = caller.chat(model(behave), text=PROMPT, stream=stream)
    told = reply.events[-1]["error"] if reply.status == 200 else reply.error
    assert reply.status == status or (reply.status == 200 and stream)
    assert told["message"]
    check_told(reply, *(NOT_FOR_CALLERS if status > 404 else NOT_FOR_CALLERS[:2]))
    assert status < 500 or PROMPT not in reply.body.decode()


@pytest.mark.parametrize("behave", [breaks_off, fails_midway, streams_nonsense])
def test_errors_in_the_middle(caller: Caller, model: Callable[[Behaviour], str], behave: Behaviour) -> None:
    reply = caller.chat(model(behave), text=PROMPT, stream=True)
    assert b'data: {"' in reply.body
    assert b'"error"' in reply.body.rstrip().rpartition(b"\n")[2]
    check_told(reply, *NOT_FOR_CALLERS[:2])
    assert PROMPT not in reply.body.decode()


def test_success_and_a_stored_answer(caller: Caller, model: Callable[[Behaviour], str]) -> None:
    slug = model(telling)
    for _ in range(2):
        reply = caller.chat(slug, text=PROMPT, headers={"idempotency_key": IDEMPOTENCY_KEY})
        assert reply.json["choices"][0]["message"]["content"] == ANSWER
    assert reply.headers["idempotency-replayed"] == "true"
    conflict = caller.chat(slug, text=PROMPT + "!", headers={"idempotency_key": IDEMPOTENCY_KEY})
    assert conflict.status == 409
    check_told(conflict, PROMPT, ANSWER, IDEMPOTENCY_KEY)
    assert caller.chat(slug, text=PROMPT, stream=True).events[-1] == "[DONE]"
    caller.chat(model(answers_oddly), text=PROMPT)


def test_refusals(caller: Caller, installation: Installation, model: Callable[[Behaviour], str]) -> None:
    slug, path = model(telling), "/v1/chat/completions"
    poor = installation.caller(1)
    port = caller.port
    head = {"authorization": f"Bearer {FAKE_KEY}"}
    replies = [
        caller.send("POST", path, f'{{"model": "{slug}", "messages": [{{"content": "{PROMPT}"'.encode()),
        caller.send("POST", path, {"model": slug, "messages": PROMPT}),
        caller.send("POST", path, {"model": slug, "messages": [{"content": PROMPT}], "max_tokens": PROMPT}),
        caller.send("POST", path, [PROMPT]),
        caller.send("POST", path, {"model": slug, "messages": [PROMPT * 10_000]}),
        caller.send("POST", path, {"model": slug, "messages": [PROMPT], "service_tier": "priority"}),
        caller.send("POST", f"/v1/nowhere/{PROMPT[:10]}?q={PROMPT[:15]}", {"model": slug, "messages": [PROMPT]}),
        http.send(port, "POST", path, {"model": slug, "messages": [PROMPT]}, head),
        http.send(port, "POST", f"{path}?key={FAKE_KEY}", {"model": slug, "messages": [PROMPT]}),
        http.send(port, "POST", path, {"model": slug, "messages": [PROMPT]}, poor.headers({})),
    ]
    assert [reply.status for reply in replies] == [400, 400, 400, 400, 413, 400, 404, 401, 401, 402]
    for reply in replies:
        check_told(reply, PROMPT, FAKE_KEY, caller.secret)


def test_callers_who_leave_and_a_shutdown(
    installation: Installation, caller: Caller, model: Callable[[Behaviour], str]
) -> None:
    slug, other = model(goes_on), installation.start(LOG_LEVEL="DEBUG", GATEWAY_DRAIN_SECONDS="0.3")
    with caller.stream(slug, text=PROMPT) as stream:
        assert stream.line()
        stream.leave()
    body = {"model": slug, "messages": [{"role": "user", "content": PROMPT}], "stream": True}
    with http.opened(other.port, "POST", "/v1/chat/completions", body, caller.headers({})) as stream:
        assert stream.line()
        assert other.stop() == 0


@contextmanager
def missing(table: str) -> Iterator[None]:
    """A table is gone for a while: whoever asks for it crashes."""
    with connection.cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO {table}_away")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {table}_away RENAME TO {table}")


@pytest.mark.parametrize("table", ["billing_wallet", "billing_transfer"])
def test_crashes_of_the_gateway(caller: Caller, model: Callable[[Behaviour], str], server: Server, table: str) -> None:
    """Before the call goes upstream, and when it is to be settled."""
    slug, before = model(telling), server.log.read_bytes().count(NOT_WRITTEN)
    with missing(table):
        replies = [caller.chat(slug, text=PROMPT), caller.chat(slug, text=PROMPT, stream=True)]
        if table == "billing_transfer":
            wait_for(lambda: server.log.read_bytes().count(NOT_WRITTEN) > before)
    for reply in replies:
        if reply.status != 200:
            assert (reply.status, reply.error["type"]) == (500, "api_error")
            check_told(reply, PROMPT, ANSWER, PROVIDER_SECRET, "billing_", "SELECT")


def test_crashes_of_a_page(web: Server) -> None:
    page = http.send(web.port, "GET", reverse("account_login"), None, {"accept": "text/html", "content-type": ""})
    assert page.status == 200
    cookies = SimpleCookie(page.headers["set-cookie"])
    token = re.search(rb'name="csrfmiddlewaretoken" value="(\w+)"', page.body)
    assert token is not None
    form = urlencode({"login": "a@b.example", "password": PASSWORD, "csrfmiddlewaretoken": token[1].decode()}).encode()
    headers = {
        "accept": "text/html",
        "content-type": "application/x-www-form-urlencoded",
        "cookie": "; ".join(f"{name}={morsel.value}" for name, morsel in cookies.items()),
        "authorization": f"Bearer {FAKE_KEY}",
        "referer": f"http://127.0.0.1:{web.port}/",
    }
    with missing("accounts_user"):
        crash = http.send(web.port, "POST", reverse("account_login"), form, headers)
        asked = http.send(web.port, "GET", f"/api/me?key={FAKE_KEY}", None, headers)
    assert crash.status == 500
    for reply in (crash, asked):
        check_told(reply, PASSWORD, FAKE_KEY, "Traceback", "accounts_user", "SELECT")


def check_told(reply: Reply, *words: str) -> None:
    text = reply.body.decode() + str(reply.headers)
    assert not [word for word in words if word in text]


def forms(word: str) -> list[bytes]:
    """The word as it might lie somewhere: plain, in hexadecimal, in base64 at any of three places, in UTF-16."""
    plain = word.encode()
    found = [plain, plain.hex().encode(), plain.hex().upper().encode(), word.encode("utf-16-le")]
    for shift in range(3):
        # The characters at both ends depend on their neighbours.
        found.append(base64.b64encode(b"x" * shift + plain)[4:-4])
    return found


def test_nothing_of_it_is_kept(installation: Installation, caller: Caller, web: Server, server: Server) -> None:
    """Last of the file."""
    with (
        own_redis() as redis,
        installation.running("run_cron", SWEEP_SECONDS="0.2"),
        installation.running("rqworker", "critical", "default", REDIS_URL=redis.url),
    ):
        wait_for(lambda: (installation.logs / "rqworker.log").exists())
        time.sleep(3)
    client = Client()
    client.force_login(caller.user)
    session = client.cookies[settings.SESSION_COOKIE_NAME].value
    cookie = {"cookie": f"{settings.SESSION_COOKIE_NAME}={session}"}
    export = http.send(web.port, "GET", "/api/api-usage/export?days=30", None, cookie)
    assert (export.status, export.headers["content-type"].partition(";")[0]) == (200, "text/csv")
    assert export.body.count(b"\n") > 20
    kept = {"the export": export.body}
    kept |= {name: dumped(installation, name) for name in tables()}
    kept |= {path.name: path.read_bytes() for path in installation.logs.iterdir() if path.is_file()}
    kept["PostgreSQL's log"] = installation.cluster.log.read_bytes()
    # It would be found if it were there: a model's name is in the log's table, an error in the gateway's log.
    assert b"m-" in kept["usage_requestlog"]
    assert NOT_WRITTEN in kept[server.log.name]
    assert len(kept) > 40
    secrets = [PROMPT, ANSWER, PROVIDER_SECRET, PASSWORD, FAKE_KEY, IDEMPOTENCY_KEY, caller.secret]
    config = [installation.environment()[name] for name in ("DJANGO_SECRET_KEY", "ENCRYPTION_KEYS", "API_KEY_PEPPER")]
    found = [
        (place, word)
        for place, content in kept.items()
        for word in secrets + config
        for form in forms(word)
        if form in content
    ]
    assert found == []


def tables() -> list[str]:
    return connection.introspection.table_names()


def dumped(installation: Installation, table: str) -> bytes:
    with (
        psycopg.connect(installation.cluster.url) as other,
        other.cursor().copy(f'COPY (SELECT * FROM "{table}") TO STDOUT') as copy,
    ):
        return b"".join(bytes(part) for part in copy)


def test_the_search_finds_what_lies_anywhere() -> None:
    for hidden in (PROMPT.encode(), base64.b64encode(b"ab" + PROMPT.encode()), PROMPT.encode().hex().encode()):
        assert any(form in b"..." + hidden + b"..." for form in forms(PROMPT))
