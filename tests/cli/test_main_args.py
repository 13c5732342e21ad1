"""A mistake in a command line is reported at once, in one line that names it, and an exit code."""

import errno
import importlib
import shutil
import subprocess
import sys
import time
import types
from pathlib import Path

import pytest
from tiny_config import ROOT

from segdiff_jax import errors, main
from segdiff_jax.cli import main_args, options

OK = "--config=configs/synthetic.py"
AUTHORS = "--config=configs/monuseg.py"
DISPATCH = main.run_mode

# (command line, part of the error message)
BAD = [
    ([], "--config is missing: must be one file, configs/ambiguous.py"),
    (["--config"], "--config is missing"),
    ([OK, OK], "--config is given twice"),
    (["configs/synthetic.py"], "--config is missing"),
    ([OK, "train"], "train: flags are written --NAME=VALUE"),
    ([OK, "--", "--config.train.steps=3"], "flags are written --NAME=VALUE"),
    ([OK, "--wrkdir=x"], "--wrkdir: no such flag; did you mean workdir?"),
    (
        [OK, "--steps=3"],
        "--steps: no such flag; did you mean --config.sampling.steps or --config.tr",
    ),
    ([OK, "--zzz"], "--zzz: no such flag; see --help"),
    ([OK, "--workdir"], "Missing value for flag --workdir"),
    ([OK, "--workdir=pyproject.toml"], "--workdir=pyproject.toml: must be a directory"),
    ([OK, "--workdir=pyproject.toml/run"], "must be a directory; pyproject.toml is a file"),
    (
        [OK, "--mode=trian"],
        "one of all, check, prepare, train, evaluate; did you",
    ),
    ([OK, "--mode="], "--mode=: must be one of all"),
    (["--config=configs/monusge.py"], "no such Python file; did you mean configs/monuseg.py?"),
    (["--config=nowhere/at/all.py"], "there are configs/ambiguous.py"),
    (["--config=configs"], "--config=configs: no such Python file"),
    (["--config=README.md"], "--config=README.md: no such Python file"),
    (["--config=configs/monuseg.py:bogus"], "monuseg.py:bogus: the argument must be small"),
    (["--config=configs/synthetic.py:small"], "takes no argument after a colon"),
    (["--config=https://example.org/c.py"], "must be a local file, since it is Python and is run"),
    (["--config=gs://bucket/c.py"], "must be a local file"),
    (
        [OK, "--config.train.step=3"],
        "config.train.step: no such key; did you mean config.train.ste",
    ),
    (
        [OK, "--config.steps=3"],
        "config.steps: no such key; did you mean config.sampling.steps or co",
    ),
    ([OK, "--config.train.T=3"], "config.train.T: no such key; did you mean config.diffusion.T?"),
    ([OK, "--config.train.qqqqqq=3"], "no such key; there are train.steps, train.batch_size"),
    ([OK, "--config.qqqqqq=3"], "config.qqqqqq: no such key; see segdiff_jax/config/schema.py"),
    ([OK, "--config.train=3"], "config.train is a group of fields; set one of config.train.steps"),
    ([OK, "--config.model.multipliers[0]=2"], "no such key; did you mean config.model.multipliers"),
    ([OK, "--config.train.steps=ten"], "config.train.steps='ten': must be an integer, at least 1"),
    ([OK, "--config.train.steps=1.5"], "config.train.steps='1.5': must be an integer"),
    ([OK, "--config.train.steps="], "config.train.steps='': must be an integer"),
    ([OK, "--config.train.steps"], "Missing value for flag --config.train.steps"),
    ([OK, "--config.train.steps=0"], "config.train.steps=0: must be an integer, at least 1"),
    ([OK, "--config.train.batch_size=-4"], "config.train.batch_size=-4: must be an integer"),
    ([OK, "--config.train.learning_rate=nan"], "config.train.learning_rate=nan: must be a number"),
    ([OK, "--config.train.learning_rate=inf"], "config.train.learning_rate=inf: must be a number"),
    ([OK, "--config.train.learning_rate=1e-3x"], "config.train.learning_rate='1e-3x': must be a n"),
    ([OK, "--config.train.ema_warmup=maybe"], "config.train.ema_warmup='maybe': must be true or f"),
    ([OK, '--config.model.multipliers=(1,"x")'], "multipliers=(1, 'x'): must be one or more valu"),
    ([OK, "--config.model.multipliers=1,x"], "config.model.multipliers=('1,x',): must be one or"),
    ([OK, "--config.model.multipliers=(1,"], "config.model.multipliers='(1,': must be one or mor"),
    ([OK, "--config.data.mean=1,2"], "config.data.mean=(1, 2): must have a value of each of the 3"),
    (
        [OK, "--config.data.name=monuesg"],
        "cityscapes, folder, ambiguous, discs; did you mean monuseg?",
    ),
    ([OK, "--config.data.dir=/not/there"], "config.data.dir='/not/there': must be a directory"),
    ([OK, "--config.data.dir=gs://b/c"], "config.data.dir='gs://b/c': must be a folder in a file"),
    ([OK, "--config.data.prepared_dir="], "config.data.prepared_dir='': must be a folder"),
    (
        [OK, "--workdir=gs://b/c"],
        "--workdir=gs://b/c: must be a place in a file system of this mac",
    ),
    ([OK, "--config.data.train_split=training"], "config.data.train_split='training': must be tra"),
    ([OK, "--config.model.dtype=float16"], "config.model.dtype='float16': must be one of float32"),
    ([OK, "--config.train.map=pmpa"], "must be one of shard_map, pmap; did you mean pmap?"),
    ([OK, "--config.model.norm_groups=24"], "must divide the width of every level"),
    ([OK, "--config.augment.crop=63"], "config.augment.crop=63: must be 0 or a multiple of 4"),
    ([OK, "--config.diffusion.T=20"], "config.diffusion.T=20: must be at least 21"),
    ([OK, "--config.sampling.steps=101"], "config.sampling.steps=101: must be at most diffusion.T"),
    (
        [OK, "--config.sampling.eta=1.1"],
        "config.sampling.eta=1.1: must be a number, at least 0, at",
    ),
    ([AUTHORS, "--config.train.evaluate_every=9"], "must be 0 unless data.validation_split names"),
    ([OK, "--processes=2"], "--processes and --process need --coordinator=HOST:PORT"),
    ([OK, "--processes=two"], "processes=two"),
    ([OK, "--coordinator=localhost"], "--coordinator=localhost: must be HOST:PORT or auto"),
    ([OK, "--coordinator=h:1", "--processes=2", "--process=2"], "--process=2: must be at least 0"),
    ([OK, "--coordinator=h:99999999", "--processes=2", "--process=0"], "must be HOST:PORT or auto"),
    ([OK, "--coordinator=h:65536", "--processes=2", "--process=0"], "must be HOST:PORT or auto"),
    ([OK, "--coordinator=a b:1", "--processes=2", "--process=0"], "must be HOST:PORT or auto"),
    ([OK, "--coordinator=h:1", "--processes=99999999", "--process=0"], "must be at most 65536"),
    ([OK, f"--workdir={'x' * 300}"], "is no usable path: File name too long"),
    ([OK, f"--workdir={'d/' * 3000}"], "is no usable path: File name too long"),
    ([OK, "--workdir=~nobodyxx/run"], "is no usable path: Could not determine home"),
    ([OK, "--workdir=a\nb"], "must be text without control characters"),
    ([OK, "--workdir=a\udcff"], "must be text without control characters"),
    ([OK, "--config.data.prepared_dir=~nobodyxx/foo"], "is no usable path: Could not determine ho"),
    ([OK, "--config.data.prepared_dir=a\x1b[2J"], "must be text without control characters"),
    ([OK, f"--config.data.dir={'a' * 5000}"], "is no usable path: File name too long"),
    ([OK, "--config.train.max_seconds=1e10"], "must be a number, at least 0, at most 1e+08"),
    (
        [OK, f"--config.train.steps={'9' * 30}"],
        "must be an integer, at least 1, at most 1000000000",
    ),
    (
        [OK, f"--config.train.steps={'9' * 5000}"],
        "must be an integer, at least 1, at most 10000000",
    ),
]


@pytest.fixture(autouse=True)
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)

    def reached(command):
        raise AssertionError(f"a mistake got as far as {command}")

    monkeypatch.setattr(main, "run_mode", reached)


def one_line(capsys):
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("segdiff: ") and captured.err.count("\n") == 1, captured.err
    return captured.err


@pytest.mark.parametrize(
    ("argv", "message"), BAD, ids=lambda x: " ".join(x)[:60] if isinstance(x, list) else ""
)
def test_a_mistake_takes_one_line(argv, message, capsys):
    assert main.main(argv) == errors.USAGE
    assert message in one_line(capsys)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def get_config(:\n", "line 1: SyntaxError"),
        ("import nothing_of_this_name\n", "line 1: ModuleNotFoundError"),
        ("x = 1\n", "AttributeError: module 'config_file' has no attribute 'get_config'"),
        ("def get_config():\n    return 1\n", "get_config must return a ConfigDict, not 1"),
        ("def get_config():\n    return {}['a']\n", "line 2: KeyError: 'a'"),
        (
            "from segdiff_jax.config import default\n"
            "def get_config():\n    c = default()\n    c.train.steps = 'x'\n    return c\n",
            "line 4: TypeError",
        ),
        (
            "from segdiff_jax.config import default\n"
            "def get_config():\n    c = default()\n    c.train.stepps = 3\n    return c\n",
            "config.train.stepps: no such key; did you mean config.train.steps?",
        ),
        ("\0", "SyntaxError"),
    ],
)
def test_a_broken_config_file_takes_one_line(text, message, tmp_path, capsys):
    path = tmp_path / "mine.py"
    path.write_text(text)
    assert main.main([f"--config={path}"]) == errors.USAGE
    assert message in one_line(capsys)


@pytest.mark.parametrize(
    ("raised", "code", "message"),
    [
        (errors.UserError("no images in x", errors.BAD_DATA), 65, "segdiff: no images in x"),
        (errors.UserError("two\nlines", errors.BAD_CHECKPOINT), 66, "segdiff: two lines"),
        (OSError(errno.ENOSPC, "No space left", "runs/x"), 74, "runs/x: No space left"),
        (KeyboardInterrupt(), 130, "segdiff: interrupted"),
        (
            RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes."),
            70,
            "too little memory (RESOURCE_EXHAUSTED: Out of memory allocating 9 bytes.): lower sa",
        ),
    ],
)
def test_an_error_of_a_mode_keeps_its_exit_code(raised, code, message, capsys, monkeypatch):
    def dispatch(command):
        raise raised

    monkeypatch.setattr(main, "run_mode", dispatch)
    monkeypatch.setattr(main.app, "set_up_logging", lambda: None)
    assert main.main([OK]) == code
    assert message in one_line(capsys)


def test_an_internal_error_shows_its_traceback(capsys, monkeypatch):
    def dispatch(command):
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(main, "run_mode", dispatch)
    monkeypatch.setattr(main.app, "set_up_logging", lambda: None)
    assert main.main([OK]) == errors.INTERNAL
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "directory"),
    [
        ([OK], "runs/synthetic"),
        (["--config", "configs/monuseg.py:small"], "runs/monuseg-small"),
        ([AUTHORS, "--workdir=elsewhere"], "elsewhere"),
    ],
)
def test_a_correct_command_line_is_parsed(argv, directory, monkeypatch):
    commands = []
    monkeypatch.setattr(main, "run_mode", commands.append)
    monkeypatch.setattr(main.app, "set_up_logging", lambda: None)
    more = ["--config.train.steps=3", "--config.augment.scale=1,2", "--mode=train"]
    assert main.main(argv + more + ["--noconfig.augment.vertical_flip"]) == errors.DONE
    (command,) = commands
    assert str(command.workdir) == directory
    assert (command.mode, command.config.train.steps) == ("train", 3)
    assert command.config.augment.scale == (1, 2)
    assert command.config.augment.vertical_flip is False
    assert command.config.is_locked


@pytest.mark.parametrize(
    ("mode", "called"),
    [
        ("all", ["prepare", "start", "check_platform", "compare", "train", "evaluate"]),
        ("prepare", ["prepare"]),
        ("check", ["inspect"]),
        ("train", ["start", "check_platform", "compare", "train"]),
        ("evaluate", ["start", "check_platform", "compare", "evaluate"]),
    ],
)
def test_a_mode_does_what_its_name_says(mode, called, monkeypatch):
    done = []

    def recorder(name):
        return lambda *args: done.append(name) or {}

    nothing = types.SimpleNamespace(problems=[], lines=[], pictures=[])
    source = types.SimpleNamespace(
        prepare=recorder("prepare"), inspect=lambda crop: recorder("inspect")() or nothing
    )
    modules = {
        "factory.datasets": {"source": lambda config: source},
        "runtime.distributed": {
            "start": recorder("start"),
            "check_platform": recorder("check_platform"),
            "leads_others": lambda: False,
        },
        "runtime.consistency": {"run_facts": lambda *_: {}, "check": recorder("compare")},
        "train": {"train": recorder("train")},
        "evaluate": {"evaluate": recorder("evaluate")},
    }
    for name, functions in modules.items():
        package, _, last = f"segdiff_jax.{name}".rpartition(".")
        module = types.SimpleNamespace(**functions)
        monkeypatch.setitem(sys.modules, f"{package}.{last}", module)
        monkeypatch.setattr(importlib.import_module(package), last, module, raising=False)
    command = main_args.parse([OK, f"--mode={mode}"])
    DISPATCH(command)
    assert done == called


def test_help_is_one_screen(capsys):
    assert main.main(["--help"]) == errors.DONE
    text = capsys.readouterr().out
    assert "configs/monuseg.py:small" in text and "--workdir" in text
    assert text.count("\n") < 28 and max(map(len, text.splitlines())) <= 100


@pytest.mark.parametrize("argv", [[OK, "--config.train.step=3"], ["--config=configs/no.py"]])
def test_a_mistake_shows_within_five_seconds(argv):
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "segdiff_jax.main", *argv], cwd=ROOT, capture_output=True, text=True
    )
    assert time.monotonic() - start < 5
    assert done.returncode == errors.USAGE
    assert done.stderr.startswith("segdiff: ") and done.stderr.count("\n") == 1


def test_no_two_sources_share_a_default_work_directory(tmp_path):
    files = ["configs/folder.py", "folder.py", str(tmp_path / "configs" / "folder.py")]
    arguments = ["", "a", "a,b", "a-b", "a/b", "a b", "a,,b", "./a/b", "a/b/", "/a/b", "a-b,small"]
    arguments += ["a/b,small", "a,b,small", "\udce9", "é"]
    sources = [f"{file}:{argument}".removesuffix(":") for file in files for argument in arguments]
    sources += [
        "configs/folder-a.py",
        "configs/folder-a.py:b",
        "configs/folder_a.py",
        "configs/a.py",
    ]
    names = {main_args.run_name(source) for source in sources}
    assert len(names) == len(sources)
    assert all("/" not in name and " " not in name for name in names)
    assert main_args.run_name("configs/folder.py:cells,small") == "folder-cells-small"
    assert main_args.run_name("configs/monuseg.py") == "monuseg"


@pytest.mark.parametrize("inside", [True, False])
def test_a_config_of_the_package_is_found_from_anywhere(inside, tmp_path, monkeypatch):
    """By its name, and by its file where there is none of that name; a file that is here counts."""
    package = tmp_path / "site" / "segdiff_jax"
    place = package / "configs" if inside else package.parent / "configs"
    shutil.copytree(ROOT / "configs", place)
    monkeypatch.setattr(options, "PACKAGE", package)
    monkeypatch.chdir(tmp_path)
    for name in ("configs/synthetic.py", "synthetic"):
        command = main_args.parse([f"--config={name}"])
        assert command.config.data.name == "synthetic"
        assert command.workdir == Path("runs/synthetic")
    assert main_args.run_name("monuseg:small") == main_args.run_name("configs/monuseg.py:small")
    with pytest.raises(errors.UserError, match="no such Python file"):
        main_args.parse(["--config=synthetic.py"])
    with pytest.raises(errors.UserError, match="no such Python file; did you mean synthetic?"):
        main_args.parse(["--config=syntetic"])
    mine = (place / "synthetic.py").read_text().replace("c.train.steps = 180", "c.train.steps = 7")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "synthetic.py").write_text(mine)
    assert main_args.parse(["--config=configs/synthetic.py"]).config.train.steps == 7
    assert main_args.parse(["--config=synthetic"]).config.train.steps == 180


@pytest.mark.parametrize(
    ("source", "name", "argument"),
    [
        ("monuseg:small", "monuseg", "small"),
        ("configs/folder.py:C:\\cells,small", "configs/folder.py", "C:\\cells,small"),
        ("C:\\mine\\a.py:small", "C:\\mine\\a.py", "small"),
        ("d:/mine/a.py", "d:/mine/a.py", ""),
        ("a:b", "a", "b"),
    ],
)
def test_a_drive_is_part_of_the_file(source, name, argument):
    assert options.split_source(source) == (name, argument)
