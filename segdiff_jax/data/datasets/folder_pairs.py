"""Pairs images with their masks by their names; opens no file."""

import os
import unicodedata
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

from segdiff_jax.data.image_io import reading
from segdiff_jax.errors import bad_data


class Pair(NamedTuple):
    """An image and its mask.

    Attributes:
        name: unique in its folder.
        image: its file.
        masks: one file, or one an object, whose union is the mask.
    """

    name: str
    image: Path
    masks: tuple[Path, ...]


class Found(NamedTuple):
    """The images of a folder and their pairs.

    Attributes:
        pairs: the images with their masks.
        images: all images, whether they have a mask or not.
        problems: a line for each file or folder that does not fit.
    """

    pairs: list[Pair]
    images: list[Path]
    problems: list[str]


def side_by_side(home: Path, suffix: str, found: Found) -> None:
    """Pairs images/X.png with masks/X.png, or with all files in the folder masks/X."""
    images, masks = defaultdict(list), defaultdict(list)
    for file in reading.list_images(home / "images"):
        images[_normal(file.stem)].append(file)
    for file in reading.list_images(home / "masks"):
        name = _normal(file.stem)
        if file.is_dir():
            continue  # is among the folders
        if name.endswith(suffix):
            masks[name.removesuffix(suffix)].append(file)
        else:
            end = f"config.folder.mask_suffix={suffix!r}"
            found.problems.append(f"{file}: the name of a mask must end in {end}")
    for folder in subfolders(home / "masks"):
        name = _normal(folder.name)
        masks[name if name in images else name.removesuffix(suffix)].append(folder)
    for folder in subfolders(home / "images"):
        found.problems.append(f"{folder}: is a folder; images must lie in images/ itself")
    for name in sorted({*images, *masks}):
        found.images.extend(images[name])
        if problem := _misfit(name + suffix, images[name], masks[name]):
            found.problems.append(problem)
        else:
            _add(found, name, images[name][0], masks[name][0])


def _misfit(mask: str, images: list[Path], masks: list[Path]) -> str:
    """Returns why images and masks of one name make no pair; "" if they do."""
    for kind, files in (("image", images), ("mask", masks)):
        if len(files) > 1:
            return f"{files[1]}: another {kind}, {files[0].name}, has that name; allowed is one"
    if not masks:
        return (
            f"{images[0]}: its mask is missing; it must be masks/{mask} with the end "
            f"{', '.join(reading.SUFFIXES)}, or a folder masks/{mask}"
        )
    return "" if images else f"{masks[0]}: is the mask of no image; images/ has none of that name"


def one_by_one(home: Path, found: Found) -> None:
    """Pairs the image in X/images with all files in X/masks."""
    for folder in subfolders(home):
        files = reading.list_images(folder / "images") if (folder / "images").is_dir() else []
        found.images.extend(files)
        if len(files) != 1:
            found.problems.append(f"{folder}: has {len(files)} images in images/; allowed is one")
        elif not (folder / "masks").is_dir():
            found.problems.append(f"{folder}: its masks are missing; they must lie in masks/")
        else:
            _add(found, _normal(folder.name), files[0], folder / "masks")


def _add(found: Found, name: str, image: Path, mask: Path) -> None:
    """Adds a pair, or a problem if the name or the masks cannot be used."""
    masks = tuple(reading.list_images(mask)) if mask.is_dir() else (mask,)
    try:
        name.encode()
    except UnicodeEncodeError:
        found.problems.append(f"{str(image)!a}: the name must be UTF-8")
        return
    if masks:
        found.pairs.append(Pair(name, image, masks))
    else:
        found.problems.append(f"{mask}: is empty; no object is one mask of zeros")


def subfolders(directory: Path) -> list[Path]:
    """Returns the folders in a directory by name, without hidden ones."""
    try:
        with os.scandir(directory) as entries:
            names = [entry.name for entry in entries if _is_folder(entry)]
    except OSError as error:
        raise bad_data(directory, f"cannot be listed ({error.strerror})") from error
    return [directory / name for name in sorted(names) if name[0] != "." and name != "__MACOSX"]


def _is_folder(entry: os.DirEntry) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link that leads to itself; reading it as an image reports it
        return False


def _normal(name: str) -> str:
    # macOS stores an accent apart from its letter: other bytes for the same text.
    return unicodedata.normalize("NFC", name)
