"""Cityscapes annotations: JSON with a polygon an object, and the image of instance ids they draw.

Polygons are drawn in the order of the file, so an object hides those that come before it. The k-th
polygon (from 0) labelled with one of the classes is given the id 1000 * label id + k; what an
annotator could not tell apart is labelled "cargroup" and the like, and is no instance. Both rules
are those of the public scripts (github.com/mcordts/cityscapesScripts).
"""

import json
import reprlib
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from segdiff_jax import errors

LABEL_IDS = {
    "person": 24,
    "rider": 25,
    "car": 26,
    "truck": 27,
    "bus": 28,
    "train": 31,
    "motorcycle": 32,
    "bicycle": 33,
}


INSTANCES = 1000  # ids of one label: 1000 * label id + 0..999


NOT_DRAWN = ("license plate", "license plategroup")  # the public scripts skip their negative id


MAX_BYTES = 16 * 2**20  # of a file; official ones have less than 1 MB


MAX_COORDINATE = 1e5  # pixels, far beyond any image; refuses inf and nan too


class Polygon(NamedTuple):
    """What an annotator drew around one object, closed implicitly.

    Attributes:
        vertices: (x, y) in pixels, where whole numbers are pixel centres.
        instance: its id; 0: of none of the classes, though it hides what is behind.
    """

    vertices: list[tuple[float, float]]
    instance: int


class Annotation(NamedTuple):
    """The polygons of one image, from back to front.

    Attributes:
        height: of the image, pixels.
        width: of the image, pixels.
        polygons: in the order they are drawn.
    """

    height: int
    width: int
    polygons: list[Polygon]


def read(path: Path) -> Annotation:
    """Reads a `*_gtFine_polygons.json`.

    Raises:
        UserError: the file is missing, too large, not JSON, or not what it should hold.
    """
    content = _parse(path)
    height, width = (_get(path, content, key, int) for key in ("imgHeight", "imgWidth"))
    if min(height, width) < 1:
        raise _bad(path, f"imgHeight and imgWidth are {height} and {width}; allowed is 1 or more")
    seen: Counter[str] = Counter()
    polygons = []
    for index, entry in enumerate(_get(path, content, "objects", list)):
        place = f"object {index}"
        label = _get(path, entry, "label", str, place)
        vertices = _vertices(path, _get(path, entry, "polygon", list, place), place)
        if entry.get("deleted") or label in NOT_DRAWN:
            continue
        instance = 0
        if label in LABEL_IDS:
            instance = INSTANCES * LABEL_IDS[label] + seen[label]
            seen[label] += 1
        polygons.append(Polygon(vertices, instance))
    return Annotation(height, width, polygons)


def _parse(path: Path) -> Any:
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise _bad(path, f"has {size} bytes; at most {MAX_BYTES} are read")
        return json.loads(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise _bad(path, f"is not readable JSON ({error})") from error


def _get(path: Path, content: Any, key: str, kind: type, place: str = "the file") -> Any:
    """Returns content[key], having seen that it is of a kind."""
    value = content.get(key) if isinstance(content, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        names = {int: "a whole number", str: "text", list: "a list"}
        raise _bad(path, f"{key} of {place} is {reprlib.repr(value)}; allowed is {names[kind]}")
    return value


def _vertices(path: Path, values: list[Any], place: str) -> list[tuple[float, float]]:
    for pair in values:
        if not (isinstance(pair, list) and len(pair) == 2 and all(map(_is_coordinate, pair))):
            raise _bad(
                path,
                f"a vertex of {place} is {reprlib.repr(pair)}; allowed are two numbers within "
                f"+-{MAX_COORDINATE:g}",
            )
    return [(x, y) for x, y in values]


def _is_coordinate(value: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return -MAX_COORDINATE <= value <= MAX_COORDINATE


def draw(annotation: Annotation) -> np.ndarray:
    """Returns the instance ids that the polygons make, [height, width] int32; 0: no instance.

    The outline belongs to the polygon, as Pillow draws it; which pixels that are differs a little
    between releases of Pillow.
    """
    image = Image.new("I", (annotation.width, annotation.height))
    pen = ImageDraw.Draw(image)
    for vertices, instance in annotation.polygons:
        if len(vertices) >= 2:  # Pillow refuses a single point
            pen.polygon(vertices, fill=instance)
    return np.array(image, np.int32)


def _bad(path: Path, what: str) -> errors.UserError:
    return errors.UserError(f"{path}: {what}", errors.BAD_DATA)
