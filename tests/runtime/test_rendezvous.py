"""Who is missing, too many or told otherwise is named to all, before JAX waits for them."""

import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from tiny_config import ROOT

from launch.local import HOST, free_port
from segdiff_jax.errors import PEER_LOST, USAGE, UserError
from segdiff_jax.runtime import rendezvous


@pytest.fixture
def coordinator(monkeypatch):
    address = f"{HOST}:{free_port()}"
    monkeypatch.setenv("JAX_COORDINATOR_BIND_ADDRESS", address)
    return address


def outcome(coordinator, process, processes, seconds=20):
    """Returns (exit code, message) of one process; (0, "") if all have come."""
    try:
        rendezvous.call(coordinator, processes, process, seconds)
    except UserError as error:
        return error.code, str(error)
    return 0, ""


def outcomes(coordinator, *places):
    """Returns the outcome of each (process, processes), all started at once."""
    with ThreadPoolExecutor(len(places)) as pool:
        return list(pool.map(lambda place: outcome(coordinator, *place), places))


def connected(coordinator, words):
    """Returns a connection to process 0, once it listens, over which the words were sent."""
    host, port = coordinator.split(":")
    while True:
        try:
            connection = socket.create_connection((host, int(port)))
        except ConnectionRefusedError:
            continue
        connection.sendall(words)
        return connection


@pytest.mark.parametrize("places", [(0,), (0, 1, 2), (2, 1, 0)])
def test_all_that_were_started_alike_go_on(coordinator, places):
    count = len(places)
    assert outcomes(coordinator, *((i, count) for i in places)) == [(0, "")] * count


@pytest.mark.parametrize(("ours", "theirs"), [(2, 3), (3, 2)])
def test_another_number_of_processes_is_told_to_all(coordinator, ours, theirs):
    found = outcomes(coordinator, (0, ours), (1, theirs))
    assert found[0] == found[1] and found[0][0] == USAGE
    assert f"process 1 was started with --processes={theirs} and process 0 with" in found[0][1]


def test_one_that_is_started_twice_is_told_to_all(coordinator):
    found = outcomes(coordinator, (0, 3), (1, 3), (1, 3))
    assert len(set(found)) == 1 and found[0][0] == USAGE
    assert f"process 1 of 3 was started twice, on {HOST} and on {HOST}" in found[0][1]


def test_a_second_process_0_is_refused(coordinator):
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(outcome, coordinator, 0, 2)
        connected(coordinator, b"").close()  # the first one listens
        code, message = outcome(coordinator, 0, 2)
        assert code == USAGE and f"process 0 cannot listen at {coordinator} (" in message
        assert outcome(coordinator, 1, 2) == first.result() == (0, "")


@pytest.mark.parametrize("meanwhile", [False, True])
def test_one_that_died_while_it_waited_is_waited_for_again(coordinator, meanwhile):
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(outcome, coordinator, 0, 3)
        connected(coordinator, b"[1, 3]\n").close()
        if meanwhile:  # the last one comes before the dead one's successor does
            with connected(coordinator, b"[2, 3]\n"):
                assert outcome(coordinator, 1, 3) == (0, "")
        else:
            assert outcomes(coordinator, (1, 3), (2, 3)) == [(0, "")] * 2
        assert first.result() == (0, "")


@pytest.mark.parametrize("words", [b"GET / HTTP/1.1\r\n\r\n", b"\x00\xff\n", b"7\n"])
def test_who_is_no_process_of_the_job_is_not_counted(coordinator, words):
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(outcome, coordinator, 0, 2)
        with connected(coordinator, words):
            assert outcome(coordinator, 1, 2) == (0, "")
        assert first.result() == (0, "")


def test_those_that_stay_away_are_named(coordinator):
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(outcome, coordinator, 0, 4, 0.5)
        second = pool.submit(outcome, coordinator, 2, 4, 1.5)
    assert first.result()[0] == second.result()[0] == PEER_LOST
    assert "waited 0.5 s and not all have come; missing: 1, 3; start" in first.result()[1]
    assert "process 2 of 4 at" in second.result()[1]


def test_one_that_comes_when_jax_has_taken_over_is_told_that_the_job_runs(coordinator):
    host, port = coordinator.split(":")
    with socket.create_server((host, int(port))) as listener:

        def answer():
            with listener.accept()[0] as connection:
                connection.recv(100)
                connection.sendall(b"\x00\x00\x12\x04\x00\x00\x00\x00\x00")

        threading.Thread(target=answer, daemon=True).start()
        code, message = outcome(coordinator, 2, 3)
    assert code == PEER_LOST and "process 2 of 3 at" in message and "runs already" in message


@pytest.mark.fault
def test_processes_told_different_numbers_end_before_anything_is_read(coordinator, tmp_path):
    words = ["--config=configs/synthetic.py", f"--workdir={tmp_path}", "--mode=train"]
    started = [
        subprocess.Popen(
            [
                *(sys.executable, "-m", "segdiff_jax.main", *words, f"--coordinator={coordinator}"),
                *(f"--process={process}", f"--processes={processes}"),
            ],
            cwd=ROOT,
            env=os.environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for process, processes in ((0, 2), (1, 3))
    ]
    outputs = [process.communicate(timeout=120)[0] for process in started]
    lines = {output.splitlines()[-1] for output in outputs}
    assert [process.returncode for process in started] == [USAGE, USAGE], outputs
    assert len(lines) == 1 and "--processes=3 and process 0 with --processes=2" in lines.pop()
    print("processes of 2 and of 3: both ended with 64 and the same line")
    assert list(tmp_path.iterdir()) == []
