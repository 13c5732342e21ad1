"""Times the imports of training, and the start from the command to the first training step."""

import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.timing import Row, Sample
from segdiff_jax.errors import INTERNAL, UserError

ROOT = Path(__file__).resolve().parents[1]
CONFIG = "benchmarks/reduced.py"
IMPORTS = "import segdiff_jax.train, segdiff_jax.evaluate"
FIRST = re.compile(r"first update after")


def seconds_to(line: re.Pattern[str], command: list[str], environment: dict[str, str]) -> float:
    """Runs a command to its end; returns the seconds until it logged a line.

    Args:
      line: the pattern of the line.
      command: the program and its arguments.
      environment: of the process.

    Raises:
      UserError: it failed, or did not log the line.
    """
    start, seen, tail = time.perf_counter(), None, ""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None  # it is a pipe
    with process.stderr:
        for tail in process.stderr:
            if seen is None and line.search(tail):
                seen = time.perf_counter() - start
    if process.wait() or seen is None:
        raise UserError(f"{' '.join(command)} ended with {process.returncode}: {tail}", INTERNAL)
    return seen


def import_seconds() -> float:
    """Returns the seconds in which a new interpreter imports the modules of training."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, check=True)
    return time.perf_counter() - start


def first_update_seconds(cache: Path) -> float:
    """Returns the seconds from the command to the first training step.

    Args:
      cache: of compiled programs; empty for a cold start.
    """
    with tempfile.TemporaryDirectory() as workdir:
        command = [sys.executable, "-m", "segdiff_jax.main", f"--config={CONFIG}", "--mode=train"]
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
        return seconds_to(FIRST, [*command, f"--workdir={workdir}"], environment)


def rows(repeats: int) -> list[Row]:
    """Returns the rows of this section; the data set must have been prepared.

    Every repeat has a cold start and a warm one, which finds the compiled programs of the first.
    """
    imports = [import_seconds() for _ in range(repeats + 1)][1:]  # the first reads the disk
    cold, warm = [], []
    for _ in range(repeats):
        with tempfile.TemporaryDirectory() as cache:
            cold.append(first_update_seconds(Path(cache)))
            warm.append(first_update_seconds(Path(cache)))
    return [
        Row("imports", "s", Sample(tuple(imports)), 3.0, least=False),
        Row("command to first update, cold", "s", Sample(tuple(cold))),
        Row("command to first update, second start", "s", Sample(tuple(warm)), 10.0, least=False),
    ]
