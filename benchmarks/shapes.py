"""Computes arithmetic, bytes and residuals of the authors' three configurations from their shapes.

Programs are traced and not run, so that no memory is needed.
"""

import math
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from ml_collections import ConfigDict

from benchmarks import ours
from benchmarks.backend import as_on_a_tpu
from benchmarks.flops import product_flops
from benchmarks.network_input import side_of
from benchmarks.scaling import batch_that_fits, efficiency, wire_bytes
from benchmarks.timing import Row, figure
from configs import cityscapes, monuseg, vaihingen
from segdiff_jax.factory import networks
from segdiff_jax.models.segdiff import SegDiff, call

CONFIGS = {
    "Vaihingen": vaihingen.get_config,
    "MoNuSeg": monuseg.get_config,
    "Cityscapes": cityscapes.get_config,
}
REMAT = ("none", "rrdb", "unet", "all")  # values of model.remat
MEMORIES = (16, 32, 80)  # of a device, GB
CORES = (8, 64, 512)  # of TPU v3

Shapes = Any  # nested dictionaries of jax.ShapeDtypeStruct


class Forward(NamedTuple):
    """The cost of one evaluation of the network for one image.

    Attributes:
      parameters: their number.
      encode, denoise: operations of G, and of the rest, 2 for each multiply-add.
      bytes: read and written without fusion, an upper limit.
    """

    parameters: int
    encode: float
    denoise: float
    bytes: float


def parameter_shapes(config: ConfigDict) -> Shapes:
    """Returns the shapes of the parameters, by name."""
    return jax.eval_shape(networks.model(config).init, jax.random.key(0), *inputs(config))["params"]


def inputs(config: ConfigDict) -> tuple[jax.ShapeDtypeStruct, ...]:
    """Returns the shapes of one image, x_t and t."""
    size = side_of(config)
    shapes = (1, size, size, 3), (1, size, size, 1)
    images = (jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes)
    return *images, jax.ShapeDtypeStruct((1,), jnp.int32)


def forward(config: ConfigDict) -> Forward:
    """Returns the cost of one evaluation of the network."""
    model, params = networks.model(config), parameter_shapes(config)
    image, x_t, t = inputs(config)
    traced = jax.jit(partial(_whole, model)).trace(params, image, x_t, t)
    total = product_flops(traced.jaxpr.jaxpr)
    encode = jax.jit(partial(call, model, "encode")).trace(params, image)
    encoding = product_flops(encode.jaxpr.jaxpr)
    cost = traced.lower().cost_analysis() or {}
    return Forward(
        sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(params)),
        encoding,
        total - encoding,
        cost.get("bytes accessed", math.nan),
    )


def _whole(
    model: SegDiff, params: Any, image: jax.Array, x_t: jax.Array, t: jax.Array
) -> jax.Array:
    return call(model, "denoise", params, x_t, t, call(model, "encode", params, image))


def kept_bytes(config: ConfigDict, remat: str) -> int:
    """Returns the bytes of the residuals of one image, without the parameters.

    Args:
      config: of the network.
      remat: one of REMAT.
    """
    config = ours.changed(config, model__remat=remat)
    model, params = networks.model(config), parameter_shapes(config)

    def residuals(params: Any, image: jax.Array, x_t: jax.Array, t: jax.Array) -> Any:
        return jax.vjp(lambda p: _whole(model, p, image, x_t, t), params)[1]

    kept = jax.tree.leaves(jax.eval_shape(residuals, params, *inputs(config)))
    total = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in kept)
    weights = sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in jax.tree.leaves(params))
    return total - weights


@as_on_a_tpu()
def rows() -> list[Row]:
    """Returns the rows of this section."""
    table = []
    for name, get_config in CONFIGS.items():
        config = get_config()
        one = forward(config)
        total = one.encode + one.denoise
        table += [
            figure(f"{name}: parameters", "million", one.parameters / 1e6),
            figure(f"{name}: forward pass of one image", "GFLOP", total / 1e9),
            figure(f"{name}: of them G", "%", 100 * one.encode / total),
            figure(f"{name}: bytes, nothing fused", "GB", one.bytes / 1e9),
        ]
        for remat in REMAT:
            kept = kept_bytes(config, remat)
            table.append(figure(f"{name}: kept for one image, remat {remat}", "GB", kept / 1e9))
            for memory in MEMORIES:
                batch = batch_that_fits(memory * 1e9, one.parameters, kept)
                table.append(figure(f"{name}: batch in {memory} GB, remat {remat}", "", batch))
        for cores in CORES:
            sent = wire_bytes(one.parameters, cores // 2) / 1e6
            share = 100 * efficiency(total, one.parameters, cores)
            table.append(figure(f"{name}: sent by a chip, {cores} cores", "MB", sent))
            table.append(figure(f"{name}: efficiency on paper, {cores} cores", "%", share))
    return table
