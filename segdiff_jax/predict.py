"""Predicts the masks of new images with a trained run.

    segdiff predict --workdir=RUN --input=FILE_OR_FOLDER --output=DIR

`python -m segdiff_jax.predict` does the same; the flags are in `cli.predict_args`. jax is imported
only once the command line is known to be correct: that takes seconds.
"""

from pathlib import Path
from typing import Any

from absl import logging

from segdiff_jax.cli import app, predict_args
from segdiff_jax.cli.predict_args import Command
from segdiff_jax.data.image_io.headers import Limits, limits_of
from segdiff_jax.errors import BAD_DATA, CANNOT_WRITE, INTERNAL, UserError
from segdiff_jax.prediction import inputs, scales
from segdiff_jax.prediction.inputs import AUTO, FOLDERS, GENERATIONS, OBJECTS, OF_OBJECTS
from segdiff_jax.prediction.object_table import TABLE, ObjectTable
from segdiff_jax.prediction.scales import AUTO as AUTO_SCALE
from segdiff_jax.prediction.scales import Scales
from segdiff_jax.prediction.summary import FILES, SUMMARY, Summary, check_settings
from segdiff_jax.runtime import lock, own_files

SIZES = ("scale", "object_size")  # flags
CONFIDENCE = "confidence"  # a flag
FEWEST = 2  # objects in an image of the training, on average, from which on they are written
LESS_MEMORY = (
    "lower sampling.rows_at_once in the config.json of the run, or --generations or --samples"
)


def main(argv: list[str]) -> int:
    """Runs a command line, without the name of the program, and returns its exit code."""
    return app.run(run_command, argv, predict_args.HELP, LESS_MEMORY)


def run_command(argv: list[str]) -> None:
    """Parses a command line and runs it."""
    command = predict_args.parse(argv)
    app.set_up_logging()
    inputs.log_ignored(command.inputs)
    from segdiff_jax import api
    from segdiff_jax.runtime import distributed, signals

    distributed.check_platform(command.device)

    left_out = (*Limits._fields, CONFIDENCE, "risk", *SIZES)
    chosen = {k: v for k, v in command.values.items() if k not in left_out}
    own_files.check(command.output, FILES, FOLDERS, CANNOT_WRITE)
    with lock.locked(command.output), signals.raise_on_signal():  # before minutes of compilation
        predict(command, api.load(command.workdirs, calibrated=command.calibrated, **chosen))


def predict(command: Command, model: Any) -> None:
    """Predicts the images that are not done yet.

    Args:
      command: what to predict.
      model: an `api.Model` with the settings of the command.

    Raises:
      UserError: the output was made with other settings or cannot be written; or some images
        failed, which are its details, and the others are done.
    """
    from segdiff_jax.prediction import log_lines

    output, limits = command.output, limits_of(model.config.reading, command.values)
    chosen, given = _scales(command, model), any(name in command.values for name in SIZES)
    bounds = _checked_bounds(command, model)
    if "object_size" in command.values:
        logging.info("--object_size: images are predicted %.3g times as large", chosen.fixed)
    same = check_settings(output, settings(command, model, limits), command.overwrite)
    fresh = command.overwrite and not same
    objects = _object_outputs(command, model, limits, fresh)
    classes = _class_table(output, model, fresh)
    with Summary(output, fresh) as summary:
        more = {"limits": limits, "summary": summary, "bounds": bounds, "objects": objects}
        more |= {"scales": chosen, "diameter": 0.0 if given else model.config.data.objects[0]}
        more |= {"class_table": classes}
        work = _work(command, model, more)
        left = [one for one in command.inputs if command.overwrite or not work.is_done(one)]
        total = len(command.inputs)
        if skipped := total - len(left):
            logging.info("%d of %d images were done before", skipped, total)
        for table in (classes, None if objects is None else objects.table):
            if table is not None:
                table.keep(summary.rows.keys() - {one.name for one in left})
        work.run(left)
    log_lines.review_order(summary.path, summary.rows.values())
    if work.problems:
        raise _failures(work.problems, total)


def _work(command: Command, model: Any, more: dict[str, Any]) -> Any:
    """Returns the `FolderPrediction` of a command, with `more` of its fields."""
    from segdiff_jax.prediction.pipeline import FolderPrediction
    from segdiff_jax.prediction.rescaling import rescaled

    predictor, chosen = model.predictor, more["scales"]
    return FolderPrediction(
        bands=rescaled(model.bands, chosen) if chosen.fixed != 1 else model.bands,
        output=command.output,
        threshold=model.threshold,
        saved_generations=predictor.generations if "generations" in command.outputs else 0,
        random=model.random,
        expected=model.config.sampling.budget != "paper",
        save_samples="samples" in command.outputs,
        whole=predictor.whole,
        shown=model.shown,
        classes=model.class_names,
        overlap=model.overlap,
        channels=model.channel_names,
        by_distance=predictor.by_distance,
        calibration=_calibration(command, model) if chosen.fixed in (None, 1) else None,
        **more,
    )


def _calibration(command: Command, model: Any) -> Any:
    """Returns the calibration of a model, with the --confidence of the command; None: it has none.

    Raises:
      UserError: a confidence is asked for, and there is none.
    """
    fitted, least = model.calibration, command.values.get(CONFIDENCE)
    if least is None:
        return fitted
    if fitted is None or fitted.confidence is None:
        reason = model.uncalibrated or "its calibration has too few wrong objects"
        raise UserError(f"--confidence={least:g}: objects have none: {reason}")
    return fitted._replace(least=least)


def _class_table(output: Path, model: Any, fresh: bool) -> Any:
    """Returns the `ClassTable` of the classes, whose numbers are logged; None: there are none."""
    from segdiff_jax.prediction.class_table import ClassTable

    if not model.class_names:
        return None
    numbered = ", ".join(f"{k} {name}" for k, name in enumerate(model.class_names, 1))
    said = f"a folder of masks of each: {', '.join(model.class_names)}"
    said = said if model.overlap else f"0 background, {numbered}"
    logging.info("%s: %s", output / inputs.CLASSES, said)
    return ClassTable(output, fresh)


def _object_outputs(command: Command, model: Any, limits: Limits, fresh: bool) -> Any:
    """Returns what is written of objects, an `ObjectOutputs`; None: nothing.

    A table that is there goes on with every command, as its lines are of the images as they are.
    """
    from segdiff_jax.prediction.object_outputs import ObjectOutputs

    kinds = command.outputs & {OBJECTS, *OF_OBJECTS}
    planes = len(model.class_names) if model.overlap else 1
    new = not (command.output / SUMMARY).exists()
    of_objects = model.config.data.objects[1] >= FEWEST
    if of_objects and new and command.outputs <= {AUTO, GENERATIONS}:
        kinds = {OBJECTS}
    if OBJECTS in kinds or (command.output / TABLE).exists():
        table, predictor = ObjectTable(command.output, fresh), model.predictor
        if not (predictor.samples or (model.random and predictor.generations > 1)):
            logging.info("%s: no agreement and no area_std: add --samples=N", table.path)
        return ObjectOutputs(kinds | {OBJECTS, "labels"}, table, limits.page, planes)
    return ObjectOutputs(kinds, None, limits.page, planes) if kinds else None


def _scales(command: Command, model: Any) -> Scales:
    """Returns the scales at which pictures are predicted, see `scales.of_command`."""
    data, page = model.config.data, limits_of(model.config.reading, command.values).page
    trained = data.objects[0], data.pixel_size
    return scales.of_command(command.values, trained, page, command.workdirs[0])


def _failures(problems: list[UserError], total: int) -> UserError:
    """Returns the error of a command some of whose images failed."""
    bad = len(problems)
    of_network = bad == total and {one.code for one in problems} == {INTERNAL}
    message, lines = f"{total - bad} of {total} images done; {bad} failed", [*map(str, problems)]
    return UserError(message, INTERNAL if of_network else BAD_DATA, lines)


def _checked_bounds(command: Command, model: Any) -> tuple[float, float] | None:
    """Returns the thresholds of --risk, None without it; logs what the outputs will lack."""
    if model.predictor.generations == 1 and model.random:
        logging.warning("uncertainty is 0 everywhere: it takes more than one generation")
    if model.calibration is None:
        logging.info("no predicted Dice and no intervals: %s", model.uncalibrated)
    elif (scale := _scales(command, model).fixed) != 1:
        which = "of an image at another scale " if scale is None else ""
        logging.info("no predicted Dice and no intervals %s: they hold without one", which)
    risk = command.values.get("risk")
    return None if risk is None else model.risk_thresholds(risk)


def settings(command: Command, model: Any, limits: Limits) -> dict[str, Any]:
    """Returns everything the outputs of an image depend on besides the image."""
    c, made = model.config.sampling, model.settings()
    workdirs, several = [str(place.resolve()) for place in command.workdirs], made["runs"]
    one = len(workdirs) == 1
    return {
        "workdir": workdirs[0] if one else workdirs,
        "update": made["updates"][0] if one else made["updates"],
        "input": str(command.folder.resolve()),
        **(several[0] if one else {"runs": several}),
        "threshold": model.threshold,
        "tile": c.tile,
        "overlap": c.tile - c.stride,
        "seed": model.config.seed,
        "page": limits.page,
        "value_range": limits.value_range,
        "float_range": list(limits.float_range),
        **({"channels": list(limits.channels)} if limits.channels else {}),
        **({"classes": list(model.class_names)} if model.class_names else {}),
        **({"overlap": True} if model.overlap else {}),
        **({"scale": scale or AUTO_SCALE} if (scale := _scales(command, model).fixed) != 1 else {}),
        **_of_calibration(command, model),
    }


def _of_calibration(command: Command, model: Any) -> dict[str, Any]:
    """Returns what of the outputs depends on the calibration; {} without one."""
    if model.calibration is None:
        return {}
    fitted = model.calibration
    chosen = {"calibrated": True} if model.calibrated else {}
    chosen |= {
        name: command.values[name] for name in ("risk", CONFIDENCE) if name in command.values
    }
    return {"calibration": [fitted.source, fitted.n, fitted.fingerprint], **chosen}


if __name__ == "__main__":
    app.start(main)
