"""The authors' parameter names and layouts, and ours: golden vectors carry theirs."""

import importlib
import json
from pathlib import Path

import numpy as np
from flax import traverse_util

GOLDEN = Path(__file__).parent / "golden"

RES_BLOCK = {
    "in_layers.0": "norm1",
    "in_layers.2": "conv1/conv",
    "emb_layers.1": "time/dense",
    "out_layers.0": "norm2",
    "out_layers.3": "conv2/conv",
    "skip_connection": "skip/conv",
}
ATTENTION = {"norm": "norm", "qkv": "qkv/dense", "proj_out": "out/dense"}


def golden(name):
    with np.load(GOLDEN / f"{name}.npz") as z:
        return {key: z[key] for key in z.files}


def rrdb_names(blocks, theirs="", ours=""):
    """Returns {their module: our module} of the image encoder."""
    names = {f"{theirs}conv_first": f"{ours}first/conv", f"{theirs}trunk_conv": f"{ours}trunk/conv"}
    names |= {f"{theirs}HRconv": f"{ours}high/conv", f"{theirs}conv_last": f"{ours}last/conv"}
    for i in range(blocks):
        for j in range(1, 4):
            for k in range(1, 6):
                theirs_k = f"{theirs}RRDB_trunk.{i}.RDB{j}.conv{k}"
                names[theirs_k] = f"{ours}rrdb{i}/dense{j}/conv{k}/conv"
    return names


def nested(theirs, ours, inside):
    return {f"{theirs}.{a}": f"{ours}/{b}" for a, b in inside.items()}


def unet_names(multipliers, blocks, attention_factors):
    """Returns {their module: our module} of F, E, D, the time embedding and the head."""
    names = {"input_blocks.0.0": "conditioning/F/conv"}
    names |= {"time_embed.0": "unet/time/linear1/dense", "time_embed.2": "unet/time/linear2/dense"}
    names |= {"out.0": "unet/out_norm", "out.2": "unet/out/conv"}
    n, top = 1, len(multipliers) - 1
    for level in range(top + 1):
        for i in range(blocks):
            names |= nested(f"input_blocks.{n}.0", f"unet/down{level}_res{i}", RES_BLOCK)
            if 2**level in attention_factors:
                names |= nested(f"input_blocks.{n}.1", f"unet/down{level}_attend{i}", ATTENTION)
            n += 1
        if level < top:
            names[f"input_blocks.{n}.0.op"] = f"unet/down{level}_shrink/conv"
            n += 1
    for i, (part, inside) in enumerate(
        [("res0", RES_BLOCK), ("attend", ATTENTION), ("res1", RES_BLOCK)]
    ):
        names |= nested(f"middle_block.{i}", f"unet/middle_{part}", inside)
    n = 0
    for level in range(top, -1, -1):
        for i in range(blocks + 1):
            names |= nested(f"output_blocks.{n}.0", f"unet/up{level}_res{i}", RES_BLOCK)
            attends = 2**level in attention_factors
            if attends:
                names |= nested(f"output_blocks.{n}.1", f"unet/up{level}_attend{i}", ATTENTION)
            if i == blocks and level > 0:
                names[f"output_blocks.{n}.{1 + attends}.conv"] = f"unet/up{level}_grow/conv/conv"
            n += 1
    return names


def to_ours(name, array, modules):
    """Returns (our path, array in our layout) of one of their tensors."""
    module, leaf = name.rsplit(".", 1)
    path = modules[module]
    if leaf == "bias":
        return f"{path}/bias", array
    if "norm" in path.rsplit("/", 1)[-1]:
        return f"{path}/scale", array
    if path.endswith("dense"):
        return f"{path}/kernel", array.reshape(array.shape[:2]).T
    return f"{path}/kernel", array.transpose(2, 3, 1, 0)  # OIHW -> HWIO


def params_of(tensors, modules):
    """Returns our nested parameters of {their name: tensor}."""
    flat = dict(to_ours(name, array, modules) for name, array in tensors.items())
    assert len(flat) == len(tensors)
    return traverse_util.unflatten_dict(flat, sep="/")


def nhwc(array):
    return np.moveaxis(array, -3, -1)


def model_of(c, package="segdiff_jax.models"):
    """Returns our network of a recorded config; the package may be a copy of ours."""

    def part(module):
        return importlib.import_module(f"{package}.{module}")

    return part("segdiff").SegDiff(
        encoder=part("rrdb").RRDBNet(c["model_channels"], c["rrdb_blocks"]),
        conditioning=part("conditioning").Sum(c["model_channels"]),
        unet=part("unet").UNet(
            c["model_channels"],
            tuple(c["channel_mult"]),
            c["num_res_blocks"],
            tuple(c["attention_resolutions"]),
            c["num_heads"],
            groups=32,
        ),
    )


class Network:
    """One golden network: our model, its parameters, and everything that was recorded."""

    def __init__(self, name):
        self.data = golden(name)
        c = json.loads(str(self.data["config_json"]))
        self.config = c
        self.modules = rrdb_names(c["rrdb_blocks"], "rrdb.", "encoder/") | unet_names(
            c["channel_mult"], c["num_res_blocks"], c["attention_resolutions"]
        )
        self.tensors = {k: v for k, v in self.data.items() if "." in k}
        self.params = params_of(self.tensors, self.modules)
        self.model = model_of(c)
        self.image = nhwc(self.data["conditioned_image"])
        self.x = nhwc(self.data["x"])
        self.t = self.data["timesteps"] + 1  # theirs count from 0, ours from 1
        self.eps = nhwc(self.data["eps"])
