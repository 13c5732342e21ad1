"""Writing arrays as PNG and TIFF files, whole or not at all, with what the source said of itself.

A map made of a file lies on the same ground as the file: its GeoTIFF tags and its resolution go
along. Two GDAL tags say what the values mean (statistics, the value for "no data"). They hold for
pictures like the source only: a mask whose background were declared "no data" would be all
foreground to a GIS.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, JpegImagePlugin, PngImagePlugin, TiffImagePlugin

from segdiff_jax.errors import BAD_DATA, UserError
from segdiff_jax.runtime.files import atomic_write

# GeoTIFF 1.1: ModelPixelScale, ModelTiepoint, ModelTransformation, GeoKeyDirectory,
# GeoDoubleParams, GeoAsciiParams
GROUND = (33550, 33922, 34264, 34735, 34736, 34737)


VALUES = (42112, 42113)  # GDAL_METADATA, GDAL_NODATA


RESOLUTION = X_RESOLUTION, Y_RESOLUTION, UNIT = 282, 283, 296


ORIENTATION, PREDICTOR, DIFFERENCES = 274, 317, 2


TIFF = (".tif", ".tiff")


PLUGINS = (
    TiffImagePlugin.TiffImageFile,
    PngImagePlugin.PngImageFile,
    JpegImagePlugin.JpegImageFile,
)


class Tags(NamedTuple):
    """What a file says of itself besides its pixels.

    Attributes:
      tiff: TIFF fields, (type, value) by number, of those this module names; empty for other
        formats.
      dpi: (horizontal, vertical) pixels per inch, or None if a file that is no TIFF has none.
    """

    tiff: Mapping[int, tuple[int, Any]] = {}
    dpi: tuple[float, float] | None = None


NO_TAGS = Tags()


def read_tags(path: Path, page: int = 0) -> Tags:
    """Reads the tags of an image file as they are once its EXIF orientation is applied.

    Args:
      path: of the file, whose pixels can be read.
      page: of a TIFF file with several.

    Raises:
      UserError: the pixels would be turned, and the ground below them would not.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of odd fields, which are nothing to the pixels
        for plugin in PLUGINS:
            try:
                with plugin(path) as image:
                    if page > 0 and isinstance(image, TiffImagePlugin.TiffImageFile):
                        image.seek(page)
                    return _tags(path, image)
            except UserError:
                raise
            except Exception:  # Pillow raises nearly anything on a file of another format
                continue
    return NO_TAGS


def _tags(path: Path, image: Image.Image) -> Tags:
    orientation = image.getexif().get(ORIENTATION, 1)
    turned = orientation in (5, 6, 7, 8)  # width and height change places
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        dpi = image.info.get("dpi")
        return Tags(dpi=tuple(dpi[::-1] if turned else dpi) if dpi else None)
    fields = image.tag_v2
    names = [n for n in (*GROUND, *VALUES, *RESOLUTION) if n in fields]
    tiff = {number: (fields.tagtype[number], fields[number]) for number in names}
    if orientation != 1 and tiff.keys() & set(GROUND):
        raise UserError(
            f"{path}: GeoTIFF with orientation {orientation}: must be 1, since its pixels would be "
            "turned and its coordinates not",
            BAD_DATA,
        )
    if turned and {X_RESOLUTION, Y_RESOLUTION} <= tiff.keys():
        tiff |= {X_RESOLUTION: tiff[Y_RESOLUTION], Y_RESOLUTION: tiff[X_RESOLUTION]}
    return Tags(tiff)


def save(
    path: Path, pixels: np.ndarray, tags: Tags = NO_TAGS, *, like_source: bool = False
) -> None:
    """Writes an image; the suffix of the path, .png or .tif, says the format.

    Args:
      path: of the file; its folder is made if missing.
      pixels: [H, W] uint8 or uint16, or [H, W, 3] uint8; not copied if contiguous.
      tags: of the source; what the format has no place for is left out.
      like_source: whether the pixels are a picture like the source, so that what it says of its
        values holds for them too.

    Raises:
      UserError: the file cannot be written.
    """
    image = Image.fromarray(pixels)
    if path.suffix in TIFF:
        fields = TiffImagePlugin.ImageFileDirectory_v2()
        for number, (kind, value) in tags.tiff.items():
            if like_source or number not in VALUES:
                fields.tagtype[number], fields[number] = kind, value
        fields[PREDICTOR] = DIFFERENCES
        options = {"format": "TIFF", "compression": "tiff_lzw", "tiffinfo": fields}
    else:
        # of smooth maps, level 3 is ten times as fast as the default and as small
        options = {"format": "PNG", "compress_level": 3}
        if tags.dpi:
            options["dpi"] = tags.dpi
    with atomic_write(path) as temporary:
        image.save(temporary, **options)
