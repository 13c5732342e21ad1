"""Loads the golden vectors: recorded networks of the authors with their parameter names."""

import importlib
import json

import numpy as np
from flax import traverse_util
from tiny_config import ROOT

from segdiff_jax.torch_weights import names

GOLDEN = ROOT / "tests" / "golden"


def golden(name):
    """Returns the arrays of a golden file by name."""
    with np.load(GOLDEN / f"{name}.npz") as z:
        return {key: z[key] for key in z.files}


def params_of(tensors, modules):
    """Returns nested parameters of our model from {their name: tensor}."""
    ours = names.to_ours(tensors, modules)
    assert len(ours) == len(tensors)
    return traverse_util.unflatten_dict(ours, sep="/")


def nhwc(array):
    """Moves the channels of [..., C, H, W] to the end."""
    return np.moveaxis(array, -3, -1)


def model_of(c, package="segdiff_jax.models"):
    """Returns our network of a recorded config; `package` may name a copy of our models."""

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
    """Holds a golden network: our model, its parameters, and the recorded inputs and outputs."""

    def __init__(self, name):
        self.data = golden(name)
        c = json.loads(str(self.data["config_json"]))
        self.config = c
        self.modules = names.modules(
            names.Shape(
                len(c["channel_mult"]),
                c["num_res_blocks"],
                c["attention_resolutions"],
                c["rrdb_blocks"],
            )
        )
        self.tensors = {k: v for k, v in self.data.items() if "." in k}
        self.params = params_of(self.tensors, self.modules)
        self.model = model_of(c)
        self.image = nhwc(self.data["conditioned_image"])
        self.x = nhwc(self.data["x"])
        self.t = self.data["timesteps"] + 1  # theirs count from 0, ours from 1
        self.eps = nhwc(self.data["eps"])
