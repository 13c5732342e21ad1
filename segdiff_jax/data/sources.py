"""From the name of a data set to its examples in memory, preparing the set when it is needed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from segdiff_jax import errors
from segdiff_jax.data.example import Example

if TYPE_CHECKING:
    from segdiff_jax.data.builders.common import SegmentationBuilder


def _synthetic() -> type[SegmentationBuilder]:
    from segdiff_jax.data.builders.synthetic import Synthetic

    return Synthetic


def _monuseg() -> type[SegmentationBuilder]:
    from segdiff_jax.data.builders.monuseg import Monuseg

    return Monuseg


# Functions, so that importing this module does not import TFDS and every builder.
BUILDERS: dict[str, Callable[[], type[SegmentationBuilder]]] = {
    "synthetic": _synthetic,
    "monuseg": _monuseg,
}


def prepare(name: str, data_dir: str, prepared_dir: str) -> dict[str, int]:
    """Prepares a data set unless the prepared one is already made from these files.

    Args:
        name: a key of BUILDERS.
        data_dir: the official files, for data sets that are downloaded by hand; "" takes the
            prepared set as it is.
        prepared_dir: where prepared sets are kept; made if missing.

    Returns:
        The number of examples of each split it has; a partial copy may lack a split.

    Raises:
        UserError: an unknown name, files that are missing or damaged, or no room to write.
    """
    from segdiff_jax.data import prepared

    return prepared.counts(_home(name, data_dir, prepared_dir))


def load(name: str, split: str, data_dir: str, prepared_dir: str) -> list[Example]:
    """Reads a split, preparing the data set first if need be.

    Args:
        name: a key of BUILDERS.
        split: a split of the data set, or several joined by "+", as "train+validation".
        data_dir: as for `prepare`.
        prepared_dir: as for `prepare`.

    Returns:
        The examples, sorted by name within each split.

    Raises:
        UserError: as for `prepare`, or an unknown split, or a damaged prepared set.
    """
    from segdiff_jax.data import prepared

    home = _home(name, data_dir, prepared_dir)
    splits = prepared.counts(home)
    parts = [part.strip() for part in split.split("+")]
    if any(part not in splits for part in parts) or len(set(parts)) < len(parts):
        raise errors.UserError(
            f"split {split!r} of data set {name!r}: allowed are {', '.join(splits)}, "
            "or several of them joined by '+', each once"
        )
    return [example for part in parts for example in prepared.read(home, part)]


def _home(name: str, data_dir: str, prepared_dir: str) -> Path:
    """Returns the folder of a prepared set, having prepared it unless it is up to date."""
    from segdiff_jax.data import prepared

    if name not in BUILDERS:
        raise errors.UserError(f"data set {name!r}: allowed are {', '.join(BUILDERS)}")
    builder = BUILDERS[name]()
    instructions = builder.MANUAL_DOWNLOAD_INSTRUCTIONS
    home = Path(prepared_dir).expanduser() / name / str(builder.VERSION)
    if data_dir or not instructions:
        prepared.refresh(builder, Path(data_dir).expanduser() if data_dir else None, home)
    elif not home.exists():
        raise errors.UserError(
            f"data set {name!r} is neither prepared in {home.parent} nor given by "
            f"config.data.dir: {instructions}",
            errors.BAD_DATA,
        )
    return home
