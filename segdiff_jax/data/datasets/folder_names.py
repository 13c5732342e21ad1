"""Finds by which part of their names images and masks belong together; opens no file.

Public sets add to a name: `case_001_0000` and `case_001` (nnU-Net), `ISIC_01` and
`ISIC_01_segmentation`, `21_training` and `21_manual1` (DRIVE), `img_7` and `mask_7`.
"""

import itertools
import os
import re
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

# The name of a mask beside its image: X_mask; X_mask_1, X_mask_2 are further objects of it.
_MASK = re.compile(
    r"(?P<image>.+?)(?P<end>[^a-z0-9](?:[a-z]*(?:mask|seg|label|annot|truth|manual)[a-z0-9]*|gt))"
    r"(?:_[0-9]+)?",
    re.IGNORECASE,
)

_MODALITY = re.compile(r"(?P<case>.+)(?P<end>_[0-9]{4})")


class Affix(NamedTuple):
    """What stands before and behind the common part of a name."""

    before: str = ""
    behind: str = ""

    def strip(self, name: str) -> str | None:
        """Returns the common part; None: the name does not have this affix, or no other part."""
        inside = len(name) > len(self.before) + len(self.behind)
        if inside and name.startswith(self.before) and name.endswith(self.behind):
            return name[len(self.before) : len(name) - len(self.behind)]
        return None

    def __str__(self) -> str:
        """Returns the affix with * for the common part."""
        return f"{self.before}*{self.behind}"


PLAIN = Affix()


def mask_beside(name: str) -> tuple[str, str] | None:
    """Returns the image's name and the end of the name of a mask, as ("X", "_mask"); None: of none.

    The end has a word such as mask or label in it; `X_mask_1` is of the same image and end.
    """
    match = _MASK.fullmatch(name)
    return (match["image"], match["end"]) if match else None


def modalities(images: Collection[str], masks: Collection[str]) -> list[str]:
    """Returns the ends of several images of one case, as ["_0000", "_0001"] of nnU-Net; else []."""
    ends = {}
    for name in set(images) - set(masks):
        if (match := _MODALITY.fullmatch(name)) and match["case"] in masks:
            ends.setdefault(match["case"], set()).add(match["end"])
    return sorted(max(ends.values(), key=len)) if any(len(e) > 1 for e in ends.values()) else []


def common_part(images: Collection[str], masks: Collection[str]) -> tuple[Affix, Affix]:
    """Returns the affixes of images and masks with which most names are equal; shortest first.

    Both are PLAIN if half of the masks have the name of an image, or no affixes bring that about.
    """
    best, most = (PLAIN, PLAIN), len(set(images) & set(masks))
    if 2 * most >= len(masks):
        return best
    candidates = itertools.product(_affixes(images), _affixes(masks))
    for pair in sorted(candidates, key=lambda pair: sum(map(len, itertools.chain(*pair)))):
        stripped = [
            {affix.strip(name) for name in names} - {None}
            for affix, names in zip(pair, (images, masks), strict=True)
        ]
        if len(stripped[0] & stripped[1]) > max(most, len(masks) / 2):
            best, most = pair, len(stripped[0] & stripped[1])
    return best


def _affixes(names: Iterable[str]) -> Iterator[Affix]:
    names = list(names)
    before = os.path.commonprefix(names)
    behind = os.path.commonprefix([name[::-1] for name in names])[::-1]
    starts = [before[:cut] for cut in range(1, len(before) + 1) if _is_cut(before, cut, names)]
    ends = [behind[-cut:] for cut in range(1, len(behind) + 1) if not behind[-cut].isalnum()]
    for pair in itertools.product(["", *starts], ["", *ends]):
        yield Affix(*pair)


def _is_cut(before: str, cut: int, names: list[str]) -> bool:
    """Returns whether a prefix ends with no letter or digit, or with letters before numbers."""
    if not before[cut - 1].isalnum():
        return True
    return before[:cut].isalpha() and all(name[cut : cut + 1].isdigit() for name in names)
