"""Prepares the Data Science Bowl 2018 as the shipped network `nuclei` was trained on it.

    python -m benchmarks.nuclei --output=DIR train.zip more.zip --test=test.zip [--cut=400]

Reads the archives of BBBC038v1, stage 1 (ID/images/ID.png, ID/masks/*.png), and writes the folders
train, validation and test of `configs/folder.py`, masks as labels of objects, and kinds.csv, the
kind of each test picture for the card. One picture in ten is for validation, by a hash of its id.
With `--cut`, pictures to train on of a longer side are cut into pieces of about 256 pixels: a crop
of a large picture is else as rare as one of a small one, and those of few nuclei are hardly seen.
"""

import argparse
import hashlib
import io
import sys
import zipfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

PIECE = 256  # pixels, about
COLOUR = 3.0  # mean standard deviation over R, G and B of a picture in colour
BRIGHT = 128  # mean of a bright ground


class Picture(NamedTuple):
    """A picture: its id, image [H, W, 3] uint8 and labels of objects [H, W] uint16."""

    id: str
    image: np.ndarray
    labels: np.ndarray


def pictures(archive: Path) -> Iterator[Picture]:
    """Yields the pictures of an archive by id; a pixel of two objects is of the first."""
    with zipfile.ZipFile(archive) as files:
        names = defaultdict(list)
        for name in sorted(files.namelist()):
            parts = name.split("/")
            if name.endswith(".png") and len(parts) >= 3 and not name.startswith("__MACOSX"):
                names[parts[-3], parts[-2]].append(name)
        for id in sorted({id for id, _ in names}):
            image = _pixels(files, names[id, "images"][0], "RGB")
            labels = np.zeros(image.shape[:2], np.uint16)
            for number, name in enumerate(names[id, "masks"], 1):
                labels[(_pixels(files, name, "L") > 127) & (labels == 0)] = number
            yield Picture(id, image, labels)


def _pixels(files: zipfile.ZipFile, name: str, mode: str) -> np.ndarray:
    with Image.open(io.BytesIO(files.read(name))) as image:
        return np.asarray(image.convert(mode))


def split(id: str) -> str:
    """Returns "validation" for one id in ten, else "train"."""
    number = int(hashlib.sha256(id.encode()).hexdigest(), 16)
    return "train" if number % 10 else "validation"


def parts(side: int, longest: int) -> int:
    """Returns into how many parts a side is cut."""
    return max(1, round(side / PIECE)) if side > longest > 0 else 1


def pieces(picture: Picture, longest: int) -> Iterator[Picture]:
    """Yields the pieces of a picture: sides above `longest` are cut evenly; 0: none is."""
    columns, rows = (
        np.linspace(0, side, 1 + parts(side, longest)).astype(int)
        for side in reversed(picture.labels.shape)
    )
    if len(rows) == len(columns) == 2:
        yield picture
        return
    for i, (left, right) in enumerate(pairwise(columns)):
        for j, (top, bottom) in enumerate(pairwise(rows)):
            place = slice(top, bottom), slice(left, right)
            yield Picture(f"{picture.id}_{i}_{j}", picture.image[place], picture.labels[place])


def kind(image: np.ndarray) -> str:
    """Returns the kind of a picture by its colours."""
    if image.std(axis=-1).mean() > COLOUR:
        return "stained, in colour"
    return "dark on bright, grey" if image.mean() > BRIGHT else "fluorescence"


def write(picture: Picture, folder: Path) -> None:
    """Writes image and labels of a picture as PNG into images/ and masks/ of a folder."""
    for name, pixels in (("images", picture.image), ("masks", picture.labels)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / name / f"{picture.id}.png")


def main(words: Sequence[str]) -> int:
    """Runs the command line; returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("archives", nargs="+", type=Path, help="to train on and to validate")
    parser.add_argument("--test", type=Path, required=True, help="archive that scores")
    parser.add_argument("--output", type=Path, required=True, help="folder for the three sets")
    parser.add_argument("--cut", type=int, default=0, help="longest side that is not cut, pixels")
    chosen = parser.parse_args(words)
    for archive in chosen.archives:
        for picture in pictures(archive):
            of = split(picture.id)
            for piece in pieces(picture, chosen.cut if of == "train" else 0):
                write(piece, chosen.output / of)
    lines = []
    for picture in pictures(chosen.test):
        write(picture, chosen.output / "test")
        lines.append(f'{picture.id},"{kind(picture.image)}"\n')
    (chosen.output / "kinds.csv").write_text("".join(lines), encoding="utf-8")
    for name in ("train", "validation", "test"):
        print(f"{name}: {len(list((chosen.output / name / 'images').iterdir()))} images")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
