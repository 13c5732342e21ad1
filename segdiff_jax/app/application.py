"""Joins gradio's part of the page with the addresses beside it, and serves them.

gradio is an extra of the package; `listening.quiet` comes before this module is imported.
"""

import socket
import threading
from typing import Any

import gradio as gr  # pyright: ignore[reportMissingImports]
import uvicorn  # pyright: ignore[reportMissingImports]
from fastapi import FastAPI  # pyright: ignore[reportMissingImports]

from segdiff_jax.app import routes
from segdiff_jax.app.guard import Guard
from segdiff_jax.app.handlers import Handlers
from segdiff_jax.app.listening import HOST
from segdiff_jax.app.page import STYLE, head

ENDING_SECONDS = 2  # that open connections have


def application(page: Any, handlers: Handlers, port: int) -> Any:
    """Returns the application of ASGI: the page at "/", behind a `Guard`."""
    style = STYLE.read_text("utf-8")
    app = FastAPI(docs_url=None, redoc_url=None, openapi_url=None)
    routes.add(app, handlers)
    fonts = {"font": ["system-ui", "sans-serif"], "font_mono": ["ui-monospace", "monospace"]}
    gr.mount_gradio_app(
        *(app, page, "/"),
        **{"server_name": HOST, "server_port": port, "footer_links": [], "run_history": False},
        **{"ssr_mode": False, "show_error": False, "pwa": False, "mcp_server": False},
        **{"allowed_paths": [], "enable_monitoring": False, "max_file_size": 1},
        **{"theme": gr.themes.Default(**fonts), "css": style, "head": head()},
    )
    return Guard(app, {f"{host}:{port}" for host in (HOST, "localhost")})


def settings(app: Any) -> Any:
    """Returns how an application is served, a `uvicorn.Config`."""
    return uvicorn.Config(
        app,
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=ENDING_SECONDS,
        limit_concurrency=256,
    )


def serve(app: Any, listening: socket.socket) -> None:
    """Serves until a signal raises an exception.

    The server has a thread of its own: an event loop in this one would wait at its end for the
    picture that is being predicted, which takes minutes if it is large.
    """
    server = uvicorn.Server(settings(app))
    thread = threading.Thread(target=server.run, args=([listening],), name="page", daemon=True)
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.5)
    finally:
        server.should_exit = True
        thread.join(ENDING_SECONDS)
