"""Saves the config of a run, and checks later configs against it.

A run that resumes may change some fields only; one that is evaluated, only those on which the
predictions of trained weights do not depend.
"""

import json
from pathlib import Path
from typing import Any

from absl import logging
from ml_collections import ConfigDict

from segdiff_jax.checkpoint import places, trust
from segdiff_jax.config import SCORING_FIELDS, default, flatten, validate
from segdiff_jax.config.schema import FIELDS, invalid_value
from segdiff_jax.errors import BAD_CHECKPOINT, UserError, one_line
from segdiff_jax.runtime.files import write_json

Fields = dict[str, Any]
DARK = 64  # of 255; the mean and two deviations of images of 12 bits in 16 lie below
# config fields and groups that may change when a run resumes
MUTABLE = (
    *("train.steps", "train.log_every", "train.checkpoint_every", "train.evaluate_every"),
    *("train.map", "train.result", "train.skip_nonfinite", "train.max_seconds"),
    *("train.draws_at_once", "train.accumulate", "sampling.", "reading.", "job.", *SCORING_FIELDS),
    *("data.dir", "data.prepared_dir", "data.test_split"),
    *("data.fingerprint", "data.objects", "data.pixel_size", "data.allow_change"),  # see run_data
    *("diffusion.clip_x0", "model.rrdb_form", "model.remat"),
)
# the predictions of trained weights depend on these fields and groups, but not on the second
NEEDED = ("diffusion", "model", "sampling")  # groups of every version
OF_NETWORK = ("model.", "diffusion.", "data.channels", "folder.classes", "cityscapes.exclusive")
AFFECTS_PREDICTIONS = (*OF_NETWORK, "data.mean", "data.std")
NOT_PREDICTIONS = ("model.dtype", "model.dropout", "model.rrdb_form", "model.remat")
NOT_PREDICTIONS += ("diffusion.clip_x0", "model.precision")


def check_resume(config: ConfigDict, workdir: Path) -> None:
    """Checks that a run resumes with the config it began with, except for `MUTABLE` fields.

    Raises:
      UserError: fields differ, which are listed; or there are checkpoints without a config.
    """
    if (workdir / "config.json").exists():
        saved, given = flatten(read_config(workdir)), flatten(config)
        keys = {key for key in saved.keys() | given.keys() if not key.startswith(MUTABLE)}
        _refuse_differing(workdir, saved, given, keys)
    elif any(path.name.isdigit() for path in (workdir / "checkpoints").glob("*")):
        what = "holds checkpoints but no config.json to check this run against"
        raise UserError(f"{workdir} {what}: put it back, or choose another workdir", BAD_CHECKPOINT)


def with_saved_statistics(config: ConfigDict, workdir: Path) -> ConfigDict:
    """Returns the config with the statistics of the images that the run in workdir began with.

    That is, unless the config has other ones, there is no run yet, or one of an earlier version,
    which did not record its data: then the statistics tell whether they are the same.
    """
    if config.data.mean or not recorded_fingerprint(workdir):
        return config
    trained, config = read_config(workdir), config.copy_and_resolve_references()
    config.data.mean, config.data.std = trained.data.mean, trained.data.std
    return config


def recorded_fingerprint(workdir: Path) -> str:
    """Returns the fingerprint of the data of the run in workdir; "" if there is none."""
    return read_config(workdir).data.fingerprint if (workdir / "config.json").exists() else ""


def start_of(config: ConfigDict, workdir: Path) -> tuple[ConfigDict, Path | None]:
    """Returns the config with the statistics of the weights it begins with, and their folder.

    Mean and deviation of the images are those that these weights were trained with, whatever the
    config has. A run that is there goes on with its own, and its folder is not looked for.

    Raises:
      UserError: there are no such weights, or they are of another network.
    """
    if not config.train.start_from:
        return config, None
    source = None
    if (workdir / places.CONFIG).exists():
        trained = read_config(workdir)
    else:
        try:
            source = places.find(config.train.start_from)
        except UserError as error:
            raise UserError(f"config.train.start_from: {error}", error.code) from error
        trained = read_config(source)
        _check_network(config, trained)
    config, own = config.copy_and_resolve_references(), (config.data.mean, config.data.std)
    config.data.mean, config.data.std = trained.data.mean, trained.data.std
    if config.data.mean and own not in (((), ()), (config.data.mean, config.data.std)):
        logging.warning(
            "data.mean=%s and data.std=%s in place of %s and %s: %s was trained with them",
            *(config.data.mean, config.data.std, *own, config.train.start_from),
        )
    return config, source


def _check_network(config: ConfigDict, trained: ConfigDict) -> None:
    """Raises UserError unless weights of one config are of use with the other."""
    saved, given = flatten(trained), flatten(config)
    differing = [
        key
        for key in sorted(given)
        if key.startswith(OF_NETWORK) and not key.startswith(NOT_PREDICTIONS)
        if saved.get(key) != given[key]
    ]
    if differing:
        found = ", ".join(f"{key}={saved.get(key)} and not {given[key]}" for key in differing)
        flags = " ".join(f"--config.{key}={_as_flag(saved.get(key))}" for key in differing)
        what = f"config.train.start_from={config.train.start_from}: its network has {found}"
        raise UserError(f"{what}: begin with another, or take its settings: {flags}")


def _as_flag(value: Any) -> str:
    """Returns a value as a command line has it."""
    return ",".join(map(str, value)) or "()" if isinstance(value, tuple) else str(value)


def check_evaluation(config: ConfigDict, workdir: Path) -> ConfigDict:
    """Returns the config with what the run remembers of its images, unless it has other settings.

    These are their mean and deviation, and `reading.value_range` if it is not "auto" there.

    Checks that it leaves the meaning of the weights of the run unchanged.

    Raises:
      UserError: the differences are listed; or the directory holds no run.
    """
    if not (workdir / "config.json").is_file():
        raise UserError(f"{workdir} holds no run: it has no config.json", BAD_CHECKPOINT)
    trained = read_config(workdir)
    config = config.copy_and_resolve_references()
    if config.reading.value_range == "auto":
        config.reading.value_range = trained.reading.value_range
    if not config.data.mean:
        config.data.mean, config.data.std = trained.data.mean, trained.data.std
    saved, given = flatten(trained), flatten(config)
    keys = {key for key in given if key.startswith(AFFECTS_PREDICTIONS)}
    keys = {key for key in keys if not key.startswith(NOT_PREDICTIONS)}
    _refuse_differing(workdir, saved, given, keys)
    return config


def _refuse_differing(workdir: Path, saved: Fields, given: Fields, keys: set[str]) -> None:
    differing = sorted(key for key in keys if saved.get(key) != given.get(key))
    if not differing:
        return
    rows = [("key", "saved", "now")]
    rows += [(key, str(saved.get(key)), str(given.get(key))) for key in differing]
    first, second = (max(len(row[i]) for row in rows) for i in (0, 1))
    table = [f"{key:{first}}  {old:{second}}  {new}" for key, old, new in rows]
    what = f"{workdir} holds a run with other settings ({', '.join(differing)})"
    hint = "choose another workdir, or the settings it began with"
    raise UserError(f"{what}: {hint}", BAD_CHECKPOINT, table)


def write_config(config: ConfigDict, workdir: Path) -> None:
    """Writes `config.json`; raises UserError if it cannot be written."""
    write_json(workdir / "config.json", config.to_dict(), indent=2)


def read_config(workdir: Path) -> ConfigDict:
    """Returns the config of a run; fields that it lacks have the value of `config.default`.

    It may come from anywhere, so its size, depth and values are checked before anything is made of
    them. Fields that this version does not know are kept.

    Raises:
      UserError: the directory holds no run, or its config cannot be read or is not allowed.
    """
    path = workdir / "config.json"
    try:
        trust.check_config_file(path)
        loaded = json.loads(path.read_bytes())
        _check_depth(loaded)
        loaded = tuples(loaded)
        config = ConfigDict(_merged(_defaults_for(loaded), loaded))
        _check_values(config)
        return config
    except FileNotFoundError as error:
        what = f"{workdir} holds no run: it has no config.json"
        raise UserError(what, BAD_CHECKPOINT) from error
    except UserError as error:
        text = str(error)
        text = text if str(path) in text else f"{path} is not the config of a run: {text}"
        raise UserError(text, BAD_CHECKPOINT) from error
    except (OSError, ValueError, TypeError, RecursionError) as error:
        text = f"{path} is not the config of a run: {one_line(error)}"
        raise UserError(text, BAD_CHECKPOINT) from error


def _check_depth(loaded: Any) -> None:
    """Raises ValueError unless it is groups of fields, whose values are at most lists."""
    if not isinstance(loaded, dict):
        raise ValueError("it is no group of settings")
    if missing := [name for name in NEEDED if name not in loaded]:
        raise ValueError(f"it has no {missing[0]!r}")
    for name, group in loaded.items():
        for key, value in group.items() if isinstance(group, dict) else [("", group)]:
            values = value if isinstance(value, list) else [value]
            if any(isinstance(one, dict | list) for one in values):
                raise ValueError(f"{name[:40]}.{key[:40]} is nested too deep")


def _check_values(config: ConfigDict) -> None:
    """Raises UserError at a field that has no allowed value, or contradicts another."""
    values = flatten(config)
    for key, field in FIELDS.items():
        if key in values and not field.allowed.accepts(values[key]):
            raise invalid_value(key, values[key])
    validate.check_relations(config)


def _defaults_for(loaded: Any) -> Fields:
    """Returns the values of fields that a config of an earlier version lacks.

    Images of 16 bits were then read by the range of their type: a run of a folder whose training
    images were as dark as that makes those of 12 bits is predicted with likewise.
    """
    fields = default().to_dict()
    data = loaded.get("data") if isinstance(loaded, dict) else None
    if isinstance(data, dict) and data.get("name") == "folder":
        try:
            bright = [m + 2 * s for m, s in zip(data["mean"], data["std"], strict=True)]
            dark = max(bright, default=0) < DARK
        except (KeyError, TypeError, ValueError):
            dark = True
        fields["reading"]["value_range"] = "full" if dark else "auto"
    return fields


def _merged(old: dict[str, Any], new: Any, name: str = "it") -> dict[str, Any]:
    """Returns `old` with the values of `new`; raises ValueError where a group is expected."""
    if not isinstance(new, dict):
        raise ValueError(f"{name} is no group of settings")
    groups = {key for key, value in old.items() if isinstance(value, dict) and key in new}
    return old | new | {key: _merged(old[key], new[key], key) for key in groups}


def tuples(value: Any) -> Any:
    """Converts the lists of a config read from JSON to tuples."""
    if isinstance(value, dict):
        return {key: tuples(inner) for key, inner in value.items()}
    return tuple(map(tuples, value)) if isinstance(value, list) else value
