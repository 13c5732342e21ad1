"""Describes the allowed values of config fields and flags: a sentence's end, and a check."""

import math
import re
from collections.abc import Callable
from typing import Any, NamedTuple

# bounds far beyond what is of use, and within what the system, JAX and int32 can hold
MANY = 10**9  # training steps, images
SIDE = 2**16  # pixels
WIDTH = 2**13  # channels
STEPS = 10**5  # of the diffusion; masks
SECONDS = 10**8  # three years
LARGE = 1e30
MOST_VALUES = 64  # of a field that is a tuple
BUDGETS = ("fast", "balanced", "paper")  # of the passes that make a probability, least first


class Allowed(NamedTuple):
    """Describes the allowed values of a field or a flag.

    Attributes:
      text: completes the sentence "... must be".
      accepts: returns whether a value of any type is allowed.
      choices: the allowed names; empty where there are none to choose from.
    """

    text: str
    accepts: Callable[[Any], bool]
    choices: tuple[str, ...] = ()


def integer(low: int, high: int | None = None) -> Allowed:
    """Returns the range of integers [low, high]; True and False are not integers."""
    text = f"an integer, at least {low}" + ("" if high is None else f", at most {high}")
    return Allowed(text, lambda v: is_integer(v) and low <= v and (high is None or v <= high))


def number(low: float, high: float = math.inf, above: bool = False, below: bool = False) -> Allowed:
    """Returns the finite numbers in [low, high]; `above` excludes low, `below` excludes high."""
    lowest = f", {'above' if above else 'at least'} {low:g}" if low > -math.inf else ""
    highest = f", {'below' if below else 'at most'} {high:g}" if high < math.inf else ""

    def accepts(v: Any) -> bool:
        if not (is_integer(v) or isinstance(v, float)) or not abs(v) < math.inf:
            return False  # math.isfinite fails for integers beyond the range of floats
        return (low < v if above else low <= v) and (v < high if below else v <= high)

    return Allowed(f"a number{lowest}{highest}", accepts)


def choice(*names: str) -> Allowed:
    """Returns a choice of one of the names."""
    return Allowed(f"one of {', '.join(names)}", lambda v: v in names, names)


def joined(names: tuple[str, ...], *, required: bool = False) -> Allowed:
    """Returns the names, joined by "+"; and "" unless `required`."""
    text = f"{', '.join(names)}, or some of them joined by +{'' if required else ', or nothing'}"

    def accepts(v: Any) -> bool:
        none = v == "" and not required
        return none or (isinstance(v, str) and set(v.split("+")) <= set(names))

    return Allowed(text, accepts)


def several(each: Allowed, length: int | None = None) -> Allowed:
    """Returns tuples of `length`, or of at least one element; a list stands for a tuple (JSON)."""
    count = "one or more values" if length is None else f"{length} values"

    def accepts(v: Any) -> bool:
        fits = isinstance(v, tuple | list) and (
            len(v) == length if length else 0 < len(v) <= MOST_VALUES
        )
        return fits and all(map(each.accepts, v))

    return Allowed(f"{count} in brackets, each {each.text}", accepts)


def or_none(allowed: Allowed) -> Allowed:
    """Returns the allowed values and ()."""
    return Allowed(f"{allowed.text}; or ()", lambda v: v in ((), []) or allowed.accepts(v))


def is_integer(value: Any) -> bool:
    """Returns whether a value is an integer; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_range(values: tuple[float, ...]) -> bool:
    """Returns whether numbers are two finite ones, the lower first."""
    return len(values) == 2 and -LARGE <= values[0] < values[1] <= LARGE


def _is_value_range(value: Any) -> bool:
    try:
        return value in ("auto", "full") or is_range(tuple(map(float, value.split(","))))
    except (AttributeError, ValueError):
        return False


VALUE_RANGE = Allowed("auto, full, or LOW,HIGH: two numbers, the lower first", _is_value_range)
CHANNELS = Allowed(
    "one or three channels in brackets, from 0, such as (0, 1, 2); () for all",
    lambda v: (
        isinstance(v, tuple | list)
        and len(v) in (0, 1, 3)
        and all(is_integer(each) and each >= 0 for each in v)
    ),
)
_FOREGROUND = re.compile(r"auto|nonzero|((above|>)\s*)?-?\d+(\.\d+)?(e[+-]?\d+)?", re.IGNORECASE)
FOREGROUND = Allowed(
    "auto, nonzero, a value, or aboveVALUE, such as above127",
    lambda v: isinstance(v, str) and _FOREGROUND.fullmatch(v) is not None,
)

MOST_CHANNELS = 16  # of an image
_NAME = re.compile(r"\w[\w .()/+-]{0,39}")


def _are_channel_names(value: Any) -> bool:
    names = value.split(",") if isinstance(value, str) else [""]
    fits = len(names) <= MOST_CHANNELS and len(set(names)) == len(names)
    return value == "" or (fits and all(map(_NAME.fullmatch, names)))


CHANNEL_NAMES = Allowed(
    f"up to {MOST_CHANNELS} different names joined by commas; or nothing, for RGB",
    _are_channel_names,
)
MOST_CLASSES = 14  # with foreground and interior, the 16 bits of a mask
_CLASS = re.compile(r"(\w[\w .()/-]{0,39})=(\d{1,9}(?:\+\d{1,9})*)")

_END, _FOLDER = r"(?!-\d)[_.-][\w.-]{0,39}", r"[^\W_][\w .()-]{0,99}"  # no part of it is ".."
_OVERLAPPING = re.compile(
    rf"(\w[\w .()-]{{0,39}}(?<![ .]))=(?:({_END})|({_FOLDER}(?:/{_FOLDER})*))\??"
)


def _are_classes(value: Any) -> bool:
    """Returns whether a text names classes: each name and each value once, besides "background"."""
    if value == "":
        return True
    found = [_CLASS.fullmatch(part) for part in value.split(",")] if isinstance(value, str) else []
    if not found or not all(found):
        return isinstance(value, str) and are_overlapping(value)
    names = [one[1] for one in found if one]
    values = [int(number) for one in found if one for number in one[2].split("+")]
    classes = set(names) - {"background"}
    unique = len(set(names)) == len(names) and len(set(values)) == len(values)
    return unique and 0 < len(classes) <= MOST_CLASSES


def are_overlapping(value: str) -> bool:
    """Returns whether a text gives each class a folder of masks, or each an end of their names."""
    found = [_OVERLAPPING.fullmatch(part) for part in value.split(",")]
    parts = [one for one in found if one]
    # the names become folders, in which some systems take upper and lower case for the same
    names, sources = {one[1].lower() for one in parts}, {one[2] or one[3] for one in parts}
    values = any(re.fullmatch(r"[\d+]+", source) for source in sources)
    kinds = {one[2] is None for one in parts}
    once = len(names) == len(sources) == len(found) <= MOST_CLASSES
    return not values and once and len(kinds) == 1 and "background" not in names


CLASS_VALUES = Allowed(
    f"NAME=VALUE,NAME=VALUE,... with each name and each value once, up to {MOST_CLASSES} classes; "
    "values joined by + are one class, those of background=VALUE none; or, if classes overlap, "
    "NAME=FOLDER of the masks for each, or NAME=_END of their names for each, and a ? behind it "
    "where images without the class have no mask of it",
    _are_classes,
)


def _is_power_of_two(value: Any) -> bool:
    return is_integer(value) and 0 < value <= SIDE and value.bit_count() == 1


POWERS_OF_TWO = Allowed(
    "powers of two in brackets, such as (16, 32); () for none",
    lambda v: v in ((), []) or several(Allowed("", _is_power_of_two)).accepts(v),
)
ODD = Allowed("an odd integer, at least 1", lambda v: is_integer(v) and 0 < v < SIDE and v % 2 == 1)
