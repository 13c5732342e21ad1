"""The benchmark: its clock, table, counts of arithmetic, and errors for the user."""

import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import pytest
from tiny_config import ROOT, tiny

from benchmarks import authors, compiled, flops, guards, reduced, run, scaling, shapes, table
from benchmarks.backend import as_on_a_tpu
from benchmarks.measured import Plan
from benchmarks.network_input import side_of
from benchmarks.timing import Row, Sample, alternate, figure, ratio
from segdiff_jax.errors import CANNOT_WRITE, DONE, USAGE, UserError

# 1e9 operations of one evaluation by the authors' code, and the share of G
THEIRS = {"Vaihingen": (1141.42, 0.512), "MoNuSeg": (1706.75, 0.674), "Cityscapes": (525.30, 0.682)}
PARAMETERS = {"Vaihingen": 159_838_209, "MoNuSeg": 164_154_753, "Cityscapes": 162_766_017}


class Clock:
    """A clock that is advanced by the works alone."""

    def __init__(self):
        self.now, self.order = 0.0, []

    def __call__(self):
        return self.now

    def work(self, name, *seconds):
        left = iter(seconds)

        def do():
            self.order.append(name)
            self.now += next(left)

        return do


def test_works_take_turns_and_every_second_turn_runs_backwards():
    clock = Clock()
    works = {"a": clock.work("a", 9, 1, 2, 3), "b": clock.work("b", 9, 10, 20, 30)}
    samples = alternate(works, repeats=3, warmup=1, clock=clock)
    assert "".join(clock.order) == "ab" + "abbaab"  # the first two are the warm-up
    assert samples == {"a": Sample((1, 2, 3)), "b": Sample((10, 20, 30))}


def test_a_sample_has_a_median_and_a_range():
    sample = Sample((5.0, 1.0, 2.0, 100.0))
    assert (sample.median, sample.low, sample.high) == (3.5, 1.0, 100.0)


def test_a_ratio_is_taken_within_each_repeat():
    # both are ten times slower in the second repeat, because the machine was loaded
    assert ratio(Sample((6.0, 60.0, 9.0)), Sample((2.0, 20.0, 1.0))) == Sample((3.0, 3.0, 9.0))
    with pytest.raises(ValueError):
        ratio(Sample((1.0, 2.0)), Sample((1.0,)))


@pytest.mark.parametrize(
    "median, least, met", [(6.0, True, True), (5.9, True, False), (5.9, False, True)]
)
def test_a_bar_is_a_lower_or_an_upper_limit_of_the_median(median, least, met):
    assert Row("", "x", Sample((median,)), 6.0, least).met is met
    assert Row("", "x", Sample((median,))).met is None


def section():
    rows = [
        Row("step: authors / ours", "x", Sample((1.5, 1.2, 1.3)), 1.25),
        Row("imports", "s", Sample((4.0, 3.5)), 3.0, least=False),
        figure("size", "GB", 0.01234),
    ]
    return table.Section("training", rows, (5.0, 4.0, 3.0), ())


def test_the_table_shows_medians_spreads_repeats_bars_and_the_load():
    lines = [line.split() for line in table.text(section()).splitlines()]
    assert lines[0] == "training (load 5.00 4.00 3.00 -> ?)".split()
    assert lines[2] == "step: authors / ours 1.30 x 1.20 .. 1.50 3 >= 1.25 met".split()
    assert lines[3] == "imports 3.75 s 3.50 .. 4.00 2 <= 3.00 MISSED".split()
    assert lines[4] == "size 0.012 GB 1".split()


@pytest.mark.parametrize(
    "value, text",
    [
        (0, "0"),
        (0.0123, "0.012"),
        (1.234, "1.23"),
        (123.4, "123"),
        (12345.6, "12346"),
        (1e-5, "1.0e-05"),
    ],
)
def test_numbers_have_about_three_digits(value, text):
    assert table.number(value) == text


def test_every_repeat_is_in_the_json(tmp_path):
    table.write(tmp_path / "out.json", {"cores": 2}, [section()])
    read = json.loads((tmp_path / "out.json").read_text())
    assert read["machine"] == {"cores": 2}
    step = read["sections"][0]["rows"][0]
    assert step["values"] == [1.5, 1.2, 1.3] and step["median"] == 1.3 and step["met"] is True
    assert [path.name for path in tmp_path.iterdir()] == ["out.json"]


def test_a_file_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "out.json").mkdir()
    with pytest.raises(UserError, match="--out=.*out.json") as caught:
        table.write(tmp_path / "out.json", {}, [])
    assert caught.value.code == CANNOT_WRITE


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--only=trainign", "'trainign' is not one of training, input"),
        ("--repeats=0", "--repeats=0: must be at least 1"),
        ("--repeats=two", "--repeats"),
        ("--fast", "--fast: no such option"),
        ("--out=/no/such/folder/a.json", "its folder does not exist"),
    ],
)
def test_mistakes_take_one_line(argument, message, capsys):
    assert run.main([argument]) == USAGE
    line = capsys.readouterr().err
    assert message in line and line.count("\n") == 1


def test_a_path_that_is_not_a_checkout_is_refused_before_anything_runs(tmp_path, capsys):
    assert run.main(["--only=training", f"--authors={tmp_path}"]) == USAGE
    assert "must be a checkout of github.com/tomeramit/SegDiff" in capsys.readouterr().err


def test_authors_without_pytorch_are_refused_before_anything_runs(tmp_path, capsys, monkeypatch):
    (tmp_path / "improved_diffusion").mkdir()
    for name in authors.MODULES:
        (tmp_path / "improved_diffusion" / f"{name}.py").touch()
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    assert run.main(["--only=training", f"--authors={tmp_path}"]) == USAGE
    assert "needs PyTorch, which is not installed: pip install" in capsys.readouterr().err


def test_parts_run_in_their_order_and_slow_ones_only_on_request():
    assert run.parse(["--only=sampling,training"]).parts == ("training", "sampling")
    assert "tile" not in run.parse([]).parts and "tile" in run.parse(["--full"]).parts


def test_a_call_of_a_package_that_is_replaced_raises():
    stand_ins = authors.stand_ins()
    assert stand_ins["mpi4py"].MPI.COMM_WORLD.Get_size() == 1
    with pytest.raises(NotImplementedError, match="sklearn.metrics.f1_score"):
        stand_ins["sklearn.metrics"].f1_score([], [])


def test_products_are_counted_by_hand():
    def network(x, kernel, weight):
        convolved = jax.lax.conv_general_dilated(
            x, kernel, (2, 2), ((1, 1), (1, 1)), dimension_numbers=("NHWC", "HWIO", "NHWC")
        )

        def body(carry, _):
            return jnp.tanh(carry @ weight), None

        return jax.lax.scan(body, convolved, length=5)[0]

    shapes_ = ((2, 8, 8, 3), (3, 3, 3, 4), (4, 4))
    traced = jax.jit(network).trace(*(jax.ShapeDtypeStruct(s, jnp.float32) for s in shapes_))
    by_hand = 2 * (2 * 4 * 4 * 4) * (3 * 3 * 3) + 5 * 2 * (2 * 4 * 4 * 4) * 4
    assert flops.product_flops(traced.jaxpr.jaxpr) == by_hand


def test_efficiency_on_paper_follows_its_closed_form():
    # two chips exchange the four bytes of each parameter once; a single chip sends nothing
    assert scaling.wire_bytes(1000, 2) == 4000 and scaling.wire_bytes(1000, 1) == 0
    assert scaling.efficiency(1e12, 10**8, cores=2) == 1
    compute = 3e12 / (0.4 * 61.5e12)
    half = scaling.wire_bytes(10**8, 4) / compute  # transfer takes as long as compute
    assert math.isclose(scaling.efficiency(1e12, 10**8, cores=8, links=half), 0.5)


def test_a_batch_fits_if_its_residuals_and_twenty_bytes_a_parameter_do():
    assert scaling.batch_that_fits(100, parameters=1, kept=10) == 7  # 0.9 * 100 - 20
    assert scaling.batch_that_fits(20, parameters=1, kept=10) == 0


def test_the_command_line_accepts_the_reduced_configuration():
    from segdiff_jax.cli import main_args

    command = main_args.parse([f"--config={ROOT / 'benchmarks/reduced.py'}"])
    assert command.config.to_dict() == reduced.get_config().to_dict()
    assert side_of(command.config) == 64


def saved_by_upsampling(config, side):
    """Returns the operations saved by an upsampling with 16 and not 36 products per pixel."""
    widths = [m * config.model.channels for m in config.model.multipliers]
    pixels = [(side / 2**level) ** 2 for level in range(len(widths))]  # of the larger map
    return sum(2 * (9 - 4) * widths[i + 1] ** 2 * pixels[i] for i in range(len(widths) - 1))


@pytest.mark.slow
@pytest.mark.parametrize("name", THEIRS)
def test_arithmetic_and_parameters_are_those_of_the_authors_networks(name):
    config = shapes.CONFIGS[name]()
    one = shapes.forward(config)
    total, share = THEIRS[name]
    assert one.parameters == PARAMETERS[name]
    assert math.isclose(one.encode, share * total * 1e9, rel_tol=1e-3)
    saved = saved_by_upsampling(config, side_of(config))
    # our norms sum by matrix products: some parts in ten thousand
    assert math.isclose(one.encode + one.denoise + saved, total * 1e9, rel_tol=2e-3)


@pytest.mark.slow
def test_steps_and_saves_are_timed_with_and_without_guards():
    rows = {row.name: row for row in guards.rows(Plan(tiny(), 2, None))}
    for pair in (
        ("8 updates, guarded", "8 updates, unguarded", "guarded / unguarded"),
        ("a save, with sums", "a save, without", "save with sums / without"),
    ):
        above, below, cost = (rows[name].sample for name in pair)
        assert cost.values == pytest.approx(ratio(above, below).values)
    assert rows["what is saved"].sample.median > 0 and rows["the sums alone"].sample.low > 0


@pytest.mark.slow
def test_rematerialisation_reduces_residuals_and_both_kinds_together_most():
    config = reduced.get_config()
    kept = {remat: shapes.kept_bytes(config, remat) for remat in shapes.REMAT}
    assert kept["all"] < min(kept["rrdb"], kept["unet"])
    assert max(kept["rrdb"], kept["unet"]) < kept["none"]
    saved = {remat: kept["none"] - kept[remat] for remat in ("rrdb", "unet", "all")}
    assert math.isclose(saved["rrdb"] + saved["unet"], saved["all"], rel_tol=1e-6)


@pytest.mark.parametrize(
    "argument, message",
    [
        ("--config=MoNuseg", "must be one of Vaihingen, MoNuSeg, Cityscapes, reduced"),
        ("--dtype=float16", "invalid choice: 'float16'"),
        ("--remta=all", "--remta=all: no such option"),
    ],
)
def test_mistakes_in_the_options_of_compiled_take_one_line(argument, message, capsys, monkeypatch):
    monkeypatch.setattr("os.environ", dict(os.environ))
    assert compiled.main([argument]) == USAGE
    line = capsys.readouterr().err
    assert message in line and line.count("\n") == 1


@pytest.mark.slow
def test_shapes_are_those_of_an_accelerator_and_not_of_this_cpu(monkeypatch):
    config = reduced.get_config()
    config.model.blocks_per_level, config.model.rrdb_blocks = 1, 1
    monkeypatch.setattr(shapes, "CONFIGS", {"reduced": lambda: config})
    monkeypatch.setattr(shapes, "REMAT", ("none",))
    rows = {row.name: row.sample.median for row in shapes.rows()}
    kept = round(rows["reduced: kept for one image, remat none"] * 1e9)
    assert jax.default_backend() == "cpu"
    here = shapes.kept_bytes(config, "none")  # Winograd tiles are larger than maps
    with as_on_a_tpu():
        assert kept == shapes.kept_bytes(config, "none") < here


@pytest.mark.slow
@pytest.mark.skipif(not find_spec("libtpu"), reason="needs the compiler of TPUs")
def test_a_step_compiled_for_tpus_has_its_state_once_and_few_reductions():
    arguments = ["--config=reduced", "--dtype=bfloat16", "--cores=4"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.compiled", *arguments], cwd=ROOT, capture_output=True
    )
    printed = json.loads(done.stdout)
    parameters = shapes.forward(reduced.get_config()).parameters
    assert printed["arguments"] == pytest.approx(16 * parameters, rel=0.7)  # tiled, so padded
    assert printed["at most at once"] > printed["arguments"] and 1 <= printed["all-reduces"] <= 8


@pytest.mark.parametrize("module", ["run", "compiled"])
def test_help_needs_no_jax(module):
    code = (
        f"import sys\nfrom benchmarks import {module} as run\n"
        "assert run.main(['--help']) == 0\nsys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == DONE
