"""Checks our networks, chains, losses and gradients against numbers of the authors' code."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from authors_network import Network, golden, nhwc, params_of
from flax import traverse_util

from segdiff_jax.diffusion import (
    Prediction,
    ddpm,
    linear_schedule,
    make_schedule,
    respaced,
    reverse,
)
from segdiff_jax.models.attention import SelfAttention
from segdiff_jax.models.layers import Conv, ResBlock, Upsample
from segdiff_jax.models.ops.dense_block import FORMS
from segdiff_jax.models.rrdb import RRDBNet
from segdiff_jax.models.segdiff import at_precision
from segdiff_jax.models.time_embedding import TimeEmbedding, sinusoid
from segdiff_jax.torch_weights.names import ATTENTION, RES_BLOCK, rrdb_modules, to_ours
from segdiff_jax.training.loss import DenoisingObjective

EPS_TOLERANCE = 5e-5
pytestmark = pytest.mark.accelerator


@pytest.fixture(autouse=True, scope="module")
def full_float32():
    """Accelerators round the factors of a product otherwise; a CPU does not."""
    with jax.default_matmul_precision("highest"):
        yield


@pytest.fixture(scope="module", params=["unet_a", "unet_b"])
def network(request):
    return Network(request.param)


def assert_near(ours, theirs, tolerance, name=""):
    assert ours.shape == theirs.shape
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=tolerance, err_msg=name)


def test_our_parameters_are_theirs_by_name_and_shape(network):
    shapes = jax.eval_shape(
        network.model.init, jax.random.key(0), network.image, network.x, network.t
    )
    ours = traverse_util.flatten_dict(shapes["params"], sep="/")
    theirs = traverse_util.flatten_dict(network.params, sep="/")
    assert {k: v.shape for k, v in ours.items()} == {k: v.shape for k, v in theirs.items()}


def test_eps_is_the_authors(network):
    eps = jax.jit(network.model.apply)(
        {"params": network.params}, network.image, network.x, network.t
    )
    assert_near(eps, network.eps, EPS_TOLERANCE)


def test_highest_is_the_authors_and_the_default_of_this_device_has_a_price(network):
    """Prints it: the largest difference of eps at each precision, relative to the largest eps."""
    inputs, worst = (network.image, network.x, network.t), {}
    for precision in ("default", "high", "highest"):
        apply = jax.jit(at_precision(precision, network.model.apply))
        with jax.default_matmul_precision(None):
            eps = apply({"params": network.params}, *inputs)
        worst[precision] = float(np.abs(eps - network.eps).max() / np.abs(network.eps).max())
    found = ", ".join(f"{name} {x:.1e}" for name, x in worst.items())
    print(f"{jax.devices()[0].device_kind}: {found} of the largest eps")
    assert worst["highest"] < EPS_TOLERANCE


def test_the_first_features_are_the_authors(network):
    features = network.model.apply({"params": network.params}, network.image, method="encode")
    assert_near(features[:1, ..., :4], nhwc(network.data["tap_G"]), EPS_TOLERANCE)


BLOCKS = golden("blocks")


def block(name):
    tensors = {
        key.split("/", 1)[1]: value for key, value in BLOCKS.items() if key.startswith(f"{name}/")
    }
    given = [nhwc(BLOCKS[f"{name}:in_x"])]
    if f"{name}:in_emb" in BLOCKS:
        given.append(BLOCKS[f"{name}:in_emb"])
    return tensors, given, nhwc(BLOCKS[f"{name}:out"])


BLOCK_MODULES = {
    "res_same": (ResBlock(64, 32), RES_BLOCK),
    "res_proj": (ResBlock(64, 32), RES_BLOCK),
    "res_tiny_input": (ResBlock(32, 32), RES_BLOCK),
    "attn_h1": (SelfAttention(1, 32), ATTENTION),
    "attn_h2": (SelfAttention(2, 32), ATTENTION),
    "attn_h4": (SelfAttention(4, 32), ATTENTION),
    "down": (Conv(32, stride=2), {"op": "conv"}),
    "up": (Upsample(), {"conv": "conv/conv"}),
    **{
        f"rrdbnet_small {form}": (RRDBNet(24, 2, 16, 8, form=form), rrdb_modules(2))
        for form in FORMS
    },
}


@pytest.mark.parametrize("name", BLOCK_MODULES)
def test_every_block_is_the_authors(name):
    module, names = BLOCK_MODULES[name]
    tensors, given, out = block(name.split()[0])
    ours = module.apply({"params": params_of(tensors, names)}, *given)
    # the smallest input is there for the norm's epsilon, which 1e-6 instead of 1e-5 moves by 2e-4
    assert_near(ours, out, 2e-5 * max(1.0, np.abs(out).max()))


@pytest.mark.parametrize("channels", [32, 128])
def test_the_waves_of_time_are_the_authors(channels):
    theirs = BLOCKS[f"timestep:out_{channels}"]
    # t up to 999 multiplies the rounding of a float32 frequency, 6e-8
    assert_near(sinusoid(jnp.asarray(BLOCKS["timestep:in_t"]), channels), theirs, 1e-4)


def test_the_time_embedding_is_the_authors(network):
    time = TimeEmbedding(network.config["model_channels"])
    ours = time.apply({"params": network.params["unet"]["time"]}, network.t)
    assert_near(ours, network.data["tap_time_emb"], 1e-5)


def chain(network, betas, x_T, z, variance, clip=False):
    """Runs our reverse process with the recorded noise."""
    schedule = make_schedule(betas)
    prediction = Prediction("eps", clip)
    steps = ddpm(schedule, respaced(schedule.T, schedule.T), variance)
    noise = jnp.asarray(nhwc(z))
    features = network.model.apply({"params": network.params}, network.image, method="encode")

    def denoise(x_t, t):
        out = network.model.apply(
            {"params": network.params}, x_t, t[None], features, method="denoise"
        )
        return prediction.read(schedule, x_t, t, out)

    return jax.jit(lambda x: reverse(steps, denoise, x, lambda i: noise[i]))(nhwc(x_T))


CHAINS = {
    "large": ("beta", False, 1e-5),
    "small": ("posterior", False, 1e-5),
    "large_clip": ("beta", True, 5e-5),
}


@pytest.mark.parametrize("kind", CHAINS)
def test_ten_reverse_steps_with_the_recorded_noise_end_where_the_authors_do(network, kind):
    variance, clip, tolerance = CHAINS[kind]
    d = network.data
    ours = chain(network, d["chain_betas"], d["chain_x_T"], d["chain_z"], variance, clip)
    theirs = nhwc(d[f"chain_{kind}_x0"])
    assert_near(ours, theirs, tolerance * np.abs(theirs).max())


def test_the_linear_schedule_with_25_steps_ends_where_the_authors_do():
    network = Network("unet_a")
    d = network.data
    assert linear_schedule(25).alpha_bar[1:] == pytest.approx(
        np.cumprod(1 - d["chain25_betas"]), rel=1e-12
    )
    ours = chain(network, d["chain25_betas"], d["chain_x_T"], d["chain25_z"], "beta")
    theirs = nhwc(d["chain25_x0"])
    assert_near(ours, theirs, 1e-5 * np.abs(theirs).max())


def objective(network):
    return DenoisingObjective(
        model=network.model,
        schedule=linear_schedule(100),
        prediction=Prediction("eps"),
        augment=lambda key, image, mask: (image, mask),
        mean=(0.0,) * 3,
        std=(1.0,) * 3,
    )


def recorded_loss(network, params):
    """The mean over images of the sum over pixels, at the recorded t and noise."""
    d, learn = network.data, objective(network)
    x0, noise = nhwc(d["train_x0"]), nhwc(d["train_noise"])
    t = jnp.asarray(d["train_t"]) + 1  # theirs count from 0

    features = network.model.apply({"params": params}, network.image, method="encode")
    return learn.denoising_losses(params, x0, features, t, noise) * x0[0].size


def test_the_training_loss_is_the_authors(network):
    ours = jax.jit(lambda params: recorded_loss(network, params))(network.params)
    # up to 1.2e-6 apart, by how a processor's libraries order their sums
    np.testing.assert_allclose(ours, network.data["train_loss"], rtol=3e-6)


def test_the_gradients_are_the_authors(network):
    ours = jax.jit(jax.grad(lambda params: recorded_loss(network, params).mean()))(network.params)
    ours = traverse_util.flatten_dict(ours, sep="/")
    d = network.data
    names, norms = d["train_grad_names"], d["train_grad_l2"]
    assert len(names) == len(ours)
    for name, norm in zip(names, norms, strict=True):
        (path,) = to_ours({name: network.tensors[name]}, network.modules)
        if norm > 1e-3:  # below, the true gradient is zero and the recorded one is rounding
            assert np.linalg.norm(ours[path]) == pytest.approx(norm, rel=1e-4), name
    for key in (key for key in d if key.startswith("grad:")):
        name = key.removeprefix("grad:").replace("/", ".")
        ((path, theirs),) = to_ours({name: d[key]}, network.modules).items()
        assert_near(ours[path], theirs, 1e-4 * np.abs(theirs).max(), name)
