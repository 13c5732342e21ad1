"""Writes what predict says of objects: labels, lines of objects.csv, GeoJSON, ROIs of ImageJ.

The objects are those of `labelling.label` in the mask of the whole image, however it was cut into
tiles and rows when it was predicted.
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, product
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from absl import logging

from segdiff_jax.certainty.answers import Objects
from segdiff_jax.certainty.doubtful import Doubtful
from segdiff_jax.data.classes import members, of_objects
from segdiff_jax.data.image_io import pixel_size, writing
from segdiff_jax.data.image_io.pixel_size import MICROMETRE, Scale
from segdiff_jax.evaluation.class_colours import COLOURS
from segdiff_jax.evaluation.class_scores import by_plane
from segdiff_jax.evaluation.labelling import STRIP, label, label_each
from segdiff_jax.prediction import object_files, outlines
from segdiff_jax.prediction.inputs import OF_OBJECTS, Input
from segdiff_jax.prediction.object_files import Outlined
from segdiff_jax.prediction.object_table import DOUBTFUL, OBJECT, ObjectTable, Row
from segdiff_jax.prediction.output_maps import UINT16_MAX
from segdiff_jax.runtime import files

MAX_PIXELS = 2**27  # of an image whose objects are written: 8 bytes a pixel, a gigabyte
_SHORT, _RATIONAL = 3, 5  # types of TIFF fields
_CENTIMETRE, _OF_CENTIMETRE = 3, 10_000  # code of ResolutionUnit; micrometres
ENCODE = {
    "geojson": object_files.geojson,
    "rois": lambda objects, _, __: object_files.rois(objects),
}


class ObjectMaps(NamedTuple):
    """The maps of an image of which its objects are made, see `OutputMaps`.

    Attributes:
      mask: [H, W] uint8.
      probability, interior: [H, W] uint16.
      classes: [H, W] uint8; shares: [C, H, W] uint16; names: of the C classes.
      by_distance: see `labelling.label`; then neither `interior` nor `classes` divides objects.
      overlap: whether classes do; then each has its own objects.
    """

    mask: np.ndarray
    probability: np.ndarray
    interior: np.ndarray | None = None
    classes: np.ndarray | None = None
    shares: np.ndarray | None = None
    names: tuple[str, ...] = ()
    by_distance: bool = False
    overlap: bool = False

    def labelled(self) -> np.ndarray:
        """Returns the labels of the objects [H, W], see `labelling.label`, or `label_each`'s."""
        if self.overlap and self.classes is not None:
            return label_each(members(self.classes, len(self.names)), self.by_distance)
        interior = None if self.by_distance else self.interior
        return label(self.mask, interior, self.by_distance, self.classes)

    def classes_of(self, labels: np.ndarray) -> tuple[str, ...]:
        """Returns the names of the classes of objects; "" where there are no classes."""
        if self.shares is None:
            return ("",) * int(labels.max(initial=0))
        if self.overlap:
            return tuple(self.names[k - 1] for k in by_plane(labels).tolist())
        return tuple(self.names[k - 1] for k in of_objects(labels, self.shares).tolist())

    @property
    def of_objects(self) -> np.ndarray:
        """The probability of the pixels of objects, as large as their labels."""
        return self.shares if self.overlap and self.shares is not None else self.probability

    @property
    def colours(self) -> object_files.Colours:
        """RGB by the name of a class."""
        return dict(zip(self.names, COLOURS, strict=False))


@dataclass(frozen=True)
class ObjectOutputs:
    """Writes the objects of images.

    Attributes:
      kinds: of `OF_OBJECTS`, and "objects", which comes with "labels".
      table: objects.csv; None: it is not asked for.
      page: of the files, whose scale is read.
      planes: how many maps of labels an image has: of each class that overlaps one.
    """

    kinds: Collection[str]
    table: ObjectTable | None
    page: int = 0
    planes: int = 1

    def is_done(self, input: Input, output: Path, pixels: int) -> bool:
        """Returns whether everything is there for an image, whose row of the summary is."""
        if pixels * self.planes > MAX_PIXELS:
            return True
        paths = self.paths(input, output)
        if not all(path.is_file() for path in paths.values()):
            return False
        if self.table is None or input.name in self.table.lines:
            return True
        try:  # without lines it is done if it has no objects
            return not tifffile.imread(paths["labels"]).any()
        except Exception:  # a damaged file: libraries raise nearly anything
            return False

    def paths(self, input: Input, output: Path) -> dict[str, Path]:
        """Returns the files of an image by kind."""
        found = input.of_objects(output)
        return {kind: found[kind] for kind in OF_OBJECTS if kind in self.kinds}

    def write(
        self,
        input: Input,
        output: Path,
        maps: ObjectMaps,
        known: Objects | None,
        tags: writing.Tags,
    ) -> None:
        """Writes the objects of an image.

        Args:
          input: the image.
          output: folder.
          maps: of the image.
          known: what is known of the objects of the mask; None: their labels are found here.
          tags: of the image file.
        """
        if (size := maps.mask.size) * self.planes > MAX_PIXELS:
            limit = f"its {size} pixels are more than {MAX_PIXELS // self.planes}"
            logging.warning("%s: no objects are written: %s", input.name, limit)
            return
        if known is None:
            logging.warning(
                "%s: too large for the agreement, area_std and confidence of its objects",
                input.name,
            )
        labels = maps.labelled() if known is None else known.labels
        classes = maps.classes_of(labels) if known is None else known.classes
        scale, paths = pixel_size.read(input.path, self.page), self.paths(input, output)
        objects = measured(labels, maps.of_objects, known, scale, input.name, classes)
        for kind, encode in ENCODE.items():
            if kind in paths:
                files.write_bytes(paths[kind], encode(objects, scale, maps.colours))
        if self.table is not None:  # the labels say that the lines are complete
            paths["labels"].unlink(missing_ok=True)
            self.table.add(input.name, [one.row for one in objects])
        if "labels" in paths:
            save_labels(paths["labels"], labels, tags, scale)


def save_labels(path: Path, labels: np.ndarray, tags: writing.Tags, scale: Scale | None) -> None:
    """Writes labels [H, W] as TIFF of 16 bits, or of 32 if they are too many; with the scale.

    Those of each of C classes, [C, H, W], are its pages.
    """
    dtype = np.uint16 if labels.max(initial=0) <= UINT16_MAX else np.uint32
    writing.save(path, labels.astype(dtype), with_resolution(tags, scale))


def measured(
    labels: np.ndarray,
    probability: np.ndarray,
    known: Objects | None,
    scale: Scale | None,
    picture: str,
    classes: Sequence[str] = (),
) -> list[Outlined]:
    """Measures the objects of a picture.

    Args:
      labels: [H, W] int64, 1..N, 0 is background; of each class that overlaps, [C, H, W].
      probability: of the same shape, uint16, 65535 is 1.
      known: of these labels; None: nothing is.
      scale: of the picture.
      picture: its name.
      classes: name of the class of each object; (): there are none.
    """
    planes = labels.reshape(-1, *labels.shape[-2:])
    count, x, y, p = _means(planes, probability.reshape(planes.shape))
    found = []
    for number, (rows, columns), rings in chain(*map(outlines.outlines, planes)):
        i = number - 1
        box = columns.start, rows.start, columns.stop - columns.start, rows.stop - rows.start
        row = Row(
            *(picture, number, OBJECT, classes[i] if classes else "", int(count[i])),
            *(round(x[i], 3), round(y[i], 3), *box),
            round(outlines.perimeter(rings), 3),
            round(p[i], 5),
        )
        if known is not None:
            sure = (of[i] if len(of) else math.nan for of in (known.held, known.area_std))
            agreement, area_std = (round(float(value), 4) for value in sure)
            confidence = round(float(known.confidence[i]), 4)
            row = row._replace(agreement=agreement, area_std=area_std, confidence=confidence)
        if scale is not None:
            row = _scaled(row, rings, scale, np.array([x[i], y[i]]))
        found.append(Outlined(row, rings))
    rest = enumerate(() if known is None else known.doubtful, start=len(count) + 1)
    return found + [_doubtful(one, number, scale, picture) for number, one in rest]


def _doubtful(one: Doubtful, number: int, scale: Scale | None, picture: str) -> Outlined:
    """Measures a doubtful object."""
    (height, width), area = one.pixels.shape, int(np.count_nonzero(one.pixels))
    rows, columns = np.nonzero(one.pixels)
    place = one.left + columns.mean() + 0.5, one.top + rows.mean() + 0.5
    rings = [ring + (one.left, one.top) for ring in outlines.rings(one.pixels)]
    row = Row(
        *(picture, number, DOUBTFUL, one.class_, area),
        *(round(float(place[0]), 3), round(float(place[1]), 3)),
        *(one.left, one.top, width, height, round(outlines.perimeter(rings), 3)),
        *(round(one.probability, 5), round(one.held, 4), round(one.area_std, 4)),
        round(one.confidence, 4),
    )
    row = row if scale is None else _scaled(row, rings, scale, np.array(place))
    return Outlined(row, rings)


def _scaled(row: Row, rings: list[np.ndarray], scale: Scale, centroid: np.ndarray) -> Row:
    """Returns a row with its columns in the unit of a scale."""
    place = scale.place(centroid[None])[0]
    length = math.nan
    if not math.isnan(scale.pixel_area):
        length = outlines.perimeter(rings, scale.linear)
    area = row.area * scale.pixel_area
    numbers = area, length, float(place[0]), float(place[1])
    return row._replace(
        unit=scale.unit,
        **dict(zip(("unit_area", "unit_perimeter", "unit_x", "unit_y"), numbers, strict=True)),
    )


def _means(
    labels: np.ndarray, probability: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns of each object its pixels, the mean place (x, y) of these, and their probability.

    Labels and probability are [C, H, W]; an object lies in one of the C.
    """
    (planes, height, width), count = labels.shape, int(labels.max(initial=0))
    sums, step = np.zeros((4, count + 1)), max(1, STRIP // max(width, 1))
    tops = product(range(planes), range(0, height, step))
    for plane, top in tops:  # of a whole image, the weights would take gigabytes
        part = plane, slice(top, top + step)
        rows, columns = np.nonzero(labels[part])
        of = labels[part][rows, columns]
        p = probability[part][rows, columns] / UINT16_MAX
        for total, weights in zip(sums, (None, columns + 0.5, top + rows + 0.5, p), strict=True):
            total += np.bincount(of, weights, count + 1)
    pixels = sums[0, 1:]
    x, y, p = sums[1:, 1:] / pixels
    return pixels, x, y, p


def with_resolution(tags: writing.Tags, scale: Scale | None) -> writing.Tags:
    """Returns tags whose resolution says the size of pixels in micrometres, for any reader."""
    if scale is None or scale.unit != MICROMETRE:
        return tags
    sizes = scale.matrix[0][0], scale.matrix[1][1]
    per_centimetre = [Fraction(_OF_CENTIMETRE / size).limit_denominator(1000) for size in sizes]
    if not all(0 < one.numerator < 2**32 for one in per_centimetre):
        return tags
    codes = zip((writing.X_RESOLUTION, writing.Y_RESOLUTION), per_centimetre, strict=True)
    fields = {code: (_RATIONAL, 1, one.as_integer_ratio()) for code, one in codes}
    fields |= {writing.UNIT: (_SHORT, 1, _CENTIMETRE)}
    return tags._replace(tiff={**tags.tiff, **fields})
