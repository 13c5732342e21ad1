"""Values of the command line as people write them."""

import os
import subprocess
import sys

import pytest
from tiny_config import ROOT

from segdiff_jax import errors
from segdiff_jax.cli import main_args, options
from segdiff_jax.config import default
from segdiff_jax.errors import UserError


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")  # and put back


@pytest.mark.parametrize(
    "text, value",
    [("1e3", 1000), ("1E+3", 1000), ("2.5e2", 250), ("8.0", 8), ("8.", 8), ("100e-2", 1), ("7", 7)],
)
def test_an_integer_may_have_an_exponent(text, value):
    assert options.whole_number(text) == value
    for argv in ([f"--config.train.steps={text}"], ["--config.train.steps", text]):
        config = default()
        options.read_flags({}, argv, config)
        assert config.train.steps == value and isinstance(config.train.steps, int)


@pytest.mark.parametrize(
    "text", ["1.5", "1e-3", "1e99", "1e999999999", "9" * 5000, "nan", "inf", "", "1e", "e3", "1e3x"]
)
def test_what_is_no_integer_is_refused_at_once(text):
    with pytest.raises(ValueError):
        options.whole_number(text)
    with pytest.raises(UserError, match=r"config\.train\.steps="):
        options.read_flags({}, [f"--config.train.steps={text}"], default())


def test_fields_that_are_no_integers_keep_their_text():
    config = default()
    argv = ["--config.train.learning_rate=1e-3", "--config.folder.mask_suffix=1e3"]
    options.read_flags({}, [*argv, "--config.train.max_seconds=1e3"], config)
    assert config.train.learning_rate == 1e-3 and config.folder.mask_suffix == "1e3"
    assert config.train.max_seconds == 1000.0


@pytest.mark.parametrize(
    "name, meant",
    [
        ("train.lr", "config.train.learning_rate"),
        ("lr", "config.train.learning_rate"),
        ("train.bs", "config.train.batch_size"),
        ("train.epochs", "config.train.steps"),
        ("diffusion.timesteps", "config.diffusion.T"),
        ("augment.hflip", "config.augment.horizontal_flip"),
        ("optimizer.wd", "config.train.weight_decay"),
        ("model.learning_rate", "config.train.learning_rate"),
        ("train.stepz", "config.train.steps"),
    ],
)
def test_an_unknown_field_is_answered_with_the_one_that_is_meant(name, meant):
    with pytest.raises(UserError, match="no such key; did you mean") as error:
        options.read_flags({}, [f"--config.{name}=1"], default())
    assert meant in str(error.value)


def test_every_usual_name_leads_to_fields_that_exist():
    from segdiff_jax.config.schema import FIELDS
    from segdiff_jax.config.usual_names import USUAL_NAMES

    assert {field for fields in USUAL_NAMES.values() for field in fields} <= FIELDS.keys()
    assert not {key.split(".")[-1] for key in FIELDS} & USUAL_NAMES.keys()


@pytest.mark.parametrize(
    "argv, values, rest",
    [
        (["--input=a", "--x=1", "--input=b c"], ["a", "b c"], ["--x=1"]),
        (["--input", "a.png", "b.png", "--x=1"], ["a.png", "b.png"], ["--x=1"]),
        (["-input", "a", "-input=b", "c"], ["a", "b"], ["c"]),
        (["--input"], [], []),
        (["--inputs=a", "x"], [], ["--inputs=a", "x"]),
    ],
)
def test_a_flag_may_be_repeated_and_followed_by_what_a_shell_makes_of_a_pattern(argv, values, rest):
    assert options.take("input", argv) == (values, rest)


@pytest.mark.parametrize(
    "name, platforms", [("cpu", "cpu"), ("gpu", "cuda,cpu"), ("tpu", "tpu,cpu")]
)
def test_a_device_is_handed_to_jax(monkeypatch, name, platforms):
    command = main_args.parse(["--config=configs/synthetic.py", f"--device={name}"])
    assert command.device == name and os.environ["JAX_PLATFORMS"] == platforms


@pytest.mark.parametrize("name", ["gpus", "CPU", "cuda:0"])
def test_an_unknown_device_is_refused(name):
    with pytest.raises(UserError, match="must be one of cpu, gpu, tpu"):
        options.use_device(name)


def test_a_device_that_is_not_there_is_a_line():
    argv = ["--config=configs/synthetic.py", "--device=gpu", "--mode=train", "--workdir=/tmp/none"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    run = [sys.executable, "-m", "segdiff_jax.main", *argv]
    done = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True)
    lines = [line for line in done.stderr.splitlines() if "segdiff:" in line]
    assert done.returncode == errors.USAGE and "Traceback" not in done.stderr
    assert len(lines) == 1 and "--device=gpu: JAX finds none here" in lines[0]


PROGRAMS = ["-m segdiff_jax.cli.segdiff train", "-m segdiff_jax.experiments.run", "launch/local.py"]


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_reader_of_the_help_that_leaves_causes_no_traceback(program):
    reader, writer = os.pipe()
    os.close(reader)
    argv = [sys.executable, *program.split(), "--help"]
    done = subprocess.run(argv, cwd=ROOT, stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    assert (done.returncode, done.stderr) == (errors.DONE, "")
