"""The machine the tests see: eight CPU devices, whatever there is."""

import os
import signal
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# Before jax is imported, which reads these once.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
)
# Before jax 0.12, collectives of more devices than threads may wait for each other for ever.
os.environ.setdefault("PJRT_NPROC", "16")
# Compiling takes most of the time of the tests; the second run finds it done.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

# Shells tell what they start in the background to ignore Ctrl-C, and so would every child of ours.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def run_of_chance(tmp_path_factory):
    """The work directory of a run whose weights are random, as if it had made 7 updates."""
    from tiny_config import tiny, write_run

    workdir = tmp_path_factory.mktemp("run_of_chance")
    write_run(tiny(), workdir, step=7)
    return workdir
