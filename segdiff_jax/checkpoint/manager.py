"""What is kept of a run: the state of training, written whole and read as it was written.

A checkpoint has two parts, so that evaluation reads only what it needs: "ema", the weights that
answer, and "training", the rest of what changes. A third holds the checksums of their arrays.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from absl import logging
from jax.experimental import multihost_utils

from segdiff_jax.checkpoint import checksums, trust
from segdiff_jax.checkpoint.run_config import check_evaluation as check_evaluation
from segdiff_jax.checkpoint.run_config import check_resume as check_resume
from segdiff_jax.checkpoint.run_config import read_config as read_config
from segdiff_jax.checkpoint.run_config import write_config as write_config
from segdiff_jax.errors import BAD_CHECKPOINT, INTERNAL, UserError
from segdiff_jax.runtime.files import reporting_write_errors

Tree = Any


POLICIES = ocp.checkpoint_managers


@contextmanager
def without_warnings() -> Iterator[None]:
    """Within it, absl logs errors only."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


def _write_arrays_in_one_piece() -> None:
    """Lets the first copy of an array be written, where orbax would take a share of each.

    The state is the same on all devices. Orbax compiles a slicing for every shape and device, at
    the first save: seconds, or a minute, of the few that a machine has which is taken away.
    """
    handler = ocp.type_handlers.ArrayHandler(use_replica_parallel=False)
    with without_warnings():  # that a handler is replaced is one to orbax
        ocp.type_handlers.register_type_handler(jax.Array, handler, override=True)


_write_arrays_in_one_piece()


class CorruptCheckpointError(Exception):
    """A checkpoint is not what was written; the message says in what."""


class Checkpoints:
    """The checkpoints of one work directory, written while training goes on.

    The latest two are kept, and the best by `metric` of those that were given scores. Trouble with
    writing that comes up in the background is raised by the next call of `check`, `save` or
    `close`.
    """

    def __init__(self, workdir: Path, metric: str = "dice", *, writes: bool = True) -> None:
        """Looks at what there is.

        Args:
          workdir: of the run.
          metric: that says which is the best.
          writes: False leaves the directory alone, which another process may be writing to.

        Raises:
          UserError: the directory cannot be written to, or holds what no training writes.
        """

        def score(scores: dict[str, float]) -> float:
            return scores[metric]

        # best_fn with a count of checkpoints would drop the newest; only policies keep both
        best = POLICIES.BestN(
            get_metric_fn=score, reverse=False, n=1, keep_checkpoints_without_metrics=False
        )
        options = ocp.CheckpointManagerOptions(
            best_fn=score,
            best_mode="max",
            create=writes,
            cleanup_tmp_directories=writes,
            preservation_policy=POLICIES.AnyPreservationPolicy([POLICIES.LatestN(2), best]),
        )
        self.directory = workdir.absolute() / "checkpoints"
        self._unchecked = False  # whether a save may have failed since somebody looked
        trust.check_checkpoints(self.directory)
        with reporting_write_errors(self.directory):
            self.manager = ocp.CheckpointManager(self.directory, options=options)

    def save(self, step: int, ema: Tree, training: Tree, scores: dict[str, float] | None) -> None:
        """Starts to write a checkpoint; what is passed may be changed as soon as this returns.

        Args:
          step: updates made.
          ema: parameters.
          training: all else that changes.
          scores: on the validation split, if it was evaluated at this step.

        Raises:
          UserError: a value is not finite; this save or the one before cannot be written; or the
            manager refused, because the directory holds this or a later step.
        """
        parts = {"ema": ema, "training": training}
        try:
            sums = {name: checksums.of(part, finite=True) for name, part in parts.items()}
        except checksums.NotFiniteError as error:
            raise UserError(
                f"after update {step} {error} is not finite and nothing is saved; "
                f"{self.last_good()}; a smaller train.learning_rate may help",
                INTERNAL,
            ) from error
        items = ocp.args.Composite(
            ema=ocp.args.StandardSave(ema),
            training=ocp.args.StandardSave(training),
            checksums=ocp.args.JsonSave(sums),
        )
        with reporting_write_errors(self.directory):
            accepted = self.manager.save(step, args=items, metrics=scores, force=True)
        self._unchecked = True
        if not accepted:
            raise UserError(
                f"{self.directory} refused checkpoint {step}; it holds {self.manager.all_steps()}",
                BAD_CHECKPOINT,
            )

    def check(self) -> None:
        """Looks whether the last save went well, if it is over; costs nothing.

        Raises:
          UserError: it could not be written.
        """
        if self._unchecked and not self.manager.is_saving_in_progress():
            self.finish()

    def finish(self) -> None:
        """Waits until everything is written; raises as `check` does."""
        self._unchecked = False
        with reporting_write_errors(self.directory):
            self.manager.wait_until_finished()

    def last_good(self) -> str:
        """Says which checkpoint a run would go on from; waits until everything is written."""
        self.finish()
        step = self.manager.latest_step()
        if step is None:
            return "nothing was saved before"
        return f"the last good checkpoint is {self.directory / str(step)}"

    def latest(self) -> int:
        """Returns how many updates the latest checkpoint has seen; 0 if there is none."""
        return next(iter(self._steps("last")), 0)

    def restore(self, like: tuple[Tree, Tree]) -> tuple[Tree, Tree] | None:
        """Returns (ema, training) of the latest good checkpoint, or None if there is none yet.

        A damaged one is renamed to <step>.corrupt-<n> and the one before is taken; nothing is
        deleted, and training never starts anew because of damage.

        Args:
          like: the same two as `jax.ShapeDtypeStruct`s with shardings.

        Raises:
          UserError: the checkpoint is of another model, or all are damaged.
        """
        for step in sorted(self.manager.all_steps(), reverse=True):
            try:
                found = self._read(step, ema=like[0], training=like[1])
                return found["ema"], found["training"]
            except CorruptCheckpointError as error:
                self._quarantine(step, error)
        if aside := sorted(path.name for path in self.directory.glob("*.corrupt-*")):
            raise UserError(
                f"{self.directory} holds only damaged checkpoints ({', '.join(aside)}): restore "
                "one of them from a backup, or start anew in another workdir",
                BAD_CHECKPOINT,
            )
        return None

    def restore_ema(self, like: Tree, which: str) -> tuple[int, Tree]:
        """Returns (step, weights) of the "last" or "best" checkpoint, the one before if damaged.

        Raises:
          UserError: there is none, or it is of another model.
        """
        tried: set[int] = set()
        while steps := [step for step in self._steps(which) if step not in tried]:
            try:
                return steps[0], self._read(steps[0], ema=like)["ema"]
            except CorruptCheckpointError as error:
                tried.add(steps[0])
                if (path := self.directory / str(steps[0])).exists():
                    logging.error("%s is damaged: %s", path, error)
                else:  # a training that goes on keeps only the latest
                    self.manager.reload()
        raise UserError(f"{self.directory} holds no {which} checkpoint", BAD_CHECKPOINT)

    def _steps(self, which: str) -> list[int]:
        """Returns the "last" steps, the latest first, or the "best", if there is one."""
        if which == "last":
            return sorted(self.manager.all_steps(), reverse=True)
        best = self.manager.best_step()
        return [] if best is None else [best]

    def close(self) -> None:
        """Waits until everything is written, which may raise as `check` does."""
        with reporting_write_errors(self.directory):
            self.manager.close()

    def _read(self, step: int, **like: Tree) -> dict[str, Tree]:
        """Returns the named parts of a checkpoint, as they were written.

        Raises:
          UserError: it is of another model.
          DamagedError: it cannot be read, or holds other values than were written.
        """
        path = self.directory / str(step)
        sums = self._sums(step)
        for name, tree in like.items():
            if sums and not checksums.same_shapes(sums[name], tree):
                raise UserError(f"checkpoint {path} is of another model", BAD_CHECKPOINT)
        args = {name: ocp.args.StandardRestore(tree) for name, tree in like.items()}
        try:
            found = dict(self.manager.restore(step, args=ocp.args.Composite(**args)).items())
        except Exception as error:  # orbax raises nearly anything on a damaged file
            parts = all((path / name).is_dir() for name in like)
            if sums is None and parts and isinstance(error, ValueError | KeyError):
                # it may be that of another model, which without checksums cannot be told
                message = f"cannot restore {path}: {_reason(error)}"
                raise UserError(message, BAD_CHECKPOINT) from error
            raise CorruptCheckpointError(_reason(error)) from error
        if sums is None:
            logging.warning("%s was written without checksums: not verified", path)
            return found
        for name, tree in found.items():
            if bad := checksums.differing(sums[name], tree):
                raise CorruptCheckpointError(
                    f"{len(bad)} arrays are not what was written: {name}{bad[0]}"
                )
        return found

    def _sums(self, step: int) -> dict[str, checksums.Sums] | None:
        if not (self.directory / str(step) / "checksums").is_dir():
            return None
        args = ocp.args.Composite(checksums=ocp.args.JsonRestore())
        try:
            sums = self.manager.restore(step, args=args)["checksums"]
            return {"ema": sums["ema"], "training": sums["training"]}
        except Exception as error:
            raise CorruptCheckpointError(_reason(error)) from error

    def _quarantine(self, step: int, error: CorruptCheckpointError) -> None:
        path = self.directory / str(step)
        n = 1 + len(list(self.directory.glob(f"{step}.corrupt-*")))
        aside = self.directory / f"{step}.corrupt-{n}"
        if jax.process_index() == 0:
            path.rename(aside)
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("a checkpoint is set aside")
        logging.error("%s is damaged (%s): renamed to %s", path, error, aside.name)
        self.manager.reload()  # or it would refuse to save steps up to this one


def _reason(error: Exception) -> str:
    """Returns the start of what orbax says, which may be pages."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]


def abstract(tree: Tree, sharding: jax.sharding.Sharding) -> Tree:
    """Returns the shapes of a tree, to be restored with the given sharding."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
