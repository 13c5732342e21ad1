"""Saves and restores the state of a training, asynchronously and with checksums, through Orbax.

A checkpoint has three items: "ema", the averaged weights, which is all that evaluation reads;
"training", the rest of the state; and "checksums", those of the arrays of both.
"""

import operator
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import jax
from absl import logging
from jax.experimental import multihost_utils

from segdiff_jax.checkpoint import checksums, trust
from segdiff_jax.errors import BAD_CHECKPOINT, INTERNAL, UserError
from segdiff_jax.runtime.files import reporting_write_errors

Tree = Any


@contextmanager
def without_warnings() -> Iterator[None]:
    """Raises the level of absl's log to errors during the block."""
    verbosity = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(verbosity)


@cache
def orbax() -> Any:
    """Returns `orbax.checkpoint`, imported at its first use: an exported model needs none.

    It lets Orbax write a replicated array from one copy; by default each device writes a slice. At
    the first save Orbax would compile the slicing, for every shape and device. That takes seconds,
    or a minute, which may exceed the grace period of a preempted machine.
    """
    import orbax.checkpoint as ocp

    handler = ocp.type_handlers.ArrayHandler(use_replica_parallel=False)
    with without_warnings():  # Orbax warns that a handler is replaced
        ocp.type_handlers.register_type_handler(jax.Array, handler, override=True)
    return ocp


class CorruptCheckpointError(Exception):
    """A checkpoint cannot be read, or holds other values than were written."""


class Checkpoints:
    """Holds the checkpoints of one work directory, and writes them while training continues.

    The latest two are kept, and the best by `metric` of those saved with scores. An error of
    writing in the background is raised by the next call of `check`, `save` or `close`.
    """

    def __init__(self, workdir: Path, metric: str = "dice", *, writes: bool = True) -> None:
        """Lists the checkpoints of a work directory.

        Args:
          workdir: of the run.
          metric: the score by which the best is chosen; higher is better.
          writes: False changes nothing in the directory, which another process may write to.

        Raises:
          UserError: the directory cannot be written, or holds what no training writes.
        """
        score, policies = operator.itemgetter(metric), orbax().checkpoint_managers
        # best_fn with max_to_keep may delete the newest; only policies keep both
        best = policies.BestN(
            get_metric_fn=score, reverse=False, n=1, keep_checkpoints_without_metrics=False
        )
        options = orbax().CheckpointManagerOptions(
            best_fn=score,
            best_mode="max",
            create=writes,
            cleanup_tmp_directories=writes,
            preservation_policy=policies.AnyPreservationPolicy([policies.LatestN(2), best]),
        )
        self.directory = workdir.absolute() / "checkpoints"
        self._unchecked = False  # whether a save may have failed since the last check
        trust.check_checkpoints(self.directory, writes=writes)
        with reporting_write_errors(self.directory):
            try:
                self.manager = orbax().CheckpointManager(self.directory, options=options)
            except FileNotFoundError:  # two of its threads removed what a killed process left
                self.manager = orbax().CheckpointManager(self.directory, options=options)

    def save(self, step: int, ema: Tree, training: Tree, scores: dict[str, float] | None) -> None:
        """Starts to write a checkpoint; the arrays may be changed as soon as this returns.

        Args:
          step: training steps taken.
          ema: the averaged parameters.
          training: the rest of the state.
          scores: on the validation split, if it was evaluated at this step.

        Raises:
          UserError: a value is not finite; this save or the one before cannot be written; or the
            directory holds this or a later step.
        """
        parts = {"ema": ema, "training": training}
        try:
            sums = {name: checksums.compute(part, finite=True) for name, part in parts.items()}
        except checksums.NotFiniteError as error:
            raise UserError(
                f"after update {step} {error} is not finite and nothing is saved; "
                f"{self.last_good()}; a smaller train.learning_rate may help",
                INTERNAL,
            ) from error
        items = orbax().args.Composite(
            ema=orbax().args.StandardSave(ema),
            training=orbax().args.StandardSave(training),
            checksums=orbax().args.JsonSave(sums),
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
        """Checks the last save, if it has ended; does not wait.

        Raises:
          UserError: it could not be written.
        """
        if self._unchecked and not self.manager.is_saving_in_progress():
            self.finish()

    def finish(self) -> None:
        """Waits until all saves have ended; raises as `check` does."""
        self._unchecked = False
        with reporting_write_errors(self.directory):
            self.manager.wait_until_finished()

    def last_good(self) -> str:
        """Describes the checkpoint a run would resume from; waits until all saves have ended."""
        self.finish()
        if (step := self.manager.latest_step()) is None:
            return "nothing was saved before"
        return f"the last good checkpoint is {self.directory / str(step)}"

    def latest(self) -> int:
        """Returns the step of the latest checkpoint; 0 if there is none."""
        return next(iter(self._steps("last")), 0)

    def restore(self, like: tuple[Tree, Tree]) -> tuple[Tree, Tree] | None:
        """Returns (ema, training) of the latest undamaged checkpoint, or None if there is none.

        A damaged one is renamed to <step>.corrupt-<n> and the one before is read. Nothing is
        deleted, and damage never lets a training start from its beginning.

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
                "one of them from a backup, or choose another workdir to start from the beginning",
                BAD_CHECKPOINT,
            )
        return None

    def restore_ema(self, like: Tree, which: str) -> tuple[int, Tree]:
        """Returns (step, weights) of the "last" or "best" checkpoint; if damaged, the one before.

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
                else:  # a running training has deleted it
                    self.manager.reload()
        raise UserError(f"{self.directory} holds no {which} checkpoint", BAD_CHECKPOINT)

    def _steps(self, which: str) -> list[int]:
        """Returns all steps, the latest first, for "last"; that of the best, if any, for "best"."""
        if which == "last":
            return sorted(self.manager.all_steps(), reverse=True)
        best = self.manager.best_step()
        return [] if best is None else [best]

    def close(self) -> None:
        """Waits until all saves have ended, and closes the manager; raises as `check` does."""
        with reporting_write_errors(self.directory):
            self.manager.close()

    def _read(self, step: int, **like: Tree) -> dict[str, Tree]:
        """Returns the named items of a checkpoint, verified by their checksums.

        Raises:
          UserError: it is of another model.
          CorruptCheckpointError: it cannot be read, or holds other values than were written.
        """
        path, sums = self.directory / str(step), None
        if (path / "checksums").is_dir():  # older versions wrote none
            sums = self._items(step, checksums=orbax().args.JsonRestore())["checksums"]
            if not sums.keys() >= like.keys():
                raise CorruptCheckpointError("its checksums are incomplete")
            if not all(checksums.same_shapes(sums[name], tree) for name, tree in like.items()):
                raise UserError(f"checkpoint {path} is of another model", BAD_CHECKPOINT)
        try:
            args = {name: orbax().args.StandardRestore(tree) for name, tree in like.items()}
            found = self._items(step, **args)
        except CorruptCheckpointError as error:
            complete = all((path / name).is_dir() for name in like)
            if sums is None and complete and isinstance(error.__cause__, ValueError | KeyError):
                # without checksums, damage cannot be told from another model
                raise UserError(f"cannot restore {path}: {error}", BAD_CHECKPOINT) from error
            raise
        if sums is None:
            logging.warning("%s was written without checksums: not verified", path)
            return found
        for name, tree in found.items():
            if bad := checksums.differing(sums[name], tree):
                what = f"{len(bad)} arrays are not what was written: {name}{bad[0]}"
                raise CorruptCheckpointError(what)
        return found

    def _items(self, step: int, **args: Any) -> dict[str, Any]:
        try:
            return dict(self.manager.restore(step, args=orbax().args.Composite(**args)).items())
        except Exception as error:  # Orbax raises nearly any error on a damaged file
            lines = str(error).strip().splitlines() or [type(error).__name__]  # may be pages
            raise CorruptCheckpointError(lines[0][:200]) from error

    def _quarantine(self, step: int, error: CorruptCheckpointError) -> None:
        """Renames a damaged checkpoint, so that its step can be saved again."""
        path = self.directory / str(step)
        n = 1 + len(list(self.directory.glob(f"{step}.corrupt-*")))
        aside = self.directory / f"{step}.corrupt-{n}"
        if jax.process_index() == 0:
            path.rename(aside)
        multihost_utils.sync_global_devices("a damaged checkpoint is renamed")
        logging.error("%s is damaged (%s): renamed to %s", path, error, aside.name)
        self.manager.reload()  # or it would refuse to save steps up to this one


def abstract(tree: Tree, sharding: jax.sharding.Sharding) -> Tree:
    """Returns the shapes and dtypes of a tree, to restore it with a sharding."""
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)
