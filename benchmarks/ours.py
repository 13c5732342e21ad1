"""Builds the workloads that are timed, from the objects of `factory` and `train`."""

from collections.abc import Callable, Iterator
from itertools import repeat
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from ml_collections import ConfigDict

from benchmarks.network_input import side_of
from benchmarks.timing import Work
from segdiff_jax.data.example import Batch, Example
from segdiff_jax.factory import samplers, training
from segdiff_jax.inference.sampler import DiffusionSampler
from segdiff_jax.models.segdiff import Params
from segdiff_jax.runtime import cpu_devices, distributed
from segdiff_jax.training import flat_state, nonfinite
from segdiff_jax.training.step import TrainState


def changed(config: ConfigDict, **fields: Any) -> ConfigDict:
    """Returns a copy with other values of some fields; GROUP__KEY stands for GROUP.KEY."""
    copy = config.copy_and_resolve_references()
    for name, value in fields.items():
        group, key = name.split("__")
        copy[group][key] = value
    return copy


def start(config: ConfigDict) -> None:
    """Starts JAX as training with this config does."""
    distributed.start(devices_of_cpu=cpu_devices.choose_device_count(config.train.batch_size))


def made_up(count: int, size: int, seed: int = 0) -> list[Example]:
    """Returns examples of noise with squares as masks; only their size matters here."""
    random = np.random.default_rng(seed)
    mask = np.zeros((size, size), np.uint8)
    mask[size // 4 : size // 2, size // 4 : size // 2] = 1
    images = random.integers(0, 256, (count, size, size, 3), np.uint8)
    return [Example(image, mask, f"{i}") for i, image in enumerate(images)]


def fresh_state(config: ConfigDict, mesh: Mesh) -> TrainState:
    """Returns the initial training state, replicated on all devices."""
    init = training.init_fn(config, (side_of(config), side_of(config)))
    return training.jit_replicated(init, mesh)()


def on_one_device(params: Params) -> Params:
    """Returns the copy on the first device; computations on it run on that device alone."""
    return jax.tree.map(lambda x: x.addressable_data(0), params)


def joined_state(config: ConfigDict, mesh: Mesh) -> tuple[flat_state.FlatLayout, TrainState]:
    """Returns `fresh_state` as vectors, and their layout."""
    state = fresh_state(config, mesh)
    layout = flat_state.FlatLayout(state.params)
    return layout, layout.flatten_state_donating(state)


def constant_rows(config: ConfigDict, examples: list[Example], mesh: Mesh) -> Iterator[Batch]:
    """Yields one batch, which stays on the devices, indefinitely."""
    return repeat(next(training.device_batches(config, examples, 0, mesh)))


def training_step(
    config: ConfigDict, mesh: Mesh, rows: Iterator[Batch], steps: int = 1
) -> Callable[[], TrainState]:
    """Returns a workload of some training steps that waits for the last.

    Args:
      config: of the run.
      mesh: of all devices.
      rows: batches on the devices.
      steps: at most `MAX_STEPS_IN_FLIGHT`, because the host does not wait between them.
    """
    assert steps <= nonfinite.MAX_STEPS_IN_FLIGHT
    layout, state = joined_state(config, mesh)
    step, key = training.build_step(config, mesh, layout), training.run_key(config.seed, mesh)

    def work() -> TrainState:
        nonlocal state
        for _ in range(steps):
            state, _ = step(state, next(rows), key)
        return jax.block_until_ready(state)

    return work


def encoding(config: ConfigDict, params: Params, count: int) -> Work:
    """Returns a workload that computes G of `count` images."""
    sampler = samplers.probability_sampler(config)
    images = jnp.asarray(np.stack([e.image for e in made_up(count, side_of(config))]))
    encode = jax.jit(sampler.encode)
    return lambda: jax.block_until_ready(encode(params, images))


def reverse_step(config: ConfigDict, params: Params, rows: int) -> Work:
    """Returns a workload of one reverse step for `rows` rows whose G(I) is known.

    It is a reverse process with a single step: it samples x_T and computes x_0.
    """
    sampler = samplers.probability_sampler(changed(config, sampling__steps=1))
    assert isinstance(sampler, DiffusionSampler)
    C, size = config.model.channels, side_of(config)
    features = jnp.zeros((size, size, C))
    keys = jax.random.split(jax.random.key(0), rows)
    corner = jnp.zeros((2,), jnp.int32)
    sample = jax.jit(jax.vmap(sampler.sample, (None, None, 0, None)))
    return lambda: jax.block_until_ready(sample(params, features, keys, corner))


def sampling(config: ConfigDict, params: Params, mesh: Mesh, size: int) -> Callable[[], np.ndarray]:
    """Returns a workload that samples and averages all generations of an image, as evaluation does.

    Args:
      config: of the run.
      params: on every device.
      mesh: of all devices.
      size: side of the image, pixels.
    """
    segment = samplers.segmenter(config, params, mesh)
    image, key = made_up(1, size)[0].image, jax.random.key(0)

    def work() -> np.ndarray:
        (generations,) = segment([image], key)
        return generations.clip(0, 1).mean(axis=0)

    return work
