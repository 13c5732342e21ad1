"""Reads how large a pixel is: micrometres of a microscope's file, map units of a GeoTIFF.

The first that a file has counts: GeoTIFF keys, OME-XML, the unit of ImageJ, the resolution. Many
programs write a resolution for printing (72, 300 dots per inch) into any file: one whose pixels are
`PRINTED` or larger says nothing.
"""

import contextlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import defusedxml.ElementTree
import numpy as np
import tifffile

from segdiff_jax.data.image_io import headers, pillow_files, tiff_files
from segdiff_jax.data.image_io.writing import UNIT, X_RESOLUTION, Y_RESOLUTION

PRINTED = 20.0  # micrometres; 1270 dots per inch
MICROMETRE, DEGREE = "um", "degree"
_MICROMETRES = {
    **dict.fromkeys(("um", "µm", "μm", "\\u00b5m", "micron", "microns", "micrometer"), 1.0),
    **{"nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25400.0, "in": 25400.0},
}
# micrometres of a unit of `Scale`; a foot of the US survey is 1200 / 3937 m
_OF_LENGTH = {MICROMETRE: 1.0, "m": 1e6, "ft": 304_800.0, "us-ft": 1.2e9 / 3937}
_OF_UNIT = {2: 25400.0, 3: 1e4}  # micrometres of an inch, of a centimetre
# GeoTIFF 1.1: GTModelTypeGeoKey, GTRasterTypeGeoKey, codes of ProjLinearUnitsGeoKey
_GEOGRAPHIC, _POINT = 2, 2
_LINEAR = {9001: "m", 9002: "ft", 9003: "us-ft"}
# EPSG codes of UTM on WGS 84 and ETRS89, and of web maps: all in metres
_METRES = {*range(32601, 32661), *range(32701, 32761), *range(25828, 25839), 3857}


class Scale(NamedTuple):
    """Where the pixels of an image lie: x' = a x + b y + c, y' = d x + e y + f.

    (x, y) is (0, 0) at the outer corner of the first pixel, and (1, 1) at its inner one.

    Attributes:
      unit: of x' and y': um; m, ft, us-ft, degree or "map unit" of a map.
      matrix: [[a, b, c], [d, e, f]].
      epsg: code of the map's coordinate system; None: unknown, or it is no map.
      is_map: whether x' and y' are coordinates of a map.
    """

    unit: str
    matrix: tuple[tuple[float, float, float], tuple[float, float, float]]
    epsg: int | None = None
    is_map: bool = False

    @property
    def linear(self) -> np.ndarray:
        """The matrix [[a, b], [d, e]]."""
        return np.array(self.matrix)[:, :2]

    @property
    def pixel_area(self) -> float:
        """Returns the area of a pixel; nan in degrees, which are no lengths."""
        (a, b, _), (d, e, _) = self.matrix
        return math.nan if self.unit == DEGREE else abs(a * e - b * d)

    def place(self, points: np.ndarray) -> np.ndarray:
        """Returns (x', y') of points [N, 2] of (x, y), float64."""
        return np.asarray(points, np.float64) @ self.linear.T + np.array(self.matrix)[:, 2]


def read(path: Path, page: int = 0) -> Scale | None:
    """Reads the scale of an image file once it is turned upright; None if it has none."""
    with headers.open_image(path) as (file, format):
        if format == "TIFF":
            return _of_tiff(file, page)
        if format == "NPY":
            return None
        dpi, orientation = pillow_files.read_resolution(file)
    if not dpi or min(dpi) <= 0:
        return None
    return _not_printed(_micrometres(25400 / dpi[0], 25400 / dpi[1], orientation))


def micrometres(scale: Scale | None) -> float | None:
    """Returns the side of a square of the area of a pixel, micrometres; None: it is not known."""
    if scale is None or scale.unit not in _OF_LENGTH:
        return None
    return math.sqrt(scale.pixel_area) * _OF_LENGTH[scale.unit]


def _of_tiff(file: BinaryIO, number: int) -> Scale | None:
    with tiff_files.open_page(file, max(number, 0)) as page:
        turned = tiff_files.orientation(page)
        for source in (_of_map, _of_ome, _of_imagej, _of_resolution):
            with contextlib.suppress(
                Exception
            ):  # damaged metadata: tifffile raises nearly anything
                if (scale := source(page, turned)) and _usable(scale):
                    return scale
    return None


def _usable(scale: Scale) -> bool:
    numbers = np.array(scale.matrix)
    return bool(np.isfinite(numbers).all()) and abs(np.linalg.det(scale.linear)) > 0


def _micrometres(width: float, height: float, orientation: int) -> Scale:
    """Returns the scale of pixels of this size, which are turned by the orientation."""
    x, y = (height, width) if 5 <= orientation <= 8 else (width, height)
    return Scale(MICROMETRE, ((x, 0.0, 0.0), (0.0, y, 0.0)))


def _not_printed(scale: Scale) -> Scale | None:
    return scale if np.abs(scale.linear).max() < PRINTED else None


def _of_map(page: tifffile.TiffPage, _: int) -> Scale | None:
    keys: Mapping[str, Any] = page.geotiff_tags or {}
    if "ModelTransformation" in keys:
        (a, b, _, c), (d, e, _, f) = keys["ModelTransformation"][:2]
    elif {"ModelPixelScale", "ModelTiepoint"} <= keys.keys():
        a, e = keys["ModelPixelScale"][0], -keys["ModelPixelScale"][1]
        i, j, _, x, y, _ = np.reshape(keys["ModelTiepoint"], (-1, 6))[0]
        b, d, c, f = 0.0, 0.0, x - a * i, y - e * j
    else:
        return None
    if int(keys.get("GTRasterTypeGeoKey", 1)) == _POINT:  # (0, 0) is the centre of a pixel
        c, f = c - (a + b) / 2, f - (d + e) / 2
    geographic = int(keys.get("GTModelTypeGeoKey", 1)) == _GEOGRAPHIC
    code = int(keys.get("GeographicTypeGeoKey" if geographic else "ProjectedCSTypeGeoKey", 0))
    linear = 9001 if code in _METRES else int(keys.get("ProjLinearUnitsGeoKey", 0))
    unit = DEGREE if geographic else _LINEAR.get(linear, "map unit")
    known = code if 1024 <= code < 32767 else None  # 32767: defined by the file itself
    rows = (float(a), float(b), float(c)), (float(d), float(e), float(f))
    return Scale(unit, rows, known, is_map=True)


def _of_ome(page: tifffile.TiffPage, orientation: int) -> Scale | None:
    text = page.parent.ome_metadata
    if not text:
        return None
    root = defusedxml.ElementTree.fromstring(text)
    pixels = next(one for one in root.iter() if one.tag.rpartition("}")[2] == "Pixels")
    sizes = [
        float(pixels.attrib[f"PhysicalSize{side}"])
        * _MICROMETRES[pixels.attrib.get(f"PhysicalSize{side}Unit", "µm")]
        for side in "XY"
    ]
    return _micrometres(sizes[0], sizes[1], orientation) if min(sizes) > 0 else None


def _of_imagej(page: tifffile.TiffPage, orientation: int) -> Scale | None:
    of = _MICROMETRES.get(str((page.parent.imagej_metadata or {}).get("unit", "")).lower())
    return None if of is None else _by_resolution(page, of, orientation)


def _of_resolution(page: tifffile.TiffPage, orientation: int) -> Scale | None:
    of = _OF_UNIT.get(int(page.tags.valueof(UNIT, 2)))
    return None if of is None else _not_printed(_by_resolution(page, of, orientation))


def _by_resolution(page: tifffile.TiffPage, of: float, orientation: int) -> Scale:
    """Returns the scale of pixels of which a resolution fits into a unit of `of` micrometres."""
    (x, of_x), (y, of_y) = page.tags[X_RESOLUTION].value, page.tags[Y_RESOLUTION].value
    return _micrometres(of * of_x / x, of * of_y / y, orientation)
