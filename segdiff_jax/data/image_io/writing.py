"""Writes arrays as PNG and TIFF files atomically, with the tags of their source.

A map made of a file lies on the same ground as the file: its GeoTIFF tags and its resolution are
copied. Two GDAL tags describe the values (statistics, the value for "no data"). They hold for
pictures like the source only: a mask whose background were declared "no data" would be all
foreground to a GIS.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import tifffile
from absl import logging
from PIL import Image

from segdiff_jax.data.image_io import headers, pillow_files, tiff_files
from segdiff_jax.errors import one_line
from segdiff_jax.runtime.files import atomic_write

# GeoTIFF 1.1: ModelPixelScale, ModelTiepoint, ModelTransformation, GeoKeyDirectory,
# GeoDoubleParams, GeoAsciiParams
GROUND = (33550, 33922, 34264, 34735, 34736, 34737)
VALUES = (42112, 42113)  # GDAL_METADATA, GDAL_NODATA
RESOLUTION = X_RESOLUTION, Y_RESOLUTION, UNIT = 282, 283, 296
TIFF_SUFFIXES = (".tif", ".tiff")
_ASCII, _RATIONAL = 2, 5  # types of TIFF fields


class Tags(NamedTuple):
    """The tags of an image file that are copied to files made of it.

    Attributes:
        tiff: TIFF fields (type, count, value) by number, of those this module names; empty for
            other formats.
        dpi: (horizontal, vertical) pixels per inch of a PNG or JPEG file; None if it has none.
    """

    tiff: Mapping[int, tuple[int, int, Any]] = {}
    dpi: tuple[float, float] | None = None


NO_TAGS = Tags()


def read_tags(path: Path, page: int = 0) -> Tags:
    """Reads the tags of an image file, or of a page of a TIFF file, once it is turned upright.

    Raises:
        UserError: the file is a GeoTIFF with an orientation, or cannot be read.
    """
    with headers.open_image(path) as (file, format):
        if format == "TIFF":
            return _tiff_tags(file, page)
        if format == "NPY":
            return NO_TAGS
        dpi, orientation = pillow_files.read_resolution(file)
    if dpi and 5 <= orientation <= 8:
        dpi = dpi[1], dpi[0]
    return Tags(dpi=dpi)


def _tiff_tags(file: BinaryIO, number: int) -> Tags:
    with tiff_files.open_page(file, max(number, 0)) as page:
        orientation = tiff_files.orientation(page)
        found = {code: page.tags.get(code) for code in (*GROUND, *VALUES, *RESOLUTION)}
        odd = [tag for tag in found.values() if tag and not _is_usable(tag)]
        tiff = {
            code: _field(tag, page.parent.filehandle)
            for code, tag in found.items()
            if tag and tag not in odd
        }
    if odd:
        listed = "; ".join(f"{tag.name} {tag.value}"[:100] for tag in odd)
        logging.warning("%s: metadata that cannot be copied are left out: %s", file.name, listed)
    if orientation != 1 and tiff.keys() & set(GROUND):
        raise headers.RefusedError(
            f"GeoTIFF with orientation {orientation}: must be 1, since its pixels would be turned "
            "and its coordinates not"
        )
    if 5 <= orientation <= 8 and {X_RESOLUTION, Y_RESOLUTION} <= tiff.keys():
        tiff |= {X_RESOLUTION: tiff[Y_RESOLUTION], Y_RESOLUTION: tiff[X_RESOLUTION]}
    return Tags(tiff)


def _is_usable(tag: tifffile.TiffTag) -> bool:
    """Returns whether a field can be written again; odd resolutions are dropped."""
    try:
        if tag.code == UNIT:
            return tag.value in (1, 2, 3)
        if tag.code in RESOLUTION:
            return tag.dtype == _RATIONAL and tag.count == 1 and min(tag.value) > 0
        return tag.value is not None
    except Exception:  # a damaged value, which tifffile reads when it is asked for
        return False


def _field(tag: tifffile.TiffTag, file: tifffile.FileHandle) -> tuple[int, int, Any]:
    """Returns (type, count, value) of a TIFF field; text as its bytes, in whatever encoding."""
    if tag.dtype != _ASCII:
        return int(tag.dtype), tag.count, tag.value
    file.seek(tag.valueoffset)
    return _ASCII, tag.count, file.read(tag.count)


def usable_tags(tags: Tags, suffix: str, name: str) -> Tags:
    """Returns the tags that a file of this suffix can hold; each other one is logged.

    Args:
        tags: of a source, which may hold any numbers.
        suffix: of the files to be written, .png or .tif.
        name: of the source.
    """
    if tags == NO_TAGS or (reason := _refusal(tags, suffix)) is None:
        return tags
    parts = {f"tag {code}": Tags({code: tags.tiff[code]}) for code in tags.tiff}
    parts |= {"resolution": Tags(dpi=tags.dpi)} if tags.dpi else {}
    if {*RESOLUTION[:2]} <= tags.tiff.keys():  # one is not written without the other
        parts = {k: v for k, v in parts.items() if not v.tiff.keys() & {*RESOLUTION}}
        parts["resolution"] = Tags({k: v for k, v in tags.tiff.items() if k in RESOLUTION})
    refusals = {key: _refusal(part, suffix) for key, part in parts.items()}
    fine = [part.tiff for key, part in parts.items() if not refusals[key]]
    kept = {code: field for part in fine for code, field in part.items()}
    refused = "; ".join(f"{key} ({why})" for key, why in refusals.items() if why) or reason
    logging.warning("%s: metadata that cannot be copied are left out: %s", name, refused)
    usable = Tags(kept, tags.dpi if not refusals.get("resolution") else None)
    return usable if _refusal(usable, suffix) is None else NO_TAGS


def _refusal(tags: Tags, suffix: str) -> str | None:
    """Returns why a small file of this suffix cannot be written with the tags; None: it can."""
    try:
        _write(io.BytesIO(), suffix, np.zeros((1, 1), np.uint8), tags, like_source=True)
    except Exception as error:  # struct, ValueError, OverflowError and others
        return one_line(error)
    return None


def save(
    path: Path,
    pixels: np.ndarray,
    tags: Tags = NO_TAGS,
    like_source: bool = False,
    palette: np.ndarray | None = None,
) -> None:
    """Writes an image; the suffix of the path, .png or .tif, decides the format.

    Args:
        path: of the file; its folder is made if missing.
        pixels: [H, W] uint8 or uint16, or [H, W, 3] uint8; for TIFF also [H, W] uint32, and pages
            [N, H, W] uint16 or uint32; not copied if contiguous.
        tags: of the source; tags that the format cannot hold are left out.
        like_source: whether the pixels are a picture like the source, so that the tags about its
            values hold for them too.
        palette: [n, 3] uint8, the colours of pixels [H, W] uint8 by their value; None: grey.

    Raises:
        UserError: the file cannot be written.
    """
    with atomic_write(path) as temporary:
        _write(temporary, path.suffix, pixels, tags, like_source, palette)


def _write(
    file: Path | BinaryIO,
    suffix: str,
    pixels: np.ndarray,
    tags: Tags,
    like_source: bool,
    palette: np.ndarray | None = None,
) -> None:
    if suffix not in TIFF_SUFFIXES:
        # Of smooth maps, level 3 is ten times as fast as the default and as small.
        options = {"dpi": tags.dpi} if tags.dpi else {}
        picture = Image.fromarray(pixels)
        if palette is not None:
            picture.putpalette(palette.tobytes())
        picture.save(file, format="PNG", compress_level=3, **options)
        return
    table = None
    if palette is not None:
        table = np.zeros((3, 256), np.uint16)
        table[:, : len(palette)] = palette.T * np.uint16(257)
    copied = (*GROUND, *VALUES) if like_source else GROUND
    x, y = (tags.tiff[code][2] if code in tags.tiff else None for code in RESOLUTION[:2])
    coloured = pixels.ndim == 3 and pixels.dtype == np.uint8
    tifffile.imwrite(
        file,
        pixels,
        photometric="rgb" if coloured else "minisblack" if table is None else "palette",
        compression="lzw",
        predictor=table is None,
        resolution=(x, y) if x and y else None,
        resolutionunit=tags.tiff[UNIT][2] if UNIT in tags.tiff else None,
        metadata=None,
        software=False,
        colormap=table,
        extratags=[(code, *tags.tiff[code], True) for code in copied if code in tags.tiff],
    )
