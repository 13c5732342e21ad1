"""Remembers what the files of a folder are, for what concerns the set as a whole."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

from absl import logging

from segdiff_jax.data.datasets.folder_pairs import Found
from segdiff_jax.data.image_io import masks, reading

_LISTED = 5  # folders whose ignored files are listed


class Seen:
    """Collects facts about files as they are read."""

    def __init__(self) -> None:
        self._digests: dict[str, tuple[str, Path]] = {}  # of an image file -> its split and path
        self._values: dict[Path, str] = {}  # of images, see `reading.ReadImage`
        # kind -> mask files, each with the class it is of
        self._kinds: defaultdict[str, dict[Path, int]] = defaultdict(dict)

    def image(self, split: str, file: Path, values: str) -> None:
        """Notes an image; warns of one that is in two splits, byte by byte: scores mean little."""
        digest = hashlib.sha256(file.read_bytes()).hexdigest()
        other_split, other = self._digests.setdefault(digest, (split, file))
        if other_split != split:
            logging.warning(
                "%s of %s is the same file as %s of %s", file, split, other, other_split
            )
        self._values[file] = values

    def mask(self, file: Path, kind: str, of_class: int = 0) -> None:
        """Notes what the values of a mask are, see `masks.MaskFile`; 0: it is of no class alone."""
        self._kinds[kind][file] = of_class

    def conclude(self) -> tuple[list[str], list[str]]:
        """Returns problems of all masks together, and lines about images and masks."""
        deep = {file: text for file, text in self._values.items() if text}
        lines = [f"images: {len(self._values) - len(deep)} of 8 bits"]
        if deep:
            ranges = {text.partition(": ")[2].partition(",")[0] for text in deep.values()}
            file, text = next(iter(deep.items()))
            lines[0] += (
                f", {len(deep)} of more, read in {len(ranges)} ranges of values (as {file}: {text})"
                "; config.reading.value_range chooses"
            )
        if found := self._kinds.get(masks.LABELS):
            file = next(iter(found))
            lines.append(f"{len(found)} masks hold {masks.LABELS}, as {file}: all above 0 counts")
        if found := self._kinds.get("colours"):
            file = next(iter(found))
            what = "have a palette: the brighter colour is foreground"
            lines.append(f"{len(found)} masks {what}, as in {file}")
        numbers = sorted({k for files in self._kinds.values() for k in files.values()})
        return [line for k in numbers for line in self._mixed(k)], lines

    def _mixed(self, of_class: int) -> list[str]:
        """Returns the problem of masks with 255 as foreground beside others with 1 or labels."""
        kinds = {
            kind: [file for file, k in files.items() if k == of_class]
            for kind, files in self._kinds.items()
        }
        full = kinds.get("0 and 255", [])
        others = [kind for kind in ("0 and 1", masks.LABELS) if kinds.get(kind)]
        if not (full and others):
            return []
        few = " and ".join(
            f"{len(kinds[kind])} hold {kind} (as {kinds[kind][0]})" for kind in others
        )
        return [
            f"{full[0]}: {len(full)} masks hold 0 and 255, and {few}: is 255 foreground "
            f"or to be ignored? {masks.FIELD}=nonzero takes all, =1 or another value that alone"
        ]


def lines(directory: Path, found: Mapping[str, Found]) -> tuple[str, ...]:
    """Returns how many pairs a folder has in which layout, and what else lies there, by kind."""
    pairs = [pair for part in found.values() for pair in part.pairs]
    layouts = list(dict.fromkeys(name for part in found.values() for name in part.layouts))
    used = {file for pair in pairs for file in pair.files}
    named = {line.partition(": ")[0] for part in found.values() for line in part.problems}
    rest: defaultdict[Path, list[Path]] = defaultdict(list)
    for place, folders, files in os.walk(directory):
        folders[:] = sorted(name for name in folders if not name.startswith((".", "__MACOSX")))
        for file in (Path(place, name) for name in files):
            if file not in used and not {str(file), place} & named:
                rest[Path(place)].append(file)
    said = [f"{len(pairs)} pairs, layout: {'; '.join(layouts)}"]
    if rest:
        parts = [
            f"{reading.kinds(files)} in {place.relative_to(directory).as_posix()}/"
            for place, files in list(rest.items())[:_LISTED]
        ]
        more = f"; and {len(rest) - _LISTED} more folders" if len(rest) > _LISTED else ""
        said.append(f"ignored: {'; '.join(parts)}{more}".replace(" in ./", ""))
    return tuple(said)
