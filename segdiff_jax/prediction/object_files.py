"""Encodes the outlines of objects: GeoJSON for QuPath and maps, a zip of ROIs for ImageJ."""

import io
import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from roifile import ROI_TYPE, ImagejRoi

from segdiff_jax.data.image_io.pixel_size import DEGREE, Scale
from segdiff_jax.prediction.object_table import DOUBTFUL, OBJECT, Row
from segdiff_jax.prediction.outlines import area

_LINE, _CLOSE = 1.0, 4.0  # steps of a path of ImageJ, which begins with 0
_WHEN = (1980, 1, 1, 0, 0, 0)  # of the entries of a zip: equal objects give equal files


DOUBTFUL_CLASS = {"name": "Doubtful", "color": [0, 150, 255]}  # of QuPath
Colours = Mapping[str, Sequence[int]]  # RGB by the name of a class
NO_COLOURS: Colours = {}


class Outlined(NamedTuple):
    """An object: its line of the table, and its rings as of `outlines.rings`."""

    row: Row
    rings: list[np.ndarray]


def geojson(
    objects: Sequence[Outlined], scale: Scale | None, colours: Colours = NO_COLOURS
) -> bytes:
    """Returns a FeatureCollection of polygons, detections with measurements as QuPath reads them.

    Coordinates are pixels from the upper left corner; those of the map if the scale is of one, and
    the member "crs" names its coordinate system, as GDAL reads it.
    """
    of_map = scale if scale is not None and scale.is_map else None
    head: dict[str, Any] = {"type": "FeatureCollection"}
    if of_map is not None and of_map.epsg is not None:
        name = f"urn:ogc:def:crs:EPSG::{of_map.epsg}"
        head["crs"] = {"type": "name", "properties": {"name": name}}
    features = [json.dumps(_feature(one, of_map, colours), allow_nan=False) for one in objects]
    lines = ",\n".join(features)  # one a line, so that parts of a large file can be read
    return f'{json.dumps(head)[:-1]}, "features": [\n{lines}\n]}}\n'.encode()


def _feature(one: Outlined, of_map: Scale | None, colours: Colours) -> dict[str, Any]:
    row, kind = one.row, {}
    if row.status == DOUBTFUL:
        kind = {"classification": DOUBTFUL_CLASS}
    elif row.class_:
        kind = {"classification": {"name": row.class_, "color": [*colours[row.class_]]}}
    square = "" if row.unit == DEGREE else f"{row.unit}^2"
    measured = {
        "Area px^2": row.area,
        "Perimeter px": row.perimeter,
        "Mean probability": row.probability,
        "Agreement": row.agreement,
        "Area std px^2": row.area_std,
        "Confidence": row.confidence,
        f"Area {square}": row.unit_area,
        f"Perimeter {row.unit}": row.unit_perimeter,
    }
    return {
        "type": "Feature",
        "geometry": {
            "type": "Polygon",
            "coordinates": [_closed(ring, of_map, i > 0) for i, ring in enumerate(one.rings)],
        },
        "properties": {
            "objectType": "detection",
            "name": str(row.label),
            **kind,
            "measurements": {k: v for k, v in measured.items() if not math.isnan(v)},
        },
    }


def _closed(ring: np.ndarray, of_map: Scale | None, hole: bool) -> list[list[float]]:
    """Returns a ring with its first point again; counter-clockwise in (x, y), holes clockwise."""
    points = ring if of_map is None else of_map.place(ring)
    if (area(points - points[0]) < 0) != hole:
        points = points[::-1]
    return np.concatenate([points, points[:1]]).tolist()


def rois(objects: Sequence[Outlined]) -> bytes:
    """Returns a zip of ROIs, LABEL.roi: polygons, and composite ones where there are holes.

    Those of doubtful objects are left out, as an ROI has no class and all of a zip are counted.
    """
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as file:
        for one in (one for one in objects if one.row.status == OBJECT):
            name = f"{one.row.label:05d}"
            entry = zipfile.ZipInfo(f"{name}.roi", _WHEN)
            entry.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(entry, _roi(name, one).tobytes())
    return stream.getvalue()


def _roi(name: str, one: Outlined) -> ImagejRoi:
    if len(one.rings) == 1:
        polygon = ImagejRoi.frompoints(one.rings[0].astype(np.int32), name=name)
        polygon.roitype = ROI_TYPE.POLYGON
        return _boxed(polygon, one.row)
    path: list[float] = []
    for ring in one.rings:
        steps = np.insert(ring.astype(np.float32), 0, _LINE, axis=1)
        steps[0, 0] = 0
        path += [*steps.ravel().tolist(), _CLOSE]
    composite = ImagejRoi(name=name)
    composite.roitype, composite.shape_roi_size = ROI_TYPE.RECT, len(path)
    composite.multi_coordinates = np.array(path, np.float32)
    return _boxed(composite, one.row)


def _boxed(roi: ImagejRoi, row: Row) -> ImagejRoi:
    """Sets the bounding box, which `frompoints` takes one pixel larger: its points are pixels."""
    roi.left, roi.right = row.left, row.left + row.width
    roi.top, roi.bottom = row.top, row.top + row.height
    return roi
