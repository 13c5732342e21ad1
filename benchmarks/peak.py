"""The most memory a process needs, measured in one that does nothing else.

python -m benchmarks.peak WORK [AUTHORS]    prints bytes; WORK is a key of WORKS
"""

import resource
import subprocess
import sys
from pathlib import Path

from benchmarks.elsewhere import environment_of_theirs
from benchmarks.timing import Row, figure
from segdiff_jax.errors import INTERNAL, UserError

ROOT = Path(__file__).resolve().parents[1]
WORKS = ("start", "training", "sampling")
TIMES = 3  # how often the work is done: memory has settled by then


def peak_bytes(work: str, authors: Path | None) -> int:
    """Does the work in this process and returns its largest resident size, or the device's."""
    from benchmarks import ours, reduced
    from segdiff_jax import parallel

    config = reduced.get_config()
    if authors is not None:
        from benchmarks.authors import Authors

        theirs = Authors(authors, config, ours.side(config))
        c = config.sampling
        made = {
            "start": lambda: lambda: None,
            "training": lambda: theirs.training_step(config.train.batch_size),
            "sampling": lambda: theirs.sampling(c.generations, c.steps),
        }
    else:
        ours.start(config)
        mesh = parallel.all_devices()
        rows = ours.constant_rows(config, ours.made_up(8, ours.side(config)), mesh)
        made = {
            "start": lambda: lambda: None,
            "training": lambda: ours.training_step(config, mesh, rows),
            "sampling": lambda: ours.sampling(
                config, ours.fresh_state(config, mesh).params, mesh, ours.side(config)
            ),
        }
    do = made[work]()
    for _ in range(TIMES):
        do()
    return resident() if authors is not None else device_peak() or resident()


def resident() -> int:
    """Returns the largest resident size that this process has had, bytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def device_peak() -> int:
    """Returns the most memory in use on an accelerator, bytes; 0 where JAX does not know it."""
    import jax

    return (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use", 0)


def rows(authors: Path | None) -> list[Row]:
    """Returns the rows of this section, each from a process of its own.

    Raises:
      UserError: such a process failed.
    """
    found = []
    for side, path in (("ours", None), ("authors", authors)):
        if side == "authors" and path is None:
            continue
        for work in WORKS:
            words = [sys.executable, "-m", "benchmarks.peak", work, *([str(path)] if path else [])]
            environment = environment_of_theirs() if path else None
            done = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True)
            if done.returncode:
                raise UserError(f"{' '.join(words)}: {done.stderr[-500:]}", INTERNAL)
            found.append(figure(f"{work}, {side}", "GB", int(done.stdout.split()[-1]) / 1e9))
    return found


if __name__ == "__main__":
    print(peak_bytes(sys.argv[1], Path(sys.argv[2]) if sys.argv[2:] else None))
