"""Defines the channels of a mask that a network learns, and how they are stored in one array.

Channel 0 is the foreground, what every mask has. With classes (`folder.classes`) a channel of each
follows, of which the foreground is the union. With objects (`model.objects`) a last one follows,
the interior of each object: what is left of it when its border is taken away, so that the interiors
of two objects that touch do not. Seeds of objects are found there (`evaluation.labelling`).

Until it becomes x0, a mask is [H, W] whatever its channels are: bit k of a pixel is channel k.
Crops and augmentation, which take the nearest pixel of a mask, treat all channels alike by
construction.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import ndimage

from segdiff_jax.data.classes import member, pack
from segdiff_jax.data.example import Example
from segdiff_jax.errors import BAD_DATA, UserError

DEPTH = 0.3  # share of the largest distance to the border of an object up to which is no interior
LEAST = 1.0  # pixels, likewise; a pixel at the border has the distance 1


@dataclass(frozen=True)
class Channels:
    """The channels of a mask besides the foreground.

    Attributes:
        classes: names of classes, see `classes`; (): there are none.
        interior: whether the last channel is the interior of objects.
        overlap: whether a pixel may belong to several classes.
    """

    classes: tuple[str, ...] = ()
    interior: bool = False
    overlap: bool = False

    def __str__(self) -> str:
        """Returns what is learnt, for messages."""
        kind = "overlapping classes" if self.overlap else "classes"
        parts = ["masks", *([f"the {kind} {', '.join(self.classes)}"] if self.classes else [])]
        return " and ".join([*parts, *(["interiors of objects"] if self.interior else [])])

    @property
    def count(self) -> int:
        """Returns K, the number of all channels."""
        return 1 + len(self.classes) + self.interior

    def foreground(self, maps: Any) -> Any:
        """Returns the foreground [..., H, W] of the maps [..., K, H, W] of all channels.

        It is the first; of classes that overlap the highest of them, so that a mask of it is their
        union, which the first channel only comes close to.
        """
        if not self.overlap:
            return maps[..., 0, :, :]
        return maps[..., 1 : 1 + len(self.classes), :, :].max(axis=-3)

    def packed(self, examples: Sequence[Example]) -> list[Example]:
        """Returns examples whose masks hold all channels as bits; themselves if there is only one.

        Where the objects of an example are not known, they are the components of its mask: of an
        image with one object no file tells it from a mask of 0 and 1.

        Raises:
            UserError: objects or classes are asked for and not known.
        """
        if self.count == 1:
            return list(examples)
        if self.interior and not any(example.objects is not None for example in examples):
            raise UserError(
                "config.model.objects='interior': no mask tells its objects apart; allowed are "
                "masks of one value an object, or of one file an object",
                BAD_DATA,
            )
        return [self._packed(example) for example in examples]

    def _packed(self, example: Example) -> Example:
        if example.annotations is not None:
            raise UserError(
                f"{example.name}: has masks of several annotators; allowed is one with "
                "config.model.objects and config.folder.classes",
                BAD_DATA,
            )
        channels = [example.mask]
        if self.classes:
            if example.classes is None:
                raise UserError(f"{example.name}: its mask has no classes", BAD_DATA)
            numbers = range(1, len(self.classes) + 1)
            channels += [member(example.classes, k, self.overlap) for k in numbers]
        if self.interior:
            labels = example.objects
            if labels is None:
                labels, _ = ndimage.label(example.mask)  # type: ignore[misc]
            channels.append(interior(labels))
        return example._replace(mask=pack(channels))


def interior(labels: np.ndarray) -> np.ndarray:
    """Marks the interior of each object of labels [H, W], 0 is background; uint8 of 0 and 1.

    Of an object whose farthest pixel from all that is not the object has the distance D, it is what
    is farther than the larger of `DEPTH` D and `LEAST`; of one too thin for that, where D is
    reached. The border of the image counts as a border of the object.
    """
    marked = np.zeros(labels.shape, np.uint8)
    for number, place in enumerate(ndimage.find_objects(labels), 1):
        if place is None:
            continue
        own = np.pad(labels[place] == number, 1)
        distance = np.asarray(ndimage.distance_transform_edt(own))[1:-1, 1:-1]
        largest = distance.max()
        inside = distance > max(DEPTH * largest, LEAST)
        marked[place] |= inside if inside.any() else distance == largest
    return marked
