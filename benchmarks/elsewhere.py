"""Runs the authors' code in a process of its own, which takes turns with this one by messages.

In one process the two would disturb each other: they would share an allocator, libraries and
settings. Therefore theirs has its own process, with the environment of the user, and waits while
ours computes. Each message is a line of JSON. Requests:

  {"config": {...}, "side": 64}                   builds the network; always the first
  {"work": "encoding", "arguments": [1]}          prepares a workload; the reply is its number
  {"do": 0}                                       runs the workload with this number

Replies: {"answer": ...} or {"error": "...", "details": ["...", ...]}

`python -m benchmarks.elsewhere AUTHORS` is that process; AUTHORS is their checkout.
"""

import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, Any

from ml_collections import ConfigDict

from benchmarks.timing import Work
from segdiff_jax.checkpoint.run_config import tuples
from segdiff_jax.errors import INTERNAL, UserError
from segdiff_jax.runtime.startup import BEFORE, TUNABLES

ROOT = Path(__file__).resolve().parents[1]
WORKS = ("training_step", "encoding", "reverse_step", "sampling")  # methods that a request may name


def environment_of_theirs() -> dict[str, str]:
    """Returns the user's environment, without the variables that this program set for itself."""
    environment = dict(os.environ)
    before = environment.pop(BEFORE, None)
    if before is not None:
        environment.pop(TUNABLES, None)
        if before:
            environment[TUNABLES] = before
    return environment


def command(authors: Path) -> list[str]:
    """Returns the command line of the process that runs their code from a checkout."""
    return [sys.executable, "-m", "benchmarks.elsewhere", str(authors)]


class Elsewhere:
    """Controls their network in another process; has the methods of `authors.Authors`."""

    def __init__(self, process: subprocess.Popen[str], requests: IO[str], answers: IO[str]) -> None:
        """Sends requests to a process through its pipes."""
        self._process, self._requests, self._answers = process, requests, answers

    def ask(self, description: str, **request: Any) -> Any:
        """Sends a request and waits for its reply.

        Args:
          description: of the request, for error messages.
          **request: the content of the message.

        Raises:
          UserError: it failed there, or the process has ended.
        """
        line = ""
        with suppress(BrokenPipeError):
            print(json.dumps(request), file=self._requests, flush=True)
            line = self._answers.readline()
        if not line.endswith("\n"):
            ended = f"their process ended with {self._process.wait()}"
            raise UserError(f"the authors' code, {description}: {ended}", INTERNAL)
        reply = json.loads(line)
        if "error" in reply:
            message = f"the authors' code, {description}: {reply['error']}"
            raise UserError(message, INTERNAL, reply["details"])
        return reply["answer"]

    def _work(self, name: str, *arguments: int) -> Work:
        call = f"{name}({', '.join(map(str, arguments))})"
        number = self.ask(f"making {call}", work=name, arguments=arguments)
        return lambda: self.ask(call, do=number)

    def training_step(self, batch: int) -> Work:
        """Returns one training step of their `TrainLoop`."""
        return self._work("training_step", batch)

    def encoding(self, count: int) -> Work:
        """Returns a workload that computes G of `count` images."""
        return self._work("encoding", count)

    def reverse_step(self, rows: int) -> Work:
        """Returns one step of their reverse process for `rows` rows; it recomputes G."""
        return self._work("reverse_step", rows)

    def sampling(self, generations: int, steps: int) -> Work:
        """Returns a workload that samples and averages all generations of an image in one batch."""
        return self._work("sampling", generations, steps)


@contextmanager
def started(arguments: Sequence[str], config: ConfigDict, side: int) -> Iterator[Elsewhere]:
    """Starts their process, builds the network there, and ends the process at the end.

    Args:
      arguments: the command line; see `command`.
      config: one of ours that the authors' code can express.
      side: of the images, pixels.

    Raises:
      UserError: the network could not be built.
    """
    with subprocess.Popen(
        arguments,
        cwd=ROOT,
        env=environment_of_theirs(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,  # only this process gets Ctrl-C, and ends the other
    ) as process:
        assert process.stdin and process.stdout  # they are pipes
        try:
            theirs = Elsewhere(process, process.stdin, process.stdout)
            theirs.ask("making the network", config=config.to_dict(), side=side)
            yield theirs
        finally:
            process.kill()  # it may be computing, and has nothing to save
            with suppress(BrokenPipeError):  # unsent requests to a process that has ended
                process.stdin.close()


def serve(
    requests: Iterable[str], answers: IO[str], make: Callable[[ConfigDict, int], Any]
) -> None:
    """Carries out requests until there are no more.

    Args:
      requests: lines; see the docstring of the module.
      answers: receives one line for each request.
      make: builds the network of a config for images of a side, in pixels.
    """
    network, works = None, []

    def answer(request: dict[str, Any]) -> int | None:
        nonlocal network
        if "config" in request:
            network = make(ConfigDict(tuples(request["config"])), request["side"])
        elif "work" in request:
            if request["work"] not in WORKS:
                raise ValueError(f"{request['work']!r} is not one of {', '.join(WORKS)}")
            works.append(getattr(network, request["work"])(*request["arguments"]))
            return len(works) - 1
        else:
            works[request["do"]]()  # its result stays in this process

    for line in requests:
        try:
            reply = {"answer": answer(json.loads(line))}
        except Exception as error:
            missing = isinstance(error, ImportError)  # for the user to fix; not an internal error
            details = [] if missing else traceback.format_exc().splitlines()
            reply = {"error": f"{type(error).__name__}: {error}", "details": details}
        print(json.dumps(reply), file=answers, flush=True)


def main(make: Callable[[ConfigDict, int], Any]) -> None:
    """Serves on standard input and output; other output of the process goes to stderr."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # the file descriptor, which C libraries write to, too
        serve(sys.stdin, answers, make)


if __name__ == "__main__":
    from benchmarks.authors import Authors

    main(partial(Authors, Path(sys.argv[1])))
