"""The accumulated mean equals the mean and its gradient, and holds one term in memory."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from segdiff_jax.training.loss import accumulate_mean

SIDE = 64
GIVEN = {"w": jnp.asarray(np.random.default_rng(0).standard_normal((SIDE, SIDE), np.float32))}
KEYS = jax.random.split(jax.random.key(0), 12).reshape(4, 3)


def term(given, keys):
    h = jax.vmap(lambda key: jax.random.normal(key, (SIDE, SIDE)))(keys)
    for _ in range(6):
        h = jnp.sin(h @ given["w"] / 8)
    return jnp.mean(h**2), {"rows": h[:, 0, 0]}


def plainly(given, keys):
    values, rest = zip(*[term(given, key) for key in keys], strict=True)
    return sum(values) / len(values), jax.tree.map(lambda *rows: jnp.stack(rows), *rest)


def test_it_is_the_mean_with_and_without_a_gradient():
    (expected, rest), gradient = jax.value_and_grad(plainly, has_aux=True)(GIVEN, KEYS)
    found = jax.jit(lambda given: accumulate_mean(term, given, KEYS))(GIVEN)
    again, slope = jax.value_and_grad(
        lambda given: accumulate_mean(term, given, KEYS), has_aux=True
    )(GIVEN)
    for value, rows in (found, again):
        assert float(value) == pytest.approx(float(expected), rel=1e-6)
        np.testing.assert_allclose(rows["rows"], rest["rows"], rtol=1e-5)
    np.testing.assert_allclose(slope["w"], gradient["w"], rtol=0, atol=1e-7)


def test_its_gradient_is_scaled_by_the_cotangent():
    def made(mean, given):
        return jnp.exp(3 * mean(given)[0]) + given["w"].sum()

    found = jax.grad(lambda given: made(lambda g: accumulate_mean(term, g, KEYS), given))(GIVEN)
    expected = jax.grad(lambda given: made(lambda g: plainly(g, KEYS), given))(GIVEN)
    np.testing.assert_allclose(found["w"], expected["w"], rtol=1e-5, atol=1e-6)


def test_gradients_in_bfloat16_do_not_lose_what_many_terms_add():
    """A sum of 2000 ones in bfloat16 ends at 256, where one more is rounded away."""
    given, keys = jnp.ones((3,), jnp.bfloat16), jax.random.split(jax.random.key(0), 2000)
    total = lambda given, key: (given.astype(jnp.float32).sum(), ())  # noqa: E731
    slope = jax.grad(lambda given: accumulate_mean(total, given, keys)[0])(given)
    assert slope.dtype == jnp.bfloat16
    np.testing.assert_array_equal(slope.astype(jnp.float32), np.ones(3))


def test_many_terms_take_the_memory_of_few():
    def working_memory(mean, n):
        keys = jax.random.split(jax.random.key(0), 3 * n).reshape(n, 3)
        program = jax.jit(jax.grad(lambda given: mean(given, keys)[0])).lower(GIVEN)
        return program.compile().memory_analysis().temp_size_in_bytes

    def looped(given, keys):
        values, rest = jax.lax.map(lambda key: term(given, key), keys)
        return jnp.mean(values), rest

    few, many = (working_memory(lambda *of: accumulate_mean(term, *of), n) for n in (4, 32))
    assert many < 1.2 * few
    assert working_memory(looped, 32) > 4 * many
