"""Makes several XLA devices of a CPU, which share the rows of a batch and the generations.

Small maps do not keep two cores busy: a reverse step of one row takes nearly as long with one core
as with both, and two devices sample two rows in about that time (docs/performance_log.md tells how
to compare). XLA still splits the operations of a device over all cores, therefore `MAX_DEVICES`
suffice; each holds a copy of the state.
"""

import os
from contextlib import suppress

import jax

MAX_DEVICES = 4
COLLECTIVE_SECONDS = 10**6
OLDEST_JAX = 0, 12  # in older versions, devices that wait for one another could wait indefinitely
FLAGS = "XLA_FLAGS"  # environment variable
DEVICE_COUNT_FLAG = "xla_force_host_platform_device_count"
COLLECTIVE_SECONDS_FLAG = "xla_cpu_collective_call_terminate_timeout_seconds"


def choose_device_count(batch_size: int = 0, wanted: int = 0) -> int:
    """Returns how many devices to make of this machine's CPU.

    Args:
      batch_size: images of a training step, divided equally over the devices; 0: no training.
      wanted: the user's choice, which is returned; 0: none.
    """
    if wanted:
        return wanted
    if jax.__version_info__[:2] < OLDEST_JAX:
        return 1
    most = min(MAX_DEVICES, cores())
    return max(n for n in range(1, most + 1) if batch_size % n == 0)


def cores() -> int:
    """Returns the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_device_count(count: int) -> None:
    """Sets the number of CPU devices of JAX, and how long they wait for one another.

    XLA aborts a process whose devices enter a collective more than 40 s apart, which happens to a
    process that was suspended. `XLA_FLAGS` and the user's settings of JAX take precedence, and the
    number is fixed once JAX has looked for devices.
    """
    flags = os.environ.get(FLAGS, "")
    if COLLECTIVE_SECONDS_FLAG not in flags:
        os.environ[FLAGS] = f"{flags} --{COLLECTIVE_SECONDS_FLAG}={COLLECTIVE_SECONDS}".lstrip()
    if DEVICE_COUNT_FLAG not in flags and jax.config.jax_num_cpu_devices == -1:
        with suppress(RuntimeError):  # JAX has looked for devices
            jax.config.update("jax_num_cpu_devices", count)
