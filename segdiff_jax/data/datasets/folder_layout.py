"""Finds images and masks in a folder, and splits them into training, validation and test.

No file is opened here. `folder` lists the layouts.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path

from segdiff_jax.data.classes import NO_CLASSES, ClassValues
from segdiff_jax.data.datasets import folder_beside, folder_pairs
from segdiff_jax.data.image_io import reading
from segdiff_jax.errors import UserError, bad_data

_NNUNET = ("images", "labels")  # imagesTr, labelsTr and perhaps imagesTs, labelsTs
SPLITS = ("train", "validation", "test")
MAX_ANNOTATORS = 8  # a prepared set stores their masks as the bits of one image
_MISNAMED = {"val": "validation", "valid": "validation", "training": "train", "testing": "test"}
LAYOUTS = (
    "images/ and masks/ (or labels/, annotations/), with a mask of the name of every image, or of "
    "each image a folder with images/ and masks/, or images and masks beside one another, as X and "
    "X_mask or with config.folder.mask_suffix; or train/ and test/ with these in them; or "
    "imagesTr/ and labelsTr/"
)


def find(
    directory: Path, mask_suffix: str = "", of_classes: ClassValues = NO_CLASSES
) -> dict[str, folder_pairs.Found]:
    """Returns the images and masks of "train", "validation" and "test", or under "" without those.

    The directory is in one of LAYOUTS, perhaps inside one more folder, as archives unpack. The
    suffix follows the name of the image in the name of its mask, as "_mask"; the suffixes of
    several annotators are joined by commas. Of classes that overlap each has masks of its own.

    Raises:
        UserError: it is in none of the layouts, or cannot be listed, or the suffixes are unclear.
    """
    everything, where = {}, _where(mask_suffix, of_classes)
    for split, folder in _split_folders(directory).items():
        found = folder_pairs.Found([], [], [], [])
        home = _pair(folder, split, where, found)
        if not found.images:
            found.problems.append(f"{home}: holds no image; at least one is needed")
        count = max((len(pair.masks) for pair in found.pairs), default=1)
        if count > MAX_ANNOTATORS and not of_classes.sources:
            few = f"masks of {count} annotators; allowed are {MAX_ANNOTATORS}"
            found.problems.append(f"{home}: has {few}")
        everything[split] = found
    return everything


def _pair(folder: Path, split: str, where: folder_pairs.Where, found: folder_pairs.Found) -> Path:
    """Adds the pairs of a split's folder; returns the folder they lie in."""
    suffixes = where.suffixes
    if not where.folders and (nnunet := _nnunet(folder)):
        images, labels = (nnunet / f"{name}T{'s' if split == 'test' else 'r'}" for name in _NNUNET)
        folder_pairs.folders(images, [labels], where, found)
        found.layouts[-1] = f"nnU-Net ({found.layouts[-1]})"
        return nnunet
    if not where.folders and (homes := _beside(folder, suffixes)):
        if suffixes == ("",) and folder_beside.lie_beside(homes):
            folder_beside.beside(homes, found)
        else:
            folder_beside.flat(homes[0], where, found)
        return homes[0]
    home = _home(folder)
    if folder_pairs.image_folder(home):
        folder_pairs.side_by_side(home, where, found)
    else:
        folder_pairs.one_by_one(home, where, found)
    return home


def _nnunet(folder: Path) -> Path | None:
    """Returns the folder with imagesTr/ and labelsTr/, which is this one or the only one in it."""
    inside = folder_pairs.subfolders(folder)
    for home in (folder, *(inside if len(inside) == 1 else ())):
        if all((home / f"{name}Tr").is_dir() for name in _NNUNET):
            return home
    return None


def assign(
    pairs: Mapping[str, list[folder_pairs.Pair]], shares: Mapping[str, float], seed: int
) -> dict[str, list[folder_pairs.Pair]]:
    """Splits the pairs into "train", "validation" and "test".

    A folder of that name is that split. A split without a folder is drawn from the training images:
    each image is assigned by a hash of its name and the seed, so adding one moves no other. Where
    that leaves a split empty the nearest image moves, if there are three; at least one is left to
    train; a split may be empty. The shares of "validation" and "test" are 0..1, and used only where
    there is no such folder.
    """
    given = {name: pairs[name] for name in ("validation", "test") if name in pairs}
    pool = pairs.get("train", pairs.get("", []))
    ranked = sorted(pool, key=lambda pair: _rank(pair.name, seed))
    wanted = {name: 0.0 if name in given else shares[name] for name in ("test", "validation")}
    least = {name: int(share > 0 and len(pool) >= 3) for name, share in wanted.items()}
    threshold, begin, drawn = 0.0, 0, {}
    for name, share in wanted.items():
        threshold += share
        end = sum(_rank(pair.name, seed) < threshold for pair in ranked)
        later = 1 + (least["validation"] if name == "test" else 0)  # reserved for what follows
        end = max(min(max(end, begin + least[name]), len(pool) - later), begin)
        drawn[name] = ranked[begin:end]
        begin = end
    splits = {"train": ranked[begin:]} | drawn | given
    return {name: sorted(splits[name]) for name in SPLITS}


def _rank(name: str, seed: int) -> float:
    """Returns a pseudo-random number in [0, 1), a function of the name and the seed."""
    return int.from_bytes(hashlib.sha256(f"{seed} {name}".encode()).digest()[:6]) / 2**48


def _split_folders(directory: Path) -> dict[str, Path]:
    """Returns the folders of the splits by name, or {"": directory} if there are none."""
    if nnunet := _nnunet(directory):
        tested = all((nnunet / f"{name}Ts").is_dir() for name in _NNUNET)
        return {"train": nnunet, "test": nnunet} if tested else {"": nnunet}
    folders = folder_pairs.subfolders(directory)
    if len(folders) == 1 and not folder_pairs.image_folder(directory):
        within = folder_pairs.subfolders(folders[0])
        if "train" in {folder.name for folder in within}:
            folders = within
    by_name = {folder.name: folder for folder in folders}
    for wrong, right in _MISNAMED.items():
        if wrong in by_name and (
            set(SPLITS) & set(by_name) or not folder_pairs.image_folder(directory)
        ):
            raise bad_data(by_name[wrong], f"is not read; allowed is the name {right}")
    splits = {name: by_name[name] for name in SPLITS if name in by_name}
    if splits and "train" not in splits:
        found = f"has {' and '.join(splits)} but no train"
        raise bad_data(directory, f"{found}; put all images in one images/ to have them split")
    return splits or {"": directory}


def _where(mask_suffix: str, of_classes: ClassValues) -> folder_pairs.Where:
    """Returns where masks are, by config.folder.mask_suffix or else by the classes' sources."""
    sources, optional = of_classes.sources, of_classes.optional
    if not sources:
        return folder_pairs.Where(_suffixes(mask_suffix))
    if sources[0][0] in "_.-":
        return folder_pairs.Where(sources, optional=optional)
    return folder_pairs.Where(folders=sources, optional=optional)


def _suffixes(mask_suffix: str) -> tuple[str, ...]:
    suffixes = tuple(mask_suffix.split(","))
    if len(suffixes) > 1 and ("" in suffixes or len(set(suffixes)) < len(suffixes)):
        raise UserError(
            f"config.folder.mask_suffix={mask_suffix!r}: the suffixes that commas join must differ "
            "and none be empty"
        )
    return suffixes


def _beside(folder: Path, suffixes: tuple[str, ...]) -> list[Path]:
    """Returns the folders whose files are images and their masks, side by side; []: no such.

    They are several where each class of images has one, as of BUSI.
    """
    inside = folder_pairs.subfolders(folder)
    if any(map(folder_pairs.image_folder, (folder, *inside))):
        return []
    for place in (folder, *(inside if len(inside) == 1 else ())):
        if folder_beside.masks_lie_beside(place, suffixes):
            return [place]
        if suffixes == ("",) and folder_beside.lie_beside([place]):
            return [place]
    several = suffixes == ("",) and len(inside) > 1
    each_does = several and all(folder_beside.lie_beside([place]) for place in inside)
    return inside if each_does and folder_beside.lie_beside(inside) else []


def _home(folder: Path) -> Path:
    """Returns the folder with images/ and masks/, or with a folder of each image.

    Raises:
        UserError: it is neither `folder` nor one inside it.
    """
    of_images = folder_pairs.image_folder
    if of_images(folder):
        return folder
    inside = folder_pairs.subfolders(folder)
    samples = {each: place for each in inside if (place := of_images(each))}
    if len(samples) == 1:
        ((home, place),) = samples.items()
        return home if len(reading.list_images(place)) > 1 else folder
    if samples:
        return folder
    homes = [each for each in inside if any(map(of_images, folder_pairs.subfolders(each)))]
    if len(homes) == 1:
        return homes[0]
    several = f" in one place, but in {', '.join(each.name for each in homes)}" if homes else ""
    here = [folder, *(inside if len(inside) == 1 else ())]
    suffixes = {reading.kinds(place.iterdir()) for place in here} - {""}
    seen = f" (there are {'; '.join(suffixes)})" if suffixes and not homes else ""
    raise bad_data(folder, f"holds no images with masks{several}{seen}; it must hold {LAYOUTS}")
