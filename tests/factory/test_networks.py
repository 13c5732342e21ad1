"""Every setting of `model` reaches the module that it is for."""

import jax.numpy as jnp
import pytest
from tiny_config import tiny

from segdiff_jax.factory import networks


def network(**settings):
    config = tiny()
    config.model.update(settings)
    return networks.model(config)


@pytest.mark.parametrize(
    ("setting", "value", "field"),
    [
        ("channels", 24, "channels"),
        ("multipliers", (1, 3, 2), "multipliers"),
        ("blocks_per_level", 3, "blocks"),
        ("attention_factors", (1, 2), "attention_factors"),
        ("heads", 4, "heads"),
        ("norm_groups", 4, "groups"),
        ("dropout", 0.25, "dropout"),
        ("time_embedding", "table", "time_embedding"),
    ],
)
def test_a_setting_reaches_the_unet(setting, value, field):
    assert getattr(network().unet, field) != value
    assert getattr(network(**{setting: value}).unet, field) == value


@pytest.mark.parametrize(
    ("setting", "value", "field"),
    [
        ("channels", 24, "out"),
        ("rrdb_blocks", 3, "blocks"),
        ("rrdb_features", 12, "features"),
        ("rrdb_growth", 6, "growth"),
        ("rrdb_form", "spread", "form"),
    ],
)
def test_a_setting_reaches_the_encoder(setting, value, field):
    assert getattr(network().encoder, field) != value
    assert getattr(network(**{setting: value}).encoder, field) == value


@pytest.mark.parametrize(
    ("remat", "unet", "encoder"),
    [("none", False, False), ("unet", True, False), ("rrdb", False, True), ("all", True, True)],
)
def test_activations_are_computed_again_where_the_config_says(remat, unet, encoder):
    made = network(remat=remat)
    assert (made.unet.remat, made.encoder.remat) == (unet, encoder)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_all_parts_compute_in_the_dtype_of_the_config(dtype):
    made = network(dtype=dtype)
    for part in (made.unet, made.encoder, made.conditioning):
        assert part.dtype == getattr(jnp, dtype)


@pytest.mark.parametrize("precision", ["default", "high", "highest"])
def test_products_have_the_precision_of_the_config(precision):
    assert network(precision=precision).precision == precision


def test_the_time_is_embedded_up_to_the_last_and_masks_are_read_at_the_scales_of_the_config():
    config = tiny()
    config.diffusion.T, config.model.mask_scales = 321, (1, 5)
    made = networks.model(config)
    assert made.unet.T == 321 and made.conditioning.scales == (1, 5)
    assert made.conditioning.channels == config.model.channels


@pytest.mark.parametrize("kind", ["twin", "unet"])
def test_a_network_of_one_pass_embeds_no_time(kind):
    assert network(kind=kind).unet.time_embedding == "none"


@pytest.mark.parametrize(
    ("objects", "classes", "count"),
    [("none", "", 1), ("interior", "", 2), ("none", "a=1,b=2", 3), ("interior", "a=1,b=2", 4)],
)
def test_the_network_has_a_channel_of_each_mask_it_learns(objects, classes, count):
    config = tiny()
    config.data.name, config.folder.classes, config.model.objects = "folder", classes, objects
    assert networks.model(config).unet.outputs == count == networks.channels(config).count
