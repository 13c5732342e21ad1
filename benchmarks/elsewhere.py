"""The authors' code in a process of its own, which takes turns with this one by messages.

In one process the two would disturb each other: they would share an allocator and libraries, and
what is set for one would be set for both. So theirs has its own, with the environment that the user
has, and it waits while ours computes. Each message is a line of JSON:

  {"config": {...}, "side": 64}                   make the network; always the first
  {"work": "encoding", "arguments": [1]}          make a work of it; the answer is its number
  {"do": 0}                                       do that work

  {"answer": ...} or {"error": "...", "details": ["...", ...]}      what comes back

python -m benchmarks.elsewhere AUTHORS    is that process; AUTHORS is their checkout
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
WORKS = ("training_step", "encoding", "reverse_step", "sampling")  # all that may be asked for


def environment_of_theirs() -> dict[str, str]:
    """Returns the environment that the user has, without what this programme set for itself."""
    environment = dict(os.environ)
    before = environment.pop(BEFORE, None)
    if before is not None:
        environment.pop(TUNABLES, None)
        if before:
            environment[TUNABLES] = before
    return environment


def command(authors: Path) -> list[str]:
    """Returns what starts the process of their code, from their checkout."""
    return [sys.executable, "-m", "benchmarks.elsewhere", str(authors)]


class Elsewhere:
    """Their network in another process; has the methods of `authors.Authors`."""

    def __init__(self, process: subprocess.Popen[str], requests: IO[str], answers: IO[str]) -> None:
        """Speaks to a process through its pipes."""
        self._process, self._requests, self._answers = process, requests, answers

    def ask(self, asked: str, **request: Any) -> Any:
        """Sends a request and waits for its answer.

        Args:
          asked: what it is, for messages.
          **request: what is sent.

        Raises:
          UserError: it failed there, or the process has ended.
        """
        line = ""
        with suppress(BrokenPipeError):
            print(json.dumps(request), file=self._requests, flush=True)
            line = self._answers.readline()
        if not line.endswith("\n"):
            ended = f"their process ended with {self._process.wait()}"
            raise UserError(f"the authors' code, {asked}: {ended}", INTERNAL)
        answer = json.loads(line)
        if "error" in answer:
            message = f"the authors' code, {asked}: {answer['error']}"
            raise UserError(message, INTERNAL, answer["details"])
        return answer["answer"]

    def _work(self, name: str, *arguments: int) -> Work:
        asked = f"{name}({', '.join(map(str, arguments))})"
        number = self.ask(f"making {asked}", work=name, arguments=arguments)
        return lambda: self.ask(asked, do=number)

    def training_step(self, batch: int) -> Work:
        """Returns one update of their `TrainLoop`."""
        return self._work("training_step", batch)

    def encoding(self, count: int) -> Work:
        """Returns what computes G of so many images."""
        return self._work("encoding", count)

    def reverse_step(self, rows: int) -> Work:
        """Returns one step of their reverse process for so many rows; it computes G anew."""
        return self._work("reverse_step", rows)

    def sampling(self, generations: int, steps: int) -> Work:
        """Returns what draws all generations of one image in one batch and averages them."""
        return self._work("sampling", generations, steps)


@contextmanager
def started(words: Sequence[str], config: ConfigDict, side: int) -> Iterator[Elsewhere]:
    """Starts their process, makes the network there, and ends the process at the end.

    Args:
      words: the command; see `command`.
      config: one of ours that the authors' code can express.
      side: of the images, pixels.

    Raises:
      UserError: the network could not be made.
    """
    with subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment_of_theirs(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        process_group=0,  # Ctrl-C is for this process, which then ends that one
    ) as process:
        assert process.stdin and process.stdout  # they were asked for
        try:
            there = Elsewhere(process, process.stdin, process.stdout)
            there.ask("making the network", config=config.to_dict(), side=side)
            yield there
        finally:
            process.kill()  # it may be in the midst of a work, and has nothing to save
            with suppress(BrokenPipeError):  # a request that a dead process did not take
                process.stdin.close()


def serve(
    requests: Iterable[str], answers: IO[str], make: Callable[[ConfigDict, int], Any]
) -> None:
    """Answers requests until there are no more.

    Args:
      requests: lines; see the top of the module.
      answers: where a line is written for each.
      make: makes the network of a config, for images of so many pixels a side.
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
            works[request["do"]]()  # what it returns stays here

    for line in requests:
        try:
            reply = {"answer": answer(json.loads(line))}
        except Exception as error:
            missing = isinstance(error, ImportError)  # the user's to mend, and no bug
            details = [] if missing else traceback.format_exc().splitlines()
            reply = {"error": f"{type(error).__name__}: {error}", "details": details}
        print(json.dumps(reply), file=answers, flush=True)


def main(make: Callable[[ConfigDict, int], Any]) -> None:
    """Serves on the standard input and output; what is printed meanwhile goes to stderr."""
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)  # of the process, so that C libraries are kept from the answers too
        serve(sys.stdin, answers, make)


if __name__ == "__main__":
    from benchmarks.authors import Authors

    main(partial(Authors, Path(sys.argv[1])))
