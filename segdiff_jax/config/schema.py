"""Defines every config field: its default, its allowed values and its meaning, in one table.

`configs/*.py` start from `default()` and set only what differs. "Code" and "paper" in the table are
the authors' code and arXiv 2112.00390; the defaults are those of the code, for 256x256 input.
"""

import difflib
from collections.abc import Iterable
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from segdiff_jax.config.allowed import (
    BUDGETS,
    CHANNEL_NAMES,
    CHANNELS,
    CLASS_VALUES,
    FOREGROUND,
    LARGE,
    MANY,
    ODD,
    POWERS_OF_TWO,
    SECONDS,
    SIDE,
    STEPS,
    VALUE_RANGE,
    WIDTH,
    Allowed,
    choice,
    integer,
    joined,
    number,
    or_none,
    several,
)
from segdiff_jax.config.usual_names import USUAL_NAMES
from segdiff_jax.errors import UserError

SPLITS = ("train", "validation", "test")
CLASSES = ("person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle")
MARGIN = 20  # percent by which a prepared object of Cityscapes is larger than its box
MAX_SEED = 2**32 - 1
SCORING_FIELDS = ("cityscapes.test_expansion",)  # of data sets: read only when a split is scored

_BOOL = Allowed("true or false", lambda v: isinstance(v, bool))
_TEXT = Allowed("text", lambda v: isinstance(v, str))
_FOLDER = "a folder in a file system of this machine: a bucket has to be mounted"
_PATH = Allowed(_FOLDER, lambda v: isinstance(v, str) and bool(v.strip()) and "://" not in v)
_PATH_OR_NOTHING = Allowed(f"{_FOLDER}; or nothing", lambda v: v == "" or _PATH.accepts(v))
_CONDITIONINGS = choice("sum", "concat", "stack", "inject1", "inject3", "inject5")


class Field(NamedTuple):
    """Describes one config field."""

    default: Any
    allowed: Allowed
    comment: str


# A comment continues the name: "train.warmup_steps: linear, from 0".
# fmt: off
FIELDS: dict[str, Field] = {
    "seed": Field(0, integer(0, MAX_SEED),
        "of weights, batch order, augmentation and noise, in training and evaluation"),
    "data.name": Field("synthetic",
        choice("synthetic", "monuseg", "vaihingen", "cityscapes", "folder", "ambiguous", "discs"),
        "data set: one of data.datasets.registry.BUILDERS"),
    "data.dir": Field("", _PATH_OR_NOTHING,
        "directory of the official files, for data sets that are downloaded by hand"),
    "data.prepared_dir": Field("~/.cache/segdiff_jax/data", _PATH, "prepared data sets"),
    "data.train_split": Field("train", joined(SPLITS, required=True),
        "split to train on; splits may be joined: 'train+validation'"),
    "data.train_images": Field(0, integer(0, MANY),
        "number of images of train_split, the first in an order that the seed gives; 0: all"),
    "data.validation_split": Field("", joined(SPLITS),
        "split that selects the best checkpoint; '': none, the last weights are the result"),
    "data.test_split": Field("test", joined(SPLITS),
        "split that is scored once, at the end; it never selects anything"),
    "data.fingerprint": Field("", _TEXT,
        "of the images and masks to train on: a run records it, and resumes with no others"),
    "data.objects": Field((0.0, 0.0), several(number(0, 1e9), 2), "diameter, number; recorded"),
    "data.pixel_size": Field(0.0, number(0, 1e12), "micrometres; recorded; 0: not known"),
    "data.allow_change": Field(False, _BOOL, "whether a run resumes on other data, with a warning"),
    "data.channels": Field("", CHANNEL_NAMES, "of images: 'DAPI,FITC', docs/channels.md; '': RGB"),
    "data.mean": Field((127.5, 127.5, 127.5), or_none(several(number(0, 255))),
        "of the channels, in 0..255; (): computed from train_split"),
    "data.std": Field((127.5, 127.5, 127.5), or_none(several(number(0, 255, above=True))),
        "like mean"),
    # image files, in data sets of folders and for prediction
    "reading.max_pixels": Field(64_000_000, integer(1, 10**12), "larger ones are not decoded"),
    "reading.page": Field(-1, integer(-1, 10**6),
        "page of TIFF files with several, from 0; -1: such files are refused"),
    "reading.value_range": Field("auto", VALUE_RANGE,
        "of images of more than 8 bits, values of black and white: 'auto', what the file declares, "
        "or the usual range that holds its values; 'full', that of its type; or 'LOW,HIGH'"),
    "reading.float_range": Field((), or_none(several(number(-LARGE, LARGE), 2)),
        "(low, high) of float images, which may have no values beyond; (): as value_range says"),
    "reading.channels": Field((), CHANNELS,
        "those that become R, G and B, or grey, from 0: (3, 2, 1) or (0,); (): those there are"),
    "vaihingen.resize": Field("authors", choice("authors", "area"),
        "512 to 256 pixels: 'authors', image by nearest pixel; 'area', image and mask averaged"),
    "cityscapes.classes": Field(("bus",), several(choice(*CLASSES)), "classes of the objects"),
    "cityscapes.size": Field(128, integer(1, 4096), "pixels; side of an object's resized crop"),
    "cityscapes.train_expansion": Field((10, 20), several(integer(0, MARGIN), 2),
        "of the object's box, percent; uniform between the two"),
    "cityscapes.redraw": Field(True, _BOOL,
        "whether the expansion is drawn at every visit; False: once per object (code)"),
    "cityscapes.exclusive": Field(False, _BOOL, "whether all eight classes are learnt, as classes"),
    "cityscapes.test_expansion": Field(15, integer(0, MARGIN), "percent; 0: the tight protocol"),
    # the shares apply where there is no folder of that name
    "folder.mask_suffix": Field("", _TEXT,
        "what follows the image's name in the name of its mask, such as '_mask'; of several "
        "annotators joined by commas: '_1stHO,_2ndHO'"),
    "folder.foreground": Field("auto", FOREGROUND,
        "of masks: 'auto', of two values the higher, of labels of objects all above 0; 'nonzero'; "
        "a value such as '7'; or 'above127', all values above 127, for grey and JPEG masks"),
    "folder.classes": Field("", CLASS_VALUES,
        "of masks, exclusive ones by values: 'tumour=1,stroma=2'; overlapping ones by folders: "
        "'organ=masks_organ,lesion=masks_lesion', see docs/classes.md; '': none"),
    "folder.validation_share": Field(0.1, number(0, 1, below=True),
        "share of the images, chosen by name and folder.seed"),
    "folder.test_share": Field(0.2, number(0, 1, below=True), "like validation_share"),
    "folder.seed": Field(0, integer(0, MAX_SEED), "of the choice by name"),
    # training only, on the device; image and mask are transformed alike
    "augment.crop": Field(0, integer(0, SIDE), "pixels; side of a random crop; 0: none"),
    "augment.horizontal_flip": Field(False, _BOOL, "with probability 1/2"),
    "augment.vertical_flip": Field(False, _BOOL, "with probability 1/2"),
    "augment.rotate": Field(0.0, number(0, 360), "degrees; uniform in -rotate..+rotate"),
    "augment.scale": Field((1.0, 1.0), several(number(0, 100, above=True), 2),
        "(lowest, highest) factor, uniform; above 1 enlarges"),
    "augment.jitter": Field((0.0, 0.0, 0.0, 0.0), several(number(0, 10), 4),
        "of brightness, contrast, saturation and hue"),
    "augment.invert": Field(0.0, number(0, 1),
        "share of the images, drawn at every visit, in which bright and dark are swapped"),
    "model.kind": Field("diffusion", choice("diffusion", "twin", "unet"),
        "'twin': encoder G and U-Net predict the mask in one pass; 'unet': the U-Net alone"),
    "model.conditioning": Field("sum", _CONDITIONINGS,
        "how x_t and image are combined (paper, Table 4). 'sum': F(x_t) + G(I), the method; "
        "'concat': variant 1; 'stack': variant 3, I beside x_t, no G; 'inject1', 'inject3', "
        "'inject5': variants 4 to 6, G(I) added after that downsampling"),
    "model.objects": Field("none", choice("none", "interior"),
        "what is learnt besides the mask from labels of objects: 'interior', a second channel, by "
        "which objects that touch are told apart, see docs/objects.md"),
    "model.encoder": Field("rrdb", choice("rrdb", "hardnet"),
        "G: 'rrdb'; 'hardnet': FC-HarDNet-70, variant 2"),
    "model.mask_scales": Field((1,), several(ODD),
        "sides of the squares over which F sees x_t averaged, pixels; (1,): x_t itself (paper)"),
    "model.channels": Field(128, integer(1, WIDTH), "C, the width of level 0"),
    "model.multipliers": Field((1, 1, 1, 2, 2, 4, 4), several(integer(1, 64)),
        "the width of level l is multipliers[l] * C"),
    "model.blocks_per_level": Field(3, integer(1, 64),
        "residual blocks of a level on the way down; one more on the way up"),
    "model.attention_factors": Field((16, 32), POWERS_OF_TWO,
        "attention at the levels whose maps are this many times smaller than the input"),
    "model.heads": Field(4, integer(1, 1024), "of every attention"),
    "model.norm_groups": Field(32, integer(1, WIDTH),
        "of every GroupNorm; a group of one channel erases t, see the docs"),
    "model.dropout": Field(0.0, number(0, 1, below=True), "probability"),
    "model.time_embedding": Field("sinusoidal", choice("sinusoidal", "table"),
        "'sinusoidal' (code); 'table' (paper): a learned look-up"),
    "model.rrdb_blocks": Field(12, integer(1, 256), "of the encoder G, if it is 'rrdb'"),
    "model.rrdb_features": Field(64, integer(1, WIDTH), "width of G's trunk"),
    "model.rrdb_growth": Field(32, integer(1, WIDTH), "width that each dense layer of G adds"),
    "model.rrdb_form": Field("auto", choice("auto", "concat", "parts", "spread"),
        "computation of the dense blocks; all are equal up to rounding; 'auto': the fastest "
        "known for the device"),
    "model.remat": Field("none", choice("none", "rrdb", "unet", "all"),
        "rematerialization, less memory for more time: the backward pass recomputes each RRDB "
        "('rrdb'), each level of the U-Net ('unet') or both ('all') from its input"),
    "model.dtype": Field("float32", choice("float32", "bfloat16"), "of activations alone"),
    "model.precision": Field("default", choice("default", "high", "highest"),
        "of products of float32 (JAX's names): a TPU rounds their factors to bfloat16 by default "
        "and a GPU to TF32; 'highest': not at all; a CPU never does"),
    "diffusion.T": Field(100, integer(1, STEPS), "steps of the forward process"),
    "diffusion.schedule": Field("linear", choice("linear", "linear_unscaled", "cosine"),
        "of beta: 'linear' (code), scaled by 1000/T; 'linear_unscaled' (paper); 'cosine'"),
    "diffusion.signal_scale": Field(1.0, number(0, 1000, above=True),
        "b: x_t is made of b x0, and rescaled; below 1, noise hides the mask at smaller t"),
    "diffusion.prediction": Field("eps", choice("eps", "x0", "v", "logit"),
        "what the network's output is; 'eps' (paper); 'logit': log odds, by cross-entropy"),
    "diffusion.bayes_skip": Field(False, _BOOL,
        "whether the evidence of each pixel's own x_t is added to the logit by Bayes' rule"),
    "diffusion.zero_x_T": Field(False, _BOOL,
        "whether the network reads zeros at t=T, where x_T tells it nothing"),
    "diffusion.clip_x0": Field(False, _BOOL, "whether sampling clips estimates of x0 to [-1, 1]"),
    "sampling.sampler": Field("ddpm", choice("ddpm", "ddim"), "reverse process"),
    "sampling.budget": Field("paper", choice(*BUDGETS),
        "passes of the probability: 'fast', one at t=T; 'balanced', one at t=T of each of "
        "sampling.orientations; 'paper', the mean of generations, each of sampling.steps"),
    "sampling.orientations": Field(8, integer(1, 8),
        "of an image, turned and mirrored, whose probabilities 'balanced' averages"),
    "sampling.steps": Field(0, integer(0, STEPS), "reverse steps; 0: all T"),
    "sampling.spacing": Field("even", choice("even", "snr"),
        "of the steps among the T: 'even'; 'snr': even in the logarithm of signal to noise"),
    "sampling.x0": Field("soft", choice("soft", "drawn"),
        "estimates of x0 in the chain: 'soft', as they are; 'drawn', each pixel -1 or +1 by its "
        "probability"),
    "sampling.variance": Field("beta", choice("beta", "posterior"),
        "of ddpm: 'beta' (code); 'posterior' (paper)"),
    "sampling.eta": Field(0.0, number(0, 1),
        "of ddim: 0, deterministic, to 1, as much noise as ddpm's posterior"),
    "sampling.generations": Field(9, integer(1, STEPS),
        "masks that are averaged: 9 in the code, 30 in the paper; 1 if model.kind is no diffusion"),
    "sampling.fusion": Field("mean", choice("mean", "median", "majority", "staple", "medoid"),
        "what makes one probability of the generations of budget 'paper'; 'staple': Warfield et "
        "al. 2004; 'medoid': the generation of the highest mean IoU with the others"),
    "sampling.samples": Field(0, integer(0, STEPS),
        "masks by the reverse process, beside the probability: whole ones that may be true; "
        "0: none"),
    "sampling.masks": Field("coupled", choice("coupled", "soft"),
        "how samples become masks: 'coupled', each pixel is foreground in the share of them that "
        "its probability is, by the ranks of the soft samples; 'soft', where they are above 1/2"),
    "sampling.tolerance": Field(0.0, number(0, 1000),
        "samples of an image are drawn, 4 at a time, until the standard error of their mean area "
        "is at most this share of it, or all are drawn; 0: all"),
    "sampling.separate": Field("auto", choice("auto", "distance"),
        "objects that touch: 'auto', by the interiors of model.objects; 'distance', by the "
        "distance to the background, for about convex ones, see docs/objects.md"),
    "sampling.rows_at_once": Field(0, integer(0, SIDE),
        "(tile, generation) pairs that a device denoises together, which takes memory; 0: 16, but "
        "1 on a CPU, where a prediction then does not depend on its batch, to the last bit"),
    "sampling.tile": Field(256, integer(0, SIDE), "pixels; larger images are cut; 0: never"),
    "sampling.stride": Field(256, integer(0, SIDE), "from tile to tile; overlaps are blended"),
    "train.steps": Field(300_000, integer(1, MANY), "updates"),
    "train.batch_size": Field(8, integer(1, 2**20),
        "images, over all devices, whose number need not divide it"),
    "train.accumulate": Field(1, integer(1, 2**20),
        "parts of a device's share of the batch, whose gradients are summed one after another, "
        "which takes less memory; at most one an image"),
    "train.noise_draws_per_image": Field(1, integer(1, 4096),
        "(t, noise) pairs that share one G(I); 1: the authors' loss"),
    "train.draws": Field("uniform", choice("uniform", "T+uniform", "T+recycled"),
        "'uniform': every t in 1..T (paper); 'T+uniform': the first draw at T, the others in "
        "1..T-1, stratified over the batch; 'T+recycled': some of them start from the first's "
        "estimate of x0"),
    "train.share_at_T": Field(0.0, number(0, 1),
        "of the updates, the first ones, whose only draw of an image is at T: the map is learnt "
        "first, at less cost, and what goes together later; 0: none"),
    "train.recycled": Field(0.5, number(0, 1), "probability that one of 'T+recycled' does"),
    "train.recycled_until": Field(0, integer(0, STEPS), "largest t of one that does; 0: T-1"),
    "train.draws_at_once": Field(0, integer(0, 4096),
        "of them that are denoised together, which takes memory; 0: all, but 1 on a CPU, where it "
        "is fastest"),
    "train.loss": Field("sum", choice("sum", "mean"), "of the error over pixels; 'sum' (code)"),
    "train.learning_rate": Field(1e-4, number(0, 1000, above=True), "after the warm-up"),
    "train.warmup_steps": Field(0, integer(0, MANY), "linear, from 0"),
    "train.decay": Field("constant", choice("constant", "cosine"),
        "of the learning rate after the warm-up; 'cosine': to 0"),
    "train.weight_decay": Field(0.0, number(0, 1000), "of AdamW"),
    "train.clip_norm": Field(0.0, number(0, LARGE), "largest norm of the gradient; 0: no limit"),
    "train.ema_decay": Field(0.9999, number(0, 1, below=True),
        "of the averaged weights, which are the ones evaluated"),
    "train.ema_warmup": Field(False, _BOOL,
        "decay = min(ema_decay, (1 + n) / (10 + n)), n updates"),
    "train.skip_nonfinite": Field(0, integer(0, MANY),
        "consecutive updates with a loss or gradient of NaN or inf that are skipped; 0: none is"),
    "train.max_seconds": Field(0.0, number(0, SECONDS), "then it ends as by SIGTERM; 0: no limit"),
    "train.map": Field("shard_map", choice("shard_map", "pmap"),
        "of the training step over the devices; equal to the last bit"),
    "train.log_every": Field(100, integer(1, MANY), "updates between lines of metrics.jsonl"),
    "train.checkpoint_every": Field(1000, integer(1, MANY),
        "updates between checkpoints; the last one is always written"),
    "train.evaluate_every": Field(0, integer(0, MANY), "updates between validations; 0: never"),
    "train.result": Field("last", choice("last", "best"),
        "weights that are scored on test_split; 'best': on validation_split"),
    "train.start_from": Field("", _TEXT, "model whose weights it begins with, see docs/models.md"),
    # one process or several; the results are equal up to rounding
    "job.hang_seconds": Field(1800.0, number(0, SECONDS),
        "without an update or image: stack traces, exit code 142; 0: never"),
    "job.heartbeat_seconds": Field(100, integer(2, 10**6), "a silent process then counts as lost"),
    "job.join_seconds": Field(300, integer(1, 10**6), "to wait until all processes have started"),
    "job.cpu_devices": Field(0, integer(0, 256),
        "made of a CPU, each with a share of batch and generations and a copy of the state; "
        "0: up to 4, at most the cores, a divisor of the batch; 1 with several processes"),
}
# fmt: on


def default() -> ConfigDict:
    """Returns the defaults of all fields."""
    tree: dict[str, Any] = {}
    for key, field in FIELDS.items():
        group, _, name = key.rpartition(".")
        (tree.setdefault(group, {}) if group else tree)[name] = field.default
    return ConfigDict(tree)


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Returns the fields of a config as {"train.steps": value, ...}."""
    fields: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            fields |= flatten(value, f"{prefix}{name}.")
        else:
            fields[prefix + name] = value
    return fields


def check_fields(values: dict[str, Any]) -> None:
    """Raises UserError at the first field that is unknown, missing or not allowed."""
    for key in values:
        if key not in FIELDS:
            raise unknown_field(key)
    for key, field in FIELDS.items():
        if key not in values:
            raise UserError(f"config.{key} is missing: must be {field.allowed.text}")
        if not field.allowed.accepts(values[key]):
            raise invalid_value(key, values[key])


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Returns "; did you mean X?" for the most similar of `names`, "" if none is similar."""
    near = difflib.get_close_matches(name, list(names), n=1)
    return f"; did you mean {near[0]}?" if near else ""


def invalid_value(key: str, value: Any) -> UserError:
    """Returns the error for a value that the field `key` must not have."""
    allowed = FIELDS[key].allowed
    hint = did_you_mean(value, allowed.choices) if isinstance(value, str) else ""
    shown = repr(value)
    shown = f"{shown[:60]}..." if len(shown) > 100 else shown
    return UserError(f"config.{key}={shown}: must be {allowed.text}{hint}")


def unknown_field(key: str) -> UserError:
    """Returns the error for a dotted key that is no field."""
    if group := [f"config.{k}" for k in FIELDS if k.startswith(f"{key}.")]:
        return UserError(f"config.{key} is a group of fields; set one of {', '.join(group)}")
    group, _, name = key.rpartition(".")
    usual = USUAL_NAMES.get(name.lower(), ())
    here = [k for k in usual if k.startswith(group)]  # of the group that was named
    if (
        near := here
        or usual
        or fields_named_like(key)
        or difflib.get_close_matches(key, FIELDS, n=1)
    ):
        meant = " or ".join(f"config.{k}" for k in near)
        return UserError(f"config.{key}: no such key; did you mean {meant}?")
    siblings = [k for k in FIELDS if k.split(".")[0] == key.split(".")[0]]
    known = f"there are {', '.join(siblings)}" if siblings else "see segdiff_jax/config/schema.py"
    return UserError(f"config.{key}: no such key; {known}")


def fields_named_like(key: str) -> list[str]:
    """Returns the fields of any group whose last part is that of `key`."""
    return [k for k in FIELDS if k.split(".")[-1] == key.split(".")[-1]]
