"""Listens to this machine alone, and keeps gradio from calling anybody."""

import os
import socket
from pathlib import Path

from segdiff_jax.errors import UserError

HOST = "127.0.0.1"
FIRST_PORT, PORTS = 7860, 100  # that are tried where none is asked for
SWITCHES = {
    "GRADIO_ANALYTICS_ENABLED": "False",
    "GRADIO_SSR_MODE": "False",
    "GRADIO_RUN_HISTORY": "False",
    "GRADIO_MCP_SERVER": "False",
    "GRADIO_SHARE": "False",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "DO_NOT_TRACK": "1",
}


def listen(port: int = 0) -> socket.socket:
    """Returns a socket of this machine alone that listens.

    Args:
      port: of it; 0: the first free one from `FIRST_PORT` on.

    Raises:
      UserError: the port is taken, or all are.
    """
    for one in [port] if port else range(FIRST_PORT, FIRST_PORT + PORTS):
        found = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        if os.name == "posix":  # elsewhere it lets two programs share a port
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            found.bind((HOST, one))
            found.listen(128)
            return found
        except OSError as error:
            found.close()
            reason = error.strerror
    asked = f"--port={port}" if port else f"ports {FIRST_PORT} to {FIRST_PORT + PORTS - 1}"
    raise UserError(f"{asked}: cannot be listened to ({reason}); choose another --port")


def quiet(folder: Path) -> None:
    """Makes gradio, which is not imported yet, call nobody, and write in a folder alone."""
    for name, value in {**SWITCHES, "GRADIO_TEMP_DIR": str(folder)}.items():
        os.environ[name] = value
