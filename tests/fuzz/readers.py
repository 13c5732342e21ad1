"""The readers of files from elsewhere: whole files of each, how to damage one, and what reads it.

A reader may raise UserError, with a message of one line, and nothing else.
"""

import json
import pathlib
import tempfile
from typing import NamedTuple

import damage
import numpy as np
import torch_archives
from tiny_config import tiny
from whole_images import IMAGES

from segdiff_jax.checkpoint import run_config, weights_file
from segdiff_jax.data.datasets import aperio_xml
from segdiff_jax.data.image_io import masks, pixel_size, reading, writing
from segdiff_jax.data.image_io.headers import Limits
from segdiff_jax.torch_weights import pt_reader

WEIGHTS = {"a/kernel": np.arange(6.0, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float32)}
LIMITS = Limits(max_pixels=100_000)
OUTLINE = "".join(f'<Vertex X="{x}" Y="{y}"/>' for x, y in ((1, 2), (30.5, 4), (20, 33), (3, 25)))
REGION = '<Region NegativeROA="{}"><Vertices>{}</Vertices></Region>'
REGIONS = "".join(REGION.format(negative, OUTLINE) for negative in (0, 1, 0))
ANNOTATIONS = f'<?xml version="1.0"?><Annotations MicronsPerPixel="0.25">{REGIONS}</Annotations>'


class Reader(NamedTuple):
    """One kind of files.

    Attributes:
      files: whole ones, by name.
      read: what reads a file, given its path; the first says whether it counts as read.
      damages: the ways to damage a file, functions (file, rng) -> file, each as often.
      name: of the file that is read.
    """

    files: dict
    read: tuple
    damages: tuple = (damage.damaged,)
    name: str = "file"


def image(path):
    pixels = reading.read_image(path, LIMITS)
    assert pixels.ndim == 3 and pixels.shape[-1] == 3 and pixels.size <= 3 * LIMITS.max_pixels


def mask(path):
    found = masks.read_mask(path, LIMITS, "auto")
    assert found.pixels.max(initial=0) <= 1


def tags(path):
    reading.read_size(path, LIMITS)
    writing.read_tags(path, LIMITS.page)


def scale(path):
    pixel_size.read(path, 0)


def outlines(path):
    aperio_xml.semantic_mask(aperio_xml.regions(path), 40, 40)


def config(path):
    run_config.read_config(path.parent)


def pickles(file, rng):
    """Returns an archive whose pickle is damaged, and whose checksums are right."""
    del file
    return torch_archives.archive(damage.damaged(torch_archives.GOOD, rng))


OF_IMAGES = (image, mask, tags, scale)
ANY_AND_VALUES = (damage.damaged, damage.with_other_value)


def weights(path):
    weights_file.read(path, {name: array.shape for name, array in WEIGHTS.items()})


def written_weights():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "weights"
        weights_file.write(path, WEIGHTS, step=7)
        return path.read_bytes()


def named(*words):
    return {name: file for name, file in IMAGES.items() if any(word in name for word in words)}


READERS = {
    "PNG": Reader(named("PNG"), OF_IMAGES, (damage.damaged, damage.png_with_right_checksums)),
    "JPEG": Reader({n: IMAGES[n] for n in ("JPEG", "progressive JPEG")}, OF_IMAGES),
    "GIF, BMP, WebP": Reader(named("GIF", "BMP", "WebP"), OF_IMAGES),
    "TIFF": Reader(named("TIFF", "ImageJ", "OME", "several pages"), OF_IMAGES),
    "NPY": Reader(named("NPY"), OF_IMAGES, ANY_AND_VALUES),
    "XML": Reader({"Aperio": ANNOTATIONS.encode()}, (outlines,), ANY_AND_VALUES),
    "pt": Reader(
        {"state": torch_archives.archive()},
        (pt_reader.read_tensors,),
        (damage.damaged, pickles),
    ),
    "safetensors": Reader({"weights": written_weights()}, (weights,), ANY_AND_VALUES),
    "config": Reader(
        {"config.json": json.dumps(tiny().to_dict(), indent=2).encode()},
        (config,),
        ANY_AND_VALUES,
        "config.json",
    ),
}
