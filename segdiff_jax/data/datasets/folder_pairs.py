"""Pairs images with their masks by their names; opens no file."""

import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from segdiff_jax.data.datasets import folder_names
from segdiff_jax.data.image_io import reading
from segdiff_jax.errors import bad_data

SUFFIX = "config.folder.mask_suffix"
NO_FOLDER = (
    "there is no such folder; masks must lie in it, or, of classes that overlap, in those that "
    "config.folder.classes names"
)
IMAGES = ("images", "image", "imgs", "img")  # names of folders, in any case
MASKS = ("masks", "labels", "annotations", "groundtruth", "ground_truth", "gt")
Masks = Path | tuple[Path, ...]  # of an image: a file or folder, or files of one object each
Files = dict[str, list[Path]]  # by the name of an image
MaskFiles = Mapping[str, Sequence[Masks]]


class Pair(NamedTuple):
    """An image and its masks.

    Attributes:
        name: unique in its folder.
        image: its file.
        masks: of each annotator, or of each class that overlaps, one file, or one an object, whose
            union is the mask; of such a class () where the image has none of it.
        classes: file of the classes, see `folder_classes`; None: the masks' own values, or none.
    """

    name: str
    image: Path
    masks: tuple[tuple[Path, ...], ...]
    classes: Path | None = None

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of it."""
        masks = tuple(file for part in self.masks for file in part)
        return (self.image, *masks, *(() if self.classes is None else (self.classes,)))


class Found(NamedTuple):
    """The images of a folder and their pairs.

    Attributes:
        pairs: the images with their masks.
        images: all images, whether they have a mask or not.
        problems: a line for each file or folder that does not fit.
        layouts: the name of the layout, one element.
    """

    pairs: list[Pair]
    images: list[Path]
    problems: list[str]
    layouts: list[str]


class Where(NamedTuple):
    """Where the masks of an image are.

    Attributes:
        suffixes: what follows its name in theirs; of several annotators, or classes, one of each.
        folders: of each class that overlaps, relative to that of the images' folder; (): masks, or
            masks_1, masks_2 and so on of several annotators.
        optional: those suffixes, or folders, that have no mask of some images.
    """

    suffixes: tuple[str, ...] = ("",)
    folders: tuple[str, ...] = ()
    optional: frozenset[str] = frozenset()


def side_by_side(home: Path, where: Where, found: Found) -> None:
    """Pairs images/X.png with masks/X.png, or with all files in the folder masks/X.

    Of several annotators each has a suffix, or a folder: masks_1, masks_2 and so on.
    """
    images = image_folder(home) or home / IMAGES[0]
    folders(images, _mask_folders(home, found.problems, where.folders), where, found)


def folders(place: Path, mask_folders: Sequence[Path], where: Where, found: Found) -> None:
    """Pairs the images in a folder with the masks in others; what names add is found if it must."""
    files, suffixes = reading.list_images(place), where.suffixes
    for folder in subfolders(place):
        line = f"{folder}: is a folder; images must lie in {place.name}/ itself"
        found.problems.append(line)
    if missing := [folder for folder in mask_folders if not folder.is_dir()]:
        found.images.extend(files)
        found.problems.extend(f"{folder}: {NO_FOLDER}" for folder in missing)
        return
    listed = {folder: entries_of(folder) for folder in mask_folders}
    image_names = [name_of(file) for file in files]
    affix, of_masks = folder_names.PLAIN, dict.fromkeys(listed, folder_names.PLAIN)
    if suffixes == ("",) and len(mask_folders) == 1:
        names = [name_of(entry) for entry in listed[mask_folders[0]]]
        if several := folder_names.modalities(image_names, names):
            found.layouts.append(f"{place.name}/ of {len(several)} modalities")
            found.images.extend(files)
            found.problems.append(_modalities(place, several))
            return
        affix, of_masks[mask_folders[0]] = folder_names.common_part(image_names, names)
    elif where.folders:
        of_masks = {folder: _added(image_names, entries) for folder, entries in listed.items()}
    images = by_name(files, affix)
    masks: dict[str, Files] = {}  # by what the files of an annotator are called, X for the image
    optional = set[str]()
    for folder, entries in listed.items():
        of_mask, inside = of_masks[folder], folder.relative_to(place.parent).as_posix()
        named = by_suffix(entries, suffixes, images, found.problems, of_mask)
        form = f"{inside}/{of_mask.before}X{of_mask.behind}"
        masks |= {f"{form}{suffix}": owned for suffix, owned in named.items()}
        optional |= {f"{form}{one}" for one in suffixes if {inside, one} & where.optional}
    plain = {affix, *of_masks.values()} == {folder_names.PLAIN}
    names = "" if plain else f", {affix} with {', '.join(map(str, of_masks.values()))}"
    what = [f"{folder.relative_to(place.parent).as_posix()}/" for folder in (place, *mask_folders)]
    found.layouts.append(f"{' and '.join(what)}{names}")
    pair_up(images, masks, found, optional)


def _added(images: Sequence[str], entries: Sequence[Path]) -> folder_names.Affix:
    """Returns what the names of the masks of a class add to those of their images."""
    affix, of_mask = folder_names.common_part(images, [name_of(entry) for entry in entries])
    return of_mask if affix == folder_names.PLAIN else folder_names.PLAIN


def _modalities(place: Path, ends: Sequence[str]) -> str:
    what = f"{place}: holds {len(ends)} modalities of a case ({', '.join(f'X{e}' for e in ends)})"
    return (
        f"{what}; allowed is one file: put them into one TIFF as its channels, of which "
        "config.reading.channels=0,1,1 or such chooses, or move all but one of them away"
    )


def one_by_one(home: Path, where: Where, found: Found) -> None:
    """Pairs the image in X/images with all files in X/masks, or in X/masks_1, X/masks_2 and so on.

    Of several suffixes, each names the files of an annotator by the end of their names.
    """
    found.layouts.append("a folder of each image")
    for folder in subfolders(home):
        place = image_folder(folder)
        files = reading.list_images(place) if place else []
        found.images.extend(files)
        folders = _mask_folders(folder, found.problems, where.folders)
        left_out = [folder / name for name in where.optional if not (folder / name).is_dir()]
        if len(files) != 1:
            found.problems.append(f"{folder}: has {len(files)} images in images/; allowed is one")
        elif missing := [each for each in folders if each not in left_out and not each.is_dir()]:
            place = missing[0].relative_to(folder).as_posix()
            found.problems.append(f"{folder}: its masks are missing; they must lie in {place}/")
        else:
            masks: list[Path | list[Path] | None] = []
            for each in folders:
                masks += [None] if each in left_out else _parts(each, where, found.problems)
            _add(found, normal(folder.name), files[0], masks)
    counts = {len(pair.masks): pair for pair in reversed(found.pairs)}
    if len(counts) > 1:
        (most, rich), (least, poor) = max(counts.items()), min(counts.items())
        few = f"{poor.image}: has masks of {least} annotators and {rich.image} of {most}"
        found.problems.append(f"{few}; allowed is one number for all images")


def _parts(folder: Path, where: Where, problems: list[str]) -> Sequence[Path | list[Path] | None]:
    """Returns the masks of each annotator in a folder of one image; None: there is none."""
    suffixes = where.suffixes
    if suffixes == ("",) or (len(suffixes) == 1 and not where.optional):
        return [folder]
    parts: dict[str, list[Path]] = {suffix: [] for suffix in suffixes}
    for file in reading.list_images(folder):
        if (owner := owner_of(normal(file.stem), suffixes, ())) is None:
            problems.append(_wrong_end(file, suffixes))
        else:
            parts[owner[1]].append(file)
    missing = [s for s in suffixes if not parts[s] and s not in where.optional]
    problems += [f"{folder}: holds no mask that ends in {s!r}" for s in missing]
    return [] if missing else [part or None for part in parts.values()]


def _mask_folders(home: Path, problems: list[str], of_classes: Sequence[str] = ()) -> list[Path]:
    """Returns the folder masks, or masks_1, masks_2, ... by their numbers; or those of classes."""
    if of_classes:
        return [home / name for name in of_classes]
    numbered = [each for each in subfolders(home) if re.fullmatch("masks_[0-9]+", each.name)]
    if not numbered:
        named = [each for each in subfolders(home) if each.name.lower() in MASKS]
        usable = [each for each in named if entries_of(each)] or named
        if len(usable) > 1:
            both = " and ".join(each.name for each in usable)
            problems.append(f"{home}: has {both}; allowed is one folder of masks, or masks_1, ...")
        return usable[:1] or [home / MASKS[0]]
    if (home / "masks").is_dir():
        what = f"{home}: has masks and {numbered[0].name}; allowed is masks of one annotator, or"
        problems.append(f"{what} masks_1, masks_2 and so on of several")
    return sorted(numbered, key=lambda each: (int(each.name.removeprefix("masks_")), each.name))


def by_suffix(
    files: Iterable[Path],
    suffixes: Sequence[str],
    images: Collection[str],
    problems: list[str],
    affix: folder_names.Affix = folder_names.PLAIN,
) -> dict[str, Files]:
    """Returns the masks of each suffix by the names of their images."""
    masks: dict[str, Files] = {suffix: defaultdict(list) for suffix in suffixes}
    for file in files:
        of_objects = file.is_dir()
        name = normal(file.name if of_objects else file.stem)
        name = affix.strip(name) or name
        owner = owner_of(name, suffixes, images)
        if of_objects and len(suffixes) == 1 and (owner is None or name in images):
            owner = name, suffixes[0]  # of one annotator, a folder needs no suffix
        if owner is None:
            problems.append(_wrong_end(file, suffixes))
        else:
            masks[owner[1]][owner[0]].append(file)
    return masks


def owner_of(name: str, suffixes: Sequence[str], images: Collection[str]) -> tuple[str, str] | None:
    """Returns (name of the image, suffix) of the name of a mask; None if it has no suffix."""
    owners = [(name.removesuffix(end), end) for end in suffixes if name.endswith(end)]
    known = [owner for owner in owners if owner[0] in images]
    return max(known or owners, key=lambda owner: len(owner[1]), default=None)


def _wrong_end(file: Path, suffixes: Sequence[str]) -> str:
    return f"{file}: the name of a mask must end in {SUFFIX}={','.join(suffixes)!r}"


def pair_up(
    images: Files, masks: Mapping[str, MaskFiles], found: Found, optional: Collection[str] = ()
) -> None:
    """Adds the pairs of images and masks; a line for each that has no counterpart.

    An image need not have a mask of those that are optional.
    """
    for name in sorted({*images, *(name for owned in masks.values() for name in owned)}):
        found.images.extend(images.get(name, ()))
        misfits = [
            _misfit(form.replace("X", name, 1), images.get(name, []), owned.get(name, []))
            for form, owned in masks.items()
            if (name in images and form not in optional) or name in owned
        ]
        if problems := [line for line in dict.fromkeys(misfits) if line]:
            found.problems.extend(problems)
        else:
            files = [owned[name][0] if name in owned else None for owned in masks.values()]
            _add(found, name, images[name][0], files)


def _misfit(mask: str, images: Sequence[Path], masks: Sequence[Masks]) -> str:
    """Returns why images and masks of one name make no pair; "" if they do."""
    masks = [mask[0] if isinstance(mask, tuple) else mask for mask in masks]
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


def _add(found: Found, name: str, image: Path, masks: Sequence[Masks | list[Path] | None]) -> None:
    """Adds a pair, or a problem if the name or the masks, one of which may be None, do not fit."""
    files: list[tuple[Path, ...]] = []
    for mask in masks:
        inside = () if mask is None else mask if isinstance(mask, list | tuple) else _files(mask)
        files.append(tuple(inside))
        if not inside and mask is not None:
            found.problems.append(f"{mask}: is empty; no object is one mask of zeros")
    if masks and not any(mask is not None for mask in masks):
        found.problems.append(f"{image}: has a mask of no class; allowed is one at least")
    try:
        name.encode()
    except UnicodeEncodeError:
        found.problems.append(f"{str(image)!a}: the name must be UTF-8")
        return
    fits = [mask is None or bool(own) for mask, own in zip(masks, files, strict=True)]
    if any(files) and all(fits):
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


def image_folder(home: Path) -> Path | None:
    """Returns the folder of images in a folder, by its name; None: there is none."""
    named = {each.name.lower(): each for each in reversed(subfolders(home))}
    return next((named[name] for name in IMAGES if name in named), None)


def entries_of(folder: Path) -> list[Path]:
    """Returns the masks in a folder: files, and folders of one file an object."""
    files = [file for file in reading.list_images(folder) if not file.is_dir()]
    return [*files, *subfolders(folder)]


def by_name(files: Iterable[Path], affix: folder_names.Affix = folder_names.PLAIN) -> Files:
    """Returns files by what their names have in common with those of their masks or images."""
    named = defaultdict(list)
    for file in files:
        name = name_of(file)
        named[affix.strip(name) or name].append(file)
    return named


def name_of(file: Path) -> str:
    """Returns the name of a file without its suffix, of a folder whole."""
    return normal(file.name if file.is_dir() else file.stem)


def normal(name: str) -> str:
    """Returns a name in one of the forms that look alike."""
    # macOS stores an accent apart from its letter: other bytes for the same text.
    return unicodedata.normalize("NFC", name)
