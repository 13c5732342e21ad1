"""The guard lets through what the page needs, to this machine alone, and no names of files."""

import asyncio
import json

import pytest

from segdiff_jax.app.guard import HEADERS, MOST_BODY, Guard

HOST = "127.0.0.1:7860"
EVENT = "/gradio_api/queue/join"


def ask(path, method="GET", body=b"", host=HOST, **headers):
    """Returns status, headers and body of the answer, and whether the page behind was asked."""
    asked, messages = [], []

    async def page(scope, receive, send):
        found = b""
        while scope["type"] == "http" and method == "POST":
            message = await receive()
            found += message.get("body", b"")
            if not message.get("more_body"):
                break
        asked.append(found)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"page"})

    parts = [body[i : i + 70_000] for i in range(0, len(body), 70_000)] or [b""]
    left = [
        {"type": "http.request", "body": part, "more_body": i < len(parts) - 1}
        for i, part in enumerate(parts)
    ]

    async def receive():
        return left.pop(0) if left else {"type": "http.disconnect"}

    async def send(message):
        messages.append(message)

    given = {"host": host, **{name.replace("_", "-"): value for name, value in headers.items()}}
    if method == "POST":
        given.setdefault("content-length", str(len(body)))
    scope = {"type": "http", "path": path, "method": method}
    scope["headers"] = [(k.encode(), v.encode("latin-1")) for k, v in given.items() if v]
    asyncio.run(Guard(page, {HOST, "localhost:7860"})(scope, receive, send))
    assert {k.decode(): v.decode() for k, v in messages[0]["headers"]}.items() >= HEADERS.items()
    return messages[0]["status"], b"".join(m.get("body", b"") for m in messages[1:]), asked


@pytest.mark.parametrize(
    "path",
    [
        *("/", "/config", "/theme.css", "/assets/index-Ab1.js", "/static/fonts/a/b-1.woff2"),
        *("/gradio_api/queue/data", "/gradio_api/heartbeat/x1", "/gradio_api/startup-events"),
        *("/layers/T_o-k/1/outlines", "/files/T_o-k/1/csv", "/files/T_o-k/all", "/doing/T_o-k"),
    ],
)
def test_what_the_page_needs_goes_through(path):
    assert ask(path) == (200, b"page", [b""])


@pytest.mark.parametrize(
    ("path", "method"),
    [
        *((f"/gradio_api/file={name}", "GET") for name in ("/etc/passwd", "../x", "a.png")),
        *((f"/gradio_api/{name}", "GET") for name in ("info", "proxy=http://x/", "openapi.json")),
        *((f"/gradio_api/{name}", "POST") for name in ("upload", "call/x", "run/x", "vibe-edit")),
        *((f"/{name}", "GET") for name in ("monitoring", "docs", "file=/etc/passwd", "login")),
        *(("/static/../../../etc/passwd", "GET"), ("/assets/..%2f..", "GET"), ("/", "POST")),
        *(("/files/T/1/csv", "POST"), ("/layers/T/1/x\n", "GET"), ("/", "DELETE"), ("", "GET")),
    ],
)
def test_every_other_address_is_closed(path, method):
    status, body, asked = ask(path, method)
    assert status == 404 and not asked and b"\n" not in body


@pytest.mark.parametrize(
    "more",
    [
        {"host": "evil.example:7860"},
        {"host": ""},
        {"host": "127.0.0.1"},
        {"host": "127.0.0.1:7861"},
        {"origin": "http://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:9999"},
        {"sec_fetch_site": "cross-site"},
        {"sec_fetch_site": "same-site"},
    ],
)
def test_foreign_pages_and_foreign_names_of_this_machine_are_refused(more):
    for path, method in (("/", "GET"), (EVENT, "POST"), ("/send/T", "POST")):
        status, _, asked = ask(path, method, **more)
        assert status == 403 and not asked


def test_its_own_page_may_ask():
    assert ask("/send/T", "POST", b"x", origin=f"http://{HOST}")[0] == 200
    assert ask("/", host="localhost:7860", sec_fetch_site="none")[0] == 200


def test_an_event_is_handed_on_as_it_came():
    body = json.dumps({"data": [0.5, "fast"], "event_data": {"key": 3}, "fn_index": 4}).encode()
    assert ask(EVENT, "POST", body) == (200, b"page", [body])


def _nested(depth):
    return b"[" * depth + b"]" * depth


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (json.dumps({"data": [{"path": "/etc/passwd"}]}).encode(), 400),
        (json.dumps({"data": [{"a": [{"url": "http://x"}]}]}).encode(), 400),
        (json.dumps({"event_data": {"orig_name": "a"}}).encode(), 400),
        (b'{"data": [{"p\\u0061th": "/etc/passwd"}]}', 400),
        (b"no JSON", 400),
        (b"", 400),
        (b"\xff\xfe", 400),
        (_nested(100_000), 400),
        (b'"' + b"x" * MOST_BODY + b'"', 413),
    ],
)
def test_an_event_that_names_files_or_is_too_long_is_refused(body, status):
    found, _, asked = ask(EVENT, "POST", body)
    assert found == status and not asked


def test_a_body_longer_than_it_says_is_refused():
    body = b'"' + b"x" * MOST_BODY + b'"'
    assert ask(EVENT, "POST", body, content_length="10")[0] == 400


@pytest.mark.parametrize("length", ["", "-1", "x", "1e3", "9" * 30, "\xb2"])
def test_the_length_of_what_is_sent_must_be_said(length):
    for path in (EVENT, "/send/T"):
        status, _, asked = ask(path, "POST", b"x", content_length=length)
        assert status == 411 and not asked


def test_an_error_of_what_answers_is_a_line_in_the_log_and_on_the_page(caplog):
    messages = []

    async def page(scope, receive, send):
        raise KeyError(9999)

    async def send(message):
        messages.append(message)

    scope = {"type": "http", "path": "/", "method": "GET", "headers": [(b"host", HOST.encode())]}
    asyncio.run(Guard(page, {HOST})(scope, None, send))
    assert messages[0]["status"] == 500 and messages[1]["body"] == b"this cannot be answered"
    assert [record.getMessage() for record in caplog.records] == ["GET /: KeyError: 9999"]


def test_a_websocket_is_not_answered_and_the_start_is_handed_on():
    seen = []

    async def page(scope, receive, send):
        seen.append(scope["type"])

    for kind in ("websocket", "lifespan"):
        asyncio.run(Guard(page, {HOST})({"type": kind}, None, None))
    assert seen == ["lifespan"]
