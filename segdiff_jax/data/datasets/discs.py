"""Draws touching discs of two classes, plain and striped: the test of classes and their objects.

Discs come in pairs of one of each class that touch, so that the foreground alone joins them, and
pairs keep apart. Stripes are as dark as they are bright: the mean of a disc does not tell its
class, while a receptive field of a few pixels does.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from segdiff_jax.data.datasets import base

SIDE = 64  # pixels
PAIRS = 3
RADII = 6.0, 9.0  # pixels
APART = 2.0  # pixels between pairs
PERIOD, CONTRAST = 4.0, 45.0  # of stripes: pixels, grey values
GROUND, DISC, NOISE = 90.0, 150.0, 24.0  # grey values
SEED = 1905  # of the whole set
COUNTS = {"train": 256, "validation": 16, "test": 32}
PLAIN, STRIPED = 1, 2  # numbers of the classes, see `data.classes.DISCS`


class Scene(NamedTuple):
    """A picture of discs.

    Attributes:
      image: [64, 64, 3] uint8.
      classes: [64, 64] uint8, 0 is background.
      objects: [64, 64] int32, the discs by 1, 2, ...
    """

    image: np.ndarray
    classes: np.ndarray
    objects: np.ndarray


class Discs(base.SegmentationBuilder):
    """304 pictures of 64x64 with six discs each; the same on every machine."""

    VERSION = tfds.core.Version("1.0.0")

    @classmethod
    def plan(cls, directory: Path | None, options: base.Options) -> base.Plan:
        """Returns the drawings to make; by the note, a set of other code is drawn again."""
        del directory, options
        splits = {split: [_item(split, i) for i in range(n)] for split, n in COUNTS.items()}
        drawing = [one.tolist() for one in draw("train", 0)]
        return base.Plan(splits, notes={"drawing": base.digest(*drawing)})


def _item(split: str, index: int) -> base.Item:
    def read() -> Iterator[tuple[str, dict[str, Any]]]:
        name, drawn = f"{split}-{index:04d}", draw(split, index)
        mask = (drawn.classes > 0).astype(np.uint8)
        objects, classes = drawn.objects, drawn.classes
        yield name, base.record(drawn.image, mask, name, objects=objects, classes=classes)

    return base.Item((), read)


def draw(split: str, index: int) -> Scene:
    """Draws a picture of a split of COUNTS by its index, from 0; a function of these only."""
    # PCG64 and its uniform doubles are the part of numpy whose stream is fixed across versions.
    seed = np.random.SeedSequence([SEED, list(COUNTS).index(split), index])
    rng = np.random.Generator(np.random.PCG64(seed))
    places = [disc for pair in _pairs(rng) for disc in pair]
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    depth = np.stack([radius - np.hypot(y - cy, x - cx) for (cy, cx), radius in places])
    nearest = np.argmax(depth, axis=0)
    inside = depth.max(axis=0) >= 0
    objects = np.where(inside, nearest + 1, 0).astype(np.int32)
    classes = np.where(inside, np.where(nearest % 2, STRIPED, PLAIN), 0).astype(np.uint8)
    turn = np.pi * rng.random(len(places))[:, None, None]
    waves = np.sin(2 * np.pi / PERIOD * (x * np.cos(turn) + y * np.sin(turn)))
    stripes = np.take_along_axis(waves, nearest[None], axis=0)[0]
    grey = np.where(inside, DISC, GROUND) + CONTRAST * stripes * (classes == STRIPED)
    light = 1 + 0.15 * np.cos(2 * np.pi * (x * rng.random() + y * rng.random()) / SIDE)
    image = (grey * light)[..., None] + NOISE * (rng.random((SIDE, SIDE, 3)) - 0.5)
    return Scene(np.clip(np.round(image), 0, 255).astype(np.uint8), classes, objects)


def _pairs(rng: np.random.Generator) -> list[list[tuple[np.ndarray, float]]]:
    """Returns centre and radius of the two discs of each pair, which touch."""
    pairs: list[list[tuple[np.ndarray, float]]] = []
    while len(pairs) < PAIRS:
        radii = RADII[0] + (RADII[1] - RADII[0]) * rng.random(2)
        turn, first = 2 * np.pi * rng.random(), SIDE * rng.random(2)
        second = first + (radii.sum() - 1) * np.array([np.sin(turn), np.cos(turn)])
        pair = list(zip((first, second), radii.tolist(), strict=True))
        others = [disc for one in pairs for disc in one]
        within = all(r <= c.min() and c.max() <= SIDE - r for c, r in pair)
        free = all(np.hypot(*(c - d)) >= r + s + APART for c, r in pair for d, s in others)
        if within and free:
            pairs.append(pair)
        elif rng.random() < 0.01:  # no room is left: begin again
            pairs.clear()
    return pairs
