"""Which configs are allowed: every knob by its rule, and no contradiction between them.

Needs neither jax nor the file system's data, so a mistake is reported within a second of the
command. `check` raises, `warnings_for` only tells.
"""

from collections.abc import Iterator
from typing import Any

from ml_collections import ConfigDict

from segdiff_jax.config.defaults import flatten
from segdiff_jax.config.schema import FIELDS, invalid_value, unknown_field
from segdiff_jax.errors import UserError


def check(config: ConfigDict) -> None:
    """Raises UserError at the first knob that is unknown, missing or not allowed."""
    knobs = flatten(config)
    for key in knobs:
        if key not in FIELDS:
            raise unknown_field(key)
    for key, rule in FIELDS.items():
        if key not in knobs:
            raise UserError(f"config.{key} is missing: must be {rule.allowed}")
        if not rule.accepts(knobs[key]):
            raise invalid_value(key, knobs[key])
    for key, holds, demand in (
        *_data_demands(knobs),
        *_model_demands(knobs),
        *_variant_demands(knobs),
        *_size_demands(knobs),
        *_sampling_demands(knobs),
        *_training_demands(knobs),
    ):
        if not holds:
            raise UserError(f"config.{key}={knobs[key]!r}: {demand}")


# (key, whether it holds, what to say if not); the knobs are allowed one by one
Relations = Iterator[tuple[str, bool, str]]


def _data_demands(k: dict[str, Any]) -> Relations:
    both = "must be the lower, then the higher"
    low, high = k["reading.float_range"] or (0, 1)
    yield "reading.float_range", low < high, both
    low, high = k["cityscapes.train_expansion"]
    yield "cityscapes.train_expansion", low <= high, both
    yield (
        "data.std",
        bool(k["data.mean"]) == bool(k["data.std"]),
        "must be given if data.mean is, and computed, (), if it is not",
    )
    classes = k["cityscapes.classes"]
    yield "cityscapes.classes", len(set(classes)) == len(classes), "names a class twice"
    yield (
        "folder.test_share",
        k["folder.test_share"] + k["folder.validation_share"] < 1,
        "must leave images to train on, with folder.validation_share",
    )


def _model_demands(k: dict[str, Any]) -> Relations:
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


def _variant_demands(k: dict[str, Any]) -> Relations:
    kind, conditioning = k["model.kind"], k["model.conditioning"]
    if conditioning.startswith("inject"):
        after, levels = int(conditioning.removeprefix("inject")), len(k["model.multipliers"])
        yield (
            "model.conditioning",
            levels > after,
            f"needs at least {after + 1} levels in model.multipliers, which has {levels}, as G(I) "
            f"joins after downsampling {after}",
        )
    yield (
        "model.encoder",
        k["model.encoder"] == "rrdb" or (kind != "unet" and conditioning != "stack"),
        "must stay 'rrdb' with model.kind='unet' or model.conditioning='stack', which have no "
        "encoder",
    )
    if kind == "diffusion":
        return
    yield (
        "model.conditioning",
        conditioning == "sum",
        f"must stay 'sum' with model.kind={kind!r}, which sees no noisy mask",
    )
    for key in ("sampling.generations", "train.noise_draws_per_image"):
        yield key, k[key] == 1, f"must be 1 with model.kind={kind!r}, which draws no noise"


def _size_demands(k: dict[str, Any]) -> Relations:
    halvings = len(k["model.multipliers"]) - 1
    unit, why = 2**halvings, f"the network halves it {halvings} times"
    if k["model.encoder"] == "hardnet" and unit < 4:
        unit, why = 4, "model.encoder='hardnet' works at a quarter of it"
    sizes = ("cityscapes.size",) if k["data.name"] == "cityscapes" else ()
    for key in ("augment.crop", "sampling.tile", *sizes):
        yield (
            key,
            k[key] % unit == 0,
            f"must be 0 or a multiple of {unit}: {why}",
        )
    tile, (low, high) = k["sampling.tile"], k["augment.scale"]
    yield (
        "sampling.stride",
        tile == 0 or 1 <= k["sampling.stride"] <= tile,
        f"must be at least 1 and at most sampling.tile={tile}, or pixels are missed",
    )
    yield "augment.scale", low <= high, "must be the lowest, then the highest"
    yield "augment.jitter", k["augment.jitter"][3] <= 0.5, "the fourth, hue, must be at most 0.5"


def _sampling_demands(k: dict[str, Any]) -> Relations:
    T = k["diffusion.T"]
    yield (
        "diffusion.T",
        k["diffusion.schedule"] != "linear" or T > 20,
        "must be at least 21 with diffusion.schedule='linear', whose last beta, 20/T, must stay "
        "below 1; 'cosine' works with any T",
    )
    yield "sampling.steps", k["sampling.steps"] <= T, f"must be at most diffusion.T={T}; 0 for all"


def _training_demands(k: dict[str, Any]) -> Relations:
    validation, test = k["data.validation_split"], k["data.test_split"]
    draws, at_once = k["train.noise_draws_per_image"], k["train.draws_at_once"]
    yield (
        "train.draws_at_once",
        at_once == 0 or draws % at_once == 0,
        f"must be 0 or divide train.noise_draws_per_image={draws}",
    )
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


def warnings_for(config: ConfigDict) -> list[str]:
    """Returns a line for each setting that is allowed but seldom meant, of a checked config."""
    k = flatten(config)
    groups, trained = k["model.norm_groups"], k["data.train_split"]
    widths = [multiplier * k["model.channels"] for multiplier in k["model.multipliers"]]
    lines = []
    kind = k["model.kind"]
    # the mean that such a norm takes away is the added time vector
    if groups in widths and kind == "diffusion":
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
    if k["sampling.steps"] and kind != "diffusion":
        lines.append(
            f"config.sampling.steps={k['sampling.steps']}: model.kind={kind!r} has no reverse steps"
        )
    if k["sampling.eta"] and k["sampling.sampler"] != "ddim":
        lines.append(f"config.sampling.eta={k['sampling.eta']}: only the sampler ddim uses it")
    return lines
