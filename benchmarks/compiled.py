"""Compiles a training step for TPUs on a machine without one; prints its memory and collectives.

  pip install "jax[tpu]"        its compiler, libtpu, runs on any x86-64 Linux
  python -m benchmarks.compiled --config=MoNuSeg --dtype=bfloat16 --remat=all --batch=1

  --config=NAME     MoNuSeg, Vaihingen, Cityscapes or reduced
  --dtype, --remat  model.dtype and model.remat; default float32 and none
  --batch=N         images of each core; default 1
  --topology=NAME   of the slice, default v5e:2x2; its cores have 16 GB, as those of v3:2x2
  --cores=N         the number of its cores that take part; default 1
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

# these keep libtpu from searching for a machine with TPUs
NO_MACHINE = {
    "JAX_PLATFORMS": "cpu",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-8",
    "TPU_WORKER_HOSTNAMES": "localhost",
}


def parse(arguments: list[str]) -> argparse.Namespace:
    """Reads a command line.

    Raises:
      UserError: anything that is misspelt.
    """
    parser = options.step_parser()
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--topology", default="v5e:2x2")
    parser.add_argument("--cores", type=int, default=1)
    return options.read(parser, arguments)


def config_of(values: argparse.Namespace) -> ConfigDict:
    """Returns the config of a command line.

    Raises:
      UserError: there is no config of this name.
    """
    from benchmarks import ours, reduced, shapes

    configs = shapes.CONFIGS | {"reduced": reduced.get_config}
    if values.config not in configs:
        raise UserError(f"--config={values.config}: must be one of {', '.join(configs)}")
    fields = {"model__dtype": values.dtype, "model__remat": values.remat}
    return ours.changed(configs[values.config](), **fields)


def compiled(config: ConfigDict, topology: str, cores: int, batch: int) -> Any:
    """Compiles the training step of a config for the cores of a TPU.

    Args:
      config: of the training.
      topology: of the slice.
      cores: the number of its cores that take part.
      batch: images of each core.

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
        devices = topologies.get_topology_desc(topology_name=topology, platform="tpu").devices
    except Exception as error:  # jax raises nearly anything
        reason = str(error).splitlines()[0]
        raise UserError(f'--topology={topology}: {reason}; pip install "jax[tpu]"') from error
    mesh = Mesh(np.array(devices[:cores]), (AXIS,), axis_types=(AxisType.Auto,))

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
    """Returns the memory, in bytes of one core, and the all-reduces of a compiled program."""
    memory = program.memory_analysis()
    reductions = re.findall(r"= .* all-reduce(?:-start)?\(", program.as_text())
    return {
        "at most at once": memory.peak_memory_in_bytes,
        "arguments": memory.argument_size_in_bytes,  # the state, whose memory the next state reuses
        "temporary": memory.temp_size_in_bytes,
        "program": memory.generated_code_size_in_bytes,
        "all-reduces": len(reductions),
    }


def main(arguments: list[str]) -> int:
    """Runs a command line and returns its exit code."""

    def run(arguments: list[str]) -> None:
        values = parse(arguments)
        os.environ.update({k: os.environ.get(k, v) for k, v in NO_MACHINE.items()})
        from benchmarks.backend import as_on_a_tpu

        config, start = config_of(values), time.monotonic()
        with as_on_a_tpu():
            program = compiled(config, values.topology, values.cores, values.batch)
        seconds = round(time.monotonic() - start, 1)
        print(json.dumps(vars(values) | describe(program) | {"seconds": seconds}), flush=True)

    return app.run(run, arguments, __doc__, "choose a smaller batch")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
