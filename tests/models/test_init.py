"""Fresh weights: one draw, cut into the parameters, with the distribution that each of them has."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax.traverse_util import flatten_dict
from model_variants import VARIANTS, config_for
from tiny_config import tiny

from segdiff_jax.factory import networks, training
from segdiff_jax.models.init import COLLECTION, Constant, Normal, Uniform, draw, parameter
from segdiff_jax.models.layers import Linear
from segdiff_jax.models.time_embedding import Table
from segdiff_jax.training.step import init_state

KEY = jax.random.key(3)
ROOT_THIRD = 3**-0.5  # the standard deviation of U(-1, 1)


def table_and_remat():
    config = tiny()
    config.model.time_embedding, config.model.remat = "table", "all"
    return config


def initializer(config, side=16):
    return partial(init_state, training.objective(config), optax.sgd(0.01), (side, side))


def flat(tree):
    return dict(sorted(flatten_dict(tree, sep="/").items()))


@pytest.fixture(scope="module")
def program():
    options = {"xla_backend_optimization_level": 0}
    return jax.jit(initializer(table_and_remat())).lower(KEY).compile(options)


@pytest.fixture(scope="module")
def params(program):
    return flat(jax.tree.map(np.asarray, program(KEY).params))


def inputs_of(path, params):
    """Returns how many values each output of a convolution or dense layer is a sum of."""
    return np.prod(params[path.rsplit("/", 1)[0] + "/kernel"].shape[:-1])


def starts_at_zero(path):
    """Whether it is of a layer that ends a residual block, an attention or the network."""
    layer = path.rsplit("/", 1)[0]
    return layer.startswith("unet") and layer.endswith(("conv2/conv", "out/dense", "out/conv"))


def unscaled(params):
    """Returns the weights without the table, as multiples of their bounds, by path."""
    return {
        path: leaf * np.sqrt(inputs_of(path, params))
        for path, leaf in params.items()
        if path.endswith(("kernel", "bias")) and "norm" not in path and not starts_at_zero(path)
    }


def test_weights_are_uniform_within_one_over_root_fan_in(params):
    weights = unscaled(params)
    assert len(weights) > 50
    for path, values in weights.items():
        assert 0 < np.abs(values).max() <= 1 + 1e-6, path
        sigmas = np.sqrt(values.size)  # five of them, for a hundred arrays
        assert abs(values.mean()) < 5 * ROOT_THIRD / sigmas, path
        assert abs(np.square(values).mean() - 1 / 3) < 5 * np.sqrt(4 / 45) / sigmas, path


def test_norms_start_as_nothing_and_last_layers_at_zero(params):
    fixed = {path: leaf for path, leaf in params.items() if path not in unscaled(params)}
    del fixed["unet/time/table/embedding"]
    assert sum(starts_at_zero(path) for path in fixed) > 8
    for path, leaf in fixed.items():
        np.testing.assert_array_equal(leaf, float(path.endswith("scale")), err_msg=path)


def test_rows_of_the_time_table_start_normal_with_a_squared_length_of_one(params):
    table = params["unet/time/table/embedding"]
    values = table.ravel() * np.sqrt(table.shape[1])
    assert values.size == 3200
    assert abs(values.mean()) < 4 / np.sqrt(3200) and np.std(values) == pytest.approx(1, abs=0.05)
    for sigmas, share in ((1, 0.6827), (2, 0.9545)):
        assert np.mean(np.abs(values) < sigmas) == pytest.approx(share, abs=0.035)


def test_all_weights_are_one_draw_in_the_order_of_their_names(params):
    """So no two arrays share their numbers, and none is left over."""
    weights = unscaled(params)
    count = sum(values.size for values in weights.values()) + 3200
    numbers = np.asarray(jax.random.uniform(KEY, (count,), minval=-1, maxval=1))
    drawn = [p for p in params if p in weights or p.endswith("embedding")]
    first = 0
    for path in drawn:
        here = numbers[first : first + params[path].size]
        if path in weights:
            np.testing.assert_allclose(weights[path].ravel(), here, atol=1e-6, err_msg=path)
        first += here.size
    assert first == count


def test_the_program_draws_once_however_many_arrays_there_are(program):
    assert program.as_text().count("while(") <= 1


def test_weights_are_a_function_of_the_key(program, params):
    again, other = flat(program(KEY).params), flat(program(jax.random.key(4)).params)
    for path, leaf in params.items():
        np.testing.assert_array_equal(leaf, again[path])
        assert np.any(leaf != other[path]) == np.any(leaf != leaf.flat[0]), path


@pytest.mark.parametrize("name", [*VARIANTS, "table_and_remat"])
def test_every_parameter_of_every_variant_says_how_it_starts(name):
    config = table_and_remat() if name == "table_and_remat" else config_for(name)
    model, side = networks.model(config), networks.multiple(config)
    image, x_t = jnp.zeros((1, side, side, 3)), jnp.zeros((1, side, side, 1))
    plain = jax.eval_shape(model.init, KEY, image, x_t, jnp.ones(1, jnp.int32))
    assert flat(plain[COLLECTION]).keys() == flat(plain["params"]).keys()
    made = jax.eval_shape(initializer(config, side), KEY).params
    assert jax.tree.structure(made) == jax.tree.structure(plain["params"])
    assert jax.tree.leaves(made) == jax.tree.leaves(plain["params"])


class Foreign(nn.Module):
    """Parameters made in our way, and a layer that knows nothing of it."""

    @nn.compact
    def __call__(self, x):
        parameter(self, "one", Constant(1.0), (2,))
        parameter(self, "normal", Normal(2.0), (5, 7))
        weight = parameter(self, "uniform", Uniform(0.5), (3, 4))
        return nn.Dense(5, name="foreign")(x @ weight)


@pytest.mark.parametrize("own", [False, True])
def test_only_modules_that_draw_for_themselves_are_given_a_key(own):
    asked = []
    layer = nn.Dense(5) if own else Linear(5)

    def init(key):
        asked.append(key)
        return layer.init(key, jnp.ones((1, 3)))

    shapes = jax.tree.map(jnp.shape, draw(init, KEY))
    assert shapes == jax.tree.map(jnp.shape, {**layer.init(KEY, jnp.ones((1, 3)))["params"]})
    assert asked[0] == {}
    assert len(asked) == (3 if own else 1)


def test_a_parameter_that_does_not_say_how_it_starts_is_drawn_by_its_own_module():
    init = partial(Foreign().init, x=jnp.ones((1, 3)))
    ours, plain = draw(init, KEY), init(KEY)["params"]
    assert jax.tree.map(jnp.shape, ours) == jax.tree.map(jnp.shape, plain)
    np.testing.assert_array_equal(ours["foreign"]["kernel"], plain["foreign"]["kernel"])
    assert np.any(ours["uniform"] != plain["uniform"])
    for weights in (ours, plain):
        assert np.all(weights["one"] == 1) and 1 < np.std(weights["normal"]) < 3
        assert 0.3 < np.abs(weights["uniform"]).max() <= 0.5
    alone = draw(partial(nn.Dense(5).init, inputs=jnp.ones((1, 3))), KEY)
    assert alone["kernel"].shape == (3, 5) and np.any(alone["kernel"])


def test_a_draw_is_the_same_compiled_or_not():
    make = partial(draw, partial(Foreign().init, x=jnp.ones((1, 3))))
    one, other = make(KEY), jax.jit(make)(KEY)
    np.testing.assert_array_equal(one["uniform"], other["uniform"])
    np.testing.assert_allclose(one["normal"], other["normal"], rtol=1e-6)


def test_the_least_number_that_is_drawn_makes_no_infinite_weight():
    least = Normal(1.0).values(jnp.array([-1.0, 0.0, 1 - 2**-22]), (3,))
    np.testing.assert_allclose(least, [-5.420, 0, 5.167], rtol=0, atol=2e-3)  # by SciPy


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_a_dense_layer_and_a_table_compute_what_those_of_linen_do(dtype):
    x = jax.random.normal(KEY, (2, 3, 7))
    theirs = nn.Dense(5, dtype=dtype)
    params = theirs.init(KEY, x)["params"]
    ours = Linear(5, dtype=dtype).apply({"params": {"dense": params}}, x)
    np.testing.assert_array_equal(ours, theirs.apply({"params": params}, x))
    assert ours.dtype == dtype
    rows = jnp.array([0, 3, 3])
    table = nn.Embed(4, 6).init(KEY, rows)
    np.testing.assert_array_equal(Table(4, 6).apply(table, rows), nn.Embed(4, 6).apply(table, rows))
