"""Reads Aperio ImageScope annotations, XML with a polygon a nucleus, and fills their mask.

Coordinates are continuous, in pixels from the top left corner of the image: pixel (row, column)
covers [column, column + 1] x [row, row + 1], and it belongs to a polygon when its centre
(column + 0.5, row + 0.5) does.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError

import defusedxml
import defusedxml.ElementTree
import numpy as np

from segdiff_jax.errors import bad_data

MAX_BYTES = 64 * 2**20  # official files have at most 4 MB; a tree takes about ten times its file
MAX_COORDINATE = 1e6  # pixels, beyond any slide; refuses inf and nan too
MAX_EDGES_PER_PASS = 4096  # bounds the memory of filling one polygon


class Region(NamedTuple):
    """One outline of an annotation.

    Attributes:
        vertices: [n, 2] float64, (x, y) in pixels; closed implicitly.
        negative: whether it cuts a hole into the others (ImageScope's NegativeROA).
    """

    vertices: np.ndarray
    negative: bool


def regions(path: Path) -> list[Region]:
    """Reads the outlines of all layers of a file.

    Outlines of fewer than three vertices cover nothing and are left out.

    Raises:
        UserError: the file is missing, too large, not XML, has a DTD or entities, has no region,
            or has a vertex that is not a pair of numbers.
    """
    found = list(_parse(path).iter("Region"))
    if not found:
        raise bad_data(path, "holds no <Region>")
    outlines = (
        Region(_vertices(path, index, region), region.get("NegativeROA") == "1")
        for index, region in enumerate(found, start=1)
    )
    return [outline for outline in outlines if len(outline.vertices) >= 3]


def _parse(path: Path) -> Element:
    try:
        if (size := path.stat().st_size) > MAX_BYTES:
            raise bad_data(path, f"has {size} bytes; at most {MAX_BYTES} are read")
        return defusedxml.ElementTree.fromstring(path.read_bytes(), forbid_dtd=True)
    except defusedxml.DefusedXmlException as error:
        raise bad_data(path, f"is refused: a DTD or entities are not allowed ({error})") from error
    except (ParseError, OSError, ValueError, LookupError) as error:
        raise bad_data(path, f"is not readable XML ({error})") from error


def _vertices(path: Path, index: int, region: Element) -> np.ndarray:
    pairs = [(vertex.get("X", ""), vertex.get("Y", "")) for vertex in region.iter("Vertex")]
    try:
        vertices = np.array(pairs, dtype=object).astype(np.float64).reshape(-1, 2)
    except ValueError as error:
        raise bad_data(path, f"has a vertex that is not two numbers in region {index}") from error
    if not (np.abs(vertices) <= MAX_COORDINATE).all():
        raise bad_data(path, f"has a vertex beyond +-{MAX_COORDINATE:g} pixels in region {index}")
    return vertices


def semantic_mask(outlines: Iterable[Region], height: int, width: int) -> np.ndarray:
    """Returns the union of the outlines less the negative ones, [height, width] uint8 in {0, 1}."""
    mask = np.zeros((height, width), np.uint8)
    holes = np.zeros_like(mask)
    for vertices, negative in outlines:
        _fill(holes if negative else mask, vertices)
    return mask & ~holes


def _fill(mask: np.ndarray, vertices: np.ndarray) -> None:
    """Sets the pixels of `mask` whose centres lie inside a polygon, by the even-odd rule.

    A centre on a left or upper edge is inside, on a right or lower one outside, so that polygons
    with a common edge share no pixel and leave no gap.
    """
    height, width = mask.shape
    left, top = np.clip(np.floor(vertices.min(0)), 0, (width, height)).astype(int)
    right, bottom = np.clip(np.ceil(vertices.max(0)), 0, (width, height)).astype(int)
    if left == right or top == bottom:
        return
    rows, columns = bottom - top, right - left
    y = np.arange(top, bottom) + 0.5
    starts, ends = vertices, np.roll(vertices, -1, axis=0)
    toggles = np.zeros(rows * (columns + 1), np.int64)
    for first in range(0, len(vertices), MAX_EDGES_PER_PASS):
        (x0, y0), (x1, y1) = (v[first : first + MAX_EDGES_PER_PASS].T for v in (starts, ends))
        edge, row = np.nonzero((y0[:, None] <= y) != (y1[:, None] <= y))
        slope = (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
        crossing = x0[edge] + (y[row] - y0[edge]) * slope
        # The first pixel whose centre is not left of the crossing; inside and outside swap there.
        column = np.clip(np.ceil(crossing - 0.5) - left, 0, columns).astype(int)
        toggles += np.bincount(row * (columns + 1) + column, minlength=len(toggles))
    inside = toggles.reshape(rows, columns + 1).cumsum(axis=1)[:, :columns] % 2
    mask[top:bottom, left:right] |= inside.astype(np.uint8)
