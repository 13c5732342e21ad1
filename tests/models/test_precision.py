"""model.precision reaches every product of float32: of training, its gradients, and prediction."""

import re

import jax
import numpy as np
import pytest
from tiny_config import mesh_of, tiny

from segdiff_jax.data.example import Batch
from segdiff_jax.factory import samplers, training
from segdiff_jax.inference import segmentation
from segdiff_jax.training.flat_state import FlatLayout

SIZE = (16, 16)
PRODUCT = re.compile(r"stablehlo\.(?:dot_general|convolution).*")


def config_of(precision):
    config = tiny()
    config.model.precision = precision
    config.model.rrdb_form = "spread"  # of accelerators: its gradients are written by hand
    return config


def uint8(*shape):
    return jax.ShapeDtypeStruct(shape, np.uint8)


def training_program(config):
    """Returns the lowered step, as text; nothing is compiled."""
    shapes = jax.eval_shape(training.init_fn(config, SIZE))
    layout = FlatLayout(shapes.params)
    state = jax.eval_shape(layout.flatten_state, shapes)
    rows = Batch(uint8(8, *SIZE, 3), uint8(8, *SIZE))
    step = training.build_step(config, mesh_of(1), layout)
    return step.lower(state, rows, jax.random.key(0)).as_text()


def sampling_program(config):
    sampler, plan = samplers.chain_sampler(config), segmentation.plan_call(1, 2, 1, 2)
    params = jax.eval_shape(training.init_fn(config, SIZE)).params
    counts, index = np.ones((1, 2), np.int32), np.zeros(2, np.int32)
    operands = counts, uint8(1, *SIZE, 3), index, np.zeros((2, 2), np.uint32), np.zeros((2, 2), int)
    program = segmentation._program(sampler, mesh_of(1), plan).call
    return program.lower(params, *operands).as_text()


@pytest.mark.parametrize(
    "program, precision",
    [
        (training_program, "highest"),
        (sampling_program, "high"),
        (sampling_program, "default"),
    ],
)
def test_every_product_of_a_program_has_the_precision_of_the_config(program, precision):
    products = PRODUCT.findall(program(config_of(precision)))
    assert len(products) > 30
    for line in products:
        assert re.findall(r"\b(DEFAULT|HIGH|HIGHEST)\b", line) == [precision.upper()] * 2, line
