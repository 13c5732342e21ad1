"""The variants of the ablation, the deterministic twin and the plain U-Net: what holds for all."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import traverse_util
from jaxprs import convolutions, loops
from model_variants import SIDE, VARIANTS, config_for, count, parameters
from tiny_config import config_of, mesh_of, tiny
from training_steps import largest_difference, run_steps

from segdiff_jax.data.example import Batch
from segdiff_jax.factory import networks, samplers, training
from segdiff_jax.models import hardnet
from segdiff_jax.models.conditioning import Inject
from segdiff_jax.models.ops.group_norm import group_mean
from segdiff_jax.models.segdiff import call
from segdiff_jax.models.unet import UNet
from segdiff_jax.runtime import distributed
from segdiff_jax.training.step import init_state

KEY = jax.random.key(4)
SMALL_HARDNET = {
    **{"first": (4, 4, 6, 6), "growths": (2, 3, 4), "layers": (4, 2, 8), "widths": (6, 8, 10)}
}


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """Networks are compared with themselves; how fast the programs are does not matter."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="module", autouse=True)
def small_hardnet():
    """FC-HarDNet-70 takes minutes to compile; this one has fewer and narrower blocks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(
            networks.ENCODERS,
            "hardnet",
            lambda c, dtype: hardnet.HarDNet(c.channels, dtype=dtype, **SMALL_HARDNET),
        )
        yield


class Variant:
    """A variant with parameters none of which is zero."""

    def __init__(self, name):
        self.name, self.config = name, config_for(name)
        self.objective, side = training.objective(self.config), SIDE.get(name, 16)
        self.model, self.size = self.objective.model, (side, side)
        make = partial(init_state, self.objective, optax.sgd(0.01), self.size)
        state = jax.jit(make)(jax.random.key(0))
        keys = iter(jax.random.split(jax.random.key(1), 2000))
        params = jax.tree.map(
            lambda x: np.asarray(x + 0.05 * jax.random.normal(next(keys), x.shape)), state.params
        )
        self.state = jax.tree.map(np.asarray, state.replace(params=params, ema_params=params))
        self.params = params

    def segmenter(self, devices, **changes):
        mesh = mesh_of(devices)
        made = samplers.segmenter(self.config, distributed.replicate(self.params, mesh), mesh)
        return replace(made, **changes)


QUICK = ("concat",)  # compiling the others takes minutes; test_direct trains the twin


@pytest.fixture(
    scope="module",
    params=[v if v in QUICK else pytest.param(v, marks=pytest.mark.slow) for v in VARIANTS],
)
def variant(request):
    return Variant(request.param)


def test_eight_devices_take_the_step_of_one_and_no_parameter_stands_still(variant):
    images = np.random.default_rng(0).integers(0, 256, (8, *variant.size, 3), np.uint8)
    given = {
        "optimizer": optax.sgd(0.01),
        "config": variant.config,
        "batch": Batch(images, (images[..., 0] > 127).astype(np.uint8)),
    }
    eight, seen = run_steps(variant.state, 1, 8, **given)
    alone, other = run_steps(variant.state, 1, 1, **given)
    for metric, value in seen[0].items():
        assert value == pytest.approx(other[0][metric], rel=2e-5)
    moved = largest_difference(alone.params, variant.state.params)
    assert largest_difference(alone.params, eight.params) == pytest.approx(0, abs=1e-4 * moved)
    before, after = (
        traverse_util.flatten_dict(tree, sep="/") for tree in (variant.state.params, alone.params)
    )
    assert [path for path in before if not np.any(before[path] != after[path])] == []


def test_a_tile_gets_its_masks_and_the_same_on_any_number_of_devices(variant):
    images = np.random.default_rng(0).integers(0, 256, (3, *variant.size, 3), np.uint8)
    answers = list(variant.segmenter(1)(images, KEY))
    generations = variant.config.sampling.generations
    assert [answer.shape for answer in answers] == [(generations, *variant.size)] * 3
    assert len({answer.tobytes() for answer in answers}) == 3  # the image counts
    for one, other in zip(answers, variant.segmenter(8)(images, KEY), strict=True):
        np.testing.assert_array_equal(one, other)


def test_the_image_is_encoded_once_and_the_reverse_loop_sees_features_alone(variant):
    """Also what brings G(I) to a lower level stands outside the loop."""
    sampler, params, (H, W) = variant.segmenter(1).sampler, variant.params, variant.size
    model, image = variant.model, np.zeros((1, H, W, 3), np.float32)
    features = jax.eval_shape(partial(call, model, "encode", params), image)
    assert features.shape[1:3] == (H // model.factor, W // model.factor)

    def answer(tile, key):
        return sampler.sample(params, sampler.encode(params, tile)[0], key, jnp.array([0, 0]))

    def answer_of(features, key):
        return sampler.sample(params, features[0], key, jnp.array([0, 0]))

    whole = jax.make_jaxpr(answer)(image, KEY).jaxpr
    after = jax.make_jaxpr(answer_of)(features, KEY).jaxpr
    encoder = jax.make_jaxpr(partial(call, model, "encode", params))(image).jaxpr
    has_encoder = variant.name not in ("stack", "unet")
    assert (convolutions(encoder) > 0) == has_encoder
    assert convolutions(whole) == convolutions(after) + convolutions(encoder)
    bodies = [body for body in loops(after) if convolutions(body)]
    if variant.config.model.kind == "diffusion":
        (body,) = bodies
        assert convolutions(body) == convolutions(after)
    else:
        assert bodies == []


def test_a_network_in_one_pass_ignores_noise_and_time_and_the_others_do_not(variant):
    image = np.random.default_rng(1).normal(size=(1, *variant.size, 3)).astype(np.float32)
    rng, t = np.random.default_rng(2), np.array([3])
    network = jax.jit(partial(call, variant.model, "__call__", variant.params))
    x_t = rng.normal(size=(1, *variant.size, 1)).astype(np.float32)
    out = network(image, x_t, t)
    changes = [np.abs(out - network(image, *other)).max() for other in ((x_t + 1, t), (x_t, t + 9))]
    if variant.config.model.kind == "diffusion":
        assert min(changes) > 1e-4
    else:
        assert max(changes) == 0 and "time" not in variant.params["unet"]


def test_an_addition_is_what_a_bias_of_that_downsampling_would_be():
    """So it joins before the next level's blocks, and the skip at that place carries the sum."""
    net = UNet(8, (1, 2, 2, 1), 1, (), heads=2, groups=2)
    rng = np.random.default_rng(0)
    stem, t = rng.normal(size=(2, 16, 16, 8)).astype(np.float32), np.array([3, 50])
    shapes = jax.eval_shape(net.init, KEY, stem, t)["params"]
    params = jax.tree.map(lambda x: 0.1 * rng.normal(size=x.shape).astype(np.float32), shapes)
    run = jax.jit(
        lambda params, additions: net.apply({"params": params}, stem, t, False, additions)
    )
    plain = run(params, {})
    for k, width in ((1, 8), (3, 16)):
        value = rng.normal(size=width).astype(np.float32)
        side = 16 // 2**k
        added = run(params, {k: np.broadcast_to(value, (1, side, side, width))})
        biased = traverse_util.flatten_dict(params, sep="/")
        biased[f"down{k - 1}_shrink/conv/bias"] = biased[f"down{k - 1}_shrink/conv/bias"] + value
        wanted = run(traverse_util.unflatten_dict(biased, sep="/"), {})
        assert np.abs(wanted - plain).max() > 1e-3
        np.testing.assert_allclose(added, wanted, atol=1e-5)


@pytest.mark.parametrize(("name", "after"), [("inject1", 1), ("inject3", 3), ("inject5", 5)])
def test_the_image_joins_where_the_paper_says_with_the_width_of_that_place(name, after):
    config = config_of("monuseg")
    config.model.conditioning = name
    model = networks.model(config)
    assert isinstance(model.conditioning, Inject)
    features = jax.eval_shape(
        lambda x: model.init_with_output(KEY, x, method="encode")[0], jnp.zeros((1, 64, 64, 3))
    )
    width = 128 * config.model.multipliers[after - 1]
    assert features.shape == (1, 64 // 2**after, 64 // 2**after, width)
    stem, additions = jax.eval_shape(
        lambda x, f: model.conditioning.init_with_output(KEY, x, f)[0],
        jnp.zeros((1, 64, 64, 1)),
        features,
    )
    assert stem.shape == (1, 64, 64, 128) and {k: a.shape for k, a in additions.items()} == {
        after: features.shape
    }


RRDB, HARDNET, F = 8_782_592, 4_173_750, 9 * 128 + 128
SUM = 164_154_753
CONV = 9 * 128 * 128 + 128  # from 128 to 128 channels
# the first block takes 128 channels more and therefore needs a projection; the last one has it
WIDER = 2 * (9 * 128 * 128 + 2 * 128) + (256 * 128 + 128) + 128 * 128
SHRINK5 = 3 * CONV + (9 * 128 * 256 + 256) + (9 * 256 * 256 + 256)
# two layers of the time's network, and 512 -> width in each block: 51 of them are 14,464 wide
TIME = (128 * 512 + 512) + (512 * 512 + 512) + 513 * 14_464
COUNTS = {  # at the settings of the MoNuSeg benchmark -> all, of these the encoder
    "sum": ({}, SUM, RRDB),
    "concat": ({"conditioning": "concat"}, SUM + WIDER, RRDB),
    "hardnet": ({"encoder": "hardnet"}, SUM - RRDB + HARDNET, HARDNET),
    "stack": ({"conditioning": "stack"}, SUM - RRDB + 9 * 3 * 128, 0),
    "inject1": ({"conditioning": "inject1"}, SUM + CONV, RRDB + CONV),
    "inject3": ({"conditioning": "inject3"}, SUM + 3 * CONV, RRDB + 3 * CONV),
    "inject5": ({"conditioning": "inject5"}, SUM + SHRINK5, RRDB + SHRINK5),
    "twin": ({"kind": "twin"}, SUM - F - TIME, RRDB),
    "unet": ({"kind": "unet"}, SUM - RRDB - TIME + 9 * 2 * 128, 0),
}


@pytest.mark.parametrize("name", COUNTS)
def test_the_number_of_parameters_of_every_variant_is_known(name, monkeypatch):
    monkeypatch.setitem(
        networks.ENCODERS, "hardnet", lambda c, dtype: hardnet.HarDNet(c.channels, dtype=dtype)
    )
    changes, total, encoder = COUNTS[name]
    config = config_of("monuseg")
    config.model.update(changes)
    shapes = parameters(config)[1]["params"]
    assert count(shapes.get("encoder", {})) == encoder
    assert count(shapes) == total


def test_hardnet_has_the_published_number_of_parameters_under_its_own_head():
    net = hardnet.HarDNet(128)
    shapes = jax.eval_shape(net.init, jax.random.key(0), jnp.zeros((1, 64, 64, 3)))["params"]
    body = count(shapes) - count(shapes["last"])
    classes = 48 * 19 + 19  # a 1 x 1 convolution of the last block's 48 channels
    assert body == 4_118_326 and body + classes == 4_119_257
    assert round((body + classes) / 1e6, 1) == 4.1
    assert count(shapes) == 4_173_750


def test_a_harmonic_layer_reads_the_layers_of_the_paper_and_grows_with_their_number():
    assert [hardnet.links(i) for i in range(1, 9)] == [
        *([0], [1, 0], [2], [3, 2, 0], [4], [5, 4], [6], [7, 6, 4, 0]),
    ]
    assert [hardnet.layer_width(i, 10) for i in range(1, 9)] == [10, 18, 10, 28, 10, 18, 10, 50]


def test_halving_and_enlarging_keep_means_and_ramps():
    x = np.random.default_rng(0).normal(size=(2, 6, 4, 3)).astype(np.float32)
    np.testing.assert_allclose(
        hardnet.halve(x), x.reshape(2, 3, 2, 2, 2, 3).mean((2, 4)), atol=1e-6
    )
    odd = hardnet.halve(x[:, :5, :3])
    assert odd.shape == (2, 3, 2, 3)
    np.testing.assert_allclose(odd[:, 2, 1], x[:, 4, 2], atol=1e-6)
    ramp = np.broadcast_to(np.arange(8.0)[None, :, None, None], (1, 8, 4, 1))
    large = hardnet.resize(jnp.asarray(ramp), (0, 32, 16, 0))
    centres = (np.arange(32) + 0.5) / 4 - 0.5
    np.testing.assert_allclose(large[0, :, 5, 0], np.clip(centres, 0, 7), atol=1e-5)


def test_sizes_fit_the_encoder_as_well_as_the_levels():
    config = tiny()
    assert networks.multiple(config) == 2
    config.model.encoder = "hardnet"
    assert networks.multiple(config) == 4
    config.model.multipliers = (1, 1, 1, 2)
    assert networks.multiple(config) == 8


@pytest.mark.parametrize("shape", [(4, 4, 6), (16, 16, 3), (1, 1, 10), (3, 5, 63)])
def test_a_mean_over_any_number_of_channels_is_that_of_its_definition(shape):
    x = np.random.default_rng(0).normal(size=(3, *shape)).astype(np.float32)
    mean = jax.jit(partial(group_mean, groups=1))(x)
    truth = np.broadcast_to(x.mean((1, 2, 3), keepdims=True), mean.shape)
    np.testing.assert_allclose(mean, truth, atol=1e-6)
