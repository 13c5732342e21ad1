"""Writes image files byte by byte, independently of the library under test."""

import struct
import zlib

import numpy as np

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6  # colour types of PNG
UNSIGNED, SIGNED, FLOAT = 1, 2, 3  # sample formats of TIFF


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(array, colour, depth=8, before=b"", after=b""):
    """Returns a PNG of an array [H, W] or [H, W, C]; `before`, `after`: chunks around its data."""
    height, width = array.shape[:2]
    if depth < 8:
        bits = np.unpackbits(array.astype(np.uint8)[..., None], axis=-1)[..., 8 - depth :]
        rows = [np.packbits(row).tobytes() for row in bits.reshape(height, -1)]
    else:
        rows = [row.astype(">u2" if depth == 16 else "u1").tobytes() for row in array]
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    body = chunk(b"IHDR", header) + before + chunk(b"IDAT", pixels) + after
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


def exif(orientation):
    """Returns the content of an eXIf chunk."""
    return b"II*\0" + struct.pack("<IHHHIHHI", 8, 1, 274, 3, 1, orientation, 0, 0)


def tiff(*pages, photometric=None, order="<", compressed=False, tags=()):
    """Returns a TIFF of arrays [H, W] or [H, W, C]; `tags`: (number, value) of 16 bits to set."""
    file = bytearray((b"II*\0" if order == "<" else b"MM\0*") + bytes(4))
    link = 4
    for array in pages:
        height, width, channels = (*array.shape, 1)[:3]
        data = array.astype(array.dtype.newbyteorder(order)).tobytes()
        data = zlib.compress(data) if compressed else data
        bits = (8 * array.dtype.itemsize,) * channels
        kind = ({"u": UNSIGNED, "i": SIGNED, "f": FLOAT}[array.dtype.kind],) * channels
        white = photometric if photometric is not None else 2 if channels == 3 else 1
        fields = {256: width, 257: height, 258: bits, 259: 8 if compressed else 1, 262: white}
        fields |= {273: len(file), 277: channels, 278: height, 279: len(data), 339: kind}
        fields |= dict(tags)
        file += data + bytes(len(data) % 2)
        entries = b""
        for number, values in sorted(fields.items()):
            values = values if isinstance(values, tuple) else (values,)
            long = number in (273, 279)
            packed = struct.pack(f"{order}{len(values)}{'I' if long else 'H'}", *values)
            if len(packed) > 4:
                packed, place = struct.pack(f"{order}I", len(file)), packed
                file += place
            entries += struct.pack(f"{order}HHI", number, 4 if long else 3, len(values))
            entries += packed.ljust(4, b"\0")
        file += bytes(len(file) % 2)
        file[link : link + 4] = struct.pack(f"{order}I", len(file))
        link = len(file) + 2 + len(entries)
        file += struct.pack(f"{order}H", len(fields)) + entries + bytes(4)
    return bytes(file)
