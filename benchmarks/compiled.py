"""What an update takes of a TPU's memory, and says to other TPUs: compiled for one, without one.

  pip install "jax[tpu]"        its compiler, libtpu, runs on any x86-64 Linux
  python -m benchmarks.compiled --config=MoNuSeg --dtype=bfloat16 --remat=all --batch=1

  --config=NAME     MoNuSeg, Vaihingen, Cityscapes or reduced
  --dtype, --remat  model.dtype and model.remat; float32 and none if not given
  --batch=N         images of each core; 1 if not given
  --topology=NAME   of the slice, v5e:2x2 if not given; a core of it has 16 GB, one of v3:2x2 too
  --cores=N         how many of its cores take part; 1 if not given
  --help            this text

Prints one line of JSON; memory in bytes of one core. Compiling takes minutes to an hour.
"""

import argparse
import json
import os
import re
import sys
import time
from functools import partial
from typing import Any

from ml_collections import ConfigDict

from benchmarks import options
from benchmarks.network_input import side_of
from segdiff_jax.cli import app
from segdiff_jax.errors import UserError

# libtpu looks for a machine with TPUs unless it is told that there is none
NO_MACHINE = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


def parse(words: list[str]) -> argparse.Namespace:
    """Reads a command line.

    Raises:
      UserError: anything that is misspelt.
    """
    parser = options.of_an_update()
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--cores", type=int, default=1)
    return options.read(parser, words)


def config_of(values: argparse.Namespace) -> ConfigDict:
    """Returns the config that is asked for.

    Raises:
      UserError: there is none of that name.
    """
    from benchmarks import ours, reduced, shapes

    configs = shapes.CONFIGS | {"reduced": reduced.get_config}
    if values.config not in configs:
        raise UserError(f"--config={values.config}: must be one of {', '.join(configs)}")
    knobs = {"model__dtype": values.dtype, "model__remat": values.remat}
    return ours.changed(configs[values.config](), **knobs)


def compiled(config: ConfigDict, topology: str, cores: int, batch: int) -> Any:
    """Returns the update of a config as TPU cores would run it.

    Args:
      config: one of ours.
      topology: of the slice.
      cores: how many of it take part.
      batch: images of each.

    Raises:
      UserError: libtpu is not installed, or there is no such topology.
    """
    import jax
    import jax.numpy as jnp
    import numpy as np
    from jax.experimental import topologies
    from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

    from segdiff_jax.data.example import Batch
    from segdiff_jax.factory import training
    from segdiff_jax.runtime.distributed import AXIS
    from segdiff_jax.training import flat_state
    from segdiff_jax.training.step import init_state

    try:
        there = topologies.get_topology_desc(topology_name=topology, platform="tpu").devices
    except Exception as error:  # jax raises nearly anything
        said = str(error).splitlines()[0]
        raise UserError(f'--topology={topology}: {said}; pip install "jax[tpu]"') from error
    mesh = Mesh(np.array(there[:cores]), (AXIS,), axis_types=(AxisType.Auto,))

    def placed(tree: Any, *spec: str) -> Any:
        sharding = NamedSharding(mesh, PartitionSpec(*spec))
        return jax.tree.map(
            lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree
        )

    side, rows = side_of(config), cores * batch
    objective, optimizer = training.objective(config), training.optimizer(config)
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(partial(init_state, objective, optimizer, (side, side)), key)
    shapes = (rows, side, side, 3), (rows, side, side)
    pixels: list[Any] = [jax.ShapeDtypeStruct(shape, jnp.uint8) for shape in shapes]
    layout = flat_state.FlatLayout(state.params)
    state = jax.eval_shape(layout.flatten_state, state)
    program = training.build_step(config, mesh, layout)
    return program.lower(placed(state), placed(Batch(*pixels), AXIS), placed(key)).compile()


def describe(program: Any) -> dict[str, Any]:
    """Returns what is known of a compiled program; bytes of one core."""
    memory = program.memory_analysis()
    reductions = re.findall(r"= .* all-reduce(?:-start)?\(", program.as_text())
    return {
        "at most at once": memory.peak_memory_in_bytes,
        "arguments": memory.argument_size_in_bytes,  # the state, in place of which the next lies
        "temporary": memory.temp_size_in_bytes,
        "program": memory.generated_code_size_in_bytes,
        "all-reduces": len(reductions),
    }


def main(words: list[str]) -> int:
    """Runs a command line and returns its exit code."""

    def obey(words: list[str]) -> None:
        values = parse(words)
        os.environ.update({k: os.environ.get(k, v) for k, v in NO_MACHINE.items()})
        from benchmarks.backend import as_on_a_tpu

        config, began = config_of(values), time.monotonic()
        with as_on_a_tpu():
            program = compiled(config, values.topology, values.cores, values.batch)
        seconds = round(time.monotonic() - began, 1)
        print(json.dumps(vars(values) | describe(program) | {"seconds": seconds}), flush=True)

    return app.run(obey, words, __doc__, "choose a smaller batch")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
