"""Starts the processes of a job, and maps a training step over all of their devices.

The map has two forms, equal to the last bit: `jax.jit(jax.shard_map(...))`, the default, and
`jax.pmap`, which is built on it since JAX 0.8. In one of several processes pmap takes and returns
arrays of this process's devices alone.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import numpy as np
from absl import logging
from jax.experimental import multihost_utils
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

from segdiff_jax.errors import PEER_LOST, UserError, one_line
from segdiff_jax.runtime import compilation_cache, cpu_devices, watchdog

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

    Must run before JAX looks for devices, or the last argument has no effect. If some processes do
    not join in time, those that wait exit with code 134.

    Args:
      coordinator: "host:port" of process 0, for a job without a cluster JAX knows; "auto" where it
        does (Cloud TPU pods, Slurm); "": one process.
      processes: their number, with a coordinator of "host:port".
      process: the number of this one.
      join_seconds: the longest wait for the others.
      heartbeat_seconds: after which a process without a sign of life counts as lost.
      devices_of_cpu: to make of this machine's CPU, see `cpu_devices`.
    """
    compilation_cache.enable()
    cpu_devices.set_device_count(devices_of_cpu)
    if not coordinator:
        return
    this, peers = "this job's processes", (None, None, None)
    if coordinator != "auto":
        this = f"process {process} of {processes} at {coordinator}"
        peers = coordinator, processes, process
    logging.info("%s: waiting for all processes to join, at most %d s", this, join_seconds)
    late = f"waited {join_seconds} s and not all processes joined; start every one of them"
    leave = partial(watchdog.exit_now, f"{this}: {late}", PEER_LOST, process == 0)
    with watchdog.call_after(join_seconds, leave):
        jax.distributed.initialize(
            *peers,
            initialization_timeout=join_seconds + 60,  # at which JAX aborts with a stack trace
            heartbeat_timeout_seconds=heartbeat_seconds,
            shutdown_timeout_seconds=2 * heartbeat_seconds,
        )


def check_platform(device: str) -> None:
    """Checks that JAX computes on the kind of device that was asked for: "gpu", "tpu" or any.

    Raises:
      UserError: it finds none.
    """
    if device not in ("gpu", "tpu"):
        return
    try:
        found, why = jax.default_backend(), ""
    except (RuntimeError, AssertionError) as error:  # from its plugins
        found, why = "none", f" ({one_line(error)})"
    if found != device:
        raise UserError(f"--device={device}: JAX finds none here{why}; leave it out, or use cpu")


def leads_others() -> bool:
    """Whether this is process 0 of several, the coordinator of the others."""
    return jax.process_count() > 1 and jax.process_index() == 0


def all_devices() -> Mesh:
    """Returns the mesh of all devices of all processes, with one axis."""
    return jax.make_mesh((jax.device_count(),), (AXIS,), axis_types=(AxisType.Auto,))


def everywhere(mesh: Mesh) -> NamedSharding:
    """Returns the sharding of arrays that are replicated on every device."""
    return NamedSharding(mesh, P())


def replicate(tree: Tree, mesh: Mesh) -> Tree:
    """Copies a tree of host or local arrays to every device of the mesh.

    The result shares no buffer with the input, and may therefore be donated.
    """
    return _put(tree, everywhere(mesh))


def split_rows(tree: Tree, mesh: Mesh) -> Tree:
    """Makes global arrays of the rows (leading axis, NumPy) that each process has."""
    sharding = NamedSharding(mesh, P(AXIS))
    return jax.tree.map(partial(jax.make_array_from_process_local_data, sharding), tree)


def split(tree: Tree, mesh: Mesh) -> Tree:
    """Splits NumPy arrays, equal in every process, over the mesh by their leading axis."""
    return _put(tree, NamedSharding(mesh, P(AXIS)))


def _put(tree: Tree, sharding: NamedSharding) -> Tree:
    def put(leaf: Any) -> jax.Array:
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index].copy())

    return jax.tree.map(put, tree)


def gather(array: jax.Array) -> np.ndarray:
    """Copies a global array, split over the mesh or replicated, to every host."""
    if jax.process_count() == 1:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def map_step(step: Callable, mesh: Mesh, kind: str = "shard_map") -> Callable:
    """Maps step(state, rows, key) -> (state, metrics) over the devices of the mesh.

    State and key are replicated, rows are split along their leading axis. The results must be equal
    on all devices (`lax.pmean`) and are replicated. The state is donated.

    Args:
      step: for one device, with the axis `AXIS`.
      mesh: of one axis.
      kind: "shard_map", or "pmap": its results are on the devices of this process, and it takes
        them, or arrays on the devices of all.
    """
    if kind == "pmap":
        return _pmap(step, mesh)
    # check_vma=False keeps the meaning of pmap: with True, the gradient of replicated parameters
    # is already a sum over devices, and a pmean of it is too large by their number
    specs = {"in_specs": (P(), P(AXIS), P()), "out_specs": (P(), P())}
    return jax.jit(jax.shard_map(step, mesh=mesh, check_vma=False, **specs), donate_argnums=0)


def _pmap(step: Callable, mesh: Mesh) -> Callable:
    devices = list(mesh.devices.flat)
    ours = [device for device in devices if device.process_index == jax.process_index()]
    sharding = NamedSharding(Mesh(np.array(ours), (AXIS,)), P(AXIS))
    axes = {"in_axes": (None, 0, None), "out_axes": (None, None)}
    mapped = jax.pmap(step, AXIS, devices=devices, donate_argnums=0, **axes)

    def stack(rows: jax.Array) -> jax.Array:
        if len(ours) == len(devices):
            return rows.reshape(len(devices), -1, *rows.shape[1:])
        parts = {shard.device: shard.data[None] for shard in rows.addressable_shards}
        pieces = [parts[device] for device in ours]
        shape = len(ours), *pieces[0].shape[1:]
        return jax.make_array_from_single_device_arrays(shape, sharding, pieces)

    def run(state: Tree, rows: Tree, key: jax.Array) -> tuple[Tree, Tree]:
        return mapped(state, jax.tree.map(stack, rows), key)

    return run
