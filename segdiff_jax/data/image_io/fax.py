"""Checks the codes of CCITT fax data, which decoders repair silently where they are damaged.

The data have no checksum. But every code must exist, every row must have exactly the width of the
image, and a row of Group 3 must end at its end-of-line code: a decoder that meets anything else
skips to the next row, or fills the row with white. Sources: ITU-T T.4 (tables 2 and 3, 2-D code of
4.2) and T.6; TIFF 6.0, sections 10 and 11.
"""

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import TypeVar

import numpy as np

from segdiff_jax.data.image_io.headers import RefusedError

RLE, GROUP_3, GROUP_4 = 2, 3, 4  # TIFF's numbers of the compressions
TWO_DIMENSIONAL = 1  # bit of the tag T4Options
_MAKE_UP = 64  # codes of as many pixels and more are followed by another of the same colour
_LONGEST = 13  # bits of a code of a run
_WHITE = """
00110101 000111 0111 1000 1011 1100 1110 1111 10011 10100 00111 01000 001000 000011 110100 110101
101010 101011 0100111 0001100 0001000 0010111 0000011 0000100 0101000 0101011 0010011 0100100
0011000 00000010 00000011 00011010 00011011 00010010 00010011 00010100 00010101 00010110 00010111
00101000 00101001 00101010 00101011 00101100 00101101 00000100 00000101 00001010 00001011 01010010
01010011 01010100 01010101 00100100 00100101 01011000 01011001 01011010 01011011 01001010 01001011
00110010 00110011 00110100"""
_WHITE_MAKE_UP = """
11011 10010 010111 0110111 00110110 00110111 01100100 01100101 01101000 01100111 011001100 011001101
011010010 011010011 011010100 011010101 011010110 011010111 011011000 011011001 011011010 011011011
010011000 010011001 010011010 011000 010011011"""
_BLACK = """
0000110111 010 11 10 011 0011 0010 00011 000101 000100 0000100 0000101 0000111 00000100 00000111
000011000 0000010111 0000011000 0000001000 00001100111 00001101000 00001101100 00000110111
00000101000 00000010111 00000011000 000011001010 000011001011 000011001100 000011001101 000001101000
000001101001 000001101010 000001101011 000011010010 000011010011 000011010100 000011010101
000011010110 000011010111 000001101100 000001101101 000011011010 000011011011 000001010100
000001010101 000001010110 000001010111 000001100100 000001100101 000001010010 000001010011
000000100100 000000110111 000000111000 000000100111 000000101000 000001011000 000001011001
000000101011 000000101100 000001011010 000001100110 000001100111"""
_BLACK_MAKE_UP = """
0000001111 000011001000 000011001001 000001011011 000000110011 000000110100 000000110101
0000001101100 0000001101101 0000001001010 0000001001011 0000001001100 0000001001101 0000001110010
0000001110011 0000001110100 0000001110101 0000001110110 0000001110111 0000001010010 0000001010011
0000001010100 0000001010101 0000001011010 0000001011011 0000001100100 0000001100101"""
_LONG_MAKE_UP = """
00000001000 00000001100 00000001101 000000010010 000000010011 000000010100 000000010101 000000010110
000000010111 000000011100 000000011101 000000011110 000000011111"""
_PASS, _HORIZONTAL = "pass", "horizontal"
_MODES = {  # of the 2-D code; a number is how far a1 lies behind b1
    **{"0001": _PASS, "001": _HORIZONTAL, "1": 0},
    **{"011": 1, "000011": 2, "0000011": 3, "010": -1, "000010": -2, "0000010": -3},
}
_END_OF_LINE = re.compile("0{11,}1")
T = TypeVar("T")


class _DamagedError(Exception):
    """Ends the check of a row."""


def check(
    data: bytes,
    shape: tuple[int, int],
    compression: int,
    options: int = 0,
    low_bit_first: bool = False,
) -> None:
    """Refuses the data of a strip or a tile that a decoder would have to repair.

    Args:
        data: the strip.
        shape: (rows, width) that it decodes to.
        compression: RLE, GROUP_3 or GROUP_4.
        options: the tag T4Options.
        low_bit_first: the tag FillOrder is 2.

    Raises:
        RefusedError: a code does not exist, or a row is not of the width.
    """
    bits, place, row, above = _bits(data, low_bit_first), 0, 0, []
    ends = compression == GROUP_3 and _END_OF_LINE.match(bits) is not None
    try:
        while row < shape[0]:
            flat = compression != GROUP_4
            if compression == RLE:
                place = -(-place // 8) * 8
            elif ends:
                place = _end_of_line(bits, place)
                if options & TWO_DIMENSIONAL:
                    flat, place = bits[place : place + 1] == "1", place + 1
            read = _row if flat else _row_by_above
            above, place = read(bits, place, shape[1], above)
            if place > 8 * len(data):
                raise _DamagedError("the end")
            row += 1
    except _DamagedError as error:
        where = f"{error} in row {row} of a strip"
        raise RefusedError(f"has damaged CCITT fax data ({where})") from error


def _bits(data: bytes, low_bit_first: bool) -> str:
    """Returns the bits as text, and zeros behind them for a look at the last codes."""
    order = "little" if low_bit_first else "big"
    values = np.unpackbits(np.frombuffer(data, np.uint8), bitorder=order)
    return (values + ord("0")).tobytes().decode("ascii") + "0" * _LONGEST


def _table(*lists: str) -> Mapping[str, tuple[int, int]]:
    """Returns (pixels, bits) of the code with which any `_LONGEST` bits begin."""
    short, *long = (codes.split() for codes in lists)
    runs = dict(enumerate(short))
    runs |= {_MAKE_UP * i: code for i, code in enumerate((c for codes in long for c in codes), 1)}
    return _by_window({code: (run, len(code)) for run, code in runs.items()}, _LONGEST)


def _by_window(codes: Mapping[str, T], size: int) -> dict[str, T]:
    """Returns the value of the code with which any `size` bits begin."""
    windows = {}
    for code, value in codes.items():
        free = size - len(code)
        for rest in range(2**free):
            windows[code + (f"{rest:0{free}b}" if free else "")] = value
    return windows


_RUNS = _table(_WHITE, _WHITE_MAKE_UP, _LONG_MAKE_UP), _table(_BLACK, _BLACK_MAKE_UP, _LONG_MAKE_UP)
_MODE_BITS = max(map(len, _MODES))
_MODE_WINDOWS = _by_window({code: (mode, len(code)) for code, mode in _MODES.items()}, _MODE_BITS)


def _end_of_line(bits: str, place: int) -> int:
    """Returns the place behind the code that begins a row, with the zeros that fill up before."""
    found = _END_OF_LINE.match(bits, place)
    if found is None:
        raise _DamagedError("no end of the line before it")
    return found.end()


def _run(bits: str, place: int, colour: int) -> tuple[int, int]:
    """Returns the length of a run of a colour, 0 for white, and the place behind it."""
    total, table = 0, _RUNS[colour]
    while True:
        found = table.get(bits[place : place + _LONGEST])
        if found is None:
            raise _DamagedError("a code that does not exist")
        total, place = total + found[0], place + found[1]
        if found[0] < _MAKE_UP:
            return total, place


def _row(bits: str, place: int, width: int, above: Sequence[int]) -> tuple[list[int], int]:
    """Reads a row of the 1-D code; returns where its colour changes, and the place behind it."""
    del above
    changes, x, colour = [], 0, 0
    while x < width:
        run, place = _run(bits, place, colour)
        x, colour = x + run, 1 - colour
        _add(changes, x)
    if x != width:
        raise _DamagedError(f"{x} pixels in place of {width}")
    return changes, place


def _row_by_above(bits: str, place: int, width: int, above: Sequence[int]) -> tuple[list[int], int]:
    """Reads a row of the 2-D code, by the changes of the row above it; see `_row`."""
    changes, a0, colour = [], -1, 0
    while a0 < width:
        mode, size = _MODE_WINDOWS.get(bits[place : place + _MODE_BITS], (None, 0))
        place += size
        if mode is None:
            raise _DamagedError("a code that does not exist")
        first = bisect_right(above, a0)
        first += (first ^ colour) & 1  # changes to black have even numbers
        b1, b2 = (above[i] if i < len(above) else width for i in (first, first + 1))
        if mode == _PASS:
            a0 = b2
        elif mode == _HORIZONTAL:
            a0 = max(a0, 0)
            for each in (colour, 1 - colour):
                run, place = _run(bits, place, each)
                a0 += run
                _add(changes, a0)
        else:
            if b1 + mode <= a0:
                raise _DamagedError("a run of no pixel")
            a0, colour = b1 + mode, 1 - colour
            _add(changes, a0)
    if a0 != width:
        raise _DamagedError(f"{a0} pixels in place of {width}")
    return changes, place


def _add(changes: list[int], x: int) -> None:
    """Adds a change of colour; two at one place are none."""
    if changes and changes[-1] == x:
        changes.pop()
    else:
        changes.append(x)
