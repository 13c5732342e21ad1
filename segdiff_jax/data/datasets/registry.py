"""From the name of a data set to its examples in memory, preparing the set when it is needed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from segdiff_jax import errors
from segdiff_jax.data.example import Example

if TYPE_CHECKING:
    from segdiff_jax.data.datasets.base import SegmentationBuilder


def _synthetic() -> type[SegmentationBuilder]:
    from segdiff_jax.data.datasets.synthetic import Synthetic

    return Synthetic


def _monuseg() -> type[SegmentationBuilder]:
    from segdiff_jax.data.datasets.monuseg import Monuseg

    return Monuseg


def _vaihingen() -> type[SegmentationBuilder]:
    from segdiff_jax.data.datasets.vaihingen import Vaihingen

    return Vaihingen


def _cityscapes() -> type[SegmentationBuilder]:
    from segdiff_jax.data.datasets.cityscapes import Cityscapes

    return Cityscapes


def _folder() -> type[SegmentationBuilder]:
    from segdiff_jax.data.datasets.folder import Folder

    return Folder


# Functions, so that importing this module does not import TFDS and every builder.
BUILDERS: dict[str, Callable[[], type[SegmentationBuilder]]] = {
    "synthetic": _synthetic,
    "monuseg": _monuseg,
    "vaihingen": _vaihingen,
    "cityscapes": _cityscapes,
    "folder": _folder,
}


@dataclass(frozen=True)
class Source:
    """A data set: where its official files are, and where it is kept once prepared.

    Attributes:
        name: a key of BUILDERS.
        directory: the official files, for data sets that are downloaded by hand; "" takes the
            prepared set as it is.
        prepared_dir: where prepared sets are kept; made if missing.
        options: of the data set's builder.
    """

    name: str
    directory: str = ""
    prepared_dir: str = "~/.cache/segdiff_jax/data"
    options: Mapping[str, Any] = field(default_factory=dict)

    def prepare(self) -> dict[str, int]:
        """Prepares the set unless the prepared one is already made from these files.

        Returns:
            The number of examples of each split it has; a partial copy may lack a split.

        Raises:
            UserError: an unknown name, files that are missing or damaged, or no room to write.
        """
        from segdiff_jax.data.datasets import store

        total: Counter[str] = Counter()
        for home in self._homes():
            total.update(store.counts(home))
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

        homes = self._homes()
        splits = {name: None for home in homes for name in store.counts(home)}
        parts = [part.strip() for part in split.split("+")]
        if any(part not in splits for part in parts) or len(set(parts)) < len(parts):
            raise errors.UserError(
                f"split {split!r} of data set {self.name!r}: allowed are {', '.join(splits)}, "
                "or several of them joined by '+', each once"
            )
        return [example for part in parts for home in homes for example in _read(home, part)]

    def problems(self) -> list[str]:
        """Reads every file, preparing nothing; returns a line for each that cannot be used.

        Raises:
            UserError: the directory does not hold this data set at all.
        """
        from segdiff_jax.data.datasets import base

        builder, directory = self._builder(), self._directory()
        if directory is None and builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            raise errors.UserError(
                f"config.data.dir is empty: {builder.MANUAL_DOWNLOAD_INSTRUCTIONS}"
            )
        variants = builder.variants(directory, self.options).values()
        plans = [builder.plan(directory, options) for options in variants]
        lines = [line for plan in plans for line in base.problems_of(plan)]
        return list(dict.fromkeys(lines))  # variants share files

    def _builder(self) -> type[SegmentationBuilder]:
        if self.name not in BUILDERS:
            raise errors.UserError(f"data set {self.name!r}: allowed are {', '.join(BUILDERS)}")
        return BUILDERS[self.name]()

    def _directory(self) -> Path | None:
        return Path(self.directory).expanduser() if self.directory else None

    def _homes(self) -> list[Path]:
        """Returns the folders of the prepared sets, having prepared those not up to date."""
        from segdiff_jax.data.datasets import store

        builder, directory = self._builder(), self._directory()
        instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
        homes = []
        for variant, options in builder.variants(directory, self.options).items():
            folder = Path(self.prepared_dir).expanduser() / self.name / variant
            home = folder / str(builder.VERSION)
            if directory or not instructions:
                store.refresh(builder, directory, options, home)
            elif not home.exists():
                raise errors.UserError(
                    f"data set {self.name!r} is neither prepared in {folder} nor given by "
                    f"config.data.dir: {instructions}",
                    errors.BAD_DATA,
                )
            homes.append(home)
        return homes


def _read(home: Path, split: str) -> list[Example]:
    from segdiff_jax.data.datasets import store

    return store.read(home, split) if split in store.counts(home) else []


def statistics(examples: Sequence[Example]) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Returns (mean, standard deviation) of the RGB channels over all pixels, in 0..255.

    Rounded to two digits, as they are kept in a config; a constant channel has deviation 1.
    """
    pixels = sum(example.mask.size for example in examples)
    totals = [example.image.sum((0, 1), np.float64) for example in examples]
    mean = np.sum(totals, axis=0) / pixels
    squares = [np.square(example.image - mean).sum((0, 1)) for example in examples]
    deviation = np.sqrt(np.sum(squares, axis=0) / pixels)
    deviation[deviation < 0.01] = 1.0
    return tuple(mean.round(2).tolist()), tuple(deviation.round(2).tolist())
