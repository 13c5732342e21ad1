"""Predicts a probability map and samples of masks, by one trained network or several.

A map says how probable each pixel is, and nothing of what goes together; samples are whole masks
that may be the true one. Both come from the same networks and the same tiles, so their rows are
finished together. A map of any size streams through; coupled samples, and some ways of fusion, need
the whole image at once.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, tee
from typing import NamedTuple

import jax
import numpy as np

from segdiff_jax.inference.coupling import couple
from segdiff_jax.inference.fusion import WHOLE, fuse
from segdiff_jax.inference.predicted_rows import Further, PredictedRows, stacked
from segdiff_jax.inference.sampler import row_key
from segdiff_jax.inference.segmentation import ImageRows, Segmenter

ROUND = 4  # samples that are drawn before their areas are looked at
LEVELS = np.uint32(2**32 - 1)  # number of the key of `coupling.couple`; no generation has it
MAX_VALUES = 2**29  # of all samples of an image that is predicted as a whole: 2 GB


class Run(NamedTuple):
    """One trained network.

    Attributes:
      segmenter: of what makes its probability.
      chain: of samples, by the reverse process; None: it draws none.
      fusion: of its generations, see `fusion.fuse`.
    """

    segmenter: Segmenter
    chain: Segmenter | None = None
    fusion: str = "mean"


@dataclass(frozen=True, eq=False)
class Predictor:
    """Predicts by the mean probability of runs, and by samples that are drawn by them in turn.

    Attributes:
      runs: whose segmenters cut the same tiles.
      samples: S, of each image at most; sample k is drawn by run k modulo the number of those that
        have a chain, from noise of number k.
      coupled: whether samples have the probability at each pixel, see `coupling`; if not, they are
        foreground where the soft sample is above 1/2.
      tolerance: if above 0, samples are drawn until `is_settled`.
      by_distance: see `PredictedRows`.
    """

    runs: tuple[Run, ...]
    samples: int = 0
    coupled: bool = True
    tolerance: float = 0.0
    by_distance: bool = False

    @property
    def random(self) -> bool:
        """Returns whether the generations are samples of masks, see `MaskSampler`."""
        return len(self.runs) == 1 and self.runs[0].segmenter.sampler.random

    @property
    def generations(self) -> int:
        """Returns G, the number of generations of each image."""
        return self.runs[0].segmenter.generations if len(self.runs) == 1 else len(self.runs)

    @property
    def fusion(self) -> str:
        """Returns what makes the probability of the generations, see `fusion.fuse`."""
        return self.runs[0].fusion if len(self.runs) == 1 else "mean"

    @property
    def whole(self) -> bool:
        """Returns whether an image is predicted as a whole, so that it must fit into memory."""
        coupled = self.coupled and self.samples > 0
        return coupled or self.tolerance > 0 or any(run.fusion in WHOLE for run in self.runs)

    def check_size(self, shape: tuple[int, ...]) -> None:
        """Checks that an image of shape (H, W, ...) can be predicted.

        Raises:
          ValueError: it has to be predicted as a whole, and its masks would not fit into memory.
        """
        count = max(self.generations, self.samples)
        if self.whole and (values := count * shape[0] * shape[1]) > MAX_VALUES:
            raise ValueError(
                f"{count} masks of {shape[0]} x {shape[1]} pixels take {values / 2**28:.1f} GB at "
                f"once, at most {MAX_VALUES // 2**28} are allowed: draw fewer samples, or cut the "
                "image"
            )

    def one_tile_a_call(self) -> "Predictor":
        """Returns a predictor that sends tiles to the devices one by one: the same predictions."""

        def alone(segmenter: Segmenter) -> Segmenter:
            return replace(segmenter, max_tiles_per_call=1)

        runs = [
            run._replace(segmenter=alone(run.segmenter), chain=run.chain and alone(run.chain))
            for run in self.runs
        ]
        return replace(self, runs=tuple(runs))

    def __call__(self, images: Iterable[np.ndarray], key: jax.Array) -> Iterator[PredictedRows]:
        """Yields all rows of each image in turn; arguments as those of `Segmenter.__call__`."""
        parts: list[PredictedRows] = []
        for rows in self.bands(images, key):
            parts.append(rows)
            if rows.last:
                yield stacked(parts)
                parts = []

    def bands(
        self, images: Iterable[np.ndarray], key: jax.Array, first: int = 0
    ) -> Iterator[PredictedRows]:
        """Yields finished rows of image after image: of a whole image if `whole`.

        Arguments as those of `Segmenter.bands`.
        """
        if self.whole:
            for index, image in enumerate(images):
                yield self.predict(image, key, first + index)._replace(image=index)
            return
        segmenters = [run.segmenter for run in self.runs]
        shares = self._shares(0, self.samples)
        segmenters += [share for share, _ in shares]
        copies = tee(images, len(segmenters))
        streams = [s.bands(copy, key, first) for s, copy in zip(segmenters, copies, strict=True)]
        order = _order(shares)
        for rows in zip(*streams, strict=True):
            of_runs, of_chains = rows[: len(self.runs)], rows[len(self.runs) :]
            soft = np.concatenate([one.generations for one in of_chains])[order] if shares else None
            yield self._joined(of_runs[0], *self._fused(of_runs), soft)

    def predict(self, image: np.ndarray, key: jax.Array, number: int) -> PredictedRows:
        """Predicts a whole image; samples are drawn until they settle, if there is a tolerance.

        Args:
          image: [H, W, 3] uint8.
          key: of the whole data set.
          number: of the image, which its noise depends on.

        Raises:
          ValueError: see `check_size`.
        """
        self.check_size(image.shape)
        of_runs = [_whole(run.segmenter, image, key, number) for run in self.runs]
        generations, probability = self._fused(of_runs)
        soft = None
        predicted = self._joined(of_runs[0], generations, probability, soft)
        at_once = ROUND if self.tolerance else max(1, self.samples)
        for start in range(0, self.samples, at_once):
            shares = self._shares(start, min(start + at_once, self.samples))
            drawn = [_whole(share, image, key, number).generations for share, _ in shares]
            added = np.concatenate(drawn)[_order(shares)]
            soft = added if soft is None else np.concatenate([soft, added])
            rng = _generator(key, number)
            predicted = self._joined(of_runs[0], generations, probability, soft, rng)
            assert predicted.samples is not None
            if self.tolerance and is_settled(predicted.samples, self.tolerance):
                break
        return predicted

    def _shares(self, start: int, stop: int) -> list[tuple[Segmenter, range]]:
        """Returns the segmenters of samples start..stop-1, and the numbers that each draws."""
        chains = [run.chain for run in self.runs if run.chain is not None]
        shares = []
        for place, segmenter in enumerate(chains):
            begin = start + (place - start) % len(chains)
            if numbers := range(begin, stop, len(chains)):
                share = {"generations": len(numbers), "first": begin, "every": len(chains)}
                shares.append((replace(segmenter, **share), numbers))
        return shares

    def _fused(self, of_runs: Sequence[ImageRows]) -> tuple[np.ndarray, np.ndarray]:
        """Returns the generations and the probability of the same rows of all runs.

        Of K > 1 channels, [G, K, rows, W] and [K, rows, W].
        """
        fused = [
            fuse_channels(np.clip(rows.generations, 0, 1), run.fusion)
            for run, rows in zip(self.runs, of_runs, strict=True)
        ]
        if len(fused) == 1:
            return of_runs[0].generations, fused[0]
        return np.stack(fused), np.mean(fused, axis=0)

    def _joined(
        self,
        rows: ImageRows,
        generations: np.ndarray,
        probability: np.ndarray,
        soft: np.ndarray | None,
        rng: np.random.Generator | None = None,
    ) -> PredictedRows:
        """Joins the map of rows with soft samples of them, [S, rows, W]; `rng` couples them.

        Of K > 1 channels the three have an axis more, as from `_fused`.
        """
        samples = further = None
        if probability.ndim == 3:
            of_soft = None if soft is None else soft[:, 1:]
            channels = self.runs[0].segmenter.sampler.channels
            further = Further(channels, probability[1:], generations[:, 1:], of_soft)
            generations, probability = map(channels.foreground, (generations, probability))
            if further.unknown().any():
                probability = np.where(further.unknown(), np.nan, probability)
            soft = None if soft is None else channels.foreground(soft)
        if soft is not None:
            if (unknown := ~np.isfinite(soft).all(axis=0)).any():  # masks of 0 and 1 would hide it
                generations = np.where(unknown, np.nan, generations)
                probability = np.where(unknown, np.nan, probability)
            elif self.coupled and rng is not None:
                samples = couple(soft, probability, rng)
            if samples is None:
                samples = (soft > 0.5).astype(np.uint8)
        maps = generations, probability, samples
        return PredictedRows(
            rows.image, rows.top, *maps, rows.last, soft, further, self.by_distance
        )


def fuse_channels(soft: np.ndarray, method: str) -> np.ndarray:
    """Fuses soft masks [S, H, W] into a map [H, W], or [S, K, H, W], channel by channel."""
    if soft.ndim == 3:
        return fuse(soft, method)
    return np.stack([fuse(soft[:, k], method) for k in range(soft.shape[1])])


def is_settled(samples: np.ndarray, tolerance: float) -> bool:
    """Returns whether the mean area of samples [S, H, W] of 0 and 1 is known well enough.

    It is if its standard error, sqrt(variance / S), is at most `tolerance` times itself.
    """
    areas = samples.sum(axis=(1, 2), dtype=np.int64)
    if len(areas) < 2:
        return False
    error = areas.std(ddof=1) / np.sqrt(len(areas))
    return bool(error <= tolerance * areas.mean())


def _generator(key: jax.Array, image: int) -> np.random.Generator:
    """Returns the generator of `coupling.couple` for an image, a function of seed and number."""
    data = jax.random.key_data(row_key(key, np.uint32(image), LEVELS))
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(np.asarray(data).tolist())))


def _whole(segmenter: Segmenter, image: np.ndarray, key: jax.Array, number: int) -> ImageRows:
    parts = list(segmenter.bands([image], key, number))
    rows = np.concatenate([part.generations for part in parts], axis=-2)
    return ImageRows(0, 0, rows, True)


def _order(shares: list[tuple[Segmenter, range]]) -> np.ndarray:
    """Returns the indices that put samples, share after share, into the order of their numbers."""
    return np.argsort([*chain.from_iterable(numbers for _, numbers in shares)])
