"""Finds the files of each frame in a Cityscapes folder by their names; opens none."""

import re
from pathlib import Path
from typing import NamedTuple

IMAGE, INSTANCE_IDS = "_leftImg8bit.png", "_gtFine_instanceIds.png"


class Frame(NamedTuple):
    """The two files of one street scene, and its name `<city>_<sequence>_<frame>`."""

    name: str
    image: Path
    instance_ids: Path

    @property
    def city(self) -> str:
        """The city it was filmed in."""
        return self.name.split("_")[0]


def frames(directory: Path, split: str, problems: list[str]) -> list[Frame]:
    """Returns the frames of an official split that have both files, by city and name.

    Args:
        directory: holds "leftImg8bit" and "gtFine".
        split: "train" or "val"; a missing split has no frames.
        problems: a line is added for each file that is missing or has the wrong name.
    """
    images, truth = directory / "leftImg8bit" / split, directory / "gtFine" / split
    names = {
        (path.parent.name, path.name.removesuffix(ending))
        for folder, ending in ((images, IMAGE), (truth, INSTANCE_IDS))
        for path in folder.glob(f"*/*{ending}")
        if not (path.name.startswith(".") or path.parent.name.startswith("."))
    }
    whole = []
    for city, name in sorted(names):
        files = images / city / f"{name}{IMAGE}", truth / city / f"{name}{INSTANCE_IDS}"
        missing = [path for path in files if not path.is_file()]
        if not re.fullmatch(rf"{re.escape(city)}_\d{{6}}_\d{{6}}", name):
            there = next(path for path in files if path not in missing)
            problems.append(f"{there}: the name must begin with {city}_<6 digits>_<6 digits>_")
        elif missing:
            problems += [f"{path}: is missing; frame {name} has other files" for path in missing]
        else:
            whole.append(Frame(name, *files))
    return whole
