"""What every knob of a config may be, and which combinations contradict each other.

Needs neither jax nor the file system's data, so a mistake is reported within a second of the
command. `check` raises, `cautions` only tells.
"""

import difflib
import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from segdiff_jax.errors import UserError

SPLITS = ("train", "validation", "test")


class Rule(NamedTuple):
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


def _integer(low: int, high: int | None = None) -> Rule:
    upto = "" if high is None else f", at most {high}"
    return Rule(
        f"an integer, at least {low}{upto}",
        lambda v: _is_integer(v) and v >= low and (high is None or v <= high),
    )


def _number(
    low: float, high: float = math.inf, *, above: bool = False, below: bool = False
) -> Rule:
    """A finite number in [low, high]; `above` leaves out low, `below` high."""
    allowed = f"a number, {'above' if above else 'at least'} {low:g}"
    if high < math.inf:
        allowed += f", {'below' if below else 'at most'} {high:g}"
    return Rule(
        allowed,
        lambda v: (
            _is_number(v)
            and (low < v if above else low <= v)
            and (v < high if below else v <= high)
        ),
    )


def _choice(*names: str) -> Rule:
    return Rule(f"one of {', '.join(names)}", lambda v: v in names, names)


def _several(rule: Rule, length: int | None = None) -> Rule:
    """A tuple, or the list JSON makes of it; of at least one element if no length is given."""
    count = "one or more values" if length is None else f"{length} values"
    return Rule(
        f"{count} in brackets, each {rule.allowed}",
        lambda v: (
            isinstance(v, tuple | list)
            and (len(v) == length if length else len(v) > 0)
            and all(rule.accepts(x) for x in v)
        ),
    )


def _split(*, required: bool = False) -> Rule:
    names = f"{', '.join(SPLITS)}, or some of them joined by +"
    return Rule(
        names if required else f"{names}, or nothing",
        lambda v: (
            isinstance(v, str)
            and ((not v and not required) or all(part in SPLITS for part in v.split("+")))
        ),
    )


_BOOL = Rule("true or false", lambda v: isinstance(v, bool))
_TEXT = Rule("text", lambda v: isinstance(v, str))
_NAME = Rule("text, not empty", lambda v: isinstance(v, str) and bool(v.strip()))

RULES: dict[str, Rule] = {
    "seed": _integer(0, 2**32 - 1),
    "data.name": _choice("synthetic", "monuseg"),
    "data.dir": _TEXT,
    "data.prepared_dir": _NAME,
    "data.train_split": _split(required=True),
    "data.validation_split": _split(),
    "data.test_split": _split(),
    "data.mean": _several(_number(0, 255), 3),
    "data.std": _several(_number(0, 255, above=True), 3),
    "augment.crop": _integer(0),
    "augment.horizontal_flip": _BOOL,
    "augment.vertical_flip": _BOOL,
    "augment.rotate": _number(0, 360),
    "augment.scale": _several(_number(0, above=True), 2),
    "augment.jitter": _several(_number(0), 4),
    "model.conditioning": _choice("sum"),
    "model.channels": _integer(1),
    "model.multipliers": _several(_integer(1)),
    "model.blocks_per_level": _integer(1),
    "model.attention_factors": Rule(
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
    "sampling.rows_at_once": _integer(1),
    "sampling.tile": _integer(0),
    "sampling.stride": _integer(0),
    "train.steps": _integer(1),
    "train.batch_size": _integer(1),
    "train.noise_draws_per_image": _integer(1),
    "train.loss": _choice("sum", "mean"),
    "train.learning_rate": _number(0, above=True),
    "train.warmup_steps": _integer(0),
    "train.decay": _choice("constant", "cosine"),
    "train.weight_decay": _number(0),
    "train.clip_norm": _number(0),
    "train.ema_decay": _number(0, 1, below=True),
    "train.ema_warmup": _BOOL,
    "train.map": _choice("shard_map", "pmap"),
    "train.log_every": _integer(1),
    "train.checkpoint_every": _integer(1),
    "train.evaluate_every": _integer(0),
    "train.result": _choice("last", "best"),
}


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Returns "; did you mean X?" for the nearest of `names`, "" if none is near."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def refused(key: str, value: Any) -> UserError:
    """Returns the error that says what the knob `key` (dotted) may be, and what it is."""
    rule = RULES[key]
    hint = did_you_mean(value, rule.choices) if isinstance(value, str) else ""
    return UserError(f"config.{key}={value!r}: must be {rule.allowed}{hint}")


def unknown(key: str) -> UserError:
    """Returns the error for a dotted key that no knob has."""
    if group := [f"config.{k}" for k in RULES if k.startswith(f"{key}.")]:
        return UserError(f"config.{key} is a group of knobs; set one of {', '.join(group)}")
    if near := names(key) or difflib.get_close_matches(key, RULES, n=1):
        meant = " or ".join(f"config.{k}" for k in near)
        return UserError(f"config.{key}: no such key; did you mean {meant}?")
    siblings = [k for k in RULES if k.split(".")[0] == key.split(".")[0]]
    known = f"there are {', '.join(siblings)}" if siblings else "see segdiff_jax/config.py"
    return UserError(f"config.{key}: no such key; {known}")


def names(key: str) -> list[str]:
    """Returns the knobs whose last part is that of `key`: someone forgot or mistook the group."""
    return [k for k in RULES if k.split(".")[-1] == key.split(".")[-1]]


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Returns the knobs of a config as {"train.steps": value, ...}."""
    knobs: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            knobs |= flatten(value, f"{prefix}{name}.")
        else:
            knobs[prefix + name] = value
    return knobs


def check(config: ConfigDict) -> None:
    """Raises UserError at the first knob that is unknown, missing or not allowed."""
    knobs = flatten(config)
    for key in knobs:
        if key not in RULES:
            raise unknown(key)
    for key, rule in RULES.items():
        if key not in knobs:
            raise UserError(f"config.{key} is missing: must be {rule.allowed}")
        if not rule.accepts(knobs[key]):
            raise refused(key, knobs[key])
    for key, holds, demand in (
        *_model_demands(knobs),
        *_size_demands(knobs),
        *_sampling_demands(knobs),
        *_training_demands(knobs),
    ):
        if not holds:
            raise UserError(f"config.{key}={knobs[key]!r}: {demand}")


# (key, whether it holds, what to say if not); the knobs are allowed one by one
_Demands = Iterator[tuple[str, bool, str]]


def _model_demands(k: dict[str, Any]) -> _Demands:
    multipliers, factors = k["model.multipliers"], k["model.attention_factors"]
    levels = len(multipliers)
    yield (
        "model.multipliers",
        multipliers[0] == 1,
        "the first must be 1: image and mask enter with model.channels",
    )
    yield (
        "model.attention_factors",
        len(set(factors)) == len(factors) and max(factors, default=1) < 2**levels,
        f"must differ and be at most {2 ** (levels - 1)}, as model.multipliers has {levels} levels",
    )
    for level, multiplier in enumerate(multipliers):
        width = multiplier * k["model.channels"]
        where = f"level {level} is {width} wide"
        yield (
            "model.norm_groups",
            width % k["model.norm_groups"] == 0,
            f"must divide the width of every level; {where}",
        )
        attends = 2**level in factors or level == levels - 1  # the bottleneck always does
        yield (
            "model.heads",
            not attends or width % k["model.heads"] == 0,
            f"must divide the width of every level that attends; {where}",
        )


def _size_demands(k: dict[str, Any]) -> _Demands:
    halvings = len(k["model.multipliers"]) - 1
    for key in ("augment.crop", "sampling.tile"):
        yield (
            key,
            k[key] % 2**halvings == 0,
            f"must be 0 or a multiple of {2**halvings}: the network halves it {halvings} times",
        )
    tile, (low, high) = k["sampling.tile"], k["augment.scale"]
    yield (
        "sampling.stride",
        tile == 0 or 1 <= k["sampling.stride"] <= tile,
        f"must be at least 1 and at most sampling.tile={tile}, or pixels are missed",
    )
    yield "augment.scale", low <= high, "must be the lowest, then the highest"
    yield "augment.jitter", k["augment.jitter"][3] <= 0.5, "the fourth, hue, must be at most 0.5"


def _sampling_demands(k: dict[str, Any]) -> _Demands:
    T = k["diffusion.T"]
    yield (
        "diffusion.T",
        k["diffusion.schedule"] != "linear" or T > 20,
        "must be at least 21 with diffusion.schedule='linear', whose last beta, 20/T, must stay "
        "below 1; 'cosine' works with any T",
    )
    yield "sampling.steps", k["sampling.steps"] <= T, f"must be at most diffusion.T={T}; 0 for all"


def _training_demands(k: dict[str, Any]) -> _Demands:
    validation, test = k["data.validation_split"], k["data.test_split"]
    yield (
        "train.evaluate_every",
        k["train.evaluate_every"] == 0 or validation != "",
        "must be 0 unless data.validation_split names a split to score",
    )
    yield (
        "train.result",
        k["train.result"] == "last" or k["train.evaluate_every"] > 0,
        "must be last unless train.evaluate_every scores the validation split",
    )
    for key in ("data.train_split", "data.validation_split", "data.test_split"):
        parts = k[key].split("+")
        yield key, len(set(parts)) == len(parts), "names a split twice"
    yield (
        "data.validation_split",
        not _shared(validation, test),
        f"must share nothing with data.test_split={test!r}, as it chooses the best checkpoint",
    )


def _shared(a: str, b: str) -> set[str]:
    """Returns the splits that both name."""
    return set(a.split("+")) & set(b.split("+")) - {""}


def cautions(config: ConfigDict) -> list[str]:
    """Returns a line for each setting that is allowed but seldom meant, of a checked config."""
    k = flatten(config)
    groups, trained = k["model.norm_groups"], k["data.train_split"]
    widths = [multiplier * k["model.channels"] for multiplier in k["model.multipliers"]]
    lines = []
    if groups in widths:  # the mean that such a norm takes away is the added time vector
        levels = ", ".join(str(level) for level, width in enumerate(widths) if width == groups)
        lines.append(
            f"config.model.norm_groups={groups}: one channel a group at level {levels}, whose "
            f"blocks are therefore blind to t; at most {groups // 2} is better"
        )
    for key in ("data.validation_split", "data.test_split"):
        if both := "+".join(sorted(_shared(trained, k[key]))):
            lines.append(
                f"config.{key}={k[key]!r}: {both} is trained on as well, so its scores say "
                "nothing about new images"
            )
    steps, warmup = k["train.steps"], k["train.warmup_steps"]
    if warmup >= steps:
        lines.append(
            f"config.train.warmup_steps={warmup}: the learning rate does not reach its value "
            f"within train.steps={steps}"
        )
    if k["sampling.eta"] and k["sampling.sampler"] != "ddim":
        lines.append(f"config.sampling.eta={k['sampling.eta']}: only the sampler ddim uses it")
    return lines
