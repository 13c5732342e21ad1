"""Processes, devices, and the map of a step over all of them.

Two forms of the same map, equal to the last bit: `jax.pmap`, and `jax.jit(jax.shard_map(...))`,
which is what pmap has been since JAX 0.8. The second is the default: across processes pmap must
re-wrap every array at every step, and its state cannot be checkpointed as global arrays.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from segdiff_jax.errors import PEER_LOST, UserError
from segdiff_jax.runtime import cpu_devices, exit, rendezvous

AXIS = "data"


Tree = Any


def start(
    coordinator: str = "",
    processes: int = 0,
    process: int = -1,
    join_seconds: int = 300,
    heartbeat_seconds: int = 100,
    devices_of_cpu: int = 1,
) -> None:
    """Joins the processes of a job, if there are several, and turns the compilation cache on.

    JAX must not have been asked for its devices, or the last argument changes nothing.

    Where the others do not come, the process ends with code 134 and says so.

    Args:
      coordinator: "host:port" of process 0, for a job without a cluster JAX knows; "auto" where it
        does (Cloud TPU pods, Slurm); "": one process.
      processes: how many there are, with a coordinator of "host:port".
      process: the number of this one.
      join_seconds: how long to wait for the others.
      heartbeat_seconds: after which a process that shows no sign of life counts as lost.
      devices_of_cpu: to make of this machine's CPU, see `cpu_devices`.

    Raises:
      UserError: as `roll_call.call`.
    """
    if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
        cache = Path("~/.cache/segdiff_jax/xla").expanduser()
        jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    cpu_devices.set_device_count(devices_of_cpu)
    # where time is up JAX aborts, and says nothing that a user could follow: it gets more of it
    join = partial(
        jax.distributed.initialize,
        initialization_timeout=join_seconds + 60,
        heartbeat_timeout_seconds=heartbeat_seconds,
        shutdown_timeout_seconds=2 * heartbeat_seconds,
    )
    if coordinator == "auto":
        with _within(join_seconds, "processes of this job"):
            join()
    elif coordinator:
        job = f"process {process} of {processes} at {coordinator}"
        logging.info("%s: waiting until all have come, at most %d s", job, join_seconds)
        rendezvous.call(coordinator, processes, process, join_seconds)
        with _within(join_seconds, job):
            join(coordinator, processes, process)


@contextlib.contextmanager
def _within(seconds: float, who: str) -> Iterator[None]:
    """Ends this process when the others have not come in time."""

    def give_up() -> None:
        message = f"{who}: waited {seconds:g} s and not all have come; start every one of them"
        exit.exit_now(message, PEER_LOST)

    timer = threading.Timer(seconds, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def leads_others() -> bool:
    """Whether this is process 0 of several, which the others cannot do without."""
    return jax.process_count() > 1 and jax.process_index() == 0


def all_devices() -> Mesh:
    """Returns the mesh of every device of every process, one axis."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def everywhere(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of what is the same on every device."""
    return NamedSharding(mesh, P())


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Returns the tree on every device of the mesh; its leaves are host or local arrays.

    The result never shares a buffer with the input, so it may be donated.
    """
    sharding = everywhere(mesh)

    def put(leaf: Any) -> jax.Array:
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda _: host.copy())

    return jax.tree.map(put, tree)


def split_rows(tree: Tree, mesh: Mesh) -> Tree:
    """Returns this process's rows (leading axis, numpy) as part of global arrays over the mesh."""
    sharding = NamedSharding(mesh, P(AXIS))
    return jax.tree.map(partial(jax.make_array_from_process_local_data, sharding), tree)


def split(tree: Tree, mesh: Mesh) -> Tree:
    """Returns arrays (numpy, the same on every host) split over the mesh by their leading axis."""
    sharding = NamedSharding(mesh, P(AXIS))
    return jax.tree.map(
        lambda x: jax.make_array_from_callback(x.shape, sharding, lambda index: x[index]), tree
    )


def gather(array: jax.Array) -> np.ndarray:
    """Returns a global array, split over the mesh or not, whole and on every host."""
    if jax.process_count() == 1:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def map_step(step: Callable, mesh: Mesh, kind: str = "shard_map") -> Callable:
    """Maps step(state, rows, key) -> (state, metrics) over the devices of the mesh.

    State and key are replicated, rows are split along their leading axis, and what comes back is
    replicated: the step must have made it equal with `lax.pmean`. The state is donated.

    Args:
      step: for one device, with the axis `AXIS`.
      mesh: of one axis.
      kind: "shard_map", or "pmap" (one process only).

    Raises:
      UserError: the kind is unknown, or pmap is asked for with several processes.
    """
    if kind == "shard_map":
        # check_vma=False keeps pmap's meaning: with True, the gradient of replicated parameters
        # is already a sum over devices and a pmean of it is that many times too large
        mapped = jax.shard_map(
            step,
            mesh=mesh,
            in_specs=(P(), P(AXIS), P()),
            out_specs=(P(), P()),
            check_vma=False,
        )
        return jax.jit(mapped, donate_argnums=0)
    if kind != "pmap":
        raise UserError(f"train.map is {kind!r}; allowed: 'shard_map', 'pmap'")
    if jax.process_count() > 1:
        raise UserError("train.map is 'pmap' with several processes; allowed there: 'shard_map'")
    devices = list(mesh.devices.flat)
    mapped = jax.pmap(
        step,
        axis_name=AXIS,
        in_axes=(None, 0, None),
        out_axes=(None, None),
        devices=devices,
        donate_argnums=0,
    )

    def run(state: Tree, rows: Tree, key: jax.Array) -> tuple[Tree, Tree]:
        stacked = jax.tree.map(lambda x: x.reshape(len(devices), -1, *x.shape[1:]), rows)
        return mapped(state, stacked, key)

    return run
