"""Writes a prepared data set to disk, atomically and by one process, and reads it back.

It is a folder as TFDS writes it: array_record files of PNG, and metadata with the fingerprint of
the source files. TensorFlow is never imported.
"""

import json
import shutil
from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from absl import logging

from segdiff_jax import errors
from segdiff_jax.data.datasets.base import (
    NO_BOX,
    Options,
    Plan,
    SegmentationBuilder,
    refused,
    stored_masks,
)
from segdiff_jax.data.datasets.base import read as read_all
from segdiff_jax.data.example import Example, majority
from segdiff_jax.data.image_io import pillow_files
from segdiff_jax.runtime import lock, own_files

ASIDE = "incomplete"  # folder of a set that is being written
EXAMPLES_PER_CALL = 16  # TFDS rewrites its metadata at each call


def refresh(
    builder: type[SegmentationBuilder], source: Path | None, options: Options, home: Path
) -> None:
    """Prepares a set unless the one in the folder `home` was made from the same files and options.

    `source` holds the official files; None for a data set that needs none.

    Raises:
        UserError: files are missing or damaged (all are listed), or `home` cannot be written.
    """
    plan = builder.plan(source, options)
    fingerprint = builder.fingerprint(plan, options)
    if _made_from(home) == fingerprint:
        return
    own_files.check(home.parent, folders=[ASIDE, home.name], code=errors.CANNOT_WRITE)
    try:
        with lock.locked(home.parent, wait=True):
            made_from = _made_from(home)  # another process may have prepared it in between
            if made_from == fingerprint:
                return
            if made_from is not None:
                now = source or "the drawings of this version"
                logging.info("%s was not made from %s: prepared again", home, now)
            _write(builder, plan, home, fingerprint)
    except OSError as error:
        raise errors.UserError(f"cannot write {home}: {error}", errors.CANNOT_WRITE) from error


def counts(home: Path) -> dict[str, int]:
    """Returns the number of examples of each split of a prepared set."""
    splits = _reader(home).info.splits
    return {split: splits[split].num_examples for split in splits}


def read(home: Path, split: str) -> list[Example]:
    """Returns the examples of one split, sorted by name.

    Raises:
        UserError: the prepared set is damaged.
    """
    # Decoded here, because TFDS uses OpenCV where it is installed and checks no channels.
    as_stored = {"image": tfds.decode.SkipDecoding(), "mask": tfds.decode.SkipDecoding()}
    try:
        source = _reader(home).as_data_source(split, decoders=as_stored)
        examples = [_example(source[index]) for index in range(len(source))]
    except errors.UserError:
        raise
    except Exception as error:  # readers of damaged records raise nearly anything
        raise _damaged(home, error) from error
    return sorted(examples, key=lambda example: example.name)


def _example(record: dict[str, Any]) -> Example:
    image, mask = (pillow_files.decode_stored(record[key]) for key in ("image", "mask"))
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] != 3:
        raise ValueError(f"an image is {image.dtype} {image.shape}, not RGB")
    if bands := record.get("bands", b""):  # sets of earlier versions have none
        stacked = pillow_files.decode_stored(bands)
        image = np.moveaxis(stacked.reshape(-1, *image.shape[:2]), 0, -1)
    annotators = int(record.get("annotators", 1))  # sets of earlier versions have one
    if mask.dtype != np.uint8 or mask.ndim != 2 or mask.max() >= 2**annotators:
        raise ValueError(f"a mask is {mask.dtype} {mask.shape}, not one channel of 0 and 1")
    annotations = None
    if annotators > 1:
        annotations = stored_masks(mask, annotators)
        mask = majority(annotations)
    box = tuple(record["box"].tolist())
    box = None if box == NO_BOX else box
    name, group = record["name"].decode(), record["group"].decode()
    labels = record.get("objects", b"")  # sets of earlier versions have none
    objects = pillow_files.decode_stored(labels).astype(np.uint16) if labels else None
    map_ = record.get("classes", b"")  # likewise
    classes = pillow_files.decode_stored(map_) if map_ else None
    if classes is not None and classes.dtype != np.uint8:  # what Pillow has of 16 bits
        classes = classes.astype(np.uint16)
    pixel = float(record.get("pixel_size", 0))  # likewise
    return Example(image, mask, name, box, group, annotations, objects, classes, pixel)


def _reader(home: Path) -> Any:
    try:
        return tfds.builder_from_directory(home)
    except Exception as error:  # TFDS raises nearly anything on damaged metadata
        raise _damaged(home, error) from error


def _write(builder: type[SegmentationBuilder], plan: Plan, home: Path, fingerprint: str) -> None:
    # Written aside and renamed when complete: a crash or a bad file leaves the old set in place.
    aside = home.parent / ASIDE
    shutil.rmtree(aside, ignore_errors=True)
    try:
        info = builder(data_dir=aside, file_format="array_record").info
        info.metadata.update({**plan.notes, "fingerprint": fingerprint})
        folder = Path(info.data_dir)
        folder.mkdir(parents=True)
        _write_splits(info, plan)
        shutil.rmtree(home, ignore_errors=True)
        folder.rename(home)
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write_splits(info: tfds.core.DatasetInfo, plan: Plan) -> None:
    """Writes in small batches; the usual TFDS writer needs TensorFlow from 1 GB a split on."""
    one_file = 2**62  # examples
    writer = tfds.core.SequentialWriter(info, one_file, file_format="array_record")
    problems, written = list(plan.problems), 0
    for split, items in plan.splits.items():
        examples = _unique(read_all(items, problems, f"preparing {split}"), problems)
        begun = False
        while records := list(islice(examples, EXAMPLES_PER_CALL)):
            if not begun:  # not before, since a split must not be empty
                writer.initialize_splits([split])
            begun = True
            writer.add_examples({split: records})
            written += len(records)
    writer.close_all()
    more, said = plan.conclude()
    problems += more
    for line in (*plan.said, *said):
        logging.info(line)
    if not (written or problems):
        problems.append(plan.nothing)
    if problems:
        raise refused(problems)


def _unique(
    examples: Iterable[tuple[str, dict[str, Any]]], problems: list[str]
) -> Iterator[dict[str, Any]]:
    """Yields records without their keys; a repeated key is a problem."""
    seen = set()
    for key, example in examples:
        if key in seen:
            problems.append(f"{key}: two examples have this name")
        seen.add(key)
        yield example


def _made_from(home: Path) -> str | None:
    """Returns the fingerprint of the files a set was prepared from; None: no readable set."""
    try:
        return json.loads((home / "metadata.json").read_text())["fingerprint"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _damaged(home: Path, error: Exception) -> errors.UserError:
    reason = " ".join(str(error).split())
    return errors.UserError(
        f"prepared set {home} is damaged ({reason}); delete that folder, then prepare it again",
        errors.BAD_DATA,
    )
