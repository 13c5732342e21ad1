"""How long it takes from a command to the first update, and to import what trains."""

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


def seconds_to(line: re.Pattern[str], words: list[str], environment: dict[str, str]) -> float:
    """Runs a command to its end, and returns the seconds until it logged a line.

    Args:
      line: what to search for.
      words: the command.
      environment: of the process.

    Raises:
      UserError: it failed, or never logged it.
    """
    start, seen, tail = time.perf_counter(), None, ""
    process = subprocess.Popen(
        words,
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    assert process.stderr is not None  # it was asked for
    with process.stderr:
        for tail in process.stderr:
            if seen is None and line.search(tail):
                seen = time.perf_counter() - start
    if process.wait() or seen is None:
        raise UserError(f"{' '.join(words)} ended with {process.returncode}: {tail}", INTERNAL)
    return seen


def import_seconds() -> float:
    """Returns how long a new interpreter takes to import what training needs."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, check=True)
    return time.perf_counter() - start


def first_update_seconds(cache: Path) -> float:
    """Returns how long training takes from the command to its first update.

    Args:
      cache: of compiled programs; empty for a cold start.
    """
    with tempfile.TemporaryDirectory() as workdir:
        words = [sys.executable, "-m", "segdiff_jax.main", f"--config={CONFIG}", "--mode=train"]
        environment = os.environ | {"JAX_COMPILATION_CACHE_DIR": str(cache)}
        return seconds_to(FIRST, [*words, f"--workdir={workdir}"], environment)


def rows(repeats: int) -> list[Row]:
    """Returns the rows of this section; the data set must have been prepared.

    Every repeat makes one cold start and one warm one, which finds the programs of the cold one.
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
