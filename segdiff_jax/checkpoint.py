"""What is kept of a run: the state of training, and the config beside it.

A checkpoint has two parts, so that evaluation reads only what it needs: "ema", the weights that
answer, and "training", the rest of what changes.
"""

import json
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from ml_collections import ConfigDict

from segdiff_jax.config import default, flatten
from segdiff_jax.errors import BAD_CHECKPOINT, UserError

Tree = Any
POLICIES = ocp.checkpoint_managers


class Checkpoints:
    """The checkpoints of one work directory, written while training goes on.

    The latest two are kept, and the best by `metric` of those that were given scores.
    """

    def __init__(self, workdir: Path, metric: str = "dice") -> None:
        def score(scores: dict[str, float]) -> float:
            return scores[metric]

        # best_fn with a count of checkpoints would drop the newest; only policies keep both
        best = POLICIES.BestN(
            get_metric_fn=score, reverse=False, n=1, keep_checkpoints_without_metrics=False
        )
        options = ocp.CheckpointManagerOptions(
            best_fn=score,
            best_mode="max",
            cleanup_tmp_directories=True,
            preservation_policy=POLICIES.AnyPreservationPolicy([POLICIES.LatestN(2), best]),
        )
        self.directory = workdir.absolute() / "checkpoints"
        self.manager = ocp.CheckpointManager(self.directory, options=options)

    def save(self, step: int, ema: Tree, training: Tree, scores: dict[str, float] | None) -> None:
        """Starts to write a checkpoint; what is passed may be changed as soon as this returns.

        Args:
          step: updates made.
          ema: parameters.
          training: all else that changes.
          scores: on the validation split, if it was evaluated at this step.

        Raises:
          UserError: the manager refused, because the directory holds this or a later step.
        """
        items = ocp.args.Composite(
            ema=ocp.args.StandardSave(ema), training=ocp.args.StandardSave(training)
        )
        if not self.manager.save(step, args=items, metrics=scores, force=True):
            raise UserError(
                f"{self.directory} refused checkpoint {step}; it holds {self.manager.all_steps()}",
                BAD_CHECKPOINT,
            )

    def restore(self, like: tuple[Tree, Tree]) -> tuple[Tree, Tree] | None:
        """Returns (ema, training) of the latest checkpoint, or None if there is none yet.

        Args:
          like: the same two as `jax.ShapeDtypeStruct`s with shardings.

        Raises:
          UserError: the checkpoint is of another model.
        """
        step = self.manager.latest_step()
        if step is None:
            return None
        found = self._read(step, ema=like[0], training=like[1])
        return found.ema, found.training

    def restore_ema(self, like: Tree, which: str) -> tuple[int, Tree]:
        """Returns (step, weights) of the "last" or "best" checkpoint.

        Raises:
          UserError: there is none, or it is of another model.
        """
        last, best = self.manager.latest_step(), self.manager.best_step()
        step = last if which == "last" else best
        if step is None:
            raise UserError(f"{self.directory} holds no {which} checkpoint", BAD_CHECKPOINT)
        return step, self._read(step, ema=like).ema

    def close(self) -> None:
        """Waits until everything is written."""
        self.manager.close()

    def _read(self, step: int, **like: Tree) -> Any:
        args = {name: ocp.args.StandardRestore(tree) for name, tree in like.items()}
        try:
            return self.manager.restore(step, args=ocp.args.Composite(**args))
        except (ValueError, KeyError, FileNotFoundError) as error:
            reason = str(error).strip().splitlines()[0]
            message = f"cannot restore {self.directory / str(step)}: {reason}"
            raise UserError(message, BAD_CHECKPOINT) from error


def abstract(tree: Tree, sharding: jax.sharding.Sharding) -> Tree:
    """Returns the shapes of a tree, to be restored with the given sharding."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)


# keys that may differ between the start of a run and its continuation
FREE = ("train.steps", "train.log_every", "train.checkpoint_every", "train.evaluate_every")
FREE_GROUPS = (
    *("sampling", "reading", "cityscapes.test_expansion"),
    *("data.dir", "data.prepared_dir", "train.map", "train.result"),
)


def write_config(config: ConfigDict, workdir: Path) -> None:
    """Writes `config.json`, or holds a continued run to what it began with.

    Raises:
      UserError: the directory belongs to a run with other settings; both are named.
    """
    path = workdir / "config.json"
    if path.exists():
        saved, given = flatten(read_config(workdir)), flatten(config)
        differ = [
            f"{key} was {saved.get(key)}, now {given.get(key)}"
            for key in sorted(saved.keys() | given.keys())
            if saved.get(key) != given.get(key) and not key.startswith((*FREE, *FREE_GROUPS))
        ]
        if differ:
            raise UserError(
                f"{workdir} holds a run with other settings ({'; '.join(differ)}): "
                "choose another workdir, or the settings it began with",
                BAD_CHECKPOINT,
            )
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(config.to_dict(), indent=2) + "\n")
    temporary.replace(path)


def read_config(workdir: Path) -> ConfigDict:
    """Returns the config of a run; what it does not say is as in `config.default`.

    Raises:
      UserError: the directory holds no run, or its config cannot be read.
    """
    path = workdir / "config.json"
    try:
        loaded = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not the config of a run: {error}", BAD_CHECKPOINT) from error
    return ConfigDict(_merged(default().to_dict(), _tuples(loaded)))


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Returns `old` with the values of `new`, group by group: what `new` lacks stays."""
    merged = old | new
    for key, value in old.items():
        if isinstance(value, dict) and isinstance(new.get(key), dict):
            merged[key] = _merged(value, new[key])
    return merged


def _tuples(value: Any) -> Any:
    """JSON has only lists; every sequence of a config is a tuple."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
