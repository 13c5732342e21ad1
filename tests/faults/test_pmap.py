"""pmap over two processes takes the steps of shard_map, to the last bit."""

import io
import sys

import pytest

from launch.local import Job, Layout

pytestmark = pytest.mark.fault

# Two steps of each map, whose state depends on the place of every row; prints its bits.
STEPS = """
import sys
import jax, jax.numpy as jnp, numpy as np
host, count, me = (word.split('=')[1] for word in sys.argv[-3:])
jax.distributed.initialize(host, int(count), int(me))
from segdiff_jax.runtime import distributed

def step(state, rows, key):
    place = jax.lax.axis_index(distributed.AXIS) * len(rows) + jnp.arange(len(rows))
    mean = jax.lax.pmean(jnp.mean(jnp.sin(rows * place[:, None]), 0), distributed.AXIS)
    return {'w': state['w'] * 0.7 + mean * jax.random.uniform(key)}, {'mean': mean.sum()}

mesh = distributed.all_devices()
key = jax.jit(lambda: jax.random.key(0), out_shardings=distributed.everywhere(mesh))()
batch = np.random.default_rng(0).random((2 * mesh.size, 3), np.float32)
share = len(batch) // int(count)
for kind in ('shard_map', 'pmap'):
    state = distributed.replicate({'w': np.ones(3, np.float32)}, mesh)
    rows = distributed.split_rows(batch[int(me) * share :][:share], mesh)
    mapped = distributed.map_step(step, mesh, kind)
    for _ in range(2):
        state, metrics = mapped(state, rows, key)
    print(kind, np.asarray(state['w'].addressable_data(0)).tobytes().hex())
"""


def test_pmap_of_two_processes_takes_the_steps_of_shard_map_to_the_last_bit():
    output = io.StringIO()
    job = Job(["word"], Layout(2, 2), output, (sys.executable, "-u", "-c", STEPS))
    assert job.wait() == 0, output.getvalue()
    lines = [line.split() for line in output.getvalue().splitlines() if "map " in line]
    assert sorted(kind for _, kind, _ in lines) == ["pmap", "pmap", "shard_map", "shard_map"]
    assert len({bits for *_, bits in lines}) == 1
