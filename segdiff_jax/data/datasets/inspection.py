"""Tells what a data set is made of, by reading all of it: numbers, sizes, foreground, objects."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from segdiff_jax.data.datasets import base
from segdiff_jax.data.example import majority
from segdiff_jax.data.image_io import pillow_files

PICTURES = 16  # examples that are shown
_NAMED = 3  # examples that a line names


class Facts(NamedTuple):
    """What is known of one example."""

    name: str
    shape: tuple[int, int]  # of the image, (H, W)
    foreground: float  # share of the mask
    objects: int  # connected regions of the mask, or its labels
    annotators: int


class Inspection(NamedTuple):
    """What is known of a data set.

    Attributes:
        problems: a line for each file that cannot be used, and of the set as a whole.
        lines: what it is made of, for the user.
        pictures: images [H, W, 3] uint8 and masks [H, W] uint8 of 0 and 1 of some examples.
    """

    problems: list[str]
    lines: list[str]
    pictures: list[tuple[np.ndarray, np.ndarray]]


def inspect(plans: Sequence[base.Plan], crop: int) -> Inspection:
    """Reads every file of plans.

    Args:
        plans: of the prepared sets that belong together.
        crop: side of the windows of training, pixels; 0: whole images.
    """
    found = Inspection([], [], [])
    for plan in plans:
        found.problems.extend(plan.problems)
        found.lines.extend(plan.said)
        for split, items in plan.splits.items():
            read = base.read(items, found.problems, f"checking {split}")
            total = PICTURES // max(len(plan.splits), 1)
            facts = list(_facts(read, len(items), total, found.pictures))
            found.lines.extend(_lines(split, facts, crop if split == "train" else 0))
        problems, lines = plan.conclude()
        found.problems.extend(problems)
        found.lines.extend(lines)
    problems, lines = (list(dict.fromkeys(part)) for part in found[:2])  # plans share files
    return Inspection(problems, lines, found.pictures[:PICTURES])


def _facts(
    records: Iterable[tuple[str, dict[str, Any]]],
    count: int,
    shown: int,
    pictures: list[tuple[np.ndarray, np.ndarray]],
) -> Iterator[Facts]:
    """Yields the facts of records; adds `shown` of about `count`, evenly, to the pictures."""
    step = max(count // max(shown, 1), 1)
    for index, (_, record) in enumerate(records):
        bits, annotators = np.asarray(record["mask"]), int(record["annotators"])
        masks = base.stored_masks(bits, annotators)
        mask = majority(masks)
        image = np.asarray(record["image"])
        if record["objects"]:
            objects = int(pillow_files.decode_stored(record["objects"]).max())
        else:
            objects = int(ndimage.label(mask, output=np.zeros(mask.shape, np.int32)))
        if index % step == 0 and index // step < shown:
            pictures.append((image, mask))
        yield Facts(record["name"], image.shape[:2], float(mask.mean()), objects, annotators)


def _lines(split: str, facts: Sequence[Facts], crop: int) -> Iterator[str]:
    if not facts:
        yield f"{split}: no example"
        return
    sizes = Counter(one.shape for one in facts)
    by_area = sorted(sizes, key=lambda shape: shape[0] * shape[1])
    least, most = (f"{shape[0]}x{shape[1]}" for shape in (by_area[0], by_area[-1]))
    usual, count = sizes.most_common(1)[0]
    range_ = least if len(sizes) == 1 else f"{least} to {most}, {count} of {usual[0]}x{usual[1]}"
    annotators = max(one.annotators for one in facts)
    several = f", masks of {annotators} annotators" if annotators > 1 else ""
    yield f"{split}: {len(facts)} examples of {range_} pixels (height x width){several}"
    shares = sorted(facts, key=lambda one: one.foreground)
    low, high = shares[0], shares[-1]
    yield (
        f"{split}: foreground from {low.foreground:.1%} ({low.name}) to {high.foreground:.1%} "
        f"({high.name}), mean {np.mean([one.foreground for one in facts]):.1%}; objects from "
        f"{min(one.objects for one in facts)} to {max(one.objects for one in facts)}, "
        f"mean {np.mean([one.objects for one in facts]):.1f}"
    )
    for words, share in (("are empty", 0.0), ("are full", 1.0)):
        if names := [one.name for one in facts if one.foreground == share]:
            yield f"{split}: {len(names)} masks {words}: {_listed(names)}"
    if small := [one.name for one in facts if min(one.shape) < crop]:
        what = f"images are smaller than config.augment.crop={crop}, and are extended by reflection"
        yield f"{split}: {len(small)} {what}: {_listed(small)}"


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"{', '.join(names[:_NAMED])}{more}"
