"""Draws nuclei among look-alikes: a data set without a download, unsolvable by a threshold.

A nucleus has speckled chromatin and a dark rim; a look-alike has the same colours and the same
shape but a smooth inside that fades out, as a cell out of focus does. The light is uneven. So
colour alone cannot tell them apart, while a receptive field of a few pixels can.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from segdiff_jax.data.datasets import base

SIDE = 64  # pixels
COUNTS = {"train": 256, "validation": 32, "test": 32}
SEED = 2112  # of the whole set
TISSUE = np.array([226.0, 182.0, 208.0])  # RGB of eosin-stained tissue
STAIN = np.array([124.0, 84.0, 158.0])  # RGB of haematoxylin, the mean inside of a nucleus


class Synthetic(base.SegmentationBuilder):
    """320 images of 64x64 with nuclei and look-alikes; the same on every machine."""

    VERSION = tfds.core.Version("1.1.0")

    @classmethod
    def plan(cls, directory: Path | None, options: base.Options) -> base.Plan:
        """Returns the drawings to make; by the note, a set of other code is drawn again."""
        del directory, options
        splits = {split: [_item(split, i) for i in range(n)] for split, n in COUNTS.items()}
        return base.Plan(splits, notes={"drawing": base.digest(draw("train", 0)[0].tolist())})


def _item(split: str, index: int) -> base.Item:
    def read() -> Iterator[tuple[str, dict[str, Any]]]:
        name = f"{split}-{index:04d}"
        yield name, base.record(*draw(split, index), name)

    return base.Item((), read)


def draw(split: str, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Draws an example of a split of COUNTS by its index, from 0; a function of these only.

    Returns:
        image [64, 64, 3] uint8 and mask [64, 64] uint8 in {0, 1}.
    """
    # PCG64 and its uniform doubles are the part of numpy whose stream is fixed across versions.
    seed = np.random.SeedSequence([SEED, list(COUNTS).index(split), index])
    rng = np.random.Generator(np.random.PCG64(seed))
    image = TISSUE + 11.0 * _waves(rng, 6, 0.5, 2.0)[..., None] * (0.5, 1.0, 0.7)
    mask = np.zeros((SIDE, SIDE), np.uint8)
    for centre, radius, is_nucleus in _places(rng):
        depth = _depth(rng, centre, radius)
        colour = STAIN + 24.0 * (rng.random() - 0.5) + 14.0 * (rng.random(3) - 0.5)
        if is_nucleus:
            cover = np.clip(depth + 0.5, 0, 1)
            texture = 34.0 * _speckle(rng) - 52.0 * np.exp(-(((depth - 0.9) / 0.9) ** 2)) + 6.0
            mask[depth >= 0] = 1
        else:
            cover = 1 / (1 + np.exp(-depth / 1.1))
            texture = 9.0 * _waves(rng, 4, 0.5, 2.0) - 6.0
        paint = colour + texture[..., None] * (1.0, 0.9, 0.7)
        image += cover[..., None] * (paint - image)
    image *= 1 + 0.10 * _waves(rng, 3, 0.2, 0.8)[..., None]  # uneven light
    image += 8.0 * (rng.random((SIDE, SIDE, 3)) - 0.5)  # the camera's noise
    return np.clip(np.round(image), 0, 255).astype(np.uint8), mask


def _places(rng: np.random.Generator) -> list[tuple[np.ndarray, float, bool]]:
    """Returns (centre, radius, is nucleus) of shapes that hardly touch; the first is a nucleus."""
    places: list[tuple[np.ndarray, float, bool]] = []
    for _ in range(60):
        centre = (rng.random(2) * 1.06 - 0.03) * SIDE
        radius = 6.5 + 4.0 * rng.random()
        is_nucleus = not places or rng.random() < 0.52
        if not places:  # well inside, so that every mask has a foreground
            centre = SIDE / 2 + (centre - SIDE / 2) * 0.6
        if all(np.hypot(*(centre - c)) > 1.02 * (radius + r) for c, r, _ in places):
            places.append((centre, radius, is_nucleus))
    return places


def _depth(rng: np.random.Generator, centre: np.ndarray, radius: float) -> np.ndarray:
    """Returns about how many pixels [SIDE, SIDE] lies inside a wobbly ellipse; negative outside."""
    y, x = np.mgrid[:SIDE, :SIDE] - centre[:, None, None]
    turn, stretch = np.pi * rng.random(), 1 + 0.3 * rng.random()
    along = (x * np.cos(turn) + y * np.sin(turn)) / stretch**0.5
    across = (y * np.cos(turn) - x * np.sin(turn)) * stretch**0.5
    angle = np.arctan2(across, along)
    wobble = sum(
        0.05 * np.cos(k * angle + 2 * np.pi * rng.random()) * (2 * rng.random() - 1)
        for k in (2, 3, 4)
    )
    return radius * (1 + wobble) - np.hypot(along, across)


def _waves(rng: np.random.Generator, count: int, low: float, high: float) -> np.ndarray:
    """Returns a smooth field [SIDE, SIDE] of unit variance: waves, low..high periods a side."""
    y, x = np.mgrid[:SIDE, :SIDE] * (2 * np.pi / SIDE)
    field = np.zeros((SIDE, SIDE))
    for _ in range(count):
        turn, phase = 2 * np.pi * rng.random(2)
        periods = low + (high - low) * rng.random()
        field += np.cos(periods * (x * np.cos(turn) + y * np.sin(turn)) + phase)
    return field * (2 / count) ** 0.5


def _speckle(rng: np.random.Generator) -> np.ndarray:
    """Returns grains [SIDE, SIDE] about two pixels wide, of unit variance: clumped chromatin."""
    noise = rng.random((SIDE, SIDE)) - 0.5
    field = noise + np.roll(noise, 1, 0)
    return (field + np.roll(field, 1, 1)) * 3**0.5  # four uniforms of variance 1 / 12
