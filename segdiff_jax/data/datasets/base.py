"""What every builder shares: the plan of what it will read, and the features of what it writes."""

import abc
import hashlib
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image
from tqdm import tqdm

from segdiff_jax.errors import UserError

# The knobs of the data set's own group of the config, and "limits": reading.Limits.
Options = Mapping[str, Any]


class Item(NamedTuple):
    """Some files that are read together.

    Attributes:
        files: all of them; the prepared set is made anew when one changes.
        read: yields (key, `record(...)`) for each example in them, perhaps none; raises UserError
            that names the file.
    """

    files: tuple[Path, ...]
    read: Callable[[], Iterator[tuple[str, dict[str, Any]]]]


class Plan(NamedTuple):
    """What a builder found in a directory, before any pixel is decoded.

    Attributes:
        splits: "train", "validation", "test": those there are.
        problems: a line for each file that does not fit.
        notes: what the prepared set's metadata.json shall keep, in types that JSON has.
        nothing: what to say if the files turn out to hold no example.
    """

    splits: dict[str, list[Item]]
    problems: tuple[str, ...] = ()
    notes: Mapping[str, Any] = {}
    nothing: str = "the files hold no example"


class SegmentationBuilder(tfds.core.GeneratorBasedBuilder, abc.ABC):
    """A TFDS builder with the features all data sets share.

    A data set that is downloaded by hand sets MANUAL_DOWNLOAD_INSTRUCTIONS, one line that says
    what to download and how it lies in `config.data.dir`; without it no directory is needed.
    """

    @classmethod
    @abc.abstractmethod
    def plan(cls, directory: Path | None, options: Options) -> Plan:
        """Returns what there is to read; None: the data set needs no directory.

        Raises:
            UserError: the directory does not hold this data set at all.
        """

    @classmethod
    def variants(cls, directory: Path | None, options: Options) -> dict[str, Options]:
        """Returns the prepared sets that make up what was asked for: name of folder -> options."""
        del directory
        return {"": options}

    @classmethod
    def fingerprint(cls, plan: Plan, options: Options) -> str:
        """Returns a digest that changes when a file, or what is made of it, does."""
        files = [
            (split, file.name, file.stat().st_size, file.stat().st_mtime_ns)
            for split, items in sorted(plan.splits.items())
            for item in items
            for file in item.files
        ]
        return digest(files, plan.notes, options)

    def _info(self) -> tfds.core.DatasetInfo:
        return tfds.core.DatasetInfo(
            builder=self,
            features=tfds.features.FeaturesDict(
                {
                    "image": tfds.features.Image(shape=(None, None, 3), encoding_format="png"),
                    "mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
                    "name": tfds.features.Text(),
                    "box": tfds.features.Tensor(shape=(4,), dtype=np.int32),
                    "group": tfds.features.Text(),
                }
            ),
            metadata=tfds.core.MetadataDict(),
        )

    def _split_generators(self, dl_manager: tfds.download.DownloadManager) -> dict[str, Any]:
        raise NotImplementedError("data.prepared writes what `plan` found")

    def _generate_examples(self, **kwargs: Any) -> Iterator[tuple[str, dict[str, Any]]]:
        raise NotImplementedError("data.prepared writes what `plan` found")


def read(
    items: Sequence[Item], problems: list[str], label: str
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yields what the items give; a bad file becomes a line of `problems`, and the rest go on."""
    tty = sys.stderr.isatty()
    for item in tqdm(items, label, mininterval=1 if tty else 30, leave=False, delay=1):
        try:
            yield from item.read()
        except UserError as error:
            problems.append(str(error))


def problems_of(plan: Plan) -> list[str]:
    """Reads every file of a plan; returns a line for each that cannot be used."""
    problems = list(plan.problems)
    for split, items in plan.splits.items():
        for _ in read(items, problems, f"checking {split}"):
            pass
    return problems


def digest(*parts: Any) -> str:
    """Returns a text that changes when one of the parts does, seen as JSON."""
    written = json.dumps(parts, sort_keys=True, default=str)
    return hashlib.sha256(written.encode()).hexdigest()


NOWHERE = (-1, -1, -1, -1)  # the box of an example that is no single object


def record(
    image: np.ndarray,
    mask: np.ndarray,
    name: str,
    box: tuple[int, int, int, int] | None = None,
    group: str = "",
) -> dict[str, Any]:
    """Makes the record of one example.

    Args:
        image: [H, W, 3] uint8, RGB.
        mask: [h, w] uint8 in {0, 1}.
        name: unique in its split; a split is read in the order of its names.
        box: (top, left, height, width) of the object, pixels; None: no single object.
        group: see `Example`.

    Returns:
        What a builder yields. Pillow images, because TFDS would encode arrays with TensorFlow.
    """
    assert image.dtype == np.uint8 and image.ndim == 3 and image.shape[-1] == 3, image.shape
    assert mask.dtype == np.uint8 and mask.ndim == 2 and mask.max(initial=0) <= 1, mask.shape
    return {
        "image": Image.fromarray(image),
        "mask": Image.fromarray(mask),
        "name": name,
        "box": np.array(NOWHERE if box is None else box, np.int32),
        "group": group,
    }
