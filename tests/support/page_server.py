"""Serves the page of `segdiff app` from a thread, with any model; needs gradio."""

import contextlib
import shutil
import threading
import time

from segdiff_jax.app import listening
from segdiff_jax.app.handlers import Handlers
from segdiff_jax.app.sessions import Sessions
from segdiff_jax.app.store import Store
from segdiff_jax.app.uploads import Uploads
from segdiff_jax.app.work import Models
from segdiff_jax.data.image_io.headers import Limits

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome") or shutil.which("chrome")


def handlers_of(load, folder, most_of_file=10**8, samples=4, threshold=0.5):
    """Returns handlers whose files are in a folder; `load` returns the model of its arguments."""
    for name in ("predicted", "sent", "gradio"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    uploads = Uploads(folder / "sent", most_of_file)
    sessions = Sessions(Store(folder / "predicted"), uploads, threshold)
    return Handlers(sessions, Models(load), Limits(), samples)


@contextlib.contextmanager
def served(load, folder, **options):
    """Serves a page; yields its address and its handlers."""
    handlers = handlers_of(load, folder, **options)
    listening.quiet(folder / "gradio")
    import uvicorn

    from segdiff_jax.app import application, page

    with listening.listen() as socket:
        port = socket.getsockname()[1]
        blocks = page.build(handlers, "stand-in", "balanced", handlers.sessions.threshold)
        app = application.application(blocks, handlers, port)
        server = uvicorn.Server(application.settings(app))
        thread = threading.Thread(target=server.run, args=([socket],), daemon=True)
        thread.start()
        while not server.started and thread.is_alive():
            time.sleep(0.02)
        try:
            yield f"http://127.0.0.1:{port}/", handlers
        finally:
            server.should_exit = True
            thread.join(20)
            handlers.sessions.close_all()
