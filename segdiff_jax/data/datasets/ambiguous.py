"""Draws discs about which annotators disagree, by a law that is known exactly.

A picture shows three bright discs, which every annotator takes, and three faint ones, each of which
an annotator takes whole or not at all, with probability 1/2 and independently of the others. Each
annotator draws all outlines too tight or too wide by the same amount, uniform in -1..2 pixels. So
the masks of a picture have a joint distribution from which exact samples can be drawn: what goes
together (a whole disc; all outlines) is the same in the samples of a good model.
"""

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from segdiff_jax.data.datasets import base

SIDE = 64  # pixels
BRIGHT, FAINT = 3, 3  # discs
RADII = 4.5, 8.0  # pixels
TAKEN = 0.5  # probability of a faint disc
MARGINS = -1.0, 2.0  # pixels by which an annotator's outlines are wider
CORE = 2.0  # pixels of depth; the core of a disc is in every mask that takes the disc
SEED = 1812  # of the whole set
COUNTS = {"train": 1024, "validation": 16, "test": 32}
ANNOTATORS = 8  # of each picture, as prepared


class Scene(NamedTuple):
    """A picture and its discs, the bright ones first.

    Attributes:
      image: [64, 64, 3] uint8.
      depth: [discs, 64, 64] pixels from each disc's outline inwards; negative outside.
      faint: [discs] bool.
    """

    image: np.ndarray
    depth: np.ndarray
    faint: np.ndarray


class Ambiguous(base.SegmentationBuilder):
    """1072 pictures of 64x64, each annotated by eight; the same on every machine."""

    VERSION = tfds.core.Version("1.0.0")

    @classmethod
    def plan(cls, directory: Path | None, options: base.Options) -> base.Plan:
        """Returns the drawings to make; by the note, a set of other code is drawn again."""
        del directory, options
        splits = {split: [_item(split, i) for i in range(n)] for split, n in COUNTS.items()}
        drawing = scene("train", 0).image.tolist(), annotations("train", 0, 2).tolist()
        return base.Plan(splits, notes={"drawing": base.digest(*drawing)})

    @classmethod
    def law(cls, name: str, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns the cores of the faint discs, and masks of other annotators than the set's."""
        place = place_of(name)
        return faint_cores(*place), annotations(*place, count, first=ANNOTATORS)


def _item(split: str, index: int) -> base.Item:
    def read() -> Iterator[tuple[str, dict[str, Any]]]:
        name = f"{split}-{index:04d}"
        masks = annotations(split, index, ANNOTATORS)
        yield name, base.record(scene(split, index).image, masks, name)

    return base.Item((), read)


def place_of(name: str) -> tuple[str, int]:
    """Returns split and index of the picture of an example's name, as "test-0007"."""
    split, _, index = name.rpartition("-")
    return split, int(index)


@lru_cache(maxsize=1)  # a picture and its masks are asked for one after the other
def scene(split: str, index: int) -> Scene:
    """Draws a picture of a split of COUNTS by its index, read-only; a function of these only."""
    rng = generator(list(COUNTS).index(split), index)
    faint = np.arange(BRIGHT + FAINT) >= BRIGHT
    depth = np.stack([_depth(centre, radius) for centre, radius in _places(rng, len(faint))])
    cover = np.clip(depth + 0.5, 0.0, 1.0)
    light = np.where(faint, 0.3, 1.0)
    grey = 60.0 + 110.0 * np.max(light[:, None, None] * cover, axis=0)
    image = grey[..., None] + 24.0 * (rng.random((SIDE, SIDE, 3)) - 0.5)
    drawn = Scene(np.clip(np.round(image), 0, 255).astype(np.uint8), depth, faint)
    for array in drawn:
        array.flags.writeable = False
    return drawn


def faint_cores(split: str, index: int) -> np.ndarray:
    """Returns the cores [3, 64, 64] bool of a picture's faint discs."""
    drawn = scene(split, index)
    return drawn.depth[drawn.faint] >= CORE


def annotations(split: str, index: int, count: int, first: int = 0) -> np.ndarray:
    """Draws the masks [count, 64, 64] of annotators `first` and on; exact samples of the law.

    The first ANNOTATORS are those of the prepared set.
    """
    drawn = scene(split, index)
    numbers = list(COUNTS).index(split), index
    return np.stack([annotate(drawn, generator(*numbers, 1 + first + k)) for k in range(count)])


def annotate(scene: Scene, rng: np.random.Generator) -> np.ndarray:
    """Draws the mask of one annotator, [64, 64] uint8 in {0, 1}: an exact sample of the law."""
    taken = ~scene.faint | (rng.random(len(scene.faint)) < TAKEN)
    margin = MARGINS[0] + (MARGINS[1] - MARGINS[0]) * rng.random()
    return np.any(taken[:, None, None] & (scene.depth + margin >= 0), axis=0).astype(np.uint8)


def generator(*numbers: int) -> np.random.Generator:
    """Returns the random generator of these numbers; its doubles are the same in every numpy."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence([SEED, *numbers])))


def _places(rng: np.random.Generator, count: int) -> list[tuple[np.ndarray, float]]:
    """Returns centre and radius of discs that keep apart, however wide they are drawn."""
    apart = 2 * MARGINS[1] + 1
    places: list[tuple[np.ndarray, float]] = []
    while len(places) < count:
        radius = RADII[0] + (RADII[1] - RADII[0]) * rng.random()
        border = radius + MARGINS[1] + 1
        centre = border + rng.random(2) * (SIDE - 2 * border)
        if all(np.hypot(*(centre - c)) >= radius + r + apart for c, r in places):
            places.append((centre, radius))
        elif rng.random() < 0.01:  # no room is left: begin again
            places.clear()
    return places


def _depth(centre: np.ndarray, radius: float) -> np.ndarray:
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    return radius - np.hypot(y - centre[0], x - centre[1])
