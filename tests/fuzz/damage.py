"""Damages files: bytes at random, or values of a text, or the content of what has checksums."""

import re
import struct
import zlib

PNG_HEAD = 8  # bytes before the first chunk
NUMBER = re.compile(rb"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?")
VALUES = (b"1e400", b"-1", b"NaN", b"", b"9" * 400, b"null", b'"x"', b"[]", b"{}", b"0", b"true")


def damaged(file, rng):
    """Returns a file with one kind of damage: bytes flipped, swapped, cut, doubled or replaced."""
    data = bytearray(file)
    kind = rng.integers(6)
    if kind == 0:
        for place in rng.integers(0, len(data), rng.integers(1, 9)):
            data[place] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        return bytes(data[: rng.integers(0, len(data))])
    elif kind == 2:
        a, b = sorted(int(i) for i in rng.integers(0, len(data), 2))
        size = int(min(rng.integers(1, 33), b - a, len(data) - b))
        data[a : a + size], data[b : b + size] = data[b : b + size], data[a : a + size]
    elif kind == 3:
        begin, size = int(rng.integers(0, len(data))), int(rng.integers(1, 33))
        del data[begin : begin + size]
    elif kind == 4:
        begin, size = int(rng.integers(0, len(data))), int(rng.integers(1, 33))
        data[begin:begin] = data[begin : begin + size]
    else:  # in the header, where the lengths and offsets are
        for place in rng.integers(0, min(len(data), 200), rng.integers(1, 5)):
            data[place] = int(rng.integers(256))
    return bytes(data)


def with_other_value(file, rng):
    """Returns a text of which one number is another value, or none, of any type and size."""
    found = list(NUMBER.finditer(file))
    if not found:
        return damaged(file, rng)
    place = found[rng.integers(len(found))]
    value = VALUES[rng.integers(len(VALUES))]
    return file[: place.start()] + value + file[place.end() :]


def png_with_right_checksums(file, rng):
    """Returns a PNG of which the content of one chunk is damaged, and its checksum is right."""
    chunks, place = [], PNG_HEAD
    while place + 8 <= len(file):
        size = struct.unpack_from(">I", file, place)[0]
        chunks.append((file[place + 4 : place + 8], file[place + 8 : place + 8 + size]))
        place += 12 + size
    chosen = int(rng.integers(len(chunks)))
    parts = [file[:PNG_HEAD]]
    for number, (kind, data) in enumerate(chunks):
        new = damaged(data, rng) if number == chosen and data else data
        parts.append(struct.pack(">I", len(new)) + kind + new)
        parts.append(struct.pack(">I", zlib.crc32(kind + new)))
    return b"".join(parts)
