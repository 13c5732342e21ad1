"""The prediction for one image, and what is known of its certainty."""

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from segdiff_jax.certainty import answers, of_classes, rating
from segdiff_jax.certainty.answers import Answer, Objects, RatedMask
from segdiff_jax.certainty.calibration import Calibration
from segdiff_jax.certainty.evidence import Evidence
from segdiff_jax.certainty.of_classes import OfClass
from segdiff_jax.certainty.quality import Quality
from segdiff_jax.certainty.quantities import Interval
from segdiff_jax.data.classes import decided_each


@dataclass(frozen=True, eq=False)
class Prediction:
    """The prediction for one image.

    Attributes:
      probability: [H, W] float32 in 0..1, the mean of the generations, or another fusion of them.
      mask: [H, W] uint8, 1 where the probability is above the threshold.
      uncertainty: [H, W] float32 in 0..0.5, the standard deviation of the generations; of budgets
        other than "paper", of one-pass networks and of several runs see `averaging.uncertainty`.
      generations: [G, H, W] float32 in 0..1, what the probability is made of: by the budget
        "paper", single masks sampled from different noise; else the probability of each pass; of
        several runs the probability of each.
      samples: [S, H, W] uint8 of 0 and 1, whole masks that may be the true one: pixels that go
        together are foreground together; None: the model draws none.
      evidence: what the answers below are made of.
      calibration: what they hold by; None: the run is not calibrated, and their intervals are nan.
      threshold: of the mask.
      each: [C, H, W] float32, the probability of each class, if they overlap; None: they do not.
    """

    probability: np.ndarray
    mask: np.ndarray
    uncertainty: np.ndarray
    generations: np.ndarray
    samples: np.ndarray | None
    evidence: Evidence
    calibration: Calibration | None
    threshold: float = 0.5
    each: np.ndarray | None = None

    @cached_property
    def answer(self) -> Answer:
        """Quality, area and count with their certainty; computed when first asked for."""
        return answers.answer(self.evidence, self.mask, self.calibration)

    @property
    def quality(self) -> Quality:
        """The predicted Dice of the mask, with its 80 % interval."""
        return self.answer.quality

    @property
    def area(self) -> dict[float, Interval]:
        """The foreground area, pixels, with an interval for each of the levels .5, .8, .95."""
        return self.answer.area

    @property
    def count(self) -> dict[float, Interval]:
        """The number of objects, likewise."""
        return self.answer.count

    @cached_property
    def objects(self) -> Objects:
        """The objects of the mask, with the confidence of each; computed likewise."""
        mask = self.mask if self.each is None or self.classes is None else self.classes > 0
        return answers.objects(self.evidence, mask, self.calibration)

    def at(self, threshold: float) -> "Prediction":
        """Returns the prediction with the mask of another threshold in 0..1; takes no new pass."""
        mask = (self.probability > threshold).astype(np.uint8)
        return replace(self, mask=mask, threshold=threshold)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes that the network learnt; () if it learnt none."""
        return () if self.evidence.classes is None else self.evidence.classes.names

    @cached_property
    def classes(self) -> np.ndarray | None:
        """The class map of the mask, [H, W] uint8: 0 is background, k is `class_names[k - 1]`.

        Of classes that overlap the mask of each, [C, H, W] uint8 of 0 and 1; their union is `mask`.
        """
        if self.each is not None:
            return decided_each(self.mask > 0, self.each, self.threshold).astype(np.uint8)
        return None if self.evidence.classes is None else self.evidence.classes.of(self.mask)

    @cached_property
    def class_probability(self) -> np.ndarray | None:
        """The probability of each class, [C, H, W] float32; they add up to `probability`.

        Of classes that overlap each is by itself, and the highest is `probability`.
        """
        if self.each is not None:
            return self.each
        of = self.evidence.classes
        return None if of is None else of.shares * self.probability

    @cached_property
    def of_classes(self) -> dict[str, OfClass]:
        """Area and number of objects by class, with intervals; {} if it learnt no classes."""
        models = {} if self.calibration is None else self.calibration.classes
        return of_classes.intervals(self.evidence, models)

    @property
    def disagreement(self) -> np.ndarray | None:
        """Standard deviation between samples, [H, W] in 0..0.5; None: the model draws none."""
        return self.evidence.disagreement

    def rate(self, mask: np.ndarray) -> RatedMask:
        """Rates another mask [H, W] of the image, foreground above 0; see `Model.rate`.

        Raises:
          ValueError: it is of another size.
        """
        if (shape := np.shape(mask)) != self.mask.shape:
            raise ValueError(f"the mask is {shape}; it must be {self.mask.shape}, as the image")
        return answers.rated(self.evidence, np.asarray(mask) > 0, self.calibration)

    def doubt(self, mask: np.ndarray) -> np.ndarray:
        """Returns the share of samples that disagree with another mask, [H, W] in 0..1."""
        return rating.doubt(self.evidence, mask)

    def bounds(self, risk: float) -> tuple[np.ndarray, np.ndarray]:
        """Returns the inner and the outer mask of a risk, [H, W] uint8 each.

        On average over pictures at most the share `risk` of the inner mask is not foreground, and
        the outer mask misses at most the share `risk` of the foreground.

        Raises:
          UserError: the run is not calibrated, or not with enough pictures for this risk.
        """
        return answers.bounds(self.evidence.probability, risk, self.calibration)
