"""Loads a trained run: config, weights, predictor, calibration; for a score, its test split."""

from pathlib import Path
from typing import Any, NamedTuple

import jax
from flax import traverse_util
from jax.sharding import Mesh
from ml_collections import ConfigDict

from segdiff_jax.certainty import calibration, store
from segdiff_jax.certainty.calibration import Calibration
from segdiff_jax.checkpoint import manager, places, run_config, weights_file
from segdiff_jax.data.example import Example
from segdiff_jax.errors import BAD_CHECKPOINT, UserError
from segdiff_jax.factory import datasets, networks, samplers
from segdiff_jax.inference.predictor import Predictor
from segdiff_jax.inference.segmentation import Segmenter
from segdiff_jax.models.segdiff import Params
from segdiff_jax.runtime import distributed, watchdog


class TrainedRun(NamedTuple):
    """A trained run on the devices."""

    config: ConfigDict  # with mean and standard deviation of the images it was trained on
    step: int  # training steps taken
    predictor: Predictor  # with the averaged weights and the sampling settings of the config
    examples: list[Example]  # of the test split, cropped as they are scored; [] by `restore`

    @property
    def segmenter(self) -> Segmenter:
        """Returns what makes the probability, without samples."""
        return self.predictor.runs[0].segmenter


def load(config: ConfigDict, workdir: Path) -> TrainedRun:
    """Restores a run to score it, and reads its test split.

    Args:
      config: of the run; its sampling settings may differ from those of the training.
      workdir: of the run.

    Raises:
      UserError: there is no checkpoint, or the data do not fit.
    """
    if not config.data.test_split:
        raise UserError("config.data.test_split='': must name a split to score")
    mesh = distributed.all_devices()
    config = run_config.check_evaluation(config, workdir)
    watchdog.expect_compilation("the start of the evaluation")
    run = restore(config, workdir, mesh)
    return run._replace(examples=datasets.scored_examples(config, config.data.test_split))


def restore(config: ConfigDict, workdir: Path, mesh: Mesh) -> TrainedRun:
    """Restores the averaged weights of a run to every device; reads no examples."""
    step, params = restore_ema(config, workdir, mesh)
    return TrainedRun(config, step, samplers.predictor([(config, params)], mesh), [])


def restore_ema(config: ConfigDict, workdir: Path, mesh: Mesh) -> tuple[int, Params]:
    """Returns (step, averaged weights) of a run, on every device of the mesh.

    They come from its checkpoints, or from the file of an exported model.

    Raises:
      UserError: there are neither, or both, or they are damaged or of another network.
    """
    shapes, file = networks.parameter_shapes(config), workdir / places.WEIGHTS
    if file.exists():
        if (workdir / "checkpoints").exists():
            both = f"{workdir} holds both {file.name} and checkpoints/"
            raise UserError(f"{both}: which one counts is unclear; move one away", BAD_CHECKPOINT)
        flat: dict[str, Any] = dict(traverse_util.flatten_dict(shapes, sep="/"))
        step, arrays = weights_file.read(file, {path: x.shape for path, x in flat.items()})
        params = traverse_util.unflatten_dict(arrays, sep="/")
        return step, distributed.replicate(params, mesh)
    checkpoints = manager.Checkpoints(workdir, writes=False)
    like = manager.abstract(shapes, distributed.everywhere(mesh))
    found = checkpoints.restore_ema(like, config.train.result)
    checkpoints.close()
    return found


def calibrated(run: TrainedRun, workdir: Path) -> tuple[Calibration | None, str]:
    """Returns the calibration of a run's certainty, and what it is or why there is none.

    Without one for its settings it is fitted on the validation split, and stored with the run, if
    that was not trained on; by a job of one process alone, whose file all others would have to see.

    Raises:
      UserError: the stored one is damaged or cannot be written.
    """
    config = run.config
    settings = samplers.of_predictions([run.step], [config], run.predictor)
    fitted, reason = store.read(workdir, settings)
    split, trained_on = config.data.validation_split, config.data.train_split.split("+")
    unseen = split and not set(split.split("+")) & set(trained_on)
    if fitted is None and unseen and jax.process_count() == 1:
        try:
            examples = datasets.scored_examples(config, split)
        except UserError as error:
            return None, str(error)
        watchdog.heartbeat("the calibration")
        key, source = samplers.prediction_key(config), f"split {split!r} of {config.data.name}"
        fitted = calibration.fit_examples(run.predictor, examples, key, source)
        store.write(workdir, settings, fitted)
    return fitted, reason if fitted is None else f"{fitted.n} pictures of {fitted.source}"
