"""Loads a data set's examples by its name, preparing the set when it is needed.

TFDS and the builders are imported by the first use of a data set, not with this module: a config is
checked, and a mistake in it reported, before that.
"""

from __future__ import annotations

import importlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segdiff_jax.data.crops import CropFn
from segdiff_jax.data.example import Example
from segdiff_jax.errors import BAD_DATA, UserError

if TYPE_CHECKING:
    from segdiff_jax.data.datasets.base import SegmentationBuilder
    from segdiff_jax.data.datasets.inspection import Inspection

# The builder of a data set is the class of its name in the module of its name.
BUILDERS = ("synthetic", "monuseg", "vaihingen", "cityscapes", "folder", "ambiguous", "discs")


@dataclass(frozen=True)
class Source:
    """A data set: where its official files are, and where it is prepared.

    Attributes:
        name: one of BUILDERS.
        directory: the official files, for data sets that are downloaded by hand; "": the prepared
            set is taken as it is.
        prepared_dir: holds prepared sets; made if missing.
        options: of the data set's builder.
    """

    name: str
    directory: str = ""
    prepared_dir: str = "~/.cache/segdiff_jax/data"
    options: Mapping[str, Any] = field(default_factory=dict)

    def prepare(self) -> dict[str, int]:
        """Prepares the set unless the prepared one was made from these files and options.

        Returns:
            The number of examples of each split it has; a partial copy may lack a split.

        Raises:
            UserError: an unknown name, files that are missing or damaged, or no room to write.
        """
        total: Counter[str] = Counter()
        for counts in self._prepared().values():
            total.update(counts)
        return dict(total)

    def load(self, split: str) -> list[Example]:
        """Reads a split, preparing the data set first if need be.

        Args:
            split: a split of the data set, or several joined by "+", as "train+validation".

        Returns:
            The examples, sorted by name within each split.

        Raises:
            UserError: as for `prepare`, or an unknown split, or a damaged prepared set.
        """
        from segdiff_jax.data.datasets import store

        homes = self._prepared()
        splits = {name: None for counts in homes.values() for name in counts}
        parts = [part.strip() for part in split.split("+")]
        if any(part not in splits for part in parts) or len(set(parts)) < len(parts):
            raise UserError(
                f"split {split!r} of data set {self.name!r}: allowed are {', '.join(splits)}, "
                "or several of them joined by '+', each once"
            )
        chosen = [(home, part) for part in parts for home in homes if part in homes[home]]
        return [example for home, part in chosen for example in store.read(home, part)]

    def problems(self) -> list[str]:
        """Reads every file, preparing nothing; returns a line for each that cannot be used."""
        return self.inspect().problems

    def inspect(self, crop: int = 0) -> Inspection:
        """Reads every file, preparing nothing; returns what the set is made of.

        Args:
            crop: side of the windows of training, pixels; smaller images are named.

        Raises:
            UserError: the directory does not hold this data set at all.
        """
        from segdiff_jax.data.datasets import inspection

        builder, directory = self._builder(), self._directory()
        if directory is None and builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise UserError(f"config.data.dir is empty: {builder.MANUAL_DOWNLOAD_INSTRUCTIONS}")
        variants = builder.variants(directory, self.options).values()
        plans = [builder.plan(directory, options) for options in variants]
        return inspection.inspect(plans, crop)

    def train_crop(self, size: int, seed: int) -> CropFn:
        """Returns the crop that training sees of an example; see `SegmentationBuilder`."""
        return self._builder().train_crop(self.options, size, seed)

    def eval_crop(self, example: Example) -> Example:
        """Returns what is predicted and scored of a prepared example."""
        return self._builder().eval_crop(self.options, example)

    def law(self, name: str, count: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Returns what is known of the law of an example's masks; see `SegmentationBuilder`."""
        return self._builder().law(name, count)

    def _builder(self) -> type[SegmentationBuilder]:
        if self.name not in BUILDERS:
            raise UserError(f"data set {self.name!r}: allowed are {', '.join(BUILDERS)}")
        module = importlib.import_module(f"segdiff_jax.data.datasets.{self.name}")
        return getattr(module, self.name.capitalize())

    def _directory(self) -> Path | None:
        return Path(self.directory).expanduser() if self.directory else None

    def _prepared(self) -> dict[Path, dict[str, int]]:
        """Prepares what is not up to date; returns the examples by split of each prepared set."""
        from segdiff_jax.data.datasets import store

        builder, directory = self._builder(), self._directory()
        instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
        homes = {}
        for variant, options in builder.variants(directory, self.options).items():
            folder = Path(self.prepared_dir).expanduser() / self.name / variant
            home = folder / str(builder.VERSION)
            if directory or not instructions:
                store.refresh(builder, directory, options, home)
            elif not home.exists():
                raise UserError(
                    f"data set {self.name!r} is neither prepared in {folder} nor given by "
                    f"config.data.dir: {instructions}",
                    BAD_DATA,
                )
            homes[home] = store.counts(home)
        return homes


def statistics(examples: Sequence[Example]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns (mean, standard deviation) of the channels over all pixels, in 0..255.

    Rounded to two digits, as a config stores them; a constant channel has deviation 1.
    """
    pixels = sum(example.mask.size for example in examples)
    totals = [example.image.sum((0, 1), np.float64) for example in examples]
    mean = np.sum(totals, axis=0) / pixels
    squares = [np.square(example.image - mean).sum((0, 1)) for example in examples]
    deviation = np.sqrt(np.sum(squares, axis=0) / pixels)
    deviation[deviation < 0.01] = 1.0
    return tuple(mean.round(2).tolist()), tuple(deviation.round(2).tolist())
