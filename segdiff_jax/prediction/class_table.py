"""Writes classes.csv of an output folder: how much there is of each class of each picture.

The lines of a picture are appended before its row of summary.csv, which marks it as done.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from segdiff_jax.certainty.of_classes import OfClass
from segdiff_jax.certainty.quality import LEVEL
from segdiff_jax.prediction.inputs import CLASS_TABLE
from segdiff_jax.prediction.picture_table import PictureTable


class Row(NamedTuple):
    """Holds the columns of classes.csv for one class of one picture; what is not known is empty.

    Attributes:
      picture: name of the file, as in summary.csv.
      class_: name of the class; the column is called class.
      pixels: of the class in classes/.
      area, area_low, area_high: its pixels in the truth, the estimate and its 80 % interval.
      objects, objects_low, objects_high: its objects in the truth, likewise.
    """

    picture: str
    class_: str
    pixels: int
    area: float = math.nan
    area_low: float = math.nan
    area_high: float = math.nan
    objects: float = math.nan
    objects_low: float = math.nan
    objects_high: float = math.nan


class ClassTable(PictureTable):
    """Keeps classes.csv."""

    NAME = CLASS_TABLE
    COLUMNS = tuple({"class_": "class"}.get(name, name) for name in Row._fields)


def rows(
    picture: str, names: Sequence[str], pixels: Sequence[int], known: Mapping[str, OfClass]
) -> Iterator[Row]:
    """Yields the lines of a picture.

    Args:
      picture: its name.
      names: of the classes.
      pixels: of each.
      known: area and number of objects by class; {}: they are not calibrated, or not known.
    """
    for name, count in zip(names, pixels, strict=True):
        numbers: list[float] = []
        if name in known:
            for interval in (known[name].area[LEVEL], known[name].count[LEVEL]):
                part = [round(float(value), 4) for value in interval]
                numbers += [math.nan] * 3 if math.isnan(part[1]) else part
        yield Row(picture, name, count, *numbers)
