"""The cores of a CPU as several devices, each with its share of the batch and of the generations.

Small maps do not fill two cores: a reverse step of one row takes 22 ms with both and 27 with one.
As two devices they draw two rows in 28 (docs/performance.md). XLA splits what one of them does over
all cores as before, so no more are needed than `MOST`; each holds a copy of the state.
"""

import os

import jax

MOST = 4


PATIENCE = 10**6  # seconds


FLAGS = "XLA_FLAGS"  # a variable of the environment


COUNT = "xla_force_host_platform_device_count"


GIVE_UP = "xla_cpu_collective_call_terminate_timeout_seconds"


OLDEST = 0, 12  # before, devices that waited for one another could do so for ever


def choose_device_count(batch_size: int = 0, wanted: int = 0) -> int:
    """Returns how many devices to make of this machine's CPU.

    Args:
      batch_size: images of an update, which all devices share alike; 0: nothing is trained.
      wanted: by the user, who then has so many; 0: nothing was said.
    """
    if wanted:
        return wanted
    if jax.__version_info__[:2] < OLDEST:
        return 1
    most = min(MOST, cores())
    return max(n for n in range(1, most + 1) if batch_size % n == 0)


def cores() -> int:
    """Returns how many cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def set_device_count(count: int) -> None:
    """Lets JAX see a CPU as so many devices, and lets them wait for one another for long.

    XLA ends a process whose devices meet more than 40 s apart, as those of one that was suspended
    meanwhile may do. What the user said in `XLA_FLAGS` or to JAX counts instead, and so does what
    there is if JAX has looked for devices before.
    """
    flags = os.environ.get(FLAGS, "")
    if GIVE_UP not in flags:
        os.environ[FLAGS] = f"{flags} --{GIVE_UP}={PATIENCE}".lstrip()
    if COUNT in flags or jax.config.jax_num_cpu_devices != -1:
        return
    try:
        jax.config.update("jax_num_cpu_devices", count)
    except RuntimeError:  # it has looked
        return
