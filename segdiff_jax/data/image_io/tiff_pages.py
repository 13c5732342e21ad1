"""Finds the pages of a TIFF file that show one image: of several the chosen one, without overviews.

Pages of reduced size and masks of transparency, which belong to another page, are no images and are
left out. ImageJ and OME files are stacks: their pages are planes, ordered by channel, slice and
time, of which all channels of one plane are an image together.
"""

import contextlib
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

import defusedxml.ElementTree as ElementTree
import tifffile

from segdiff_jax.data.image_io.headers import RefusedError

# Numbers of the specification (TIFF 6.0 and its supplements).
_KIND, _OLD_KIND, _PHOTOMETRIC, _DESCRIPTION = 254, 255, 262, 270
_REDUCED, _MASK = 1, 4  # bits of the tag 254
_OLD_REDUCED = 2  # value of the tag 255
_TRANSPARENCY = 4  # photometric interpretation of a mask
_INTEGERS = {3: "H", 4: "I", 16: "Q"}  # types of fields


class Place(NamedTuple):
    """Where a page begins in the file, how many tags it has, and its number among all."""

    offset: int
    tags: int
    number: int


class Stack(NamedTuple):
    """The pages of a file by plane and channel.

    Attributes:
        planes: of each plane the pages of its channels; one page where it holds all of them.
        kind: "ImageJ", "OME" or "".
        bits: that are used by the file's metadata; 0: it does not say.
        contiguous: the number of planes that lie behind one another, if the file has but one page
            for all (ImageJ); else 0.
    """

    planes: list[list[Place]]
    kind: str = ""
    bits: int = 0
    contiguous: int = 0


def open_file(file: BinaryIO) -> tifffile.TiffFile:
    """Opens a file without the rules for those of microscopes, which replace what tags hold."""
    file.seek(0)
    return tifffile.TiffFile(file, is_lsm=False, is_ndpi=False, is_scanimage=False)


def read_page(tiff: tifffile.TiffFile, place: Place) -> tifffile.TiffPage:
    """Reads the tags of a page; refuses one of which tifffile drops some as damaged."""
    tiff.filehandle.seek(place.offset)
    page = tifffile.TiffPage(tiff, place.number)
    if len(page.tags) != place.tags:
        raise RefusedError(f"has {place.tags - len(page.tags)} damaged tags; save it again")
    return page


def stack(tiff: tifffile.TiffFile) -> Stack:
    """Returns the images of a file."""
    places = list(_images(tiff))
    if not places:
        raise RefusedError("has no page; allowed are whole TIFF files")
    text = _description(tiff, places[0])
    if text.startswith("ImageJ="):
        return _of_imagej(places, text)
    if "<OME" in text:
        return _of_ome(places, text)
    return Stack([[place] for place in places])


def count(images: Stack) -> int:
    """Returns how many planes a file has."""
    return images.contiguous or len(images.planes)


def chosen(images: Stack, number: int) -> list[Place]:
    """Returns the pages of a plane by its number, from 0; -1: the only one."""
    pages = count(images)
    what = f"{pages} pages"
    if images.kind:
        channels = len(images.planes[0])
        of_channels = f", each of {channels} channels" if channels > 1 else ""
        what = f"{pages} planes ({images.kind} stack{of_channels})"
    if pages > 1 and number < 0:
        raise RefusedError(f"has {what}; config.reading.page chooses one, from 0")
    if number >= pages:
        where = f"config.reading.page={number} is not there; at most {pages - 1}"
        raise RefusedError(f"has {what if pages > 1 else '1 page'}, so {where}")
    return images.planes[0 if images.contiguous else max(number, 0)]


def _images(tiff: tifffile.TiffFile) -> Iterator[Place]:
    """Yields the pages that are images themselves; all of them if none is."""
    places = list(_places(tiff))
    images = [place for place, is_part in places if not is_part]
    yield from images or [place for place, _ in places]


def _places(tiff: tifffile.TiffFile) -> Iterator[tuple[Place, bool]]:
    """Yields each page and whether it is an overview or a mask; the chain of pages must end."""
    layout, handle = tiff.tiff, tiff.filehandle
    seen: set[int] = set()
    handle.seek(layout.offsetsize)  # 4 or 8 bytes, as long as what stands before it
    while offset := struct.unpack(layout.offsetformat, handle.read(layout.offsetsize))[0]:
        if offset in seen:
            raise RefusedError("has a page that links back to one before it; it is damaged")
        handle.seek(offset)
        (count,) = struct.unpack(layout.tagnoformat, handle.read(layout.tagnosize))
        entries = handle.read(count * layout.tagsize)
        if len(entries) < count * layout.tagsize:
            raise RefusedError("is truncated: the tags of a page end with the file")
        yield Place(offset, count, len(seen)), _is_part(entries, layout)
        seen.add(offset)


def _is_part(entries: bytes, layout: tifffile.TiffFormat) -> bool:
    found = {}
    for start in range(0, len(entries), layout.tagsize):
        code, kind = struct.unpack_from(f"{layout.byteorder}HH", entries, start)
        if code in (_KIND, _OLD_KIND, _PHOTOMETRIC) and kind in _INTEGERS:
            value = start + layout.tagsize - layout.offsetsize
            format = f"{layout.byteorder}{_INTEGERS[kind]}"
            if struct.calcsize(format) <= layout.offsetsize:
                (found[code],) = struct.unpack_from(format, entries, value)
    return bool(
        found.get(_KIND, 0) & (_REDUCED | _MASK)
        or found.get(_OLD_KIND) == _OLD_REDUCED
        or found.get(_PHOTOMETRIC) == _TRANSPARENCY
    )


def _description(tiff: tifffile.TiffFile, place: Place) -> str:
    value = read_page(tiff, place).tags.valueof(_DESCRIPTION, "")
    return value if isinstance(value, str) else ""


def _of_imagej(places: list[Place], text: str) -> Stack:
    fields = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    count = int(fields.get("images", 1))
    channels = int(fields.get("channels", 1))
    if len(places) == 1 and count > 1:
        if channels > 1:
            raise RefusedError(f"is an ImageJ stack of {channels} channels without pages")
        return Stack([places], "ImageJ", contiguous=count)
    if channels < 1 or len(places) % channels:
        return Stack([[place] for place in places], "ImageJ")
    starts = range(0, len(places), channels)
    return Stack([places[start : start + channels] for start in starts], "ImageJ")


def _of_ome(places: list[Place], text: str) -> Stack:
    plain = Stack([[place] for place in places], "OME")
    with contextlib.suppress(ElementTree.ParseError, KeyError, ValueError, StopIteration):
        root = ElementTree.fromstring(text)
        pixels = next(node for node in root.iter() if node.tag.endswith("}Pixels"))
        bits = int(pixels.get("SignificantBits", 0))
        plain = plain._replace(bits=bits)
        samples = [int(n.get("SamplesPerPixel", 1)) for n in pixels if n.tag.endswith("}Channel")]
        sizes = {axis: int(pixels.attrib[f"Size{axis}"]) for axis in "CZT"}
        sizes["C"] //= max(samples, default=1)
        if len(places) < sizes["C"] * sizes["Z"] * sizes["T"] or min(sizes.values()) < 1:
            return plain  # the other planes are in other files
        order = [axis for axis in pixels.attrib["DimensionOrder"] if axis in "CZT"]
        step, steps = 1, {}
        for axis in order:
            steps[axis], step = step, step * sizes[axis]
        planes = [
            [places[t * steps["T"] + z * steps["Z"] + c * steps["C"]] for c in range(sizes["C"])]
            for t in range(sizes["T"])
            for z in range(sizes["Z"])
        ]
        return Stack(planes, "OME", bits)
    return plain
