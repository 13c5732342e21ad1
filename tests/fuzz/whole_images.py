"""Whole image files of every kind that is read, 12 x 15 pixels each."""

import io

import numpy as np
import tifffile
from image_files import GREY, PALETTE, RGB, RGBA, chunk, exif, png, tiff
from image_rows import by_pillow, palette

_RNG = np.random.default_rng(7)
PICTURE = _RNG.integers(0, 256, (12, 15, 3)).astype(np.uint8)
DEEP = PICTURE.astype(np.uint16) * 16


def by_numpy(array):
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def by_tifffile(array, **options):
    file = io.BytesIO()
    tifffile.imwrite(file, array, **options)
    return file.getvalue()


IMAGES = {
    "PNG": png(PICTURE, RGB, before=chunk(b"eXIf", exif(6))),
    "PNG of 16 bits": png(DEEP, RGB, 16),
    "PNG with alpha": png(np.dstack([PICTURE, PICTURE[..., :1] | 255]), RGBA),
    "PNG with a palette": png(PICTURE[..., 0] % 2, PALETTE, 1, palette((0,) * 3, (255,) * 3)),
    "grey PNG": png(PICTURE[..., 0], GREY),
    "JPEG": by_pillow(PICTURE, "JPEG", exif=b"Exif\0\0" + exif(3)),
    "progressive JPEG": by_pillow(PICTURE, "JPEG", progressive=True),
    "BMP": by_pillow(PICTURE, "BMP"),
    "BMP with a palette": by_pillow(PICTURE, "BMP", "P"),
    "BMP of 1 bit": by_pillow(PICTURE[..., 0], "BMP", "1"),
    "GIF": by_pillow(PICTURE, "GIF", "P"),
    "WebP": by_pillow(PICTURE, "WEBP", lossless=True),
    "lossy WebP": by_pillow(PICTURE, "WEBP"),
    "TIFF": tiff(PICTURE),
    "TIFF, big-endian": tiff(DEEP, order=">", compressed=True),
    "TIFF of floats": tiff((PICTURE / 255).astype(np.float32)),
    "TIFF with a predictor": by_tifffile(DEEP, photometric="rgb", compression="lzw", predictor=2),
    "TIFF of tiles": by_tifffile(PICTURE, photometric="rgb", tile=(16, 16), compression="zstd"),
    "TIFF of planes": by_tifffile(
        np.moveaxis(PICTURE, -1, 0), photometric="rgb", planarconfig="separate"
    ),
    "BigTIFF": by_tifffile(PICTURE, photometric="rgb", bigtiff=True),
    "TIFF of JPEG": by_pillow(PICTURE, "TIFF", compression="jpeg"),
    "TIFF of fax": by_pillow(PICTURE[..., 0] > 127, "TIFF", compression="group4"),
    "TIFF of PackBits": by_pillow(PICTURE, "TIFF", compression="packbits"),
    "ImageJ": by_tifffile(DEEP[..., 0][None].repeat(3, 0), imagej=True, metadata={"axes": "CYX"}),
    "OME": by_tifffile(np.moveaxis(DEEP, -1, 0), ome=True, metadata={"axes": "CYX"}),
    "NPY": by_numpy(PICTURE),
    "NPY of 16 bits": by_numpy(np.asfortranarray(DEEP[..., 0]).astype(">u2")),
    "NPY of floats": by_numpy(PICTURE / 255),
    "NPY of labels": by_numpy(np.arange(12 * 15).reshape(12, 15) // 60),
    "several pages": by_tifffile(np.moveaxis(PICTURE, -1, 0), photometric="minisblack"),
}
