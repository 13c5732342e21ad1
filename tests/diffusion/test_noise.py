"""The field of noise of a mask of several channels."""

import jax
import jax.numpy as jnp
import numpy as np

from segdiff_jax import diffusion

KEY = jax.random.key(3)


def window(corner, size, channels, step=0):
    return np.asarray(diffusion.field(KEY, jnp.array(corner), size, channels)(step))


def test_the_first_channel_is_the_field_of_a_mask_of_one_channel():
    for step in (0, 1, 7):
        one, three = (window((3, 5), (20, 24), count, step) for count in (1, 3))
        assert three.shape == (20, 24, 3)
        np.testing.assert_array_equal(three[..., :1], one)


def test_channels_are_independent_standard_normal_fields():
    drawn = np.concatenate([window((0, 0), (64, 64), 3, step) for step in range(3)])
    flat = drawn.reshape(-1, 3)
    n = len(flat)
    # 5 standard errors of a mean, of a variance, of a correlation
    assert np.abs(flat.mean(0)).max() < 5 / n**0.5
    assert np.abs(flat.var(0) - 1).max() < 5 * (2 / n) ** 0.5
    assert np.abs(np.corrcoef(flat.T) - np.eye(3)).max() < 5 / n**0.5


def test_no_step_of_a_channel_has_the_numbers_of_another():
    drawn = [window((0, 0), (16, 16), 3, step)[..., k] for step in range(4) for k in range(3)]
    assert len({one.tobytes() for one in drawn}) == 12


def test_windows_of_all_channels_agree_where_they_overlap():
    whole = window((0, 0), (48, 48), 2, 4)
    np.testing.assert_array_equal(window((10, 20), (24, 16), 2, 4), whole[10:34, 20:36])
