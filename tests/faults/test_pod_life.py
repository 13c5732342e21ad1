"""The life of a pod: a host is preempted, another is killed, and other numbers of hosts go on.

The batch of six is padded on four devices, and not on one, two or three.
"""

import io
import os
import shutil
import sys

import numpy as np
import pytest
from job_processes import FAULTY, losses, prepare, run_arguments

from launch.local import Job, Layout
from segdiff_jax import errors

pytestmark = [pytest.mark.fault, pytest.mark.slow]
LAST, BATCH = 12, 6
# Of losses on another number of devices, relative. Up to 9.3e-8 was seen, one bit of a float32;
# each update may add some.
ROUNDING = 1e-6


@pytest.fixture(scope="module")
def folder(tmp_path_factory, synthetic_set):
    return prepare(tmp_path_factory.mktemp("pod"), synthetic_set, f"c.train.batch_size = {BATCH}")


def run(folder, workdir, processes, devices, fault="- 0 0", last=LAST):
    """Runs a job on so many hosts, each of so many devices; returns its exit code and output."""
    output = io.StringIO()
    job = Job(
        run_arguments(folder, workdir, "--mode=train", f"--config.train.steps={last}"),
        Layout(processes, devices),
        output,
        (sys.executable, "-u", "-c", FAULTY),
        os.environ | {"FAULT": fault, "JAX_DISABLE_MOST_OPTIMIZATIONS": "1"},
    )
    return job.wait(40.0), output.getvalue()


@pytest.fixture(scope="module")
def undisturbed(folder, tmp_path_factory):
    """The losses of one host of four devices that nothing happens to."""
    workdir = tmp_path_factory.mktemp("undisturbed")
    code, output = run(folder, workdir, 1, 4)
    assert code == 0, output[-3000:]
    seen = losses(workdir)
    assert [step for step, _ in seen] == list(range(1, LAST + 1))
    return seen


@pytest.fixture(scope="module")
def disturbed(folder, tmp_path_factory):
    """The work directory of four hosts: one is preempted at 4; of two that go on, one dies at 8."""
    workdir = tmp_path_factory.mktemp("disturbed")
    code, output = run(folder, workdir, 4, 1, fault="term 2 5")
    assert code == errors.TERMINATED, output[-3000:]
    at = {int(line.split("stopped at update ")[1].split()[0]) for line in output.splitlines()
          if "stopped at update" in line}  # fmt: skip
    assert len(at) == 1 and 4 <= min(at) <= 7, output[-3000:]
    code, output = run(folder, workdir, 2, 2, fault="kill 1 4")
    assert code == errors.KILLED, output[-3000:]
    saved = max(
        int(path.name) for path in (workdir / "checkpoints").iterdir() if path.name.isdigit()
    )
    assert min(at) <= saved < LAST
    return workdir, saved


@pytest.mark.parametrize("processes, devices", [(4, 1), (1, 1), (2, 1), (2, 4)])
def test_a_run_goes_on_with_fewer_and_more_hosts(
    folder, tmp_path, undisturbed, disturbed, processes, devices
):
    before, saved = disturbed
    workdir = shutil.copytree(before, tmp_path / "run", symlinks=True)
    code, output = run(folder, workdir, processes, devices)
    assert code == 0, output[-3000:]
    seen = losses(workdir)
    assert [step for step, _ in seen] == [step for step, _ in undisturbed]
    assert seen[:saved] == undisturbed[:saved]  # on four devices, however they were divided
    rest = [np.array([loss for _, loss in run[saved:]]) for run in (seen, undisturbed)]
    apart = np.max(np.abs(rest[0] / rest[1] - 1))
    print(f"{processes} hosts of {devices}, from update {saved}: losses {apart:.1e} apart")
    if processes * devices == 4:
        assert seen == undisturbed
    assert apart < ROUNDING
