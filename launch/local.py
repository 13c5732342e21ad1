"""Runs one job of several processes on this machine: to try it out, or for several GPUs.

  python launch/local.py --processes=2 --devices=4 -- --config=configs/synthetic.py
  python launch/local.py --processes=4 --gpus=8 -- --config=configs/monuseg.py --workdir=runs/a

  --processes=N  how many; what follows the two dashes is the command line of segdiff_jax.main
  --devices=M    virtual CPU devices of each process; 1 if not given
  --gpus=G       instead of virtual devices: the first G GPUs, split evenly over the processes
  --grace=S      seconds that processes have to end by themselves once one has failed; 15

Each line of output starts with the number of its process; a line reports how each failed process
ended, and how the job ended. SIGINT and SIGTERM are passed on; a second one kills. When a process
fails, the others are ended, and the exit code is that of the failure: one that a restart would not
fix (see segdiff_jax/errors.py) if there is one, otherwise the first.
The coordinator listens on 127.0.0.1 only.
"""

import argparse
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
if str(ROOT) not in sys.path:  # a checkout that is not installed
    sys.path.insert(0, str(ROOT))

from segdiff_jax import errors  # noqa: E402
from segdiff_jax.cli import app  # noqa: E402
from segdiff_jax.runtime.watchdog import LAUNCHED  # noqa: E402

MAIN = (sys.executable, "-m", "segdiff_jax.main")
HOST = "127.0.0.1"
SIGNALLED = 128  # a shell adds the number of the signal to this


class Layout(NamedTuple):
    """Assigns devices to the processes of a job.

    Attributes:
      processes: how many, at least 1.
      devices: virtual CPU devices of each, at least 1; not used with GPUs.
      gpus: how many are split over the processes, a multiple of them; 0: none.
    """

    processes: int
    devices: int = 1
    gpus: int = 0

    def check(self) -> None:
        """Raises UserError if the numbers are not allowed."""
        for name, value, least in zip(self._fields, self, (1, 1, 0), strict=True):
            if value < least:
                raise errors.UserError(f"--{name}={value}: must be at least {least}")
        if self.gpus % self.processes:
            raise errors.UserError(
                f"--gpus={self.gpus}: must be a multiple of --processes={self.processes}"
            )

    def environment(self, process: int, port: int, base: Mapping[str, str]) -> dict[str, str]:
        """Returns the environment of a process: `base` and its devices."""
        # JAX would bind the coordinator, which has no password, to every address
        changed = dict(base) | {"JAX_COORDINATOR_BIND_ADDRESS": f"{HOST}:{port}", LAUNCHED: "stdin"}
        if self.gpus:
            share = self.gpus // self.processes
            ours = range(process * share, (process + 1) * share)
            return changed | {"CUDA_VISIBLE_DEVICES": ",".join(map(str, ours))}
        count = "--xla_force_host_platform_device_count"
        others = re.sub(rf"{count}=\S*", "", base.get("XLA_FLAGS", ""))
        changed |= {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": f"{others} {count}={self.devices}".strip()}
        # before jax 0.12 collectives of more devices than threads may wait indefinitely
        return {"PJRT_NPROC": "16", "PYTHONUNBUFFERED": "1"} | changed


class Job:
    """The processes of a job, started; every line they write goes to `output`.

    Attributes:
      processes: in the order of their numbers, each the leader of a process group.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        layout: Layout,
        output: IO[str] | None = None,
        program: Sequence[str] = MAIN,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Starts the processes.

        Args:
          arguments: of the program.
          layout: checked here.
          output: text file; None: standard output.
          program: the command that gets them; it must accept --coordinator, --processes, --process.
          environment: of the processes; None: that of this process.

        Raises:
          UserError: the layout is not allowed.
        """
        layout.check()
        self._output, self._lock = output or sys.stdout, threading.Lock()
        self._ended: list[int] = []  # processes, in the order in which they did
        port, base = free_port(), os.environ if environment is None else environment
        job = [f"--coordinator={HOST}:{port}", f"--processes={layout.processes}"]
        self.processes = [
            subprocess.Popen(
                [*program, *arguments, *job, f"--process={i}"],
                cwd=ROOT,
                env=layout.environment(i, port, base),
                stdin=subprocess.PIPE,  # which ends with this process, see LAUNCHED
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,  # Ctrl-C reaches this process only, which passes it on once
            )
            for i in range(layout.processes)
        ]
        self._readers = [
            threading.Thread(target=self._copy, args=(i,), daemon=True)
            for i in range(layout.processes)
        ]
        for reader in self._readers:
            reader.start()

    def wait(self, grace: float = 15.0) -> int:
        """Waits for all processes, ends the rest when one has failed, and returns the exit code.

        Args:
          grace: seconds in which the others may end by themselves and log the reason; then SIGTERM,
            and after as many again SIGKILL.
        """
        codes: list[int] = []  # of those that ended by themselves
        deadlines = [(grace, signal.SIGTERM), (2 * grace, signal.SIGKILL)]
        failed_at = None
        while self._alive():
            codes += self._newly_ended() if len(deadlines) == 2 else []
            if failed_at is None and any(codes):
                failed_at = time.monotonic()
            if failed_at and deadlines and time.monotonic() - failed_at > deadlines[0][0]:
                self.signal(deadlines.pop(0)[1])
            time.sleep(0.05)
        codes += self._newly_ended() if len(deadlines) == 2 else []
        for reader in self._readers:
            reader.join(timeout=5)  # a grandchild may keep the pipe open
        for process in self.processes:
            if process.stdin:
                process.stdin.close()
        if code := verdict(codes):
            self._write(f"local: the job ended with {describe(code)}")
        return code

    def signal(self, number: int) -> None:
        """Sends a signal to every process that lives, and with SIGKILL to its children too."""
        for process in self._alive():
            try:
                (os.killpg if number == signal.SIGKILL else os.kill)(process.pid, number)
            except ProcessLookupError:
                pass

    def _alive(self) -> list[subprocess.Popen]:
        return [process for process in self.processes if process.poll() is None]

    def _newly_ended(self) -> list[int]:
        """Returns the exit codes of processes that were alive at the last call."""
        new = [
            i
            for i, process in enumerate(self.processes)
            if i not in self._ended and process.returncode is not None
        ]
        self._ended += new
        codes, count = [_shell_code(self.processes[i].returncode) for i in new], len(self.processes)
        for i, code in zip(new, codes, strict=True):
            if code:
                self._write(f"local: process {i} of {count} ended with {describe(code)}")
        return codes

    def _write(self, line: str) -> None:
        with self._lock:
            self._output.write(f"{line}\n")
            self._output.flush()

    def _copy(self, number: int) -> None:
        pipe = self.processes[number].stdout
        assert pipe is not None  # stdout is a pipe
        with pipe:
            for line in pipe:
                self._write(f"[{number}] {line.rstrip()}")


def verdict(codes: Sequence[int]) -> int:
    """Returns the exit code of a job, from codes in the order in which processes ended."""
    bad = [code for code in codes if code]
    return next((code for code in bad if code in errors.FINAL), bad[0] if bad else errors.DONE)


def describe(code: int) -> str:
    """Returns an exit code with its meaning."""
    meaning = errors.MEANINGS.get(code)
    if meaning is None and code > SIGNALLED:
        meaning = signal.strsignal(code - SIGNALLED)
    return f"{code} ({meaning})" if meaning else f"{code}"


def _shell_code(code: int) -> int:
    return code if code >= 0 else SIGNALLED - code


def free_port() -> int:
    """Returns a free TCP port of 127.0.0.1."""
    with socket.socket() as free:
        free.bind((HOST, 0))
        return free.getsockname()[1]


def run(
    arguments: Sequence[str], layout: Layout, grace: float = 15.0, program: Sequence[str] = MAIN
) -> int:
    """Runs a job, passing SIGINT and SIGTERM on to it, and returns its exit code.

    Args:
      arguments: of segdiff_jax.main.
      layout: of the processes and devices.
      grace: as for `Job.wait`.
      program: as for `Job`.

    Raises:
      UserError: the layout is not allowed.
    """
    job, signals = None, []

    def forward(number: int, _: object) -> None:
        signals.append(number)
        if job is not None:
            job.signal(number if len(signals) == 1 else signal.SIGKILL)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, forward)
    job = Job(arguments, layout, program=program)
    for number in signals[:1]:  # one that came before the job was there
        job.signal(number)
    return job.wait(grace)


def main(arguments: list[str]) -> int:
    """Runs the command line of this file and returns its exit code."""
    split = arguments.index("--") if "--" in arguments else len(arguments)
    if app.HELP & set(arguments[:split]):
        return app.show(__doc__ or "")
    parser = argparse.ArgumentParser(
        add_help=False,
        allow_abbrev=False,
        exit_on_error=False,
    )
    parser.add_argument("--processes", type=int, default=2, help=argparse.SUPPRESS)
    parser.add_argument("--devices", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--gpus", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--grace", type=float, default=15.0, help=argparse.SUPPRESS)
    try:
        values, left = parser.parse_known_args(arguments[:split])
        if left:
            raise errors.UserError(f"{left[0]}: no such option; see --help")
        layout = Layout(values.processes, values.devices, values.gpus)
        return run(arguments[split + 1 :], layout, values.grace)
    except (argparse.ArgumentError, errors.UserError) as error:
        print(f"local: {error}", file=sys.stderr)
        return errors.USAGE


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
