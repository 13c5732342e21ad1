"""SegDiff: brings weights of the authors' PyTorch code here, and back.

  python -m segdiff_jax.import_torch --weights=FILE.pt --config=configs/monuseg.py --workdir=DIR
  python -m segdiff_jax.import_torch --export=FILE.pt --workdir=DIR

  --weights=FILE.pt          a checkpoint of theirs such as ema_0.9999_060000.pt; it is read without
                             PyTorch, and nothing in it is run
  --config=FILE[:ARGUMENT]   of the network that was trained; --config.GROUP.KEY=VALUE sets a knob.
                             Their args.json says what it was: model.rrdb_blocks, diffusion.T, ...
  --workdir=DIR              becomes a run, which predict and main --mode=evaluate accept. Training
                             it goes on from these weights, with a fresh state of the optimizer
  --step=N                   updates the weights have seen; if not given, the number that ends the
                             name of the file, _060000.pt or model060000.pt; 0 if there is none
  --export=FILE.pt           writes the averaged weights of the run in DIR with the authors' names.
                             Their scripts want the updates in the name: ema_0.9999_060000.pt
  --help                     this text

Exit codes: 0 done; 64 bad command line or config; 65 the file is unusable; 66 it is of another
network, or the run has no checkpoint; 70 a bug; 74 cannot write.
"""

import sys
import tempfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, cast

from absl import logging
from ml_collections import ConfigDict

from segdiff_jax.cli import app
from segdiff_jax.cli.import_args import Export, Import, parse
from segdiff_jax.errors import BAD_CHECKPOINT, UserError
from segdiff_jax.torch_weights import names

# what their code has; of some of it the weights tell nothing
AUTHORS = (
    *(("model", "kind", "diffusion"), ("model", "conditioning", "sum")),
    *(("model", "encoder", "rrdb"), ("model", "time_embedding", "sinusoidal")),
    *(("model", "heads", 4), ("model", "norm_groups", 32)),
    *(("model", "rrdb_features", 64), ("model", "rrdb_growth", 32)),
    *(("diffusion", "prediction", "eps"), ("diffusion", "schedule", "linear")),
)


def main(arguments: list[str]) -> int:
    """Runs a command line and returns its exit code; mistakes of the user's take one line.

    Args:
      arguments: the words after the name of the programme.
    """
    return app.run(_main, arguments, __doc__, "it takes a machine that has more")


def _main(arguments: list[str]) -> None:
    command = parse(arguments)
    app.set_up_logging()
    if isinstance(command, Import):
        import_weights(command)
    else:
        export_weights(command)


def import_weights(command: Import) -> None:
    """Makes a run whose weights, averaged and not, are those of a file.

    Raises:
      UserError: the file is unusable, or of another network.
    """
    from segdiff_jax.torch_weights import matching, pt_reader

    found = pt_reader.read_tensors(command.weights)  # before jax, which takes seconds to import
    modules = names.modules(_shape(command.config))
    wanted = names.to_theirs(_placeholders(command.config), modules)
    theirs = matching.match(command.weights, found, wanted)
    _caution(command.config)
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
    _caution(config)
    pt_writer.write_tensors(command.file, theirs)
    logging.info("%s: %d tensors, update %d", command.file, len(theirs), step)


def _shape(config: ConfigDict) -> names.Shape:
    c = config.model
    levels = len(c.multipliers)
    return names.Shape(levels, c.blocks_per_level, c.attention_factors, c.rrdb_blocks)


def _placeholders(config: ConfigDict) -> dict[str, Any]:
    """Returns arrays of the shapes of our parameters, by path, that take no memory."""
    import jax
    import numpy as np
    from flax import traverse_util

    from segdiff_jax.factory import networks, training
    from segdiff_jax.training import step

    side = networks.multiple(config)  # the smallest input there is
    begin = partial(
        step.init_state, training.objective(config), training.optimizer(config), (side, side)
    )
    params = jax.eval_shape(begin, jax.random.key(0)).params
    shapes = cast(dict[str, Any], traverse_util.flatten_dict(params, sep="/"))
    return {path: np.broadcast_to(np.float32(0), leaf.shape) for path, leaf in shapes.items()}


def _caution(config: ConfigDict) -> None:
    for group, key, theirs in AUTHORS:
        if (here := config[group][key]) != theirs:
            logging.warning(
                "config.%s.%s=%r: in the authors' code it is %r unless someone changed it, and the "
                "same weights answer otherwise there",
                *(group, key, here, theirs),
            )


def _write_run(command: Import, weights: Mapping[str, Any]) -> None:
    """Writes what training would have left behind; config.json, which makes it a run, last."""
    import jax
    import jax.numpy as jnp
    from flax import traverse_util

    from segdiff_jax.checkpoint import manager, run_config
    from segdiff_jax.factory import training
    from segdiff_jax.training import step

    workdir, updates = command.workdir, jnp.asarray(command.step, jnp.int32)
    params = jax.tree.map(jnp.asarray, traverse_util.unflatten_dict(dict(weights), sep="/"))
    state = step.TrainState(
        updates, params, params, training.optimizer(command.config).init(params)
    )
    workdir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=workdir, prefix=".importing-") as unfinished:
        checkpoints = manager.Checkpoints(Path(unfinished))
        checkpoints.save(command.step, *step.split_state(state), None)
        checkpoints.close()
        checkpoints.directory.rename(workdir / "checkpoints")
    run_config.write_config(command.config, workdir)


def run() -> None:
    """The console script."""
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    run()
