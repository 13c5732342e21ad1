"""Configs, meshes and runs of the tiny network, and constants of the tests' environment."""

import os
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# In the environment of the programs that tests start; no log and no file of theirs may contain one.
CANARY = "canary-"
SECRETS = {
    "HF_TOKEN": f"{CANARY}5b1e",
    "AWS_SECRET_ACCESS_KEY": f"{CANARY}77ad",
    "WANDB_API_KEY": f"{CANARY}c09f",
    "DATABASE_URL": f"postgres://someone:{CANARY}e4c2@localhost/",
}


def slack():
    """Returns the factor of time limits: the load per core, at least 1."""
    return max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


def tiny():
    """Returns a config that compiles in seconds: 16x16 crops of the synthetic set."""
    from segdiff_jax.config import default

    c = default()
    c.data.mean, c.data.std = (190.0, 150.0, 190.0), (40.0, 40.0, 25.0)
    c.augment.crop = 16
    c.augment.horizontal_flip = True
    c.model.channels, c.model.multipliers, c.model.blocks_per_level = 8, (1, 2), 1
    c.model.attention_factors, c.model.heads, c.model.norm_groups = (2,), 2, 2
    c.model.rrdb_blocks, c.model.rrdb_features, c.model.rrdb_growth = 1, 4, 2
    c.diffusion.prediction = "x0"
    c.sampling.steps, c.sampling.generations = 3, 2
    c.sampling.tile, c.sampling.stride = 16, 16
    c.train.steps, c.train.batch_size, c.train.learning_rate = 6, 8, 1e-3
    c.train.checkpoint_every, c.train.log_every = 2, 1
    c.train.ema_decay = 0.9
    return c


def mesh_of(n):
    """Returns the mesh of the first n devices."""
    import jax
    from jax.sharding import AxisType

    return jax.make_mesh((n,), ("data",), axis_types=(AxisType.Auto,), devices=jax.devices()[:n])


def config_of(name, argument=""):
    """Returns the config of `configs/<name>.py` with an argument."""
    import importlib.util

    spec = importlib.util.spec_from_file_location(name, ROOT / "configs" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(argument) if argument else module.get_config()


def write_run(config, workdir, step):
    """Writes a run with random weights: its config and one checkpoint; returns the weights."""
    import jax
    import jax.numpy as jnp

    from segdiff_jax.checkpoint import manager, run_config
    from segdiff_jax.factory import networks

    side = networks.multiple(config)
    image = jnp.zeros((1, side, side, 3))
    x_t = jnp.zeros((1, side, side, networks.channels(config).count))
    init = jax.jit(
        networks.model(config).init, compiler_options={"xla_backend_optimization_level": 0}
    )
    params = init(jax.random.key(0), image, x_t, jnp.array([1]))["params"]
    keys = iter(jax.random.split(jax.random.key(1), 1000))
    params = jax.tree.map(lambda x: x + 0.1 * jax.random.normal(next(keys), x.shape), params)
    workdir.mkdir(parents=True, exist_ok=True)
    run_config.write_config(config, workdir)
    checkpoints = manager.Checkpoints(workdir)
    checkpoints.save(step, params, {"step": jnp.array(step)}, None)
    checkpoints.close()
    return params
