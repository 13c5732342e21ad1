"""The images to predict, and the names of what is made of each; all decided before the first."""

import os
from collections import Counter
from pathlib import Path
from typing import NamedTuple

from segdiff_jax.data.image_io.reading import is_image_name, list_images
from segdiff_jax.errors import BAD_DATA, UserError

MAPS = ("probability", "mask", "uncertainty", "overlay")  # folders of the output


GENERATIONS = "generations"  # one more, if they are kept


class Input(NamedTuple):
    """One image file.

    Attributes:
      number: its place among all images of the folder, from 0; its noise depends on it.
      path: of the file.
      name: its path from the folder, with "/"; it stands in the summary.
      place: of what is made of it, from the folder of each map, without suffix.
      suffix: of what is made of it: ".tif" for TIFF, ".png" for all others.
    """

    number: int
    path: Path
    name: str
    place: str
    suffix: str

    def maps(self, output: Path) -> dict[str, Path]:
        """Returns the file of each of `MAPS`."""
        return {name: output / name / f"{self.place}{self.suffix}" for name in MAPS}

    def generations(self, output: Path, count: int) -> list[Path]:
        """Returns the files of the generations, which are counted from 1."""
        folder = output / GENERATIONS
        return [folder / f"{self.place}_{k + 1}{self.suffix}" for k in range(count)]


def find(path: Path, recursive: bool = False) -> tuple[Path, list[Input]]:
    """Returns (the folder, its images), or of a file its folder and this one image.

    Names and numbers are those of the whole folder, so an image gets the same ones alone.

    Args:
      path: a file or a folder.
      recursive: whether to look into the folders of the folder too; links to folders and hidden
        ones are not followed.

    Raises:
      UserError: there is no such file or folder, or it holds no image.
    """
    if path.is_file():
        if not is_image_name(path):
            raise UserError(
                f"--input={path}: must be a PNG, JPEG or TIFF file, or a folder of them"
            )
        return path.parent, [i for i in _inputs(path.parent, [path.parent]) if i.path == path]
    if not path.is_dir():
        raise UserError(f"--input={path}: no such file or folder")
    below = sorted(_folders(path))
    if found := _inputs(path, [path, *below] if recursive else [path]):
        return path, found
    hint = ""
    if not recursive and (inside := [folder for folder in below if list_images(folder)]):
        hint = f"; {len(inside)} folders below it do, such as {inside[0]}: add --recursive"
    raise UserError(f"--input={path}: holds no PNG, JPEG or TIFF file{hint}", BAD_DATA)


def _folders(top: Path) -> list[Path]:
    """All folders below, without hidden ones and links."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: {error.strerror}", BAD_DATA)

    found = []
    for folder, names, _ in os.walk(top, onerror=refuse):
        names[:] = [name for name in names if not name.startswith((".", "__MACOSX"))]
        found += [Path(folder, name) for name in names if not Path(folder, name).is_symlink()]
    return found


def _inputs(top: Path, folders: list[Path]) -> list[Input]:
    found: list[Input] = []
    for folder in folders:
        files = list_images(folder)
        inside = folder.relative_to(top)
        for file, stem in zip(files, _stems([file.name for file in files]), strict=True):
            suffix = ".tif" if file.suffix.lower() in (".tif", ".tiff") else ".png"
            name, place = (inside / file.name).as_posix(), (inside / stem).as_posix()
            found.append(Input(len(found), file, name, place, suffix))
    return found


def _stems(names: list[str]) -> list[str]:
    """Names without suffix; where two would be the same, both keep theirs: a.png, a.jpg."""
    stems = [Path(name).stem for name in names]
    while True:  # a whole name may be the stem of a third file, which then keeps its own as well
        counts = Counter(stems)
        shared = [i for i, stem in enumerate(stems) if counts[stem] > 1 and stem != names[i]]
        if not shared:
            return stems
        for i in shared:
            stems[i] = names[i]
