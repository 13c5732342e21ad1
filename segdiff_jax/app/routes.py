"""Takes the files that are sent, and gives back layers and files: the addresses beside gradio's."""

import threading
from collections.abc import Callable
from typing import Any
from urllib.parse import quote

from fastapi import Request, Response  # pyright: ignore[reportMissingImports]
from fastapi.responses import (  # pyright: ignore[reportMissingImports]
    FileResponse,
    PlainTextResponse,
)
from starlette.background import BackgroundTask  # pyright: ignore[reportMissingImports]
from starlette.requests import ClientDisconnect  # pyright: ignore[reportMissingImports]

from segdiff_jax.app import exports, layers
from segdiff_jax.app.handlers import Handlers
from segdiff_jax.app.session import Session
from segdiff_jax.errors import UserError, one_line

AT_ONCE = 2  # layers and files that are made at the same time: bounds memory
Path = dict[str, str]  # parts of an address by name


def add(app: Any, handlers: Handlers) -> None:
    """Adds the addresses to a `FastAPI`."""
    making = threading.Semaphore(AT_ONCE)

    def answered(make: Callable[[Session, Path], Any]) -> Any:
        def answer(request: Request) -> Any:
            try:
                session = _session(handlers, request.path_params["token"])
                with making:
                    return make(session, request.path_params)
            except UserError as error:
                return PlainTextResponse(str(error), 404)
            except Exception as error:  # of a session that ends meanwhile
                return PlainTextResponse(one_line(error), 500)

        return answer

    async def send(request: Request) -> Any:
        try:
            session = _session(handlers, request.path_params["token"])
            name, size = request.query_params.get("name", ""), request.headers["content-length"]
            await handlers.uploads.keep(session.token, name, int(size), request.stream())
            if session.closed:  # meanwhile
                handlers.uploads.drop_all(session.token)
            return PlainTextResponse("")
        except UserError as error:
            return PlainTextResponse(str(error), 400)
        except ClientDisconnect:  # nobody reads the answer
            return PlainTextResponse("the sender is gone", 400)

    async def doing(request: Request) -> Any:
        session = handlers.sessions.by_token(request.path_params["token"])
        headers = {"cache-control": "no-store"}
        return PlainTextResponse("" if session is None else session.doing, headers=headers)

    app.add_route("/doing/{token}", doing, methods=["GET"])
    app.add_route("/send/{token}", send, methods=["POST"])
    app.add_route("/layers/{token}/{number}/{name}", answered(_layer), methods=["GET"])
    app.add_route(f"/files/{{token}}/{exports.ALL}", answered(_everything), methods=["GET"])
    app.add_route("/files/{token}/{number}/{kind}", answered(_file), methods=["GET"])


def _layer(session: Session, path: Path) -> Any:
    content, kind = _drawn(session, _number(path["number"]), path["name"])
    return Response(content, media_type=kind, headers={"cache-control": "private, max-age=600"})


def _file(session: Session, path: Path) -> Any:
    if (kind := path["kind"]) not in exports.KINDS:
        raise UserError("there is no such file")
    source = session.source(_number(path["number"]))
    content = exports.encode(kind, source, session.store.folder)
    headers = _attachment(exports.file_name(kind, source[0]))
    return Response(content, media_type=exports.KINDS[kind][1], headers=headers)


def _everything(session: Session, _: Path) -> Any:
    path = session.store.folder / f"{session.token}-{threading.get_ident()}.zip"
    try:
        exports.write_all(path, session.order(), session.source, session.store.folder)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    removed = BackgroundTask(path.unlink, missing_ok=True)
    headers = _attachment("segdiff.zip")
    return FileResponse(path, 200, headers, "application/zip", removed)


def _drawn(session: Session, number: int, name: str) -> tuple[bytes, str]:
    """Returns a layer of a picture, or the thumbnail of an alternative, and its media type."""
    if number != session.shown:
        raise UserError("another picture is shown by now")
    window = session.seen()
    found, drawn = session.predicted(number), session.samples(number)
    samples = None if drawn is None else drawn.samples
    start, _, digits = name.partition("-")
    if start == "alternative" and samples is not None and 0 < _number(digits) <= len(samples):
        thumbnail = layers.thumbnail(found.image, samples[_number(digits) - 1], window)
        return thumbnail, "image/jpeg"
    if name not in layers.NAMES:
        raise UserError("there is no such layer")
    if name == "outlines" and session.alternative and samples is not None:
        return layers.sample_outlines(samples[session.alternative - 1], window), "image/png"
    return layers.layer(name, found, session.answered(number), window)


def _session(handlers: Handlers, token: str) -> Session:
    session = handlers.sessions.by_token(token)
    if session is None:
        raise UserError("this page was forgotten: load it again")
    return session


def _number(text: str) -> int:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def _attachment(name: str) -> dict[str, str]:
    """Returns the header that gives a file its name, whatever letters it has (RFC 6266)."""
    plain = "".join(c if c.isascii() and c not in '"\\' else "_" for c in name)
    value = f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name)}"
    return {"content-disposition": value}
