"""Feeds damaged files to the readers: each is read, or refused in one line; prints a table.

    python tests/fuzz/fuzz.py [--inputs=1000] [--seconds=0] [--seed=0] [READER ...]

Each reader of `readers` runs in a process of its own, for so many inputs and at least so many
seconds; "batch" predicts a folder of damaged images with a stand-in for the network. The memory is
what the process takes at most beyond what it had before the first input. Exit code 1: a reader
raised something else, took longer than SLOW seconds for an input, or more memory than MEMORY.
"""

import argparse
import contextlib
import csv
import io
import itertools
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "support"), str(HERE.parents[1])]

import numpy as np  # noqa: E402
from damage import damaged  # noqa: E402
from readers import LIMITS, READERS  # noqa: E402
from whole_images import IMAGES  # noqa: E402

from segdiff_jax.errors import UserError  # noqa: E402

SLOW = 20  # seconds
MEMORY = 512  # MB
BATCH = "batch"


class Outcome(NamedTuple):
    """What became of the inputs of a reader."""

    inputs: int
    read: int
    refused: int
    faults: tuple  # lines: an exception that is no UserError, a message of several lines, a hang
    seconds: float
    slowest: float  # seconds of one input
    memory: float  # MB


def memory():
    """Returns the most memory of this process so far, in MB; 0 where the system does not say."""
    try:
        import resource
    except ImportError:
        return 0.0
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most / (2**20 if sys.platform == "darwin" else 2**10)


@contextlib.contextmanager
def time_limit():
    """Ends a body that hangs, where the system has timers."""

    def end(*_):
        raise TimeoutError(f"takes more than {SLOW} seconds")

    if not hasattr(signal, "setitimer"):
        yield
        return
    before = signal.signal(signal.SIGALRM, end)
    signal.setitimer(signal.ITIMER_REAL, SLOW)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def fault_of(error):
    """Returns what is wrong with an error of a reader; "" if it is a refusal in one line."""
    text = str(error)
    if not isinstance(error, UserError):
        return f"{type(error).__name__}: {text[:200]}"
    if "\n" in text or len(text) > 1000 or not text:
        return f"a message of {text.count(chr(10)) + 1} lines and {len(text)} characters"
    return ""


def fuzz(name, inputs, seconds, seed, folder):
    """Feeds a reader; every input is a function of the seed and its number."""
    reader, before, began = READERS[name], memory(), time.monotonic()
    path, read, refused, faults, slowest = folder / reader.name, 0, 0, [], 0.0
    files = list(reader.files.values())
    for number in itertools.count():
        if number >= inputs and time.monotonic() - began >= seconds:
            break
        rng = np.random.default_rng((seed, number))
        damage = reader.damages[number // len(files) % len(reader.damages)]
        path.write_bytes(damage(files[number % len(files)], rng))
        started, refusals = time.monotonic(), []
        for function in reader.read:
            try:
                with time_limit():
                    function(path)
            except Exception as error:
                refusals.append(function)
                if fault := fault_of(error):
                    faults.append(f"seed {seed}, input {number}, {function.__name__}: {fault}")
        is_read = reader.read[0] not in refusals
        read, refused = read + is_read, refused + (not is_read)
        slowest = max(slowest, time.monotonic() - started)
    spent = time.monotonic() - began
    return Outcome(read + refused, read, refused, tuple(faults), spent, slowest, memory() - before)


def fuzz_batch(inputs, seed, folder):
    """Predicts a folder of damaged images; each has its row or its line, and the batch ends."""
    from stand_in import StandIn
    from tiny_config import tiny

    from segdiff_jax import predict
    from segdiff_jax.cli.predict_args import parse

    (folder / "in").mkdir()
    (folder / "run").mkdir()
    (folder / "run" / "config.json").write_text(json.dumps(tiny().to_dict()))
    contents = list(IMAGES.values())
    for number in range(inputs):
        content = damaged(contents[number % len(contents)], np.random.default_rng((seed, number)))
        suffix = "tif" if number % 2 else "png"
        (folder / "in" / f"{number:06d}.{suffix}").write_bytes(content)
    words = f"--workdir={folder / 'run'}", f"--input={folder / 'in'}", f"--output={folder / 'out'}"
    before, began, lines, faults = memory(), time.monotonic(), [], []
    try:
        predict.predict(parse([*words, f"--max_pixels={LIMITS.max_pixels}"]), StandIn())
    except UserError as error:
        lines = [str(line) for line in error.details]
    except Exception as error:
        faults.append(fault_of(error))
    spent = time.monotonic() - began
    with open(folder / "out" / "summary.csv", newline="") as file:
        done = len(list(csv.DictReader(file)))
    faults += [f"a problem of several lines: {line[:200]}" for line in lines if "\n" in line]
    if done + len(lines) != inputs:
        faults.append(f"{done} done and {len(lines)} refused of {inputs}")
    per_input = spent / max(inputs, 1)
    return Outcome(inputs, done, len(lines), tuple(faults), spent, per_input, memory() - before)


def outcome_of(name, args):
    """Returns the outcome of a reader in this process."""
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        if name == BATCH:
            return fuzz_batch(args.inputs, args.seed, Path(folder))
        return fuzz(name, args.inputs, args.seconds, args.seed, Path(folder))


def in_its_own_process(name, argv):
    """Returns the outcome of a reader in a process of its own, whose memory is its own too."""
    words = [sys.executable, __file__, "--alone", *argv, name]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    try:
        return Outcome(*json.loads(done.stdout.splitlines()[-1]))
    except (IndexError, ValueError, TypeError):
        fault = f"the process ended with {done.returncode}: {done.stderr[-500:]}"
        return Outcome(0, 0, 0, (fault,), 0.0, 0.0, 0.0)


def main(argv):
    """Prints the table; returns the exit code."""
    parser = argparse.ArgumentParser(description="damaged files for every reader")
    parser.add_argument("--inputs", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--alone", action="store_true")
    parser.add_argument("readers", nargs="*", choices=[[], *READERS, BATCH])
    args = parser.parse_args(argv)
    if args.alone:
        print(json.dumps(outcome_of(*args.readers, args)))
        return 0
    shared = [f"--inputs={args.inputs}", f"--seconds={args.seconds}", f"--seed={args.seed}"]
    print("| reader | inputs | read | refused | faults | s | slowest, s | memory, MB |")
    print("|---|---|---|---|---|---|---|---|")
    failed = False
    for name in args.readers or (*READERS, BATCH):
        found = in_its_own_process(name, shared)
        counts = " | ".join(map(str, (found.inputs, found.read, found.refused, len(found.faults))))
        cost = f"{found.seconds:.0f} | {found.slowest:.2f} | {found.memory:.0f}"
        print(f"| {name} | {counts} | {cost} |", flush=True)
        for line in found.faults[:10]:
            print(f"  {name}: {line}")
        failed |= bool(found.faults) or found.slowest > SLOW or found.memory > MEMORY
    return int(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
