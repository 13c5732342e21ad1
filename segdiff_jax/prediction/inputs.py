"""Lists the images of a folder and names the output files of each, before the first is read."""

import glob
import os
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from absl import logging

from segdiff_jax.data.image_io import reading
from segdiff_jax.data.image_io.reading import is_image_name, list_images
from segdiff_jax.errors import BAD_DATA, UserError

# folders of the output
MAPS = ("probability", "mask", "uncertainty", "overlay")
GENERATIONS = "generations"  # only with --save_generations
_NAMED = 5  # folders that a line names
ENDS = ", ".join(reading.SUFFIXES)
SAMPLES = "samples"  # only with --outputs=samples
BOUNDS = ("inner", "outer")  # only with --risk
CLASSES = "classes"  # only of a run that learnt classes
CLASS_TABLE = "classes.csv"  # likewise; no folder
OBJECTS = "objects"  # with --outputs=objects: a table, objects.csv, no folder
MAPS_ALONE, ALL, AUTO = "maps", "all", "auto"  # values of --outputs; AUTO: it is not given
# with --outputs of that name: the end of its files
OF_OBJECTS = {"labels": ".tif", "geojson": ".geojson", "rois": ".zip"}
FOLDERS = (*MAPS, GENERATIONS, SAMPLES, *BOUNDS, CLASSES, *OF_OBJECTS)
MAX_NAME_BYTES = 255  # of a file, on all usual file systems


class Input(NamedTuple):
    """Describes an image file and its outputs.

    Attributes:
      number: its index among all images of the folder; the noise depends on it.
      path: of the file.
      name: path relative to the folder, with "/"; used in the summary.
      output_stem: path of its outputs relative to the folder of each map, without suffix.
      suffix: of its outputs: ".tif" for TIFF, else ".png".
    """

    number: int
    path: Path
    name: str
    output_stem: str
    suffix: str

    def maps(self, output: Path) -> dict[str, Path]:
        """Returns the output file of each of `MAPS`."""
        file = _fitting(self.output_stem, self.suffix)
        return {name: output / name / file for name in MAPS}

    def bounds(self, output: Path) -> dict[str, Path]:
        """Returns the output file of each of `BOUNDS`."""
        file = _fitting(self.output_stem, self.suffix)
        return {name: output / name / file for name in BOUNDS}

    def classes(self, output: Path, overlapping: Sequence[str] = ()) -> dict[str, Path]:
        """Returns the output file of the classes, or that of each of some that overlap, by name."""
        file, folder = _fitting(self.output_stem, self.suffix), output / CLASSES
        return {name: folder / name / file for name in overlapping} or {CLASSES: folder / file}

    def of_objects(self, output: Path) -> dict[str, Path]:
        """Returns the output file of each of `OF_OBJECTS`."""
        return {
            name: output / name / _fitting(self.output_stem, end)
            for name, end in OF_OBJECTS.items()
        }

    def generations(self, output: Path, count: int) -> list[Path]:
        """Returns the output files of the generations, which are counted from 1."""
        return self._numbered(output / GENERATIONS, count)

    def samples(self, output: Path, count: int) -> list[Path]:
        """Returns the output files of the samples, which are counted from 1."""
        return self._numbered(output / SAMPLES, count)

    def _numbered(self, folder: Path, count: int) -> list[Path]:
        tails = [f"_{k + 1}{self.suffix}" for k in range(count)]
        return [folder / _fitting(self.output_stem, tail) for tail in tails]


def _fitting(stem: str, tail: str) -> str:
    """Returns stem + tail; a name that no file system holds is cut and gets a checksum."""
    folder, slash, name = stem.rpartition("/")
    encoded, room = os.fsencode(name), MAX_NAME_BYTES - len(tail)
    if len(encoded) <= room:
        return stem + tail
    cut = encoded[: room - 9].decode(errors="ignore")
    return f"{folder}{slash}{cut}~{zlib.crc32(encoded):08x}{tail}"


def find_images(path: Path, recursive: bool = False) -> tuple[Path, list[Input]]:
    """Returns a folder and its images; for a file, its folder and this one image.

    Names and numbers depend on the whole folder, so an image alone has the same ones.

    Args:
      path: a file or a folder.
      recursive: whether to include sub-folders, except hidden ones and links.

    Raises:
      UserError: there is no such file or folder, or it holds no image.
    """
    if path.is_file() and not is_image_name(path):
        raise UserError(f"--input={path}: must be a file with the end {ENDS}, or a folder of them")
    if path.is_file():
        return path.parent, [i for i in _inputs(path.parent, [path.parent]) if i.path == path]
    if not path.is_dir():
        raise UserError(f"--input={path}: no such file or folder")
    below = sorted(_folders(path))
    if found := _inputs(path, [path, *below] if recursive else [path]):
        return path, found
    hint = ""
    if not recursive and (inside := [folder for folder in below if list_images(folder)]):
        hint = f"; {len(inside)} folders below it do, such as {inside[0]}: add --recursive"
    here = f" (there are {kinds})" if (kinds := reading.ignored(path)) else ""
    raise UserError(f"--input={path}: holds no file with the end {ENDS}{here}{hint}", BAD_DATA)


def log_ignored(inputs: Sequence[Input]) -> None:
    """Warns of what lies beside inputs and is not read: other kinds of files, folders of images.

    Of a folder not all of whose images were asked for nothing is said.
    """
    asked = Counter(one.path.parent for one in inputs)
    for place, count in asked.items():
        if count < len(list_images(place)):
            continue
        if kinds := reading.ignored(place):
            logging.warning("%s: ignored: %s", place, kinds)
        below = [path for path in sorted(place.iterdir()) if _is_folder(path) and path not in asked]
        if inside := [path.name for path in below if any(map(is_image_name, path.iterdir()))]:
            names = ", ".join(inside[:_NAMED]) + (", ..." if len(inside) > _NAMED else "")
            logging.warning("%s: not entered, as without --recursive: %s", place, names)


def _is_folder(path: Path) -> bool:
    hidden = path.name.startswith((".", "__MACOSX"))
    return not hidden and path.is_dir() and os.access(path, os.R_OK | os.X_OK)


def expand(path: Path) -> list[Path]:
    """Returns the images that match a pattern, else the folders that do; [path] if it is none.

    Raises:
      UserError: nothing matches.
    """
    if path.exists() or not any(character in str(path) for character in "*?["):
        return [path]
    matching = [Path(one) for one in sorted(glob.glob(str(path), recursive=True))]
    images = [one for one in matching if one.is_file() and is_image_name(one)]
    if found := images or [one for one in matching if one.is_dir()]:
        return found
    raise UserError(f"--input={path}: matches no image and no folder")


def find_all(paths: Sequence[Path], recursive: bool = False) -> tuple[Path, list[Input]]:
    """Returns the images of several files and folders, each once, as `find_images` does of one.

    The folder is the deepest that holds all of them. The images are numbered through the folders
    that they are in, each as a whole.

    Raises:
      UserError: as `find_images`; or there is no folder that holds all.
    """
    found: dict[Path, dict[Path, Input]] = {}
    for path in paths:
        folder, inputs = find_images(path, recursive)
        found.setdefault(folder.resolve(), {}).update({one.path: one for one in inputs})
        top = folder
    if len(found) == 1:
        (chosen,) = found.values()
        return top, sorted(chosen.values(), key=lambda one: one.number)
    try:
        top = Path(os.path.commonpath(found))
    except ValueError as error:  # drives of Windows
        raise UserError(f"--input={paths[0]}: no folder holds it and {paths[-1]}") from error
    merged, offset = dict[Path, Input](), 0
    for folder, chosen in sorted(found.items()):
        inside = folder.relative_to(top)
        for one in sorted(chosen.values(), key=lambda one: one.number):
            name, stem = ((inside / part).as_posix() for part in (one.name, one.output_stem))
            moved = one._replace(number=offset + one.number, name=name, output_stem=stem)
            merged.setdefault(one.path.resolve(), moved)
        below = [folder, *sorted(_folders(folder))] if recursive else [folder]
        offset += sum(len(list_images(one)) for one in below)
    return top, list(merged.values())


def _folders(top: Path) -> list[Path]:
    """Returns all folders below, without hidden ones and links."""

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
            name, output = (inside / file.name).as_posix(), (inside / stem).as_posix()
            found.append(Input(len(found), file, name, output, suffix))
    return found


def _stems(names: list[str]) -> list[str]:
    """Returns names without suffix; where two would be equal, both keep it: a.png, a.jpg."""
    stems = [Path(name).stem for name in names]
    while True:  # a name may equal the stem of a third file, which then keeps its suffix, too
        counts = Counter(stems)
        shared = [i for i, stem in enumerate(stems) if counts[stem] > 1 and stem != names[i]]
        if not shared:
            return stems
        for i in shared:
            stems[i] = names[i]
