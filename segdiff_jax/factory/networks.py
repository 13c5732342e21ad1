"""Builds networks from a config, and checks the sizes of their inputs."""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike
from ml_collections import ConfigDict

from segdiff_jax.data import classes
from segdiff_jax.data.channels import Channels
from segdiff_jax.errors import UserError
from segdiff_jax.models.conditioning import Concat, Downsampled, Encoded, Inject, Plain, Stack, Sum
from segdiff_jax.models.hardnet import STRIDE, HarDNet
from segdiff_jax.models.ops.dense_block import FORMS
from segdiff_jax.models.rrdb import RRDBNet
from segdiff_jax.models.segdiff import SegDiff
from segdiff_jax.models.unet import UNet

DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}
PRECISIONS = {name: name for name in ("default", "high", "highest")}  # JAX's
CONDITIONINGS: dict[str, Callable[..., nn.Module]] = {
    "sum": Sum,
    "concat": Concat,
    "stack": Stack,
    **{f"inject{k}": partial(Inject, after=k) for k in (1, 3, 5)},
}
ENCODERS: dict[str, Callable[[ConfigDict, DTypeLike], nn.Module]] = {
    "rrdb": lambda c, dtype: RRDBNet(
        c.channels,
        c.rrdb_blocks,
        c.rrdb_features,
        c.rrdb_growth,
        dtype,
        form=dense_form(c.rrdb_form),
        remat=c.remat in ("rrdb", "all"),
    ),
    "hardnet": lambda c, dtype: HarDNet(c.channels, dtype=dtype),
}
# conditionings of networks without x_t and t
ONE_PASS: dict[str, Callable[..., nn.Module]] = {"twin": Encoded, "unet": Plain}
TITLES = {"diffusion": "SegDiff", "twin": "Deterministic twin", "unet": "Plain U-Net"}


def choose(table: dict[str, Any], name: str, key: str) -> Any:
    """Returns table[name]; raises UserError, which lists the names, if there is no such one."""
    if name not in table:
        raise UserError(f"{key} is {name!r}; allowed: {', '.join(map(repr, table))}")
    return table[name]


def one_pass(config: ConfigDict) -> bool:
    """Returns whether the network predicts the mask in one pass, without diffusion."""
    return choose({kind: kind in ONE_PASS for kind in TITLES}, config.model.kind, "model.kind")


def model(config: ConfigDict) -> SegDiff:
    """Builds the network; `training.step.init_state` draws its parameters."""
    c = config.model
    dtype = choose(DTYPES, c.dtype, "model.dtype")
    constructor = ONE_PASS.get(c.kind)
    constructor = constructor or choose(CONDITIONINGS, c.conditioning, "model.conditioning")
    conditioning = constructor(channels=c.channels, dtype=dtype, scales=tuple(c.mask_scales))
    after = conditioning.after if isinstance(conditioning, Inject) else 0
    takes_image = isinstance(conditioning, Stack | Plain)
    return SegDiff(
        encoder=None if takes_image else encoder(config, after, dtype),
        conditioning=conditioning,
        unet=UNet(
            channels=c.channels,
            multipliers=tuple(c.multipliers),
            blocks=c.blocks_per_level,
            attention_factors=tuple(c.attention_factors),
            heads=c.heads,
            groups=c.norm_groups,
            dropout=c.dropout,
            time_embedding="none" if one_pass(config) else c.time_embedding,
            T=config.diffusion.T,
            dtype=dtype,
            remat=c.remat in ("unet", "all"),
            outputs=channels(config).count,
        ),
        factor=2**after,
        precision=choose(PRECISIONS, c.precision, "model.precision"),
    )


def channels(config: ConfigDict) -> Channels:
    """Returns the channels of the masks that the network learns."""
    return Channels(class_names(config), config.model.objects == "interior", overlap(config))


def bands(config: ConfigDict) -> int:
    """Returns the number of channels of an image: 3, RGB, unless the config names others."""
    return len(image_channels(config)) or 3


def image_channels(config: ConfigDict) -> tuple[str, ...]:
    """Returns the names of the channels of images; (): they are RGB."""
    return tuple(config.data.channels.split(",")) if config.data.channels else ()


def class_names(config: ConfigDict) -> tuple[str, ...]:
    """Returns the names of the classes that the network learns; (): it learns none."""
    return {
        "folder": classes.parse(config.folder.classes).names,
        "cityscapes": tuple(classes.CITYSCAPES) if config.cityscapes.exclusive else (),
        "discs": classes.DISCS,
    }.get(config.data.name, ())


def overlap(config: ConfigDict) -> bool:
    """Returns whether a pixel may belong to several classes."""
    return config.data.name == "folder" and bool(classes.parse(config.folder.classes).sources)


def parameter_shapes(config: ConfigDict) -> Any:
    """Returns the parameters as nested dictionaries of `jax.ShapeDtypeStruct`; computes nothing."""
    side = multiple(config)  # the smallest input there is
    sizes = bands(config), channels(config).count
    image, x_t = (jax.ShapeDtypeStruct((1, side, side, n), jnp.float32) for n in sizes)
    t, key = jax.ShapeDtypeStruct((1,), jnp.int32), jax.eval_shape(lambda: jax.random.key(0))
    return jax.eval_shape(model(config).init, key, image, x_t, t)["params"]


def dense_form(form: str) -> str:
    """Returns the form of dense blocks; "auto": the fastest on this backend."""
    auto = "parts" if jax.default_backend() == "cpu" else "spread"
    return choose({"auto": auto} | {name: name for name in FORMS}, form, "model.rrdb_form")


def encoder(config: ConfigDict, after: int, dtype: DTypeLike) -> nn.Module:
    """Builds G, downsampled to where the U-Net has halved its input `after` times."""
    c = config.model
    network = choose(ENCODERS, c.encoder, "model.encoder")(c, dtype)
    widths = tuple(multiplier * c.channels for multiplier in c.multipliers[:after])
    return Downsampled(network, widths, dtype) if after else network


def multiple(config: ConfigDict) -> int:
    """Returns the number that sides of the network's input must be multiples of."""
    halved = 2 ** (len(config.model.multipliers) - 1)
    return max(halved, STRIDE) if config.model.encoder == "hardnet" else halved


def check_size(config: ConfigDict, size: tuple[int, ...], name: str) -> None:
    """Raises UserError if the network cannot halve the sides of an input as often as it does."""
    if any(side % multiple(config) for side in size):
        encoder = " and model.encoder='hardnet'" if config.model.encoder == "hardnet" else ""
        raise UserError(
            f"{name} is {size[0]}x{size[1]}; allowed: multiples of {multiple(config)}, for "
            f"{len(config.model.multipliers)} levels{encoder}: set augment.crop"
        )


def describe(config: ConfigDict) -> dict[str, Any]:
    """Describes the network, what makes its probability, and its samples, for reports."""
    c, kind = config.sampling, config.model.kind
    if kind == "unet":
        parts = "U-Net of the image"
    elif kind == "twin":
        parts = f"encoder {config.model.encoder}, U-Net"
    elif config.model.conditioning == "stack":
        parts = "conditioning stack, no encoder"
    else:
        parts = f"conditioning {config.model.conditioning}, encoder {config.model.encoder}"
    balanced = {"probability": f"mean of {c.orientations} orientations, each 1 pass"}
    if one_pass(config):
        return {
            "network": f"{parts}; no diffusion: the mask in one pass",
            **(balanced if c.budget == "balanced" else {}),
            "uncertainty": "sqrt(p (1 - p)) of the network's own probability p",
        }
    T = config.diffusion.T
    how = f"variance {c.variance}" if c.sampler == "ddpm" else f"eta {c.eta:g}"
    steps = {"reverse steps": f"{c.steps or T} of {T}, {c.sampler}, {how}"}
    fused = {"fusion": c.fusion} if c.fusion != "mean" else {}
    probability = {
        "fast": {"probability": "1 pass at t=T"},
        "balanced": {"probability": f"{balanced['probability']} at t=T"},
        "paper": {"generations averaged": c.generations, **fused, **steps},
    }
    until = f", until their mean area is known to {c.tolerance:g}" if c.tolerance else ""
    samples = {"samples": f"{c.samples}, {c.masks}{until}", **steps} if c.samples else {}
    found = choose(probability, c.budget, "sampling.budget") | samples
    return {"network": parts, "network predicts": config.diffusion.prediction, **found}
