"""Imports weights of the authors' PyTorch code as a run, and exports a run's weights to it.

    segdiff import --weights=FILE.pt --config=configs/monuseg.py --workdir=DIR
    segdiff export --export=FILE.pt --workdir=DIR

`python -m segdiff_jax.import_torch` does either, as its flags ask for (see `cli.import_args`). jax
is imported only once the command line and the file are known to be usable: that takes seconds.
"""

import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from absl import logging
from ml_collections import ConfigDict

from segdiff_jax.cli import app, import_args
from segdiff_jax.cli.import_args import Export, Import
from segdiff_jax.errors import BAD_CHECKPOINT, UserError
from segdiff_jax.torch_weights import names

LESS_MEMORY = "use a machine that has more"
AUTHORS = (  # fixed values of the authors' code, some of which leave no trace in the weights
    *(("model", "kind", "diffusion"), ("model", "conditioning", "sum")),
    *(("model", "encoder", "rrdb"), ("model", "time_embedding", "sinusoidal")),
    *(("model", "heads", 4), ("model", "norm_groups", 32)),
    *(("model", "rrdb_features", 64), ("model", "rrdb_growth", 32)),
    *(("diffusion", "prediction", "eps"), ("diffusion", "schedule", "linear")),
)


def main(argv: list[str], mode: str = "") -> int:
    """Runs a command line and returns its exit code.

    Args:
      argv: arguments without the name of the program.
      mode: "import", "export", or "": the flags decide.
    """
    program = partial(run_command, mode=mode)
    return app.run(program, argv, import_args.HELPS[mode], LESS_MEMORY)


def run_command(argv: list[str], mode: str = "") -> None:
    """Parses a command line and runs it."""
    command = import_args.parse(argv, mode)
    app.set_up_logging()
    if isinstance(command, Import):
        import_weights(command)
    else:
        export_weights(command)


def import_weights(command: Import) -> None:
    """Writes a run whose weights, both averaged and current, are those of a file.

    Raises:
      UserError: the file is unusable, or holds another network.
    """
    from segdiff_jax.torch_weights import matching, pt_reader

    found = pt_reader.read_tensors(command.weights)  # before jax, which takes seconds to import
    modules = names.modules(_shape(command.config))
    wanted = names.to_theirs(_placeholders(command.config), modules)
    theirs = matching.match(command.weights, found, wanted)
    _warn_of_differences(command.config)
    _write_run(command, names.to_ours(theirs, modules))
    count = sum(array.size for array in theirs.values())
    logging.info("%s: %d parameters, update %d", command.workdir, count, command.step)


def export_weights(command: Export) -> None:
    """Writes the averaged weights of a run with the authors' names and layouts.

    Raises:
      UserError: the run has no checkpoint, or a network that the authors' code does not have.
    """
    import numpy as np
    from flax import traverse_util

    from segdiff_jax import trained_run
    from segdiff_jax.checkpoint import run_config
    from segdiff_jax.runtime import distributed
    from segdiff_jax.torch_weights import pt_writer

    config = run_config.read_config(command.workdir)
    step, params = trained_run.restore_ema(config, command.workdir, distributed.all_devices())
    ours = {path: np.asarray(x) for path, x in traverse_util.flatten_dict(params, sep="/").items()}
    theirs = names.to_theirs(ours, names.modules(_shape(config)))
    if foreign := [f"+ {name} {theirs[name].shape}" for name in theirs.keys() & ours.keys()]:
        message = f"{command.workdir}: the authors' code has no network with the lines above"
        raise UserError(message, BAD_CHECKPOINT, sorted(foreign))
    _warn_of_differences(config)
    pt_writer.write_tensors(command.file, theirs)
    logging.info("%s: %d tensors, update %d", command.file, len(theirs), step)


def _shape(config: ConfigDict) -> names.Shape:
    c = config.model
    levels = len(c.multipliers)
    return names.Shape(levels, c.blocks_per_level, c.attention_factors, c.rrdb_blocks)


def _placeholders(config: ConfigDict) -> dict[str, Any]:
    """Returns arrays of the shapes of the parameters, by path; they take no memory."""
    import numpy as np
    from flax import traverse_util

    from segdiff_jax.factory import networks

    flat = traverse_util.flatten_dict(networks.parameter_shapes(config), sep="/")
    shapes = cast(dict[str, Any], flat)
    return {path: np.broadcast_to(np.float32(0), leaf.shape) for path, leaf in shapes.items()}


def _warn_of_differences(config: ConfigDict) -> None:
    """Logs each setting that the authors' code has otherwise."""
    for group, key, theirs in AUTHORS:
        if (here := config[group][key]) != theirs:
            logging.warning(
                "config.%s.%s=%r: in the authors' code it is %r unless someone changed it, and the "
                "same weights give other predictions there",
                *(group, key, here, theirs),
            )


def _write_run(command: Import, weights: Mapping[str, Any]) -> None:
    """Writes the files of a run: the checkpoint, then config.json, which makes it a run."""
    import jax
    import jax.numpy as jnp
    from flax import traverse_util

    from segdiff_jax.checkpoint import manager, run_config
    from segdiff_jax.factory import training
    from segdiff_jax.runtime import own_files
    from segdiff_jax.training import step

    workdir, updates = command.workdir, jnp.asarray(command.step, jnp.int32)
    params = jax.tree.map(jnp.asarray, traverse_util.unflatten_dict(dict(weights), sep="/"))
    state = step.TrainState(
        updates, params, params, training.optimizer(command.config).init(params)
    )
    own_files.check(workdir, ["config.json"], ["checkpoints"])
    workdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=workdir, prefix=".importing-") as unfinished:
        checkpoints = manager.Checkpoints(Path(unfinished))
        checkpoints.save(command.step, *step.split_state(state), None)
        checkpoints.close()
        checkpoints.directory.rename(workdir / "checkpoints")
    run_config.write_config(command.config, workdir)


if __name__ == "__main__":
    app.start(main)
