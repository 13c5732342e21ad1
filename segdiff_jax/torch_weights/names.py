"""Maps the authors' parameter names and layouts to ours and back, one to one.

Ours is a path, "unet/down0_res0/conv1/conv/kernel", theirs a name,
"input_blocks.1.0.in_layers.2.weight". Kernels are [H, W, in, out] here and [out, in, H, W] there;
linear layers are [in, out] and [out, in], with a further axis of length 1 in attention. The order
of query, key, value and heads is the same.
"""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

RES_BLOCK = {  # their module -> ours
    "in_layers.0": "norm1",
    "in_layers.2": "conv1/conv",
    "emb_layers.1": "time/dense",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2/conv",
    "skip_connection": "skip/conv",
}
ATTENTION = {"norm": "norm", "qkv": "qkv/dense", "proj_out": "out/dense"}
TIME = {f"time_embed.{2 * i}": f"unet/time/linear{i + 1}/dense" for i in range(2)}
HEAD = {"out.0": "unet/out_norm", "out.2": "unet/out/conv"}


class Shape(NamedTuple):
    """Holds the settings on which the names depend; all others only change sizes."""

    levels: int  # of the U-Net
    blocks: int  # residual blocks of each level of the encoder path
    attention_factors: Sequence[int]  # the levels with attention, as 2^level
    rrdb_blocks: int  # of the image encoder


def modules(shape: Shape) -> dict[str, str]:
    """Returns {their module: our module} of a whole network, in the order of their state dict.

    Every residual block has a skip_connection here, though only those that change the width do.
    """
    return (
        TIME
        | rrdb_modules(shape.rrdb_blocks, "rrdb.", "encoder/")
        | _down(shape)
        | _nested("middle_block.0", "unet/middle_res0", RES_BLOCK)
        | _nested("middle_block.1", "unet/middle_attend", ATTENTION)
        | _nested("middle_block.2", "unet/middle_res1", RES_BLOCK)
        | _up(shape)
        | HEAD
    )


def rrdb_modules(blocks: int, theirs: str = "", ours: str = "") -> dict[str, str]:
    """Returns {their module: our module} of the image encoder, with prefixes."""
    names = {f"{theirs}conv_first": f"{ours}first/conv"}
    for i, j, k in itertools.product(range(blocks), range(1, 4), range(1, 6)):
        dense = f"{ours}rrdb{i}/dense{j}/conv{k}/conv"
        names[f"{theirs}RRDB_trunk.{i}.RDB{j}.conv{k}"] = dense
    last = {"trunk_conv": "trunk", "HRconv": "high", "conv_last": "last"}
    return names | {f"{theirs}{a}": f"{ours}{b}/conv" for a, b in last.items()}


def _nested(theirs: str, ours: str, inside: Mapping[str, str]) -> dict[str, str]:
    return {f"{theirs}.{a}": f"{ours}/{b}" for a, b in inside.items()}


def _block(shape: Shape, theirs: str, path: str, level: int, i: int) -> dict[str, str]:
    """Returns the names of a residual block and of the attention after it, if the level has it."""
    names = _nested(f"{theirs}.0", f"unet/{path}{level}_res{i}", RES_BLOCK)
    if 2**level in shape.attention_factors:
        names |= _nested(f"{theirs}.1", f"unet/{path}{level}_attend{i}", ATTENTION)
    return names


def _down(shape: Shape) -> dict[str, str]:
    names, n = {"input_blocks.0.0": "conditioning/F/conv"}, itertools.count(1)
    for level in range(shape.levels):
        for i in range(shape.blocks):
            names |= _block(shape, f"input_blocks.{next(n)}", "down", level, i)
        if level < shape.levels - 1:
            names[f"input_blocks.{next(n)}.0.op"] = f"unet/down{level}_shrink/conv"
    return names


def _up(shape: Shape) -> dict[str, str]:
    names: dict[str, str] = {}
    levels = itertools.product(reversed(range(shape.levels)), range(shape.blocks + 1))
    for n, (level, i) in enumerate(levels):
        names |= _block(shape, f"output_blocks.{n}", "up", level, i)
        if i == shape.blocks and level > 0:
            grow = 1 + (2**level in shape.attention_factors)
            names[f"output_blocks.{n}.{grow}.conv"] = f"unet/up{level}_grow/conv/conv"
    return names


def to_ours(theirs: Mapping[str, np.ndarray], modules: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Returns {our path: array in our layout}, views of theirs; KeyError: a name of no module."""
    found = {}
    for name, array in theirs.items():
        module, _, leaf = name.rpartition(".")
        path = modules[module]
        if leaf == "bias":
            found[f"{path}/bias"] = array
        elif _is_norm(path):
            found[f"{path}/scale"] = array
        elif path.endswith("dense"):
            found[f"{path}/kernel"] = array.reshape(array.shape[:2]).T
        else:
            found[f"{path}/kernel"] = array.transpose(2, 3, 1, 0)  # OIHW -> HWIO
    return found


def to_theirs(ours: Mapping[str, np.ndarray], modules: Mapping[str, str]) -> dict[str, np.ndarray]:
    """Returns {their name: array in their layout}, views of ours, in the order of `modules`.

    Parameters that the authors' network does not have keep their paths as names and come last.
    """
    left, found = dict(ours), {}
    for module, path in modules.items():
        array = left.pop(f"{path}/{'scale' if _is_norm(path) else 'kernel'}", None)
        if array is None:
            continue
        if path.endswith("dense"):
            array = array.T
            if module.endswith(("qkv", "proj_out")):  # theirs is a convolution of one axis
                array = array[..., None]
        elif not _is_norm(path):
            array = array.transpose(3, 2, 0, 1)  # HWIO -> OIHW
        found[f"{module}.weight"] = array
        found[f"{module}.bias"] = left.pop(f"{path}/bias")
    return found | left


def _is_norm(path: str) -> bool:
    return "norm" in path.rpartition("/")[2]
