"""What one call of the predictor says about a picture, and how it agrees with a mask of it."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from segdiff_jax.data.classes import decided, decided_each, members, pack, shares
from segdiff_jax.evaluation import sample_scores
from segdiff_jax.evaluation.labelling import label, label_each, of_truth
from segdiff_jax.inference.averaging import average
from segdiff_jax.inference.predicted_rows import Further
from segdiff_jax.inference.predictor import PredictedRows
from segdiff_jax.metrics import regions


class Interiors(NamedTuple):
    """The interiors of objects, see `data.channels.interior`, float32 in 0..1.

    Attributes:
      probability: [H, W].
      passes: [G, H, W], of each pass.
      decisions: [S, H, W], of each decision; None: there are none.
    """

    probability: np.ndarray
    passes: np.ndarray
    decisions: np.ndarray | None


class Classes(NamedTuple):
    """The classes of the foreground, see `data.classes`.

    Attributes:
      names: of the C classes.
      shares: [C, H, W] float32, of each pixel if it is foreground.
      passes: [G, H, W] uint8, the number of the class at each pixel, by each pass.
      decisions: [S, H, W] uint8, likewise by each decision; None: there are none.
      overlap: whether a pixel may belong to several; then `shares` are the probabilities, and the
        maps of `passes` and `decisions` have bits.
    """

    names: tuple[str, ...]
    shares: np.ndarray
    passes: np.ndarray
    decisions: np.ndarray | None
    overlap: bool = False

    def of(self, mask: np.ndarray) -> np.ndarray:
        """Returns the class map [H, W] of a mask [H, W]; of classes that overlap, above 1/2."""
        if self.overlap:
            return pack([*decided_each(mask, self.shares, 0.5)])
        return decided(mask, self.shares)


class Evidence(NamedTuple):
    """A picture and its prediction.

    Attributes:
      image: [h, w, 3] uint8.
      probability: [H, W] float32 in 0..1.
      passes: [G, H, W] float32 in 0..1: what the probability is the mean of, such as the passes of
        the orientations or the runs; G is 1 where there is nothing to compare.
      samples: [S, H, W] bool, whole masks that may be the true one; None: the model draws none.
      decisions: [S, H, W] bool, the samples before they were coupled with the probability: where
        the chain itself ended above 1/2. They vary only as the network doubts whole objects, so
        their agreement ranks pictures; the samples' own follows the probability. None likewise.
      interiors: by which objects that touch are told apart; None: the network learnt none.
      classes: of the foreground; None likewise.
      by_distance: whether objects that touch are told apart by the distance to the background, and
        by neither of the two.
    """

    image: np.ndarray
    probability: np.ndarray
    passes: np.ndarray
    samples: np.ndarray | None
    decisions: np.ndarray | None
    interiors: Interiors | None = None
    classes: Classes | None = None
    by_distance: bool = False

    @property
    def overlap(self) -> bool:
        """Whether a pixel may belong to several classes."""
        return self.classes is not None and self.classes.overlap

    @property
    def half(self) -> np.ndarray:
        """The mask above 1/2 [H, W] bool; of classes that overlap that of each, [C, H, W]."""
        mask = self.probability > 0.5
        if self.classes is None or not self.classes.overlap:
            return mask
        return decided_each(mask, self.classes.shares, 0.5)

    def true_objects(
        self, mask: np.ndarray, objects: np.ndarray | None, classes: np.ndarray | None
    ) -> np.ndarray:
        """Returns the true objects as `labelling.of_truth`; of classes that overlap [C, H, W]."""
        if self.classes is None or not self.classes.overlap or classes is None:
            return of_truth(mask, objects, classes)
        return label_each(members(classes, len(self.classes.names)))

    def labelled(self, mask: np.ndarray) -> np.ndarray:
        """Returns the labels [H, W] of the objects of a mask [H, W], see `labelling.label`."""
        if self.by_distance:
            return label(mask, by_distance=True)
        if self.interiors is not None:
            return label(mask, self.interiors.probability)
        return label(mask, classes=None if self.classes is None else self.classes.of(mask))

    def of_passes(self) -> Iterator[np.ndarray]:
        """Yields the labels of the objects of each pass; of any size where nothing divides them."""
        maps = None if self.classes is None else self.classes.passes
        interiors = None if self.interiors is None else self.interiors.passes
        yield from self._labelled(self.passes > 0.5, interiors, maps)

    def of_decisions(self) -> Iterator[np.ndarray]:
        """Yields the labels of the objects of each decision, likewise; none without samples."""
        if self.decisions is not None:
            maps = None if self.classes is None else self.classes.decisions
            interiors = None if self.interiors is None else self.interiors.decisions
            yield from self._labelled(self.decisions, interiors, maps)

    def _labelled(
        self, masks: np.ndarray, interiors: np.ndarray | None, classes: np.ndarray | None
    ) -> Iterator[np.ndarray]:
        for k, mask in enumerate(masks):
            if self.by_distance:
                yield label(mask, by_distance=True)
            elif interiors is not None:
                yield label(mask, interiors[k])
            elif classes is not None:
                yield label(mask, classes=np.where(mask, classes[k], 0))
            else:
                yield regions(mask)

    @property
    def disagreement(self) -> np.ndarray | None:
        """Standard deviation between the decisions, [H, W] in 0..0.5; None without samples."""
        if self.decisions is None:
            return None
        share = self.decisions.mean(axis=0, dtype=np.float32)
        return np.sqrt(share * (1 - share))


def evidence(
    image: np.ndarray, found: PredictedRows, random: bool, size: tuple[int, int] | None = None
) -> Evidence:
    """Returns what a prediction says.

    Args:
      image: [h, w, 3] uint8.
      found: all rows of its prediction.
      random: whether generations are samples of masks, see `MaskSampler`; then they count as such.
      size: (H, W) of the maps; None: that of the image.
    """
    size = found.probability.shape if size is None else size

    def sized(maps: np.ndarray) -> np.ndarray:
        soft = np.clip(maps.astype(np.float32), 0, 1)
        return soft if soft.shape[1:] == size else np.stack([average(m[None], size) for m in soft])

    p, passes = sized(found.probability[None]), sized(found.generations)
    soft, samples = found.soft, found.samples
    are_samples = samples is None and random and len(passes) > 1
    if are_samples:
        soft = samples = found.generations
    decision = None if soft is None or len(soft) < 2 else sized(soft) > 0.5
    masks = None if samples is None or len(samples) < 2 else sized(samples) > 0.5
    interiors = None
    if found.further is not None and found.further.channels.interior:
        of_all = found.further.last()
        q, of_passes = sized(of_all.probability), sized(of_all.generations)
        of_soft = of_all.generations if are_samples else of_all.soft
        of_decided = None if decision is None or of_soft is None else sized(of_soft)
        interiors = Interiors(q[0], q if random else of_passes, of_decided)
    kinds = None if found.further is None else _classes(found.further, random, are_samples, sized)
    maps = p[0], p if random else passes, masks, decision
    return Evidence(image, *maps, interiors, kinds, found.by_distance)


def _classes(
    further: Further,
    random: bool,
    are_samples: bool,
    sized: Callable[[np.ndarray], np.ndarray],
) -> Classes | None:
    """Returns the classes of a prediction, at the size that `sized` brings maps [N, h, w] to."""
    if (of := further.of_classes()) is None:
        return None

    def numbers(maps: np.ndarray) -> np.ndarray:
        if further.channels.overlap:
            return np.stack([pack([*(sized(one) > 0.5)]) for one in maps])
        each = (np.argmax(sized(one), axis=0) + 1 for one in maps)
        return np.stack([one.astype(np.uint8) for one in each])

    soft = of.generations if are_samples else of.soft
    whole = of.probability[None]
    values, overlap = sized(of.probability), further.channels.overlap
    return Classes(
        further.channels.classes,
        values if overlap else shares(values),
        numbers(whole if random else of.generations),
        None if soft is None or len(soft) < 2 else numbers(soft),
        overlap,
    )


def agreement(found: Evidence, mask: np.ndarray) -> dict[str, float]:
    """Returns how a mask [H, W] of the picture agrees with its evidence; 1 is best, most in 0..1.

    expected: the Dice that independent pixels of the probability expect (Soft Dice Confidence).
    inside: mean probability within the mask; 1 if it is empty.
    separation: of the colours inside and outside, see `separation`.
    passes: mean Dice of the mask with the mask of each pass; only if there are several.
    samples: mean Dice with the decisions of the samples, and between: of each pair of these.
    spread: 1 less the disagreement of the decisions, a sum over pixels, as a share of the area.
    """
    mask = np.asarray(mask, bool)
    values = {
        "expected": sample_scores.soft_dice_confidence(found.probability, mask),
        "inside": float(found.probability[mask].mean()) if mask.any() else 1.0,
        "separation": separation(found.image, mask),
    }
    if len(found.passes) > 1:
        values["passes"] = _mean_dice(found.passes > 0.5, mask)
    if found.decisions is not None and found.disagreement is not None:
        values["samples"] = _mean_dice(found.decisions, mask)
        values["between"] = sample_scores.pairwise_dice(found.decisions)
        area = max(float(found.probability.sum()), 1.0)
        values["spread"] = 1 - min(float(found.disagreement.sum()) / area, 1.0)
    return values


def separation(image: np.ndarray, mask: np.ndarray) -> float:
    """Returns how well the colour alone separates a mask [H, W] from the rest, in 0..1.

    d / (1 + d), where d is the distance of the mean values inside and outside as a multiple of the
    sum of their standard deviations, of the colour channel [h, w, 3] for which it is largest; 0 if
    the mask or the rest is empty.
    """
    inside = mask
    if image.shape[:2] != mask.shape:
        inside = average(mask[None].astype(np.float32), image.shape[:2]) > 0.5
    if inside.all() or not inside.any():
        return 0.0
    one, other = image[inside].astype(np.float32), image[~inside].astype(np.float32)
    apart = np.abs(one.mean(axis=0) - other.mean(axis=0))
    d = float(np.max(apart / (one.std(axis=0) + other.std(axis=0) + 1)))
    return d / (1 + d)


def _mean_dice(masks: np.ndarray, mask: np.ndarray) -> float:
    return float(sample_scores.dice_matrix(masks, mask[None]).mean())
