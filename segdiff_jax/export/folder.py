"""Writes a trained network as a folder: weights, config, card and calibration.

It says nothing of the machine it comes from: paths are left out, and the names of pictures unless
they are asked for.
"""

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from flax import traverse_util
from ml_collections import ConfigDict

from segdiff_jax import trained_run
from segdiff_jax.certainty import store
from segdiff_jax.checkpoint import places, run_config, run_data, trust, weights_file
from segdiff_jax.cli.export_args import Folder
from segdiff_jax.config import default
from segdiff_jax.errors import BAD_CHECKPOINT, CANNOT_WRITE, UserError
from segdiff_jax.export import card
from segdiff_jax.runtime import distributed, files, own_files

REPORT = Path("report", "report.json")


def write(command: Folder) -> Iterator[str]:
    """Writes a folder, and yields what it did, for people.

    Raises:
      UserError: the model cannot be read, or the folder cannot be written.
    """
    output = command.output
    facts, arrays = read(command)
    own_files.check(output, places.FILES, code=CANNOT_WRITE)
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output.parent, prefix=".exporting-") as unfinished:
        draft = Path(unfinished)
        weights_file.write(draft / places.WEIGHTS, arrays, facts.step, command.dtype)
        run_config.write_config(facts.config, draft)
        files.write_bytes(draft / places.CARD, card.render(facts).encode())
        if facts.calibrations:
            store.write_entries(draft / places.CALIBRATION, facts.calibrations)
        if command.split_names:
            files.write_json(draft / places.SPLIT, card.split_names(facts), indent=0)
        output.mkdir(exist_ok=True)
        for name in places.FILES:  # of an earlier export, what this one lacks goes
            if (draft / name).exists():
                (draft / name).replace(output / name)
            else:
                (output / name).unlink(missing_ok=True)
    there = [path for name in places.FILES if (path := output / name).exists()]
    sizes = ", ".join(f"{path.name} {path.stat().st_size / 1e3:.1f} kB" for path in there)
    yield f"{output}: {sizes}"
    if not facts.report:
        yield f"no scores in {places.CARD}: segdiff evaluate makes the report of a run"
    yield (f"{facts.parameters} parameters, update {facts.step}: segdiff predict --model={output}")


def read(command: Folder) -> tuple[card.Facts, dict[str, np.ndarray]]:
    """Returns what there is to say of a trained network, and its weights by path."""
    source = command.workdir
    config, report = run_config.read_config(source), read_report(source)
    seeds, kinds = [read_report(run) for run in command.seeds], card.read_kinds(command.kinds)
    calibrations = store.entries(source)
    step, params = trained_run.restore_ema(config, source, distributed.all_devices())
    flat = traverse_util.flatten_dict(params, sep="/")
    arrays = {str(path): np.asarray(x) for path, x in flat.items()}
    shipped = command.output.resolve().parent == places.SHIPPED
    facts = card.Facts(
        name=command.output.name if shipped else "DIR",
        config=without_places(config),
        step=step,
        parameters=sum(x.size for x in arrays.values()),
        dtype=command.dtype,
        calibrations=calibrations,
        report=report,
        seeds=seeds,
        data=run_data.read(source),
        kinds=kinds,
        hours=card.training_hours(source),
        about=command.about,
    )
    return facts, arrays


def without_places(config: ConfigDict) -> ConfigDict:
    """Returns a config without the paths of a machine, and with the weights of the last update."""
    config, fresh = config.copy_and_resolve_references(), default()
    config.data.dir, config.data.prepared_dir = fresh.data.dir, fresh.data.prepared_dir
    config.data.allow_change = fresh.data.allow_change
    if not places.is_name(start := config.train.start_from):
        config.train.start_from = Path(start).name
    return config


def read_report(run: Path) -> dict[str, Any]:
    """Returns the content of a run's report.json; {} if there is none.

    Raises:
      UserError: it is no report, or not written by an evaluation.
    """
    path = run / REPORT
    if not path.exists():
        return {}
    trust.check_metadata_file(path)
    try:
        content = json.loads(path.read_bytes())
        return card.checked_report(content)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        what = f"{path} is no report of segdiff: {error}; remove it, or evaluate again"
        raise UserError(what, BAD_CHECKPOINT) from error
