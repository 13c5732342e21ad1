"""The parts for accelerators, on a CPU with small networks."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import full, kernels, measured, ours, reduced, run
from segdiff_jax.runtime import distributed


@pytest.fixture
def config():
    c = ours.changed(reduced.get_config(), sampling__tile=16, sampling__stride=16)
    c.augment.crop = 16
    c.model.rrdb_features, c.model.rrdb_growth = 8, 4
    c.model.multipliers, c.model.attention_factors = (1, 1), (2,)
    c.model.blocks_per_level, c.model.rrdb_blocks = 1, 1
    c.sampling.steps, c.sampling.generations, c.train.batch_size = 2, 2, 8
    return c


@pytest.mark.slow
def test_the_rate_of_a_step_is_relative_to_that_of_matrix_products(config, monkeypatch):
    monkeypatch.setattr(full, "STEPS", 1)
    plan = measured.Plan(config, 2, None, "bfloat16")
    rows = {row.name: row for row in full.rows(plan, config, 32, side=64)}
    peak = rows["matrix products of 64, bfloat16"]
    update, reached = rows["an update of 8"], rows["an update of 8: of the matrix peak"]
    assert "2 generations of 20 steps, 32 pixels" not in rows  # the config has 2
    assert "2 generations of 2 steps, 32 pixels" in rows
    assert reached.bar == 40
    one = full.forward(ours.changed(config, model__dtype="bfloat16"))
    for share, ms, limit in zip(
        reached.sample.values, update.sample.values, peak.sample.values, strict=True
    ):
        work = 3 * 8 * (one.encode + one.denoise)
        assert share == pytest.approx(100 * work / (ms * 1e-3) / (limit * 1e12))


def test_the_entries_of_the_product_stay_near_one(config):
    product = full.matrix_products("float32", 128)()
    assert 0.1 < float(jnp.std(product)) < 10


def test_one_generation_of_theirs_is_timed_and_multiplied(config, monkeypatch):
    calls = []

    class Network:
        def training_step(self, batch):
            return lambda: calls.append(("update", batch))

        def sampling(self, tiles, steps):
            return lambda: calls.append(("image", tiles, steps))

    class Started:
        def __enter__(self):
            return Network()

        def __exit__(self, *_):
            calls.append("ended")

    monkeypatch.setattr(full.elsewhere, "started", lambda *_: Started())
    monkeypatch.setattr(
        full, "alternate", lambda works, _: {k: sample(w) for k, w in works.items()}
    )

    def sample(work):
        work()
        return full.Sample((3.0, 5.0))

    plan = measured.Plan(config, 2, "somewhere", "bfloat16")
    seconds = full.theirs(plan, config, 32)
    assert seconds["image"].values == (6.0, 10.0)  # two generations
    assert seconds["update"].values == (3.0 / full.STEPS, 5.0 / full.STEPS)
    assert calls == [("update", 8)] * full.STEPS + [("image", 4, 2), "ended"]


def test_the_largest_part_runs_only_if_named():
    assert "monuseg" not in run.parse(["--full"]).parts
    assert run.parse(["--only=monuseg,input"]).parts == ("input", "monuseg")
    assert run.parse([]).dtype == "bfloat16"


def test_kernels_are_summed_by_name_and_the_slowest_comes_first():
    events = [("a", 1e6), ("b", 5e6), ("a", 2e6)]
    first, second = kernels.summed(iter(events), updates=2)
    assert first == kernels.Kernel("b", 2.5, 5 / 8, 0.5)
    assert second == kernels.Kernel("a", 1.5, 3 / 8, 1.0)


def test_the_kernels_of_a_program_are_read_from_its_trace(tmp_path):
    distributed.start()
    product = jax.jit(lambda x: jnp.tanh(x @ x))
    x = jax.block_until_ready(product(jnp.ones((256, 256))))
    with jax.profiler.trace(str(tmp_path)):
        for _ in range(3):
            jax.block_until_ready(product(x))
    summed = kernels.summed(kernels.events(tmp_path), 3)
    assert any(kernel.times == 1 for kernel in summed)
    assert sum(kernel.share for kernel in summed) == pytest.approx(1)
