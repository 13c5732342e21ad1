"""Puts small faults into a copy of the code, one at a time, and runs the tests that must notice.

    python tests/mutants/run.py [--only WORDS] [--jobs N] [--table FILE] [--check]

Prints each fault as killed, or as survived, and ends with 1 if one survived. `--only` takes the
faults that contain these words; `--table` puts the results into the table behind the mark of a
page; `--check` runs no test, it checks that every fault can be put into the code as it is.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import Queue

import answers
import data
import programs
import sampling
import training
from mutation import Mutation

ROOT = Path(__file__).resolve().parents[2]
COPIED = "segdiff_jax", "configs", "tests", "launch", "benchmarks", "docs", "pyproject.toml"
MUTATIONS: list[Mutation] = [
    *training.MUTATIONS,
    *sampling.MUTATIONS,
    *data.MUTATIONS,
    *answers.MUTATIONS,
    *programs.MUTATIONS,
]
FAILED, PASSED = 1, 0  # exit statuses of pytest; any other is no verdict
MARK = "<!-- faults -->\n"  # of the page; what follows it is replaced
LIMIT = 1200  # seconds of one fault: a busy machine proves nothing


def copy_of_project(folder: Path) -> Path:
    """Copies what the tests need into a new folder."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            ignored = shutil.ignore_patterns("__pycache__", ".pytest_cache")
            shutil.copytree(source, folder / name, ignore=ignored)
        elif source.exists():
            shutil.copy(source, folder / name)
    return folder


def mutated(mutation: Mutation, root: Path) -> tuple[Path, str, str]:
    """Returns the file of a fault, its text, and the text with the fault.

    Raises:
      ValueError: the old text does not stand there exactly once.
    """
    path = root / "segdiff_jax" / f"{mutation.file}.py"
    text = path.read_text(encoding="utf-8")
    if (count := text.count(mutation.old)) != 1:
        raise ValueError(f"{mutation.file}.py: {mutation.old!r} stands there {count} times")
    return path, text, text.replace(mutation.old, mutation.new)


def verdict(mutation: Mutation, root: Path) -> str:
    """Runs the tests of a fault in a copy of the project: "killed", "survived", or why neither."""
    path, text, faulty = mutated(mutation, root)
    path.write_text(faulty, encoding="utf-8")
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_backend_optimization_level=0"
    environment = os.environ | {"PYTHONPATH": str(root), "XLA_FLAGS": flags}
    tests = [f"tests/{name}" for name in mutation.tests.split()]
    quiet = "-qx", "-p", "no:cacheprovider", "-m", "not slow and not fault"
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *quiet, *tests],
            cwd=root,
            env=environment,
            capture_output=True,
            text=True,
            timeout=LIMIT,
        )
    except subprocess.TimeoutExpired:
        return f"no verdict: longer than {LIMIT} s"
    finally:
        path.write_text(text, encoding="utf-8")
    words = {FAILED: "killed", PASSED: "survived"}
    return words.get(done.returncode, "no verdict: " + done.stdout[-400:] + done.stderr[-400:])


def run(mutations: Sequence[Mutation], jobs: int) -> list[tuple[Mutation, str, float]]:
    """Returns each fault with its verdict and seconds; prints them as they come."""
    with tempfile.TemporaryDirectory() as folder:
        free: Queue[Path] = Queue()
        for job in range(jobs):
            free.put(copy_of_project(Path(folder) / str(job)))

        def one(mutation: Mutation) -> tuple[Mutation, str, float]:
            root, began = free.get(), time.monotonic()
            try:
                found = verdict(mutation, root)
            finally:
                free.put(root)
            seconds = time.monotonic() - began
            print(f"{found:9} {seconds:5.0f} s  {mutation.file}: {mutation.fault}", flush=True)
            return mutation, found, seconds

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, mutations))


def table(results: Sequence[tuple[Mutation, str, float]], before: str = "") -> str:
    """Returns the verdicts as a table in Markdown; those of `before`, if not tried."""
    kept = {tuple(line.split(" | ")[:2]): line for line in before.splitlines()}
    for m, found, _ in results:
        of = m.tests.replace("::", " ")
        kept[f"| {m.file}", m.fault] = f"| {m.file} | {m.fault} | {of} | {found} |"
    rows = [kept.get((f"| {m.file}", m.fault), "") for m in MUTATIONS]
    rows = [row for row in rows if row]
    killed = sum(row.endswith(" | killed |") for row in rows)
    head = ["| file | fault | noticed by | |", "|---|---|---|---|"]
    return "\n".join([f"{killed} of {len(MUTATIONS)} were noticed.", "", *head, *rows]) + "\n"


def check(mutations: Sequence[Mutation]) -> int:
    """Prints what keeps a fault from being put into the code; returns the exit status."""
    problems = []
    for mutation in mutations:
        try:
            mutated(mutation, ROOT)
        except (OSError, ValueError) as error:
            problems.append(str(error))
        paths = [name.partition("::")[0] for name in mutation.tests.split()]
        missing = [path for path in paths if not (ROOT / "tests" / path).exists()]
        problems += [f"{mutation.fault}: {path} is missing" for path in missing]
    names = [(mutation.file, mutation.fault) for mutation in mutations]
    problems += [f"{name}: there twice" for name in {n for n in names if names.count(n) > 1}]
    print("\n".join([*problems, f"{len(mutations)} faults, {len(problems)} problems"]))
    return int(bool(problems))


def main(words: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help="words of the faults to try")
    parser.add_argument("--jobs", type=int, default=2, help="faults that are tried at once")
    parser.add_argument("--table", type=Path, help="page for a table of the verdicts")
    parser.add_argument("--check", action="store_true", help="only check that all apply")
    chosen = parser.parse_args(words)
    mutations = [m for m in MUTATIONS if chosen.only in f"{m.file}: {m.fault}"]
    if chosen.check:
        return check(mutations)
    results = run(mutations, chosen.jobs)
    if chosen.table:
        page, _, rows = chosen.table.read_text(encoding="utf-8").partition(MARK)
        chosen.table.write_text(f"{page}{MARK}\n{table(results, rows)}", encoding="utf-8")
    killed = sum(found == "killed" for _, found, _ in results)
    seconds = sum(seconds for _, _, seconds in results)
    print(f"{killed} of {len(results)} faults were noticed; {seconds:.0f} s of tests")
    return int(killed < len(results))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
