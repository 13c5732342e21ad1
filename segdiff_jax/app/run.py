"""Opens a page in the browser of this machine that predicts the pictures dropped on it.

    segdiff app

The flags are in `cli.page_args`. jax and gradio are imported only once the command line is known to
be correct: that takes seconds.
"""

import importlib.util
import tempfile
from functools import partial
from pathlib import Path
from typing import Any

from absl import logging

from segdiff_jax.cli import app, page_args
from segdiff_jax.cli.page_args import Command
from segdiff_jax.data.image_io.headers import limits_of
from segdiff_jax.errors import UserError

LESS_MEMORY = "drop smaller pictures, or lower --samples"
NEEDED = ("gradio", "fastapi", "uvicorn")
INSTALL = "segdiff app needs gradio: pip install 'segdiff-jax[app]'"


def main(argv: list[str]) -> int:
    """Runs a command line, without the name of the program, and returns its exit code."""
    return app.run(run_command, argv, page_args.HELP, LESS_MEMORY)


def run_command(argv: list[str]) -> None:
    """Parses a command line and serves the page until a signal comes."""
    command = page_args.parse(argv)
    if not all(map(importlib.util.find_spec, NEEDED)):
        raise UserError(INSTALL)
    app.set_up_logging()
    from segdiff_jax.app import listening

    with (
        listening.listen(command.port) as socket,
        tempfile.TemporaryDirectory(prefix="segdiff-app-", ignore_cleanup_errors=True) as folder,
    ):
        serve(command, socket, Path(folder))


def load(command: Command, budget: str, samples: int) -> Any:
    """Loads the model of a command line by a budget, and with samples if there are to be some."""
    from segdiff_jax import api

    more: dict[str, Any] = {"samples": samples} if samples else {}
    return api.load(command.workdirs, budget=budget, threshold=command.threshold, **more)


def serve(command: Command, socket: Any, folder: Path) -> None:
    """Serves the page; everything that it writes is in a folder."""
    from segdiff_jax.app import listening
    from segdiff_jax.app.handlers import Handlers
    from segdiff_jax.app.sessions import Sessions
    from segdiff_jax.app.store import Store
    from segdiff_jax.app.uploads import Uploads
    from segdiff_jax.app.work import Models
    from segdiff_jax.runtime import distributed, signals

    distributed.check_platform(command.device)
    places = [folder / name for name in ("predicted", "sent", "gradio")]
    for place in places:
        place.mkdir()
    listening.quiet(places[2])

    models = Models(partial(load, command))
    with signals.raise_on_signal():
        model = models.get(command.budget, 0)
        uploads = Uploads(places[1], command.max_bytes)
        sessions = Sessions(Store(places[0]), uploads, command.threshold)
        chosen = {} if command.max_pixels is None else {"max_pixels": command.max_pixels}
        limits = limits_of(model.config.reading, chosen)
        handlers = Handlers(sessions, models, limits, command.samples)
        from segdiff_jax.app import application, page

        shown = page.build(handlers, command.title, command.budget, command.threshold)
        port = socket.getsockname()[1]
        served = application.application(shown, handlers, port)
    logging.info("open http://%s:%d in a browser; Ctrl-C ends it", listening.HOST, port)
    try:
        application.serve(served, socket)
    finally:
        sessions.close_all()


if __name__ == "__main__":
    app.start(main)
