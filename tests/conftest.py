"""Configures JAX for the tests: eight CPU devices and a cache of compiled programs."""

import os
import signal

import pytest
from tiny_config import ROOT, tiny, write_run

# JAX reads these once, when it is imported.
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
)
# Before jax 0.12, collectives of more devices than threads may wait for each other indefinitely.
os.environ.setdefault("PJRT_NPROC", "16")
# Most of the time of the tests is compilation; the second run finds the programs in the cache.
os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "xla"))
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0.5")

# Shells start background jobs with SIGINT ignored, which child processes would inherit.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def run_of_chance(tmp_path_factory):
    """The work directory of a run with random weights and a checkpoint of step 7."""
    workdir = tmp_path_factory.mktemp("run_of_chance")
    write_run(tiny(), workdir, step=7)
    return workdir


@pytest.fixture(scope="session")
def synthetic_set(tmp_path_factory):
    """The folder of the prepared synthetic set; all workers share it: it takes seconds to draw."""
    from segdiff_jax.factory import datasets

    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    config = tiny()
    config.data.prepared_dir = str(folder / "synthetic_set")
    datasets.source(config).prepare()  # the first worker: the others wait for it, and find it
    return folder / "synthetic_set"
