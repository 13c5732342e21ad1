"""Reads and writes objects.csv of an output folder, a line for each object.

The lines of a picture are appended together, after its other files but those of its labels: where
these are, the lines are complete.
"""

import math
from typing import NamedTuple

from segdiff_jax.prediction.picture_table import PictureTable

TABLE = "objects.csv"
OBJECT, DOUBTFUL = "object", "doubtful"  # of the column status


class Row(NamedTuple):
    """Holds the columns of objects.csv for one object; what is not known is empty.

    Attributes:
      picture: name of the file, as in summary.csv.
      label: value of its pixels in labels/; those of doubtful objects follow, and are not there.
      status: "object", or "doubtful": in some samples only, or of too little confidence, see
        `certainty.doubtful`.
      class_: name of its class; the column is called class.
      area: pixels.
      centroid_x, centroid_y: pixels from the left and the upper edge of the picture; the centre of
        the first pixel is at 0.5.
      left, top, width, height: bounding box, pixels.
      perimeter: pixels, holes included, see `outlines.perimeter`.
      probability: mean over its pixels of probability/.
      agreement: share of the samples that hold it, see `certainty.objects.Objects`.
      area_std: standard deviation of its area between these, pixels.
      confidence: probability that a true object has an IoU of at least 1/2 with it.
      unit: of what follows: um, or that of the map; empty if the file does not say.
      unit_area, unit_perimeter: in this unit; empty in degrees.
      unit_x, unit_y: of the centroid, coordinates of the map where there is one.
    """

    picture: str
    label: int
    status: str
    class_: str
    area: int
    centroid_x: float
    centroid_y: float
    left: int
    top: int
    width: int
    height: int
    perimeter: float
    probability: float
    agreement: float = math.nan
    area_std: float = math.nan
    confidence: float = math.nan
    unit: str = ""
    unit_area: float = math.nan
    unit_perimeter: float = math.nan
    unit_x: float = math.nan
    unit_y: float = math.nan


class ObjectTable(PictureTable):
    """Keeps objects.csv."""

    NAME = TABLE
    COLUMNS = tuple({"class_": "class"}.get(name, name) for name in Row._fields)
