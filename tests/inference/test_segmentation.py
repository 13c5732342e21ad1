"""Sampling: one encoding, and noise that belongs to (seed, image, generation, pixel) alone."""

from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jaxprs import convolutions, loops
from tiny_config import mesh_of, tiny

from segdiff_jax.data.example import to_probability
from segdiff_jax.diffusion import field
from segdiff_jax.factory import networks, samplers
from segdiff_jax.inference import sampler, segmentation
from segdiff_jax.inference.sampler import row_key
from segdiff_jax.inference.segmentation import interleaved_slots, plan_call
from segdiff_jax.models.segdiff import call
from segdiff_jax.runtime import distributed

KEY = jax.random.key(4)
IMAGES = np.random.default_rng(0).integers(0, 256, (3, 16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def params():
    model = networks.model(tiny())
    image, x_t = jnp.zeros((1, 16, 16, 3)), jnp.zeros((1, 16, 16, 1))
    init = jax.jit(model.init, compiler_options={"xla_backend_optimization_level": 0})
    made = init(jax.random.key(0), image, x_t, jnp.array([1]))["params"]
    keys = iter(jax.random.split(jax.random.key(1), 1000))
    return jax.tree.map(
        lambda x: np.asarray(x + 0.1 * jax.random.normal(next(keys), x.shape)), made
    )


def segmenter(params, devices=1, **changes):
    mesh = mesh_of(devices)
    made = samplers.segmenter(tiny(), distributed.replicate(params, mesh), mesh)
    return replace(made, **changes)


@pytest.fixture(scope="module")
def plain(params):
    return list(segmenter(params, generations=3)(IMAGES, KEY))


def test_every_image_gets_its_generations_in_its_own_size(plain):
    assert [prediction.shape for prediction in plain] == [(3, 16, 16)] * 3
    assert len({prediction[s].tobytes() for prediction in plain for s in range(3)}) == 9


@pytest.mark.parametrize("most", [1, 2, 3])
def test_generations_are_bit_equal_however_many_tiles_a_call_has(params, plain, most):
    again = segmenter(params, generations=3, max_tiles_per_call=most)(IMAGES, KEY)
    for one, other in zip(plain, again, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("limit", [2, 5, 16])
def test_generations_differ_by_rounding_alone_when_many_are_denoised_at_once(params, plain, limit):
    again = segmenter(params, generations=3, rows_per_device=limit)(IMAGES, KEY)
    for one, other in zip(plain, again, strict=True):
        np.testing.assert_allclose(one, other, rtol=0, atol=4e-6)  # up to 6e-7 was seen


@pytest.mark.parametrize("count", [1, 2, 3])
def test_rows_are_mapped_in_batches_and_padding_is_not_computed(count):
    """One program serves any number of iterations."""
    x = np.arange(12, dtype=np.float32).reshape(6, 2)
    map_batches = jax.jit(partial(sampler.map_batches, batch=2), static_argnums=0)
    out = map_batches(lambda row: jnp.stack([row.sum(), row[0]]), (x,), np.int32(count))
    truth = np.stack([x.sum(1), x[:, 0]], 1) * (np.arange(6) < 2 * count)[:, None]
    np.testing.assert_array_equal(out, truth)
    assert map_batches._cache_size() == 1


@pytest.mark.parametrize(
    ("count", "total", "devices"), [(5, 6, 2), (3, 16, 8), (7, 7, 1), (9, 12, 4)]
)
def test_every_device_gets_as_many_rows_as_any_other_or_one_more(count, total, devices):
    where = interleaved_slots(count, total, devices)
    assert len(set(where)) == count and where.max() < total
    shares = np.bincount(where // (total // devices), minlength=devices)
    assert shares.max() - shares.min() <= 1
    first = [set(range(share)) for share in shares]  # a share begins where the device's rows do
    assert [
        set(where[where // (total // devices) == d] % (total // devices)) for d in range(devices)
    ] == first


@pytest.mark.parametrize("devices", [2, 8])
def test_generations_are_bit_equal_on_any_number_of_devices(params, plain, devices):
    again = segmenter(params, devices, generations=3)(IMAGES, KEY)
    for one, other in zip(plain, again, strict=True):
        np.testing.assert_array_equal(one, other)


def test_more_generations_keep_the_first_ones(params, plain):
    for one, other in zip(plain, segmenter(params, generations=5)(IMAGES, KEY), strict=True):
        np.testing.assert_array_equal(one, other[:3])


def test_a_prediction_does_not_depend_on_the_images_that_follow(params, plain):
    alone = next(segmenter(params, generations=3)(IMAGES[:1], KEY))
    np.testing.assert_array_equal(plain[0], alone)


def test_another_seed_draws_other_masks(params, plain):
    other = next(segmenter(params, generations=3)(IMAGES[:1], jax.random.key(5)))
    assert np.abs(plain[0] - other).max() > 1e-3


def test_a_large_image_is_predicted_tile_by_tile(params):
    """Four tiles side by side, each as if sampled alone at its corner."""
    image = np.random.default_rng(1).integers(0, 256, (32, 32, 3), np.uint8)
    segment = segmenter(params)
    whole = next(segment([image], KEY))
    assert whole.shape == (2, 32, 32)
    draw = jax.jit(
        lambda tile, key, corner: segment.sampler.sample(
            segment.params, segment.sampler.encode(segment.params, tile)[0], key, corner
        )
    )
    for y, x in [(0, 0), (0, 16), (16, 0), (16, 16)]:
        for s in range(2):
            tile, corner = image[None, y : y + 16, x : x + 16], jnp.array([y, x])
            alone = draw(tile, row_key(KEY, 0, s), corner)
            np.testing.assert_allclose(whole[s, y : y + 16, x : x + 16], alone, atol=1e-5)


def test_images_of_several_sizes_come_back_in_order(params):
    rng = np.random.default_rng(2)
    sizes = [(16, 16), (16, 16), (32, 20), (8, 16), (16, 16), (7, 33), (5, 3)]
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in sizes]
    predictions = list(segmenter(params)(images, KEY))
    assert [prediction.shape[1:] for prediction in predictions] == sizes


def test_the_image_is_encoded_outside_the_reverse_loop(params):
    segment = segmenter(params)
    model, sampler = segment.sampler.model, segment.sampler
    image, x_t, t = (
        IMAGES[:1].astype(np.float32),
        np.zeros((1, 16, 16, 1), np.float32),
        np.array([1]),
    )

    def apply(method, *args):
        return jax.make_jaxpr(lambda *a: call(model, method, params, *a))(*args).jaxpr

    features = np.zeros((1, 16, 16, 8), np.float32)
    in_encoder = convolutions(apply("encode", image))
    in_denoiser = convolutions(apply("denoise", x_t, t, features))
    assert in_encoder == 4 + 5  # dense blocks are a loop, whose body has five layers
    assert in_denoiser > 5

    def prediction(tile, key):
        return sampler.sample(params, sampler.encode(params, tile)[0], key, jnp.array([0, 0]))

    whole = jax.make_jaxpr(prediction)(IMAGES[:1], KEY).jaxpr
    encoder, body = [body for body in loops(whole) if convolutions(body)]
    assert convolutions(encoder) == 5
    assert convolutions(body) == in_denoiser
    assert convolutions(whole) == in_denoiser + in_encoder


@pytest.mark.parametrize("tiles", [1, 4, 7])
@pytest.mark.parametrize("generations", [1, 9, 30])
@pytest.mark.parametrize("devices", [1, 8])
def test_a_plan_has_slots_for_all_rows_within_its_bound(tiles, generations, devices):
    plan = plan_call(tiles, generations, devices, 16)
    assert plan.rows >= tiles * generations and plan.tiles >= tiles
    assert plan.rows_per_iteration <= 16 and plan.rows % (devices * plan.rows_per_iteration) == 0
    assert plan.tiles_per_iteration <= 16 and plan.tiles % (devices * plan.tiles_per_iteration) == 0
    assert plan.rows - tiles * generations < devices * plan.rows_per_iteration


@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize(("tiles", "generations"), [(1, 1), (1, 9), (3, 5), (16, 1)])
@pytest.mark.parametrize("limit", [1, 4])
def test_a_device_takes_as_many_iterations_as_its_rows_need(devices, tiles, generations, limit):
    plan = plan_call(tiles, generations, devices, limit)
    iterations = plan.iterations(tiles, tiles * generations)
    kinds = (
        (tiles, plan.tiles, plan.tiles_per_iteration),
        (
            tiles * generations,
            plan.rows,
            plan.rows_per_iteration,
        ),
    )
    for kind, (count, total, at_once) in enumerate(kinds):
        shares = np.bincount(
            interleaved_slots(count, total, devices) // (total // devices), minlength=devices
        )
        assert iterations[:, kind].tolist() == [-(-share // at_once) for share in shares]


@pytest.mark.parametrize(
    ("images", "side", "generations"), [(14, 512, 9), (68, 256, 9), (7, 512, 30)]
)
@pytest.mark.parametrize("devices", [1, 2, 8])
@pytest.mark.parametrize("limit", [1, 16])
def test_less_than_a_tenth_of_what_a_benchmark_computes_is_padding(
    images, side, generations, devices, limit, monkeypatch
):
    drawn, wanted = [], []

    def count(self, group, plan, key):
        rows = len(group) * self.generations
        drawn.append(plan.iterations(len(group), rows)[:, 1].sum() * plan.rows_per_iteration)
        wanted.append(rows)
        return np.zeros((len(group), self.generations, 256, 256), np.float32)

    monkeypatch.setattr(segmentation.Segmenter, "_run", count)
    more = {"generations": generations, "max_tiles_per_call": devices * 16 // generations or 1}
    segment = segmenter({}, devices, tile=256, stride=256, **more)
    for _ in segment(np.zeros((images, side, side, 3), np.uint8), KEY):
        pass
    assert sum(wanted) == images * (side // 256) ** 2 * generations
    assert sum(drawn) < 1.1 * sum(wanted)


def test_tiles_of_one_image_share_one_field_of_noise(params):
    """Where the network ignores the image and its border, overlapping tiles agree exactly."""
    segment = segmenter(params, tile=16, stride=4)
    steps = segment.sampler.steps
    # the first row of the table alone: x_s = a x0 + b eps + c x_t + sigma z with a = b = 0
    kept = type(steps)(*(column[:1] for column in steps))._replace(
        a=np.zeros(1, np.float32), b=np.zeros(1, np.float32), c=np.ones(1, np.float32)
    )
    segment = replace(segment, sampler=replace(segment.sampler, steps=kept))
    image = np.zeros((24, 28, 3), np.uint8)
    blended = next(segment([image], KEY))
    for s in range(2):
        noise = field(row_key(KEY, 0, s), jnp.array([0, 0]), (24, 28))
        truth = to_probability(noise(0) + kept.sigma[0] * noise(1))
        np.testing.assert_allclose(blended[s], truth, atol=1e-5)


def test_bands_are_the_rows_of_the_predictions_and_their_images_are_numbered(params):
    rng = np.random.default_rng(3)
    images = [rng.integers(0, 256, (*size, 3), np.uint8) for size in [(40, 20), (16, 16)]]
    segment = segmenter(params, stride=12)
    predictions = list(segment(images, KEY))
    bands = list(segment.bands(images, KEY))
    assert [(b.image, b.top, b.last) for b in bands] == [
        *((0, 0, False), (0, 12, False), (0, 24, True), (1, 0, True)),
    ]
    for i, prediction in enumerate(predictions):
        rows = np.concatenate([b.generations for b in bands if b.image == i], axis=1)
        np.testing.assert_array_equal(rows, prediction)
    (alone,) = segment.bands(images[1:], KEY, first=1)
    np.testing.assert_array_equal(alone.generations, predictions[1])
    (other,) = segment.bands(images[1:], KEY, first=0)
    assert np.abs(other.generations - predictions[1]).max() > 1e-3
