"""A training that is killed repeatedly ends bit for bit as one that never was."""

import random
import re
import time

import jax
import numpy as np
import pytest
from job_processes import final_state, finish, losses, prepare, start_run

pytestmark = pytest.mark.fault
# saves are made all the time, so that most kills hit one in flight
FLAGS = "--mode=train", "--config.train.checkpoint_every=2"


@pytest.fixture(scope="module")
def folder(tmp_path_factory, synthetic_set):
    return prepare(tmp_path_factory.mktemp("kill9"), synthetic_set)


def newest(workdir):
    names = (path.name for path in workdir.glob("checkpoints/*"))
    return max((int(name) for name in names if re.fullmatch(r"\d+", name)), default=0)


def killed(folder, workdir, flags, moment, by_hand):
    """Starts the training and kills it; returns its exit code, and the files left half-written."""
    before, process = newest(workdir), start_run(folder, workdir, *flags)
    deadline = time.monotonic() + (200 if by_hand else moment)
    while process.poll() is None and time.monotonic() < deadline:
        if by_hand and newest(workdir) > before:
            time.sleep(moment)
            break
        time.sleep(0.005)
    process.kill()
    process.communicate()
    return process.returncode, len(list(workdir.glob("checkpoints/*orbax-checkpoint-tmp*")))


@pytest.mark.parametrize("kills, steps", [(3, 15), pytest.param(50, 600, marks=pytest.mark.slow)])
def test_a_run_killed_many_times_ends_bit_equal_to_one_never_killed(folder, kills, steps):
    flags, draw = (*FLAGS, f"--config.train.steps={steps}"), random.Random(0)
    whole, workdir = folder / f"whole{steps}", folder / f"killed{steps}"
    finish(start_run(folder, whole, *flags))
    died = partial = 0
    for number in range(kills):
        early = number % 4 == 1  # before or while compiling
        moment = draw.uniform(1.5, 6) if early else draw.uniform(0, 0.5)
        code, left = killed(folder, workdir, flags, moment, not early)
        assert code in (0, -9)
        died, partial = died + (code == -9), partial + (left > 0)
    finish(start_run(folder, workdir, *flags))
    ours, theirs = final_state(folder, workdir), final_state(folder, whole)
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(one, other)
    assert losses(workdir) == losses(whole) and int(ours.step) == steps
    assert not list(workdir.glob("checkpoints/*tmp*"))
    print(f"kill9: {died} kills ({partial} left a partial save), all resumed, state bit-equal")
    assert died >= kills // 2
