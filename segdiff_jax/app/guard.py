"""Lets through to the page what it needs, and nothing else.

The libraries below have more addresses than the page uses: files by their path, proxies, uploads to
their own cache. A list of what is allowed closes them all. Requests that a foreign page makes the
browser send, or that come by a foreign name of this machine, are refused.
"""

import json
import re
from collections.abc import Awaitable, Callable, Collection, MutableMapping
from typing import Any
from urllib.parse import urlsplit

from absl import logging

from segdiff_jax.errors import one_line

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

MOST_BODY = 2**18  # bytes of an event
READ = re.compile(
    r"/|/config/?|/theme\.css|/favicon\.ico|/(static|assets)/[\w./@+-]+"
    r"|/gradio_api/(queue/data|heartbeat/[\w-]+|startup-events|theme\.css)"
    r"|/(layers|files|doing)/[\w/.-]+"
)
EVENTS = re.compile(r"/gradio_api/(queue/join|cancel|reset)/?")
SENT = re.compile(r"/send/[\w-]+")
# the page takes nothing from other hosts, and is part of no other page
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "connect-src 'self'; frame-src 'none'; object-src 'none'; base-uri 'self'; "
    "form-action 'none'; frame-ancestors 'none'; worker-src 'self' blob:"
)
HEADERS = {
    "content-security-policy": POLICY,
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
}


class Guard:
    """Wraps an application of ASGI."""

    def __init__(self, app: App, hosts: Collection[str]) -> None:
        """Lets requests to the named hosts through, written as HOST:PORT."""
        self.app, self.hosts = app, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or has it answered."""
        if scope["type"] == "lifespan":
            return await self.app(scope, receive, send)
        if scope["type"] != "http":
            return None  # a websocket: the server refuses it
        refused = self._refusal(scope)
        if refused is None and EVENTS.fullmatch(scope["path"]):
            body = await _body(receive)
            refused = _bad_event(body)
            receive = _again(body or b"", receive)
        if refused is not None:
            return await _answer(send, *refused)
        return await self._answered(scope, receive, _with_headers(send))

    async def _answered(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Has a request answered; an error of whatever answers it is a line."""
        begun = False

        async def sent(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self.app(scope, receive, sent)
        except Exception as error:  # of a request that no page makes
            logging.warning("%s %s: %s", scope["method"], scope["path"], one_line(error))
            if not begun:
                await _answer(send, 500, "this cannot be answered")

    def _refusal(self, scope: Scope) -> tuple[int, str] | None:
        """Returns status and line of a request that is refused; None: it may go on."""
        headers = {
            name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]
        }
        if headers.get("host", "") not in self.hosts:
            return 403, "this page is for this machine alone"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc not in self.hosts:
            return 403, "another page may not use this one"
        if headers.get("sec-fetch-site", "none") not in ("same-origin", "none"):
            return 403, "another page may not use this one"
        path, method = scope["path"], scope["method"]
        if method in ("GET", "HEAD") and READ.fullmatch(path) and ".." not in path:
            return None
        if method == "POST" and (EVENTS.fullmatch(path) or SENT.fullmatch(path)):
            length = headers.get("content-length", "")
            if not (length.isascii() and length.isdigit() and len(length) < 16):
                return 411, "the length of what is sent must be said"
            if EVENTS.fullmatch(path) and int(length) > MOST_BODY:
                return 413, f"an event has at most {MOST_BODY} bytes"
            return None
        return 404, "there is no such address"


def _bad_event(body: bytes | None) -> tuple[int, str] | None:
    """Returns why an event is refused: files are not named in events, they are sent."""
    try:
        content = json.loads(body or b"")
    except (ValueError, RecursionError):
        return 400, "an event must be JSON"
    left = [content]
    while left:
        one = left.pop()
        if isinstance(one, dict):
            if {"path", "url", "orig_name"} & one.keys():
                return 400, "an event names no files"
            left += one.values()
        elif isinstance(one, list):
            left += one
    return None


async def _body(receive: Receive) -> bytes | None:
    """Returns the body of a request; None: it is too long."""
    parts, size, more = [], 0, True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            break
        part = message.get("body", b"")
        parts.append(part)
        size, more = size + len(part), message.get("more_body", False)
        if size > MOST_BODY:
            return None
    return b"".join(parts)


def _again(body: bytes, receive: Receive) -> Receive:
    """Returns a `receive` that gives a body that was read, and what follows it."""
    left = [{"type": "http.request", "body": body, "more_body": False}]

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again


def _with_headers(send: Send) -> Send:
    async def sent(message: Message) -> None:
        if message["type"] == "http.response.start":
            kept = [pair for pair in message.get("headers", []) if pair[0].decode() not in HEADERS]
            more = [(name.encode(), value.encode()) for name, value in HEADERS.items()]
            message = {**message, "headers": [*kept, *more]}
        await send(message)

    return sent


async def _answer(send: Send, status: int, line: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await _with_headers(send)({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": line.encode()})
