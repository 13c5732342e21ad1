"""The processes of a job meet before JAX joins them, so that who is missing or too many is named.

JAX itself trains on when processes were told different numbers of them, and otherwise waits or
aborts without saying which one is at fault. Process 0 listens at the address that JAX will use.
"""

import json
import os
import socket
import time
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from typing import NamedTuple

from segdiff_jax.errors import PEER_LOST, UserError

LONGEST = 4096  # bytes of a message


PATIENCE = 2.0  # seconds for one that connects to say who it is: it may be no process of ours


AGAIN = 0.2  # seconds until an address where nobody listens yet is tried again


WELCOME = "all have come"


class Caller(NamedTuple):
    """A process that has come to process 0.

    Attributes:
      number: its own.
      processes: how many it was told there are.
      origin: its host, as process 0 sees it.
      connection: where it waits for an answer.
    """

    number: int
    processes: int
    origin: str
    connection: socket.socket

    def gone(self) -> bool:
        """Whether it has ended while it waited: another may be started in its place."""
        self.connection.setblocking(False)
        try:
            return self.connection.recv(1) == b""
        except BlockingIOError:
            return False
        except OSError:
            return True


def call(coordinator: str, processes: int, process: int, seconds: float) -> None:
    """Returns once every process of the job has come.

    Args:
      coordinator: "host:port" of process 0.
      processes: how many this one was told there are.
      process: its number.
      seconds: how long to wait.

    Raises:
      UserError: two have the same number, or were told different numbers of processes; or, with
        code 134, some have not come in time, or the job runs already.
    """
    me = f"process {process} of {processes} at {coordinator}"
    if process == 0:
        _hold(me, coordinator, processes, seconds)
    else:
        _come(me, coordinator, json.dumps([process, processes]), seconds)


def _hold(me: str, coordinator: str, processes: int, seconds: float) -> None:
    """Waits for the others, as process 0, and tells all that have come how it ended."""
    deadline, callers, wrong = time.monotonic() + seconds, [], ""
    with ExitStack() as opened:
        listener = opened.enter_context(_listener(coordinator))
        while missing := set(range(1, processes)) - {caller.number for caller in callers}:
            listener.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                connection, address = listener.accept()
            except TimeoutError:
                shown = ", ".join(map(str, sorted(missing)[:8])) + ", ..." * (len(missing) > 8)
                raise UserError(
                    f"{me}: waited {seconds:g} s and not all have come; missing: {shown}; start "
                    "every one of them",
                    PEER_LOST,
                ) from None
            opened.enter_context(connection)
            callers += _read(connection, address[0])
            if wrong := _wrong(processes, callers):
                break
            callers = [caller for caller in callers if not caller.gone()]
        for caller in callers:
            with suppress(OSError):
                caller.connection.settimeout(PATIENCE)
                caller.connection.sendall(json.dumps(wrong or WELCOME).encode() + b"\n")
    if wrong:
        raise UserError(wrong)


def _read(connection: socket.socket, origin: str) -> list[Caller]:
    """Returns who has connected; nobody, where it is no process of ours."""
    connection.settimeout(PATIENCE)
    try:
        number, told = json.loads(_line(connection))
    except (ValueError, TypeError):
        return []
    return [Caller(number, told, origin, connection)]


def _wrong(processes: int, callers: Sequence[Caller]) -> str:
    """Returns what is wrong with the last of the callers, or ""."""
    if not callers:
        return ""
    *others, last = callers
    if last.processes != processes:
        return (
            f"process {last.number} was started with --processes={last.processes} and process 0 "
            f"with --processes={processes}: all must be started alike"
        )
    for other in others:
        if other.number == last.number and not other.gone():
            return (
                f"process {last.number} of {processes} was started twice, on {other.origin} and on "
                f"{last.origin}: every one needs a --process of its own"
            )
    return ""


def _come(me: str, coordinator: str, words: str, seconds: float) -> None:
    """Goes to process 0, as any other, and waits for what it says."""
    host, _, port = coordinator.rpartition(":")
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        said = b""
        with suppress(OSError):  # nobody listens there yet
            with socket.create_connection((host.strip("[]"), int(port)), PATIENCE) as connection:
                connection.sendall(words.encode() + b"\n")
                connection.settimeout(left)
                said = _line(connection)
        if said:
            return _obey(me, said)
        time.sleep(AGAIN)
    raise UserError(
        f"{me}: waited {seconds:g} s and not all have come; start every one of them", PEER_LOST
    )


def _obey(me: str, said: bytes) -> None:
    try:
        answer = json.loads(said)
    except ValueError:  # it is JAX that listens there
        raise UserError(
            f"{me}: that job runs already; this process is one too many, or was started again too "
            "early",
            PEER_LOST,
        ) from None
    if answer != WELCOME:
        raise UserError(answer)


def _line(connection: socket.socket) -> bytes:
    """Returns what the other side says, up to the end of a line or until it is silent."""
    said = b""
    with suppress(OSError):
        while not said.endswith(b"\n") and len(said) < LONGEST:
            more = connection.recv(LONGEST)
            if not more:
                break
            said += more
    return said


def _listener(coordinator: str) -> socket.socket:
    """Returns a socket where JAX's coordinator will listen."""
    bound = os.environ.get("JAX_COORDINATOR_BIND_ADDRESS", f":{coordinator.rpartition(':')[2]}")
    host, _, port = bound.rpartition(":")
    host = host.strip("[]")
    host = "" if host == "::" else host
    try:
        if not host and socket.has_dualstack_ipv6():
            everywhere = ("", int(port))
            return socket.create_server(everywhere, family=socket.AF_INET6, dualstack_ipv6=True)
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family)
    except OSError as error:
        raise UserError(
            f"process 0 cannot listen at {bound} ({error.strerror}): is another process 0, or "
            "another programme, there?"
        ) from error
