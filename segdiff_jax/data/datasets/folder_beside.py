"""Pairs images with masks that lie beside them, by their names; opens no file."""

from collections import Counter, defaultdict
from collections.abc import Collection, Sequence
from pathlib import Path

from segdiff_jax.data.datasets import folder_names, folder_pairs
from segdiff_jax.data.image_io import reading


def beside(homes: Sequence[Path], found: folder_pairs.Found) -> None:
    """Pairs X.png with X_mask.png beside it, or whatever else they are called, by their names.

    X_mask_1.png, X_mask_2.png and so on are further objects of the mask.
    """
    files = [file for home in homes for file in reading.list_images(home)]
    parsed = {file: folder_names.mask_beside(folder_pairs.name_of(file)) for file in files}
    owners = {file: parts[0] for file, parts in parsed.items() if parts}
    (end,) = {parts[1] for parts in parsed.values() if parts}
    images = [file for file in files if file not in owners]
    affix, of_mask = folder_names.common_part(
        {folder_pairs.name_of(file) for file in images}, set(owners.values())
    )
    masks: folder_pairs.Files = defaultdict(list)
    for file, owner in owners.items():
        masks[of_mask.strip(owner) or owner].append(file)
    grouped = {name: [tuple(sorted(files))] for name, files in masks.items()}
    names = {"_masks": "cellpose", "_mask": "BUSI", "_segmentation": "ISIC"}
    layout = f"X{affix.behind} and X{of_mask.behind}{end} side by side"
    found.layouts.append(f"{names[end]} ({layout})" if end in names else layout)
    folder_pairs.pair_up(
        folder_pairs.by_name(images, affix), {f"X{of_mask.behind}{end}": grouped}, found
    )


def lie_beside(homes: Sequence[Path]) -> bool:
    """Returns whether folders hold images and masks that `beside` pairs: one end, and no doubt."""
    names = [folder_pairs.name_of(file) for home in homes for file in reading.list_images(home)]
    parsed = {name: folder_names.mask_beside(name) for name in names}
    owners = {parts[0] for parts in parsed.values() if parts}
    images = {name for name, parts in parsed.items() if not parts}
    if len({parts[1] for parts in parsed.values() if parts}) != 1:
        return False
    affixes = folder_names.common_part(images, owners)
    found = [
        {affix.strip(name) for name in names} - {None}
        for affix, names in zip(affixes, (images, owners), strict=True)
    ]
    return len(found[0] & found[1]) > 0


def flat(home: Path, where: folder_pairs.Where, found: folder_pairs.Found) -> None:
    """Pairs X.png with the masks beside it: X and each suffix."""
    suffixes = where.suffixes
    files = folder_pairs.by_name(reading.list_images(home))
    found.layouts.append("images and masks side by side")
    if suffixes == ("",):  # which are masks is guessed for the message, and to count the images
        ends = _ends(files)
        of_masks = {name + end for end in ends for name in files}
        found.images.extend(file for name in files if name not in of_masks for file in files[name])
        guess = ",".join(sorted(ends))
        line = f"{home}: masks beside their images need {folder_pairs.SUFFIX}, what follows an"
        line += f" image's name in the name of its mask; by the names here {guess!r}"
        found.problems.append(line)
        return
    of_masks = {name for name in files if folder_pairs.owner_of(name, suffixes, files) is not None}
    images = {name: files[name] for name in files if name not in of_masks}
    listed = [file for name in sorted(of_masks) for file in files[name]]
    owned = folder_pairs.by_suffix(listed, suffixes, images, found.problems)
    masks = {f"X{suffix}": files for suffix, files in owned.items()}
    optional = {f"X{suffix}" for suffix in where.optional}
    folder_pairs.pair_up(images, masks, found, optional)


def masks_lie_beside(home: Path, suffixes: Sequence[str]) -> bool:
    """Returns whether a folder holds an image and its mask, by their names."""
    names = {folder_pairs.normal(file.stem) for file in reading.list_images(home)}
    if suffixes == ("",):
        return bool(_ends(names))
    return any(name + suffix in names for suffix in suffixes if suffix for name in names)


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
