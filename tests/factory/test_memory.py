"""The memory of a training step, and the advice where it does not fit."""

import jax
import pytest
from tiny_config import tiny

from segdiff_jax import train
from segdiff_jax.errors import INTERNAL, UserError
from segdiff_jax.factory import memory
from segdiff_jax.factory.memory import StepMemory

GB = 10**9
SIZE = (16, 16)


@pytest.fixture
def of_a_gpu(monkeypatch):
    """A network whose step takes 2 GB, and 4 GB an image: 2 with remat, half in bfloat16."""

    def step_memory(config, size):
        assert size == (256, 256)
        row = 4 * GB // (2 if config.model.remat == "all" else 1)
        return StepMemory(2 * GB, row // (2 if config.model.dtype == "bfloat16" else 1))

    monkeypatch.setattr(memory, "step_memory", step_memory)
    config = tiny()
    config.augment.crop = 256
    return config


def found(config, devices, limit):
    step = memory.step_memory(config, (256, 256))
    return list(memory.choices(config, step, (256, 256), devices, limit))


def test_the_first_setting_divides_the_batch_into_as_few_parts_as_fit(of_a_gpu):
    """Eight images at 4 GB; 2 GB of state, and 0.4 GB more for a sum of gradients."""
    for limit, parts in ((40, 1), (24, 2), (16, 3), (12, 4), (7.2, 8)):
        first = found(of_a_gpu, 1, limit * GB)[0]
        assert first.settings == {"train.accumulate": parts}, limit
        assert first.bytes <= 0.9 * limit * GB


def test_the_order_is_accumulation_then_remat_then_bfloat16_then_a_smaller_crop(of_a_gpu):
    *of_network, smaller = found(of_a_gpu, 1, 3 * GB)
    assert [list(choice.settings) for choice in of_network] == [
        ["train.accumulate"],
        ["train.accumulate", "model.remat"],
        ["train.accumulate", "model.remat", "model.dtype"],
    ]
    assert [choice.settings["train.accumulate"] for choice in of_network] == [8, 8, 8]
    crop = smaller.settings["augment.crop"]
    assert isinstance(crop, int) and crop % 2 == 0 and 0 < crop < 256  # of two levels
    # 2.4 GB without, 1 GB with the image at 256: 0.3 GB are left
    assert crop == max(c for c in range(0, 256, 2) if c**2 / 256**2 <= (0.9 * 3 - 2.4) / 1)


def test_a_crop_is_left_alone_where_something_else_fits(of_a_gpu):
    assert all("augment.crop" not in choice.settings for choice in found(of_a_gpu, 1, 16 * GB))


def test_settings_that_are_on_already_are_not_advised(of_a_gpu):
    of_a_gpu.model.remat, of_a_gpu.model.dtype = "all", "bfloat16"
    assert [list(choice.settings) for choice in found(of_a_gpu, 1, 8 * GB)] == [
        ["train.accumulate"]
    ]


def test_the_advice_names_numbers_and_what_fits(of_a_gpu):
    reason = "RESOURCE_EXHAUSTED: Out of memory allocating 34 bytes\nmore"
    error = memory.advice(of_a_gpu, (256, 256), 1, 16 * GB, reason)
    assert error.code == INTERNAL and "\n" not in str(error)
    assert "RESOURCE_EXHAUSTED: Out of memory allocating 34 bytes" in str(error)
    assert "8 images at once take about 34.0 GB a device; one has 16.0 GB" in str(error)
    assert error.details[0] == "--config.train.accumulate=3: about 14.4 GB a device, which fits"


def test_the_estimate_counts_every_parameter_and_grows_with_the_input():
    """Activations with the area, those of attention with its square."""
    config = tiny()
    shapes = jax.eval_shape(memory.training.init_fn(config, SIZE)).params
    small, large = (memory.step_memory(config, (side, side)) for side in (16, 32))
    assert small.state == large.state == 20 * sum(x.size for x in jax.tree.leaves(shapes))
    assert 4 * small.row <= large.row <= 16 * small.row


def test_a_step_that_does_not_fit_ends_with_the_advice(monkeypatch, tmp_path):
    """By an error as JAX raises it; other errors pass."""
    advised = UserError("advice", INTERNAL)
    seen = []
    monkeypatch.setattr(memory, "advice", lambda *args: seen.append(args) or advised)
    with pytest.raises(UserError, match="advice"), memory.explained(tiny(), SIZE, 2):
        raise jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")
    assert seen[0][1:] == (SIZE, 2, None, "RESOURCE_EXHAUSTED: Out of memory")
    with pytest.raises(jax.errors.JaxRuntimeError), memory.explained(tiny(), SIZE, 2):
        raise jax.errors.JaxRuntimeError("INTERNAL: something else")


def test_the_first_step_waits_for_its_result_within_the_explanation():
    """Where an accelerator reports an error late, as it does."""
    order = []

    class Setup:
        key = None

        def step(self, state, rows, key):
            order.append("step")
            return state, rows

    class Context:
        def __enter__(self):
            order.append("enter")

        def __exit__(self, *_):
            order.append("exit")

    step = train.CompiledStep(Setup(), Context)
    step(1, 2)
    step(1, 2)
    assert order == ["enter", "step", "exit", "step"]
