"""Exports the whole answer to a picture as a program of XLA, which runs without this package.

    import jax
    from jax import export

    program = export.deserialize(open("answer.stablehlo", "rb").read())
    probability, uncertainty = program.call(image, jax.random.key_data(jax.random.key(0)))

The weights are part of the program. It is made for one size, of a picture that fits into one tile.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export

from segdiff_jax.api import Model
from segdiff_jax.cli.export_args import Program
from segdiff_jax.errors import UserError
from segdiff_jax.factory import networks
from segdiff_jax.inference.sampler import row_key
from segdiff_jax.inference.segmentation import oriented, restored
from segdiff_jax.models.segdiff import at_precision
from segdiff_jax.runtime import files

FUSIONS: dict[str, Callable[[jax.Array], jax.Array]] = {
    "mean": lambda soft: soft.mean(axis=0),
    "median": lambda soft: jnp.median(soft, axis=0),
    "majority": lambda soft: (soft > 0.5).astype(jnp.float32).mean(axis=0),
}
Answer = Callable[[jax.Array, jax.Array], tuple[jax.Array, jax.Array]]


def answer(model: Model) -> Answer:
    """Returns the function of a picture that a model computes for one that is a tile.

    It maps an image [N, N, 3] uint8 and the data of a key, [2] uint32, to the probability and the
    uncertainty, [N, N] float32. The key of `Model.key` gives the prediction of number 0. Of a
    network that learnt the interiors of objects, too, it is that of the foreground.

    Raises:
      UserError: the model is one of several runs, or fuses generations in a way that is no formula.
    """
    runs = model.predictor.runs
    if len(runs) != 1:
        raise UserError("a program can be exported of one run, not of several")
    run = runs[0]
    if run.fusion not in FUSIONS:
        raise UserError(f"sampling.fusion={run.fusion!r}: a program needs {', '.join(FUSIONS)}")
    segmenter, random = run.segmenter, model.random
    params = jax.tree.map(np.asarray, segmenter.params)
    sampler, turns, count = segmenter.sampler, segmenter.orientations, segmenter.generations

    def program(image: jax.Array, key_data: jax.Array) -> tuple[jax.Array, jax.Array]:
        key = jax.random.wrap_key_data(key_data)
        views: Any = [oriented(image, turn) for turn in range(turns)]  # type: ignore[arg-type]
        features = jax.lax.map(lambda v: sampler.encode(params, v[None])[0], jnp.stack(views))

        def generation(number: jax.Array) -> jax.Array:
            of_row = row_key(key, np.uint32(0), number)
            corner = jnp.zeros(2, jnp.int32)
            mask = sampler.sample(params, features[number % turns], of_row, corner)
            return mask if mask.ndim == 2 else sampler.channels.foreground(mask)

        masks = jax.lax.map(generation, jnp.arange(count))
        back: Any = [restored(masks[g], g % turns) for g in range(count)]  # type: ignore[arg-type]
        soft = jnp.clip(jnp.stack(back), 0.0, 1.0)
        probability = FUSIONS[run.fusion](soft)
        p = soft.mean(axis=0)
        spread = soft.std(axis=0) if random else jnp.sqrt(p * (1 - p))
        return probability, spread

    return at_precision(sampler.model.precision, program)


def exported(model: Model, side: int, platforms: tuple[str, ...] = ("cpu",)) -> bytes:
    """Returns the serialized program for pictures of side x side pixels.

    Raises:
      UserError: the network cannot halve the side as often as it does; or see `answer`.
    """
    multiple = model.segmenter.multiple
    if side % multiple:
        raise UserError(f"--size={side}: must be a multiple of {multiple} for this network")
    image = jax.ShapeDtypeStruct((side, side, networks.bands(model.config)), jnp.uint8)
    key = jax.ShapeDtypeStruct(jax.random.key_data(model.key()).shape, jnp.uint32)
    program = jax.jit(answer(model))
    return bytes(export.export(program, platforms=platforms)(image, key).serialize())


def write(model: Model, command: Program) -> str:
    """Writes the program of a command; returns what it is, for people.

    Raises:
      UserError: it cannot be made or written.
    """
    side = command.size or model.segmenter.tile
    data = exported(model, side, command.platforms)
    path: Path = command.output
    files.write_bytes(path, data)
    takes = f"takes a picture of {side}x{side} and a key"
    return f"{path}: {len(data) / 1e6:.1f} MB, {takes}, for {', '.join(command.platforms)}"
