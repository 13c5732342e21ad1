"""Pairs images with their masks by their names; opens no file."""

import os
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from segdiff_jax.data.image_io import reading
from segdiff_jax.errors import bad_data

_SUFFIX = "config.folder.mask_suffix"
Files = dict[str, list[Path]]  # by the name of an image


class Pair(NamedTuple):
    """An image and its masks.

    Attributes:
        name: unique in its folder.
        image: its file.
        masks: of each annotator one file, or one an object, whose union is the mask.
    """

    name: str
    image: Path
    masks: tuple[tuple[Path, ...], ...]


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


def side_by_side(home: Path, suffixes: Sequence[str], found: Found) -> None:
    """Pairs images/X.png with masks/X.png, or with all files in the folder masks/X.

    Of several annotators each has a suffix, or a folder: masks_1, masks_2 and so on.
    """
    images = _by_name(reading.list_images(home / "images"))
    for folder in subfolders(home / "images"):
        found.problems.append(f"{folder}: is a folder; images must lie in images/ itself")
    masks: dict[str, Files] = {}  # by what the files of an annotator are called, X for the image
    for folder in _mask_folders(home, found.problems):
        files = [file for file in reading.list_images(folder) if not file.is_dir()]
        entries = [*files, *subfolders(folder)]
        by_suffix = _by_suffix(entries, suffixes, images, found.problems)
        masks |= {f"{folder.name}/X{suffix}": owned for suffix, owned in by_suffix.items()}
    _pair(images, masks, found)


def flat(home: Path, suffixes: Sequence[str], found: Found) -> None:
    """Pairs X.png with the masks beside it: X and each suffix."""
    files = _by_name(reading.list_images(home))
    if suffixes == ("",):  # which are masks is guessed for the message, and to count the images
        ends = _ends(files)
        masks = {name + end for end in ends for name in files}
        found.images.extend(file for name in files if name not in masks for file in files[name])
        guess = ",".join(sorted(ends))
        line = f"{home}: masks beside their images need {_SUFFIX}, what follows an image's name in"
        found.problems.append(f"{line} the name of its mask; by the names here {guess!r}")
        return
    of_masks = {name for name in files if _owner(name, suffixes, files) is not None}
    images = {name: files[name] for name in files if name not in of_masks}
    listed = [file for name in sorted(of_masks) for file in files[name]]
    by_suffix = _by_suffix(listed, suffixes, images, found.problems)
    _pair(images, {f"X{suffix}": owned for suffix, owned in by_suffix.items()}, found)


def masks_lie_beside(home: Path, suffixes: Sequence[str]) -> bool:
    """Returns whether a folder holds an image and its mask, by their names."""
    names = {_normal(file.stem) for file in reading.list_images(home)}
    if suffixes == ("",):
        return bool(_ends(names))
    return any(name + suffix in names for suffix in suffixes if suffix for name in names)


def one_by_one(home: Path, suffixes: Sequence[str], found: Found) -> None:
    """Pairs the image in X/images with all files in X/masks, or in X/masks_1, X/masks_2 and so on.

    Of several suffixes, each names the files of an annotator by the end of their names.
    """
    for folder in subfolders(home):
        files = reading.list_images(folder / "images") if (folder / "images").is_dir() else []
        found.images.extend(files)
        folders = _mask_folders(folder, found.problems)
        if len(files) != 1:
            found.problems.append(f"{folder}: has {len(files)} images in images/; allowed is one")
        elif not folders[0].is_dir():
            found.problems.append(f"{folder}: its masks are missing; they must lie in masks/")
        else:
            masks = [part for each in folders for part in _parts(each, suffixes, found.problems)]
            _add(found, _normal(folder.name), files[0], masks)
    counts = {len(pair.masks): pair for pair in reversed(found.pairs)}
    if len(counts) > 1:
        (most, rich), (least, poor) = max(counts.items()), min(counts.items())
        few = f"{poor.image}: has masks of {least} annotators and {rich.image} of {most}"
        found.problems.append(f"{few}; allowed is one number for all images")


def _parts(folder: Path, suffixes: Sequence[str], problems: list[str]) -> list[Path | list[Path]]:
    """Returns the masks of each annotator in a folder of one image."""
    if len(suffixes) == 1:
        return [folder]
    parts: dict[str, list[Path]] = {suffix: [] for suffix in suffixes}
    for file in reading.list_images(folder):
        if (owner := _owner(_normal(file.stem), suffixes, ())) is None:
            problems.append(_wrong_end(file, suffixes))
        else:
            parts[owner[1]].append(file)
    problems += [f"{folder}: holds no mask that ends in {s!r}" for s in suffixes if not parts[s]]
    return list(parts.values()) if all(parts.values()) else []


def _mask_folders(home: Path, problems: list[str]) -> list[Path]:
    """Returns the folder masks, or masks_1, masks_2, ... by their numbers."""
    numbered = [each for each in subfolders(home) if re.fullmatch("masks_[0-9]+", each.name)]
    if not numbered:
        return [home / "masks"]
    if (home / "masks").is_dir():
        what = f"{home}: has masks and {numbered[0].name}; allowed is masks of one annotator, or"
        problems.append(f"{what} masks_1, masks_2 and so on of several")
    return sorted(numbered, key=lambda each: (int(each.name.removeprefix("masks_")), each.name))


def _by_suffix(
    files: Iterable[Path], suffixes: Sequence[str], images: Collection[str], problems: list[str]
) -> dict[str, Files]:
    """Returns the masks of each suffix by the names of their images."""
    masks: dict[str, Files] = {suffix: defaultdict(list) for suffix in suffixes}
    for file in files:
        of_objects = file.is_dir()
        name = _normal(file.name if of_objects else file.stem)
        owner = _owner(name, suffixes, images)
        if of_objects and len(suffixes) == 1 and (owner is None or name in images):
            owner = name, suffixes[0]  # of one annotator, a folder needs no suffix
        if owner is None:
            problems.append(_wrong_end(file, suffixes))
        else:
            masks[owner[1]][owner[0]].append(file)
    return masks


def _owner(name: str, suffixes: Sequence[str], images: Collection[str]) -> tuple[str, str] | None:
    """Returns (name of the image, suffix) of the name of a mask; None if it has no suffix."""
    owners = [(name.removesuffix(end), end) for end in suffixes if name.endswith(end)]
    known = [owner for owner in owners if owner[0] in images]
    return max(known or owners, key=lambda owner: len(owner[1]), default=None)


def _wrong_end(file: Path, suffixes: Sequence[str]) -> str:
    return f"{file}: the name of a mask must end in {_SUFFIX}={','.join(suffixes)!r}"


def _ends(names: Collection[str]) -> set[str]:
    """Returns what follows a name in longer ones, as "_mask"; it begins with no letter or digit.

    An end that follows at most half as many names as the commonest is part of a name.
    """
    counts = Counter(
        name[cut:]
        for name in names
        for cut in range(1, len(name))
        if name[:cut] in names and not name[cut].isalnum()
    )
    return {end for end, count in counts.items() if 2 * count > max(counts.values())}


def _pair(images: Files, masks: dict[str, Files], found: Found) -> None:
    """Adds the pairs of images and masks; a line for each that has no counterpart."""
    for name in sorted({*images, *(name for owned in masks.values() for name in owned)}):
        found.images.extend(images.get(name, ()))
        misfits = [
            _misfit(form.replace("X", name, 1), images.get(name, []), owned.get(name, []))
            for form, owned in masks.items()
            if name in images or name in owned
        ]
        if problems := [line for line in dict.fromkeys(misfits) if line]:
            found.problems.extend(problems)
        else:
            _add(found, name, images[name][0], [owned[name][0] for owned in masks.values()])


def _misfit(mask: str, images: list[Path], masks: list[Path]) -> str:
    """Returns why images and masks of one name make no pair; "" if they do."""
    for kind, files in (("image", images), ("mask", masks)):
        if len(files) > 1:
            return f"{files[1]}: another {kind}, {files[0].name}, has that name; allowed is one"
    if not masks:
        folder = f", or a folder {mask}" if "/" in mask else ""
        return (
            f"{images[0]}: its mask is missing; it must be {mask} with the end "
            f"{', '.join(reading.SUFFIXES)}{folder}"
        )
    where = "images/ has none of that name" if "/" in mask else "none beside it has that name"
    return "" if images else f"{masks[0]}: is the mask of no image; {where}"


def _add(found: Found, name: str, image: Path, masks: Sequence[Path | list[Path]]) -> None:
    """Adds a pair, or a problem if the name or the masks cannot be used."""
    files = []
    for mask in masks:
        inside = mask if isinstance(mask, list) else _files(mask)
        files.append(tuple(inside))
        if not inside:
            found.problems.append(f"{mask}: is empty; no object is one mask of zeros")
    try:
        name.encode()
    except UnicodeEncodeError:
        found.problems.append(f"{str(image)!a}: the name must be UTF-8")
        return
    if files and all(files):
        found.pairs.append(Pair(name, image, tuple(files)))


def _files(mask: Path) -> list[Path]:
    return reading.list_images(mask) if mask.is_dir() else [mask]


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


def _by_name(files: Iterable[Path]) -> Files:
    named = defaultdict(list)
    for file in files:
        named[_normal(file.stem)].append(file)
    return named


def _normal(name: str) -> str:
    # macOS stores an accent apart from its letter: other bytes for the same text.
    return unicodedata.normalize("NFC", name)
