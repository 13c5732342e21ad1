"""Non-finite steps: the state is unchanged, the host reports them, the run ends in time."""

import json
import logging
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tiny_config import tiny

from segdiff_jax import train
from segdiff_jax.checkpoint.manager import Checkpoints
from segdiff_jax.errors import INTERNAL, UserError
from segdiff_jax.factory import datasets, training
from segdiff_jax.runtime import distributed
from segdiff_jax.training.nonfinite import MAX_STEPS_IN_FLIGHT, MetricsBuffer

NAMES = ("a", "b", "c", "d", "e", "f")


def metrics(bad_rows=(), loss=1.0, grad_norm=2.0):
    finite = np.ones(len(NAMES), bool)
    finite[list(bad_rows)] = False
    loss = np.nan if bad_rows else loss
    scalars = {"loss": loss, "mse": 0.5, "grad_norm": grad_norm}
    return {k: jnp.float32(v) for k, v in scalars.items()} | {"finite_rows": jnp.asarray(finite)}


def metrics_buffer(allowed=0):
    return MetricsBuffer(allowed, lambda step: NAMES, lambda: "the last good checkpoint is 2")


def feed(buffer, bad, until):
    """Adds updates 1, 2, ..., of which those in `bad` are not finite."""
    for step in range(1, until + 1):
        buffer.push(step, metrics((3,) if step in bad else ()))


def test_the_first_one_ends_the_run_with_its_update_its_row_and_the_way_back():
    buffer = metrics_buffer()
    with pytest.raises(UserError, match=r"update 5: loss is nan, .*row 3 \(d\); .*checkpoint is 2"):
        feed(buffer, {5}, 5 + MAX_STEPS_IN_FLIGHT)
    feed(buffer := metrics_buffer(), {5}, 5)
    with pytest.raises(UserError, match="update 5") as error:
        buffer.flush()
    assert error.value.code == INTERNAL


def test_it_is_noticed_eight_updates_later_at_most():
    buffer = metrics_buffer()
    feed(buffer, {5}, 5 + MAX_STEPS_IN_FLIGHT - 1)
    with pytest.raises(UserError, match="update 5"):
        buffer.push(5 + MAX_STEPS_IN_FLIGHT, metrics())


@pytest.mark.parametrize(
    ("allowed", "bad", "ends_at"),
    [(1, {3}, None), (1, {3, 5}, None), (1, {3, 4}, 4), (2, {3, 4}, None), (2, {3, 4, 5}, 5)],
)
def test_as_many_in_a_row_as_allowed_are_skipped_and_logged(allowed, bad, ends_at, caplog):
    buffer = metrics_buffer(allowed)
    with caplog.at_level(logging.WARNING):
        feed(buffer, bad, 7)
        if ends_at:
            with pytest.raises(UserError, match=f"update {ends_at}: "):
                buffer.flush()
        else:
            assert buffer.pop_means() == {
                "loss": 1,
                "mse": 0.5,
                "grad_norm": 2,
                "skipped": len(bad),
            }
            assert buffer.pop_means()["skipped"] == 0
    assert len(caplog.records) == len(bad) - bool(ends_at)


def test_a_gradient_that_is_not_finite_is_noticed_though_every_loss_is():
    buffer = metrics_buffer()
    buffer.push(1, metrics(grad_norm=np.inf))
    with pytest.raises(UserError, match="grad_norm is inf; .* their gradient is not: a, b, c, d, "):
        buffer.flush()


@pytest.fixture(scope="module")
def poisoned(tmp_path_factory):
    """Thirty black images and a white one, which the mean and std make infinite."""
    folder = tmp_path_factory.mktemp("poisoned")
    mask = np.zeros((16, 16), np.uint8)
    mask[4:9, 4:9] = 255
    for part in ("images", "masks"):
        (folder / "train" / part).mkdir(parents=True)
    for i in range(31):
        image = np.full((16, 16, 3), 255 if i == 30 else 0, np.uint8)
        Image.fromarray(image).save(folder / "train" / "images" / f"{i:02d}.png")
        Image.fromarray(mask).save(folder / "train" / "masks" / f"{i:02d}.png")
    c = tiny()
    c.data.name, c.data.dir, c.data.prepared_dir = "folder", str(folder), str(folder / "prepared")
    c.folder.validation_share = c.folder.test_share = 0.0
    c.data.mean, c.data.std = (0.0, 0.0, 0.0), (1e-37, 1e-37, 1e-37)
    c.train.log_every, c.train.checkpoint_every = 100, 1
    datasets.source(c).prepare()
    return c


def names_of(config, examples, step):
    """Returns the names of the rows of a step, as training does."""
    return train.row_names(training.options(config), examples, step)


def bad_update(config):
    """Returns the first update that sees the white image, and its row."""
    examples = datasets.source(config).load("train")
    for step in range(1, 9):
        names = names_of(config, examples, step)
        white = [i for i, name in enumerate(names) if name.startswith("30")]
        if white:
            return step, white[0], names[white[0]]
    raise AssertionError


def with_seed(config):
    """Returns the config with a seed whose white image comes third or later, and not twice."""
    config = config.copy_and_resolve_references()
    examples = datasets.source(config).load("train")

    def twice(step):
        return any(name.startswith("30") for name in names_of(config, examples, step + 1))

    while (step := bad_update(config)[0]) < 3 or twice(step):
        config.seed += 1
    return config


def checkpoint(config, workdir, step):
    for path in (workdir / "checkpoints").iterdir():
        if path.name.isdigit() and int(path.name) > step:
            path.rename(path.with_name(f"later-{path.name}"))
    checkpoints = Checkpoints(workdir, writes=False)
    examples = datasets.source(config).load("train")
    setup = training.setup(config, examples, distributed.all_devices())
    state = setup.layout.to_host(train.start(setup, checkpoints))
    checkpoints.close()
    assert int(state.step) == step
    return state


def finite(state):
    return all(np.isfinite(x).all() for x in jax.tree.leaves(state))


def test_an_image_that_makes_a_loss_infinite_is_named_and_nothing_of_it_is_saved(
    poisoned, tmp_path
):
    config = with_seed(poisoned)
    step, row, name = bad_update(config)
    with pytest.raises(UserError) as error:
        train.train(config, tmp_path)
    assert f"update {step}: loss is " in str(error.value)
    assert f"1 of its 8 rows is not finite: row {row} ({name})" in str(error.value)
    assert f"the last good checkpoint is {tmp_path}/checkpoints/{step - 1};" in str(error.value)
    assert finite(checkpoint(config, tmp_path, step - 1))


def test_a_skipped_update_leaves_the_state_as_it_was_and_the_run_goes_on(poisoned, tmp_path):
    config = with_seed(poisoned)
    config.train.skip_nonfinite, config.train.log_every = 1, 1
    step = bad_update(config)[0]
    config.train.steps = step + 1
    whole = jax.tree.map(np.asarray, train.train(config, tmp_path / "whole"))
    assert finite(whole) and int(whole.step) == step + 1
    config.train.steps = step  # and the same run in two parts, parted after the bad update
    after = jax.tree.map(np.asarray, train.train(config, tmp_path / "parts"))
    shutil.copytree(tmp_path / "parts", tmp_path / "before")
    before = checkpoint(config, tmp_path / "before", step - 1)
    jax.tree.map(np.testing.assert_array_equal, after, before.replace(step=after.step))
    config.train.steps = step + 1
    parts = jax.tree.map(np.asarray, train.train(config, tmp_path / "parts"))
    jax.tree.map(np.testing.assert_array_equal, parts, whole)
    text = (tmp_path / "whole" / "metrics.jsonl").read_text()
    lines = [json.loads(line) for line in text.splitlines()]
    assert [line["skipped"] for line in lines] == [0] * (step - 1) + [1, 0]
    assert lines[step - 1]["loss"] is None
