"""Checks the network alone: sizes, precision, initialisation, and the effect of t and image."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from flax import traverse_util
from model_variants import count, parameters, perturbed
from tiny_config import config_of, tiny

from segdiff_jax.factory import networks
from segdiff_jax.models import layers
from segdiff_jax.models.ops.upsample import upsample_by_phases, upsample_reference

AUTHORS = {  # multipliers, RRDB blocks, attention factors -> all, G
    "vaihingen": ((1, 1, 1, 2, 2, 4, 4), 6, (16, 32), 159_838_209, 4_466_048),
    "monuseg": ((1, 1, 1, 2, 2, 4, 4), 12, (16, 32), 164_154_753, 8_782_592),
    "cityscapes": ((1, 1, 2, 2, 4, 4), 15, (8, 16), 162_766_017, 10_940_864),
}


@pytest.mark.parametrize("name", AUTHORS)
def test_the_number_of_parameters_is_the_authors_to_the_unit(name):
    multipliers, blocks, factors, total, encoder = AUTHORS[name]
    config = config_of("monuseg")
    config.model.multipliers, config.model.rrdb_blocks = multipliers, blocks
    config.model.attention_factors = factors
    _, shapes = parameters(config)
    assert count(shapes["params"]) == total
    assert count(shapes["params"]["encoder"]) == encoder


def test_the_monuseg_config_is_the_authors_network():
    _, shapes = parameters(config_of("monuseg"))
    assert count(shapes["params"]) == 164_154_753


@pytest.fixture(scope="module")
def network():
    config = tiny()
    model = networks.model(config)
    key = jax.random.key(0)
    image = jax.random.normal(key, (2, 16, 16, 3))
    x_t = jax.random.normal(key, (2, 16, 16, 1))
    t = jnp.array([3, 70])
    init = jax.jit(model.init, compiler_options={"xla_backend_optimization_level": 0})
    return model, init(key, image, x_t, t), image, x_t, t


def applied(model, *arguments, **keywords):
    """One compilation, where eager calls would compile every operation alone."""
    return jax.jit(lambda *a: model.apply(*a, **keywords))(*arguments)


def test_a_fresh_network_predicts_zero_everywhere(network):
    model, variables, image, x_t, t = network
    out = applied(model, variables, image, x_t, t)
    assert out.shape == (2, 16, 16, 1) and not np.any(out)


def test_a_call_is_encode_then_denoise(network):
    model, variables, image, x_t, t = network
    variables = perturbed(variables)
    features = applied(model, variables, image, method="encode")
    apart = applied(model, variables, x_t, t, features, method="denoise")
    np.testing.assert_allclose(applied(model, variables, image, x_t, t), apart, atol=1e-5)


def test_the_output_depends_on_the_image_the_mask_and_the_time(network):
    model, variables, image, x_t, t = network
    variables = perturbed(variables)
    out = applied(model, variables, image, x_t, t)
    for other in ((image + 1, x_t, t), (image, x_t + 1, t), (image, x_t, t + 1)):
        assert np.abs(out - applied(model, variables, *other)).max() > 1e-4


def test_one_time_serves_all_rows(network):
    model, variables, image, x_t, _ = network
    variables = perturbed(variables)
    one = applied(model, variables, image, x_t, jnp.array([5]))
    all_rows = applied(model, variables, image, x_t, jnp.array([5, 5]))
    np.testing.assert_allclose(one, all_rows, rtol=0, atol=8e-6)  # up to 1.5e-6 was seen


def test_weights_start_uniform_within_one_over_root_fan_in(network):
    _, variables, *_ = network
    flat = traverse_util.flatten_dict(variables["params"], sep="/")
    for path, kernel in flat.items():
        if not path.endswith("kernel"):
            continue
        bound = 1 / np.sqrt(np.prod(kernel.shape[:-1]))
        bias = flat[path.replace("kernel", "bias")]
        zero = path.startswith("unet") and path.endswith(
            ("conv2/conv/kernel", "out/dense/kernel", "unet/out/conv/kernel")
        )
        assert np.abs(kernel).max() <= bound and np.abs(bias).max() <= bound, path
        assert np.any(kernel) != zero and np.any(bias) != zero, path
        if kernel.size > 500 and not zero:
            assert np.std(kernel) == pytest.approx(bound / np.sqrt(3), rel=0.15), path


def test_norms_start_as_nothing(network):
    _, variables, *_ = network
    flat = traverse_util.flatten_dict(variables["params"], sep="/")
    norms = {path: leaf for path, leaf in flat.items() if "norm" in path}
    assert len(norms) > 20
    for path, leaf in norms.items():
        np.testing.assert_array_equal(leaf, float(path.endswith("scale")), err_msg=path)


def test_bfloat16_keeps_parameters_norms_and_output_in_float32():
    config = tiny()
    config.model.dtype = "bfloat16"
    model = networks.model(config)
    image, x_t = jnp.ones((1, 16, 16, 3)), jnp.ones((1, 16, 16, 1))
    init = jax.jit(model.init, compiler_options={"xla_backend_optimization_level": 0})
    variables = init(jax.random.key(0), image, x_t, jnp.array([1]))
    assert {leaf.dtype for leaf in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
    variables = perturbed(variables)
    captured = partial(model.apply, capture_intermediates=True)
    out, seen = jax.jit(lambda v: captured(v, image, x_t, jnp.array([1])))(variables)
    assert out.dtype == jnp.float32
    flat = traverse_util.flatten_dict(seen["intermediates"], sep="/")
    convolutions = {path.removesuffix("conv/__call__") + "__call__" for path in flat}
    maps = {p: x for p, (x, *_) in flat.items() if p in convolutions}
    dtypes = {path: x.dtype for path, x in maps.items() if isinstance(x, jax.Array)}  # no weights
    low = [path for path, dtype in dtypes.items() if dtype == jnp.bfloat16]
    assert set(dtypes) - set(low) == {"unet/out/__call__"}
    assert len(low) > 20
    assert "encoder/trunk/__call__" in low
    dense = jax.tree.leaves(flat["encoder/rrdb0/dense1/__call__"])  # what it computes with
    assert len(dense) == 10 and {leaf.dtype for leaf in dense} == {jnp.dtype("bfloat16")}
    config.model.dtype = "float32"
    exact = applied(networks.model(config), variables, image, x_t, jnp.array([1]))
    assert np.any(out != exact)
    near = 0.12 * np.abs(exact).max()  # up to 0.026 of it was seen
    np.testing.assert_allclose(out, exact, rtol=0, atol=near)


def loss_and_gradient(config, variables, image, x_t, t):
    model = networks.model(config)

    def loss(variables):
        return jnp.sum(jnp.square(model.apply(variables, image, x_t, t)))

    kept = jax.eval_shape(lambda v: jax.vjp(loss, v)[1], variables)
    kept = sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(kept))
    return *jax.jit(jax.value_and_grad(loss))(variables), kept


@pytest.fixture(scope="module")
def plain_gradient(network):
    model, variables, *given = network
    config = tiny()
    config.model.rrdb_form = "concat"
    return loss_and_gradient(config, perturbed(variables), *given)


@pytest.mark.parametrize(
    ("option", "value", "share"),
    [
        ("rrdb_form", "parts", None),
        ("rrdb_form", "spread", None),
        ("remat", "rrdb", 0.95),
        pytest.param("remat", "unet", 0.5, marks=pytest.mark.slow),  # "all" is both
        ("remat", "all", 0.45),
    ],
)
def test_gradients_do_not_depend_on_how_they_are_computed(
    option, value, share, network, plain_gradient
):
    _, variables, *given = network
    config = tiny()
    config.model.rrdb_form = "concat"
    config.model[option] = value
    loss, gradient, kept = loss_and_gradient(config, perturbed(variables), *given)
    expected, wanted, all_kept = plain_gradient
    np.testing.assert_allclose(loss, expected, rtol=1e-5)
    assert jax.tree.structure(gradient) == jax.tree.structure(wanted)
    for ours, theirs in zip(jax.tree.leaves(gradient), jax.tree.leaves(wanted), strict=True):
        near = 1e-4 * np.abs(theirs).max() + 1e-6
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=near)
    if share:  # of what is kept from the forward for the backward pass
        print(kept / all_kept)
        assert kept < share * all_kept


def test_the_time_table_of_the_paper_has_one_row_a_step():
    config = tiny()
    config.model.time_embedding = "table"
    _, shapes = parameters(config)
    table = shapes["params"]["unet"]["time"]["table"]["embedding"]
    assert table.shape == (config.diffusion.T, 4 * config.model.channels)


def test_dropout_changes_training_and_leaves_evaluation_alone(network):
    _, variables, image, x_t, t = network
    config = tiny()
    config.model.dropout = 0.5
    model, variables = networks.model(config), perturbed(variables)
    calm = applied(model, variables, image, x_t, t)
    keys = jax.random.split(jax.random.key(0))
    wild = applied(model, variables, image, x_t, t, keys)
    assert np.abs(calm - wild).max() > 1e-3
    other = applied(model, variables, image, x_t, t, keys.at[1].set(jax.random.key(5)))
    np.testing.assert_allclose(wild[0], other[0], rtol=0, atol=1e-5)
    assert np.abs(wild - other)[1].max() > 1e-3
    np.testing.assert_array_equal(calm, applied(networks.model(tiny()), variables, image, x_t, t))


class Within(nn.Module):
    """A dropout in a network, under a name."""

    called: str

    @nn.compact
    def __call__(self, *arguments):
        return layers.Dropout(0.3, name=self.called)(*arguments)


def test_dropout_drops_its_share_of_each_row_by_the_key_of_the_row():
    x, keys = jnp.ones((3, 32, 32, 16)), jax.random.split(jax.random.key(1), 3)
    first, second = map(Within, "ab")
    y = np.asarray(first.apply({}, x, keys))
    share = (y == 0).mean((1, 2, 3))  # of 16,384 values: a standard deviation is 0.0036
    assert (np.abs(share - 0.3) < 0.02).all()
    np.testing.assert_allclose(y[y != 0], 1 / 0.7, rtol=1e-6)
    assert (y[0] != y[1]).any() and (y != second.apply({}, x, keys)).any()
    np.testing.assert_array_equal(y[1:2], first.apply({}, x[1:2], keys[1:2]))
    assert first.apply({}, x, None) is x


@pytest.mark.parametrize("shape", [(2, 4, 6, 8), (1, 1, 3, 5)])
def test_both_ways_to_double_a_map_are_the_same_convolution(shape):
    x = jax.random.normal(jax.random.key(0), shape)
    kernel = jax.random.normal(jax.random.key(1), (3, 3, shape[-1], 4))
    np.testing.assert_allclose(
        upsample_by_phases(x, kernel), upsample_reference(x, kernel), rtol=1e-4, atol=1e-4
    )
