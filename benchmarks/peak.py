"""Measures the peak memory of training and sampling, each in a process of its own.

`python -m benchmarks.peak WORK [AUTHORS]` is such a process: it prints bytes; WORK is one of WORKS.
"""

import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.elsewhere import environment_of_theirs
from benchmarks.network_input import side_of
from benchmarks.timing import Row, Work, figure
from segdiff_jax.errors import INTERNAL, UserError

ROOT = Path(__file__).resolve().parents[1]
STATUS = Path("/proc/self/status")
WORKS = ("start", "training", "sampling")
REPEATS = 3  # of a workload; its memory no longer grows after them


def peak_of_ours(work: str) -> int:
    """Runs our workload; returns the peak of the device, or of this process, bytes."""
    from benchmarks import ours, reduced
    from segdiff_jax.runtime import distributed

    config = reduced.get_config()
    ours.start(config)
    mesh, side = distributed.all_devices(), side_of(config)
    rows = ours.constant_rows(config, ours.made_up(8, side), mesh)
    repeated(
        {
            "start": lambda: lambda: None,
            "training": lambda: ours.training_step(config, mesh, rows),
            "sampling": lambda: ours.sampling(
                config, ours.fresh_state(config, mesh).params, mesh, side
            ),
        }[work]()
    )
    return device_peak() or resident()


def peak_of_theirs(work: str, checkout: Path) -> int:
    """Runs the authors' workload without JAX; returns the peak of this process, bytes."""
    from benchmarks import reduced
    from benchmarks.authors import Authors

    config = reduced.get_config()
    theirs, c = Authors(checkout, config, side_of(config)), config.sampling
    repeated(
        {
            "start": lambda: lambda: None,
            "training": lambda: theirs.training_step(config.train.batch_size),
            "sampling": lambda: theirs.sampling(c.generations, c.steps),
        }[work]()
    )
    return resident()


def repeated(work: Work) -> None:
    """Runs a workload `REPEATS` times."""
    for _ in range(REPEATS):
        work()


def resident() -> int:
    """Returns the peak resident size of this process, bytes."""
    if STATUS.exists():  # Linux, whose getrusage includes the parent process
        (line,) = (x for x in STATUS.read_text().splitlines() if x.startswith("VmHWM:"))
        return 1024 * int(line.split()[1])
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def device_peak() -> int:
    """Returns the peak memory of an accelerator, bytes; 0 where JAX does not report it."""
    import jax

    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def rows(authors: Path | None) -> list[Row]:
    """Returns the rows of this section, each from a process of its own.

    Raises:
      UserError: such a process failed.
    """
    rows = []
    for side, path in (("ours", None), ("authors", authors)):
        if side == "authors" and path is None:
            continue
        for work in WORKS:
            command = [sys.executable, "-m", "benchmarks.peak", work]
            command += [str(path)] if path else []
            environment = environment_of_theirs() if path else None
            done = subprocess.run(
                command, cwd=ROOT, env=environment, capture_output=True, text=True
            )
            if done.returncode:
                raise UserError(f"{' '.join(command)}: {done.stderr[-500:]}", INTERNAL)
            rows.append(figure(f"{work}, {side}", "GB", int(done.stdout.split()[-1]) / 1e9))
    return rows


if __name__ == "__main__":
    name, *checkout = sys.argv[1:]
    print(peak_of_theirs(name, Path(checkout[0])) if checkout else peak_of_ours(name))
