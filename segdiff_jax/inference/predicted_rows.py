"""Defines finished rows of the prediction of an image, and joins them."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from segdiff_jax.data.channels import Channels
from segdiff_jax.data.classes import shares


class LastChannel(NamedTuple):
    """One channel of `Further`: [1, rows, W], [G, rows, W] and [S, rows, W]."""

    probability: np.ndarray
    generations: np.ndarray
    soft: np.ndarray | None


class ClassChannels(NamedTuple):
    """The C classes of `Further`: [C, rows, W], [G, C, rows, W] and [S, C, rows, W]."""

    probability: np.ndarray
    generations: np.ndarray
    soft: np.ndarray | None


class Further(NamedTuple):
    """The channels of a prediction behind the foreground, see `data.channels`; float32.

    Attributes:
      channels: what they are.
      probability: [K - 1, rows, W] in 0..1.
      generations: [G, K - 1, rows, W], about 0..1.
      soft: [S, K - 1, rows, W], of the samples, likewise; None: none are drawn.
    """

    channels: Channels
    probability: np.ndarray
    generations: np.ndarray
    soft: np.ndarray | None

    def last(self) -> "LastChannel":
        """Returns the maps of the last channel."""
        soft = None if self.soft is None else self.soft[:, -1]
        return LastChannel(self.probability[-1:], self.generations[:, -1], soft)

    def of_classes(self) -> "ClassChannels | None":
        """Returns the maps of the classes; None: there are none."""
        count = len(self.channels.classes)
        if not count:
            return None
        soft = None if self.soft is None else self.soft[:, :count]
        return ClassChannels(self.probability[:count], self.generations[:, :count], soft)

    def unknown(self) -> np.ndarray:
        """Marks the pixels [rows, W] where a value is no finite number."""
        known = np.isfinite(self.probability).all(axis=0)
        for maps in (self.generations, self.soft):
            if maps is not None:
                known &= np.isfinite(maps).all(axis=(0, 1))
        return ~known


class PredictedRows(NamedTuple):
    """Finished rows of the prediction of an image.

    Attributes:
      image: index of the image, from 0.
      top: the first of the rows.
      generations: [G, rows, W] float32, about 0..1 and not clipped: those of the run; of several
        runs the probability of each.
      probability: [rows, W] float32 in 0..1; nan where a generation or a sample is no number.
      samples: [S, rows, W] uint8 of 0 and 1; None: none are drawn.
      last: whether these are the image's last rows.
      soft: [S, rows, W] float32, about 0..1: the samples as the chain ended; None likewise.
      further: what masks have besides the foreground, see `Further`; None: nothing.
      by_distance: whether objects that touch are told apart by the distance to the background.
    """

    image: int
    top: int
    generations: np.ndarray
    probability: np.ndarray
    samples: np.ndarray | None
    last: bool
    soft: np.ndarray | None = None
    further: Further | None = None
    by_distance: bool = False

    @property
    def interior(self) -> np.ndarray | None:
        """The probability [rows, W] of the interiors of objects; None: the network has none."""
        if self.further is None or not self.further.channels.interior:
            return None
        return self.further.probability[-1]

    @property
    def shares(self) -> np.ndarray | None:
        """The shares of the classes [C, rows, W], see `classes.shares`; None: there are none.

        Of classes that overlap the probabilities.
        """
        of = None if self.further is None else self.further.of_classes()
        if of is None:
            return None
        soft = np.clip(of.probability, 0, 1)
        return soft if self.overlap else shares(soft)

    @property
    def overlap(self) -> bool:
        """Whether a pixel may belong to several classes."""
        return self.further is not None and self.further.channels.overlap

    def shown_shares(self, shown: Callable[[np.ndarray], np.ndarray]) -> np.ndarray | None:
        """Returns the shares, of which probabilities are what `shown` makes of them."""
        found = self.shares
        return shown(found) if self.overlap and found is not None else found


def stacked(parts: list[PredictedRows]) -> PredictedRows:
    """Returns the rows of an image as one part."""
    first = parts[0]
    if len(parts) == 1:
        return first
    samples = [part.samples for part in parts if part.samples is not None]
    soft = [part.soft for part in parts if part.soft is not None]
    return first._replace(
        generations=np.concatenate([part.generations for part in parts], axis=-2),
        probability=np.concatenate([part.probability for part in parts]),
        samples=np.concatenate(samples, axis=-2) if samples else None,
        soft=np.concatenate(soft, axis=-2) if soft else None,
        further=_stacked_further([part.further for part in parts if part.further is not None]),
        last=True,
    )


def _stacked_further(parts: list[Further]) -> Further | None:
    if not parts:
        return None
    soft = [part.soft for part in parts if part.soft is not None]
    return Further(
        parts[0].channels,
        np.concatenate([part.probability for part in parts], axis=-2),
        np.concatenate([part.generations for part in parts], axis=-2),
        np.concatenate(soft, axis=-2) if soft else None,
    )
