"""A CPU has as many devices as its cores and the batch allow, unless the user chooses."""

import os
import subprocess
import sys

import jax
import pytest
from tiny_config import ROOT, tiny

from segdiff_jax import main
from segdiff_jax.cli.main_args import Command
from segdiff_jax.runtime import cpu_devices

SEES = """
import jax
from segdiff_jax.runtime import cpu_devices
{before}
cpu_devices.set_device_count(3)
print(jax.device_count())
"""
MEET = """
import time
import jax, jax.numpy as jnp
from jax.sharding import AxisType, PartitionSpec as P
from segdiff_jax.runtime import cpu_devices
cpu_devices.set_device_count(2)

def late(i):
    time.sleep(75 * int(i))  # XLA warns after 20 s and aborts after 40
    return jnp.float32(i)

def meet(x):
    mine = jax.pure_callback(late, jax.ShapeDtypeStruct((), jnp.float32), jax.lax.axis_index("d"))
    return jax.lax.psum(x + mine, "d")

mesh = jax.make_mesh((2,), ("d",), axis_types=(AxisType.Auto,))
meet = jax.shard_map(meet, mesh=mesh, in_specs=P("d"), out_specs=P(), check_vma=False)
print(jax.jit(meet)(jnp.arange(2.0)))
"""


def run(program, **environment):
    """Returns the last line that a program prints, without settings of the user's environment."""
    settings = {"XLA_FLAGS", "JAX_NUM_CPU_DEVICES"}
    clean = {k: v for k, v in os.environ.items() if k not in settings}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        env=clean | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.splitlines()[-1]


@pytest.mark.parametrize(
    ("cores", "batch_size", "devices"),
    [(1, 4, 1), (2, 4, 2), (3, 4, 2), (4, 6, 3), (16, 8, 4), (16, 7, 1), (2, 0, 2), (64, 0, 4)],
)
def test_devices_are_as_many_as_cores_and_divide_the_batch(cores, batch_size, devices, monkeypatch):
    monkeypatch.setattr(cpu_devices, "cores", lambda: cores)
    monkeypatch.setattr(jax, "__version_info__", (0, 12, 0))
    assert cpu_devices.choose_device_count(batch_size) == devices


def test_a_jax_whose_devices_may_wait_indefinitely_has_one(monkeypatch):
    monkeypatch.setattr(cpu_devices, "cores", lambda: 8)
    monkeypatch.setattr(jax, "__version_info__", (0, 11, 9))
    assert cpu_devices.choose_device_count(8) == 1


@pytest.mark.parametrize(
    ("mode", "coordinator", "wanted", "devices"),
    [
        ("all", "", 0, 3),  # of 8 cores, and a batch of 6
        ("evaluate", "", 0, 4),
        ("train", "", 1, 1),
        ("train", "localhost:1", 0, 1),
        ("train", "localhost:1", 2, 2),
    ],
)
def test_the_config_or_cores_and_batch_give_the_number(
    mode, coordinator, wanted, devices, monkeypatch
):
    monkeypatch.setattr(cpu_devices, "cores", lambda: 8)
    monkeypatch.setattr(jax, "__version_info__", (0, 12, 0))
    config = tiny()
    config.train.batch_size, config.job.cpu_devices = 6, wanted
    command = Command(config, ROOT, mode, coordinator, 2, 0)
    assert main.devices_of_cpu(command) == devices


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity on this system")
def test_cores_are_those_that_the_process_may_use():
    program = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    assert (
        run(program + "from segdiff_jax.runtime import cpu_devices; print(cpu_devices.cores())")
        == "1"
    )


def test_jax_has_as_many_devices_as_are_set():
    assert run(SEES.format(before="")) == "3"


@pytest.mark.parametrize(
    "environment",
    [{"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}, {"JAX_NUM_CPU_DEVICES": "2"}],
)
def test_settings_of_xla_and_jax_take_precedence(environment):
    assert run(SEES.format(before=""), **environment) == "2"


def test_devices_that_jax_has_looked_for_stay():
    assert run(SEES.format(before="jax.devices()")) == "1"


@pytest.mark.slow
def test_devices_wait_for_one_that_comes_late():
    assert run(MEET) == "[2.]"
