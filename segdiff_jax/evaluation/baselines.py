"""Scores trivial predictors, as a reference for the scores of a network.

The best global threshold on one channel maximizes the mean Dice over images exactly: every channel,
level and direction is compared, from two histograms per image instead of 2048 masks.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from segdiff_jax.data.example import Example
from segdiff_jax.metrics import means, scores

CHANNELS = ("red", "green", "blue", "grey")
LEVELS = 256


@dataclass(frozen=True)
class Threshold:
    """Predicts foreground by a threshold on one channel of a pixel."""

    channel: str  # a name of `_channels`
    level: int  # 0..255
    bright: bool  # True: foreground is above the level; False: at or below it

    def __str__(self) -> str:
        """Returns the rule as text for a report, such as "red > 9"."""
        return f"{self.channel} {'>' if self.bright else '<='} {self.level}"

    def apply(self, image: np.ndarray) -> np.ndarray:
        """Returns the mask [H, W] bool of an image [H, W, 3] uint8."""
        values = _channels(image)[self.channel]
        return values > self.level if self.bright else values <= self.level


def best_threshold(examples: Iterable[Example]) -> Threshold:
    """Returns the threshold of the highest mean Dice over the examples; the first of several.

    Images are resized to their masks by nearest neighbour, which is the same as resizing the
    thresholded mask.
    """
    total: dict[str, np.ndarray] = {}
    for example in examples:
        true = np.asarray(example.mask, bool)
        for name, values in _channels(_nearest(example.image, true.shape)).items():
            total[name] = total.get(name, 0) + _dice_of_all_levels(values, true)
    names, sums = [*total], np.stack([*total.values()])
    channel, bright, level = np.unravel_index(np.argmax(sums), sums.shape)
    return Threshold(names[channel], int(level), bool(bright))


def all_foreground(image: np.ndarray) -> np.ndarray:
    """Returns the mask [H, W] bool, all True, of an image [H, W, 3]."""
    return np.ones(image.shape[:2], bool)


def baseline_rows(
    train_examples: Sequence[Example], test_examples: Sequence[Example]
) -> dict[str, dict[str, float]]:
    """Returns the mean scores of every baseline on the test examples, by its name.

    The threshold chosen on training examples is left out if there are none. The last one is chosen
    on the test examples: no single global threshold has a higher mean Dice.
    """
    predictors = {"all foreground": all_foreground}
    if train_examples:
        fair = best_threshold(train_examples)
        predictors["best threshold chosen on training images"] = fair.apply
    best = best_threshold(test_examples)
    predictors["best threshold chosen on these very images (upper bound)"] = best.apply
    return {name: _mean_scores(one, test_examples) for name, one in predictors.items()}


def _mean_scores(
    predict: Callable[[np.ndarray], np.ndarray], examples: Sequence[Example]
) -> dict[str, float]:
    masks = ((_nearest(predict(e.image), e.mask.shape), e.mask) for e in examples)
    return means([scores(mask.astype(np.float32), true) for mask, true in masks])


def _dice_of_all_levels(values: np.ndarray, true: np.ndarray) -> np.ndarray:
    """Returns the Dice of `values <= level` and of `values > level`, float64 [2, LEVELS].

    It is 0 where truth and prediction are both empty.
    """
    area = np.cumsum(np.bincount(values.ravel(), minlength=LEVELS))
    hits = np.cumsum(np.bincount(values[true], minlength=LEVELS))
    area, hits = (np.stack([sums, sums[-1] - sums]) for sums in (area, hits))
    return 2 * hits / np.maximum(area + np.count_nonzero(true), 1)


def _channels(image: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the channels of an image by name, each [H, W] uint8, and its grey.

    Those of RGB are red, green, blue and grey (Rec. 601 luma); of others all and their mean.
    """
    if image.shape[-1] != 3:
        named = {f"channel {k}": image[..., k] for k in range(image.shape[-1])}
        return named | {"mean": np.rint(image.mean(axis=-1)).astype(np.uint8)}
    grey = np.rint(image.astype(np.float32) @ np.array([0.299, 0.587, 0.114], np.float32))
    values = image[..., 0], image[..., 1], image[..., 2], grey.astype(np.uint8)
    return dict(zip(CHANNELS, values, strict=True))


def _nearest(image: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Resizes [h, w, ...] to `size` by nearest neighbour: the pixel below each centre."""
    y, x = (
        ((np.arange(wanted) + 0.5) * n / wanted).astype(np.int64)
        for n, wanted in zip(image.shape[:2], size, strict=True)
    )
    return image[y[:, None], x]
