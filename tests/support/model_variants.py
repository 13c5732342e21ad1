"""Tiny configs of the ablation's variants and the baselines; the sizes of their networks."""

import jax
import jax.numpy as jnp
from tiny_config import tiny

from segdiff_jax.factory import networks

VARIANTS = {
    "concat": {"conditioning": "concat"},
    "hardnet": {"encoder": "hardnet"},
    "stack": {"conditioning": "stack"},
    "inject1": {"conditioning": "inject1"},
    "inject3": {"conditioning": "inject3", "multipliers": (1, 2, 2, 2)},
    "inject5": {"conditioning": "inject5", "multipliers": (1, 1, 1, 1, 2, 2)},
    "twin": {"kind": "twin"},
    "unet": {"kind": "unet"},
}
SIDE = {"inject5": 64}  # pixels: the lowest map has 2 x 2, as that of the others has at least


def config_for(name):
    """Returns the tiny config of a variant."""
    config = tiny()
    config.model.attention_factors = ()
    config.model.update(VARIANTS[name])
    side = SIDE.get(name, 16)
    config.augment.crop = config.sampling.tile = config.sampling.stride = side
    if config.model.kind != "diffusion":
        config.sampling.generations, config.sampling.steps = 1, 0
    return config


def parameters(config):
    """Returns a config's model and the shapes of its variables."""
    model = networks.model(config)
    side = 2 ** (len(config.model.multipliers) - 1)
    image, x_t = jnp.zeros((1, side, side, 3)), jnp.zeros((1, side, side, 1))
    return model, jax.eval_shape(model.init, jax.random.key(0), image, x_t, jnp.ones(1, jnp.int32))


def count(tree):
    """Returns the number of elements of a tree of arrays or shapes."""
    return sum(leaf.size for leaf in jax.tree.leaves(tree))


def perturbed(variables):
    """Adds noise to all parameters, so that none is zero and every path of the network counts."""
    leaves, tree = jax.tree.flatten(variables)
    keys = jax.random.split(jax.random.key(9), len(leaves))
    return tree.unflatten(
        [x + 0.1 * jax.random.normal(k, x.shape) for x, k in zip(leaves, keys, strict=True)]
    )
