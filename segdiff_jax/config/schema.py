"""What every knob of a config may be, one by one, and how a mistake is put into words."""

import difflib
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from segdiff_jax.errors import UserError

SPLITS = ("train", "validation", "test")


CLASSES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")


MARGIN = 20  # percent that a prepared object of Cityscapes is larger than its box


class Field(NamedTuple):
    """What one knob may be.

    Attributes:
      allowed: the end of the sentence "... must be".
      accepts: whether a value of any type is allowed.
      choices: the names to choose from; empty where there are none.
    """

    allowed: str
    accepts: Callable[[Any], bool]
    choices: tuple[str, ...] = ()


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return (_is_integer(value) or isinstance(value, float)) and math.isfinite(value)


def _integer(low: int, high: int | None = None) -> Field:
    upto = "" if high is None else f", at most {high}"
    return Field(
        f"an integer, at least {low}{upto}",
        lambda v: _is_integer(v) and v >= low and (high is None or v <= high),
    )


def _number(
    low: float, high: float = math.inf, *, above: bool = False, below: bool = False
) -> Field:
    """A finite number in [low, high]; `above` leaves out low, `below` high."""
    allowed = "a number"
    if low > -math.inf:
        allowed += f", {'above' if above else 'at least'} {low:g}"
    if high < math.inf:
        allowed += f", {'below' if below else 'at most'} {high:g}"
    return Field(
        allowed,
        lambda v: (
            _is_number(v)
            and (low < v if above else low <= v)
            and (v < high if below else v <= high)
        ),
    )


def _choice(*names: str) -> Field:
    return Field(f"one of {', '.join(names)}", lambda v: v in names, names)


def _several(rule: Field, length: int | None = None) -> Field:
    """A tuple, or the list JSON makes of it; of at least one element if no length is given."""
    count = "one or more values" if length is None else f"{length} values"
    return Field(
        f"{count} in brackets, each {rule.allowed}",
        lambda v: (
            isinstance(v, tuple | list)
            and (len(v) == length if length else len(v) > 0)
            and all(rule.accepts(x) for x in v)
        ),
    )


def _or_none(rule: Field) -> Field:
    return Field(f"{rule.allowed}; or ()", lambda v: v in ((), []) or rule.accepts(v))


def _split(*, required: bool = False) -> Field:
    names = f"{', '.join(SPLITS)}, or some of them joined by +"
    return Field(
        names if required else f"{names}, or nothing",
        lambda v: (
            isinstance(v, str)
            and ((not v and not required) or all(part in SPLITS for part in v.split("+")))
        ),
    )


_BOOL = Field("true or false", lambda v: isinstance(v, bool))


_TEXT = Field("text", lambda v: isinstance(v, str))


_FOLDER = "a folder in a file system of this machine: a bucket has to be mounted"


_PLACE = Field(_FOLDER, lambda v: isinstance(v, str) and bool(v.strip()) and "://" not in v)


_PLACE_OR_NOTHING = Field(f"{_FOLDER}; or nothing", lambda v: v == "" or _PLACE.accepts(v))


FIELDS: dict[str, Field] = {
    "seed": _integer(0, 2**32 - 1),
    "data.name": _choice("synthetic", "monuseg", "vaihingen", "cityscapes", "folder"),
    "data.dir": _PLACE_OR_NOTHING,
    "data.prepared_dir": _PLACE,
    "data.train_split": _split(required=True),
    "data.train_images": _integer(0),
    "data.validation_split": _split(),
    "data.test_split": _split(),
    "data.mean": _or_none(_several(_number(0, 255), 3)),
    "data.std": _or_none(_several(_number(0, 255, above=True), 3)),
    "reading.max_pixels": _integer(1),
    "reading.page": _integer(-1),
    "reading.float_range": _or_none(_several(_number(-math.inf), 2)),
    "vaihingen.resize": _choice("authors", "area"),
    "cityscapes.classes": _several(_choice(*CLASSES)),
    "cityscapes.size": _integer(1),
    "cityscapes.train_expansion": _several(_integer(0, MARGIN), 2),
    "cityscapes.redraw": _BOOL,
    "cityscapes.test_expansion": _integer(0, MARGIN),
    "folder.mask_suffix": _TEXT,
    "folder.validation_share": _number(0, 1, below=True),
    "folder.test_share": _number(0, 1, below=True),
    "folder.seed": _integer(0, 2**32 - 1),
    "augment.crop": _integer(0),
    "augment.horizontal_flip": _BOOL,
    "augment.vertical_flip": _BOOL,
    "augment.rotate": _number(0, 360),
    "augment.scale": _several(_number(0, above=True), 2),
    "augment.jitter": _several(_number(0), 4),
    "model.kind": _choice("diffusion", "twin", "unet"),
    "model.conditioning": _choice("sum", "concat", "stack", "inject1", "inject3", "inject5"),
    "model.encoder": _choice("rrdb", "hardnet"),
    "model.channels": _integer(1),
    "model.multipliers": _several(_integer(1)),
    "model.blocks_per_level": _integer(1),
    "model.attention_factors": Field(
        "powers of two in brackets, such as (16, 32); () for none",
        lambda v: (
            isinstance(v, tuple | list)
            and all(_is_integer(x) and x > 0 and x.bit_count() == 1 for x in v)
        ),
    ),
    "model.heads": _integer(1),
    "model.norm_groups": _integer(1),
    "model.dropout": _number(0, 1, below=True),
    "model.time_embedding": _choice("sinusoidal", "table"),
    "model.rrdb_blocks": _integer(1),
    "model.rrdb_features": _integer(1),
    "model.rrdb_growth": _integer(1),
    "model.rrdb_form": _choice("auto", "concat", "parts", "spread"),
    "model.remat": _choice("none", "rrdb", "unet", "all"),
    "model.dtype": _choice("float32", "bfloat16"),
    "diffusion.T": _integer(1),
    "diffusion.schedule": _choice("linear", "linear_unscaled", "cosine"),
    "diffusion.prediction": _choice("eps", "x0", "v"),
    "diffusion.clip_x0": _BOOL,
    "sampling.sampler": _choice("ddpm", "ddim"),
    "sampling.steps": _integer(0),
    "sampling.variance": _choice("beta", "posterior"),
    "sampling.eta": _number(0, 1),
    "sampling.generations": _integer(1),
    "sampling.rows_at_once": _integer(0),
    "sampling.tile": _integer(0),
    "sampling.stride": _integer(0),
    "train.steps": _integer(1),
    "train.batch_size": _integer(1),
    "train.noise_draws_per_image": _integer(1),
    "train.draws_at_once": _integer(0),
    "train.loss": _choice("sum", "mean"),
    "train.learning_rate": _number(0, above=True),
    "train.warmup_steps": _integer(0),
    "train.decay": _choice("constant", "cosine"),
    "train.weight_decay": _number(0),
    "train.clip_norm": _number(0),
    "train.ema_decay": _number(0, 1, below=True),
    "train.ema_warmup": _BOOL,
    "train.skip_nonfinite": _integer(0),
    "train.max_seconds": _number(0),
    "train.map": _choice("shard_map", "pmap"),
    "train.log_every": _integer(1),
    "train.checkpoint_every": _integer(1),
    "train.evaluate_every": _integer(0),
    "train.result": _choice("last", "best"),
    "job.hang_seconds": _number(0),
    "job.heartbeat_seconds": _integer(2),
    "job.join_seconds": _integer(1),
    "job.cpu_devices": _integer(0),
}


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Returns "; did you mean X?" for the nearest of `names`, "" if none is near."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def invalid_value(key: str, value: Any) -> UserError:
    """Returns the error that says what the knob `key` (dotted) may be, and what it is."""
    rule = FIELDS[key]
    hint = did_you_mean(value, rule.choices) if isinstance(value, str) else ""
    return UserError(f"config.{key}={value!r}: must be {rule.allowed}{hint}")


def unknown_field(key: str) -> UserError:
    """Returns the error for a dotted key that no knob has."""
    if group := [f"config.{k}" for k in FIELDS if k.startswith(f"{key}.")]:
        return UserError(f"config.{key} is a group of knobs; set one of {', '.join(group)}")
    if near := names(key) or difflib.get_close_matches(key, FIELDS, n=1):
        meant = " or ".join(f"config.{k}" for k in near)
        return UserError(f"config.{key}: no such key; did you mean {meant}?")
    siblings = [k for k in FIELDS if k.split(".")[0] == key.split(".")[0]]
    known = f"there are {', '.join(siblings)}" if siblings else "see segdiff_jax/config.py"
    return UserError(f"config.{key}: no such key; {known}")


def names(key: str) -> list[str]:
    """Returns the knobs whose last part is that of `key`: someone forgot or mistook the group."""
    return [k for k in FIELDS if k.split(".")[-1] == key.split(".")[-1]]
