"""`segdiff app`: its command line, where it listens, and how it begins and ends."""

import importlib.util
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest
from tiny_config import ROOT, slack

from segdiff_jax import api, errors
from segdiff_jax.app import listening, run
from segdiff_jax.checkpoint import places
from segdiff_jax.cli import page_args
from segdiff_jax.errors import UserError

HAS_GRADIO = importlib.util.find_spec("gradio") is not None


def test_without_flags_it_shows_the_shipped_network():
    command = page_args.parse([])
    assert command.workdirs == [places.SHIPPED / "nuclei"] and command.title == "nuclei"
    assert command[2:] == ("balanced", 0.5, 8, None, 512_000_000, 0, "")


def test_a_run_is_named_by_its_folder():
    words = [f"--workdir={places.SHIPPED / 'nuclei'}", "--port=8000", "--max_megabytes=20"]
    command = page_args.parse([*words, "--budget=fast", "--threshold=.3", "--max_pixels=1e6"])
    assert command.title == "nuclei" and command.port == 8000
    assert command[2:7] == ("fast", 0.3, 8, 10**6, 20_000_000)


def test_models_are_loaded_by_the_budget_of_the_page_and_the_threshold_of_the_command(monkeypatch):
    calls = []
    monkeypatch.setattr(api, "load", lambda *of, **more: calls.append((of, more)))
    words = [f"--workdir={places.SHIPPED / 'nuclei'}", "--budget=paper", "--threshold=0.3"]
    command = page_args.parse(words)
    run.load(command, "fast", 0)
    run.load(command, "paper", 8)
    assert calls == [
        ((command.workdirs,), {"budget": "fast", "threshold": 0.3}),
        ((command.workdirs,), {"budget": "paper", "threshold": 0.3, "samples": 8}),
    ]


@pytest.mark.parametrize(
    ("word", "line"),
    [
        ("--port=0", "--port=0: must be an integer, at least 1, at most 65535"),
        ("--port=x", "--port=x: must be an integer"),
        ("--port=99999", "--port=99999: must be"),
        ("--samples=1", "--samples=1: must be an integer, at least 2, at most 64"),
        ("--samples=65", "--samples=65: must be"),
        ("--threshold=1", "--threshold=1: must be"),
        ("--budget=slow", "--budget=slow: must be one of fast, balanced, paper"),
        ("--max_megabytes=nan", "--max_megabytes=nan: must be"),
        ("--max_pixels=0", "--max_pixels=0: must be"),
        ("--model=nucleus", "did you mean nuclei"),
        ("--share", "--share: no such flag"),
        ("--host=0.0.0.0", "--host: no such flag"),
    ],
)
def test_a_wrong_flag_is_one_line(word, line, capsys):
    assert run.main([word]) == errors.USAGE
    message = capsys.readouterr().err
    assert line in message and message.count("\n") == 1


def test_without_gradio_it_says_how_to_install_it(capsys, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert run.main([]) == errors.USAGE
    assert capsys.readouterr().err == f"segdiff: {run.INSTALL}\n"
    assert "pip install 'segdiff-jax[app]'" in run.INSTALL


def test_it_listens_to_this_machine_alone_and_takes_the_next_free_port(monkeypatch):
    with listening.listen() as one, listening.listen() as other:
        assert one.getsockname()[0] == other.getsockname()[0] == "127.0.0.1"
        assert listening.FIRST_PORT <= one.getsockname()[1] < other.getsockname()[1]
        port = one.getsockname()[1]
        with pytest.raises(UserError, match=f"--port={port}: cannot be listened to"):
            listening.listen(port)
        monkeypatch.setattr(listening, "FIRST_PORT", port)
        monkeypatch.setattr(listening, "PORTS", 1)
        with pytest.raises(UserError, match=f"ports {port} to {port}: cannot"):
            listening.listen()


def test_gradio_is_told_to_call_nobody_before_it_is_imported(tmp_path, monkeypatch):
    for name in (*listening.SWITCHES, "GRADIO_TEMP_DIR"):
        monkeypatch.setenv(name, "before")
    listening.quiet(tmp_path)
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert os.environ["GRADIO_TEMP_DIR"] == str(tmp_path)
    code = "import sys, segdiff_jax.app.run; print('gradio' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "False\n"


@pytest.mark.slow
@pytest.mark.skipif(not HAS_GRADIO, reason="gradio, the extra `app`, is not installed")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_and_nothing_is_left(tmp_path, number):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [sys.executable, "-m", "segdiff_jax.cli.segdiff", "app", f"--port={port}"]
    environment = {**os.environ, "TMPDIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    log = tmp_path / "log"
    with log.open("wb") as file:
        process = subprocess.Popen(words, env=environment, cwd=tmp_path, stdout=file, stderr=file)
    try:
        deadline = time.monotonic() + 90 * slack()
        while b"open http" not in log.read_bytes() and process.poll() is None:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        address = f"http://127.0.0.1:{port}/"
        with urllib.request.urlopen(address, timeout=30) as answer:
            assert answer.status == 200 and b"gradio" in answer.read()
        assert [*tmp_path.glob("segdiff-app-*")]
        process.send_signal(number)
        code = process.wait(30 * slack())
    finally:
        process.kill()
    assert code == (errors.TERMINATED if number == signal.SIGTERM else errors.INTERRUPTED)
    assert not [*tmp_path.glob("segdiff-app-*")]
    lines = log.read_text().splitlines()
    assert f"open http://127.0.0.1:{port}" in lines[-2]
    assert lines[-1] == f"segdiff: {'terminated' if number == signal.SIGTERM else 'interrupted'}"
