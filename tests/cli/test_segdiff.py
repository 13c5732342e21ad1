"""The command `segdiff`: each sub-command runs its program, and helps on its own flags only."""

import importlib
import re
import subprocess
import sys
import time

import pytest
from tiny_config import ROOT

import segdiff_jax
from segdiff_jax import errors
from segdiff_jax.cli import (
    app,
    export_args,
    import_args,
    main_args,
    page_args,
    predict_args,
    review_args,
    segdiff,
)
from segdiff_jax.experiments import args, report
from segdiff_jax.experiments.grids import Values

CONFIG = ("config", "config.GROUP.KEY")
MAIN = (*CONFIG, *main_args.FLAGS)
FLAGS = {
    **dict.fromkeys(("train", "evaluate", "prepare", "check"), MAIN),
    "predict": predict_args.FLAGS,
    "app": page_args.FLAGS,
    **{
        name: (*review_args.FLAGS[name], *review_args.SETTINGS, *review_args.READING)
        for name in ("calibrate", "rate")
    },
    "import": (*CONFIG, *import_args.FLAGS["import"]),
    "export": export_args.FLAGS,
    "models": export_args.MODELS_FLAGS,
    "experiments run": (*CONFIG, *args.FLAGS, *Values._fields),
    "experiments report": report.NAMES,
}
ALL_FLAGS = {*MAIN, *predict_args.FLAGS, *import_args.FLAGS[""], "mode"}
ALL_FLAGS |= {*page_args.FLAGS, *export_args.FLAGS, *export_args.MODELS_FLAGS}
ALL_FLAGS |= {flag for flags in review_args.FLAGS.values() for flag in flags}
SEGDIFF = [sys.executable, "-c", "from segdiff_jax.cli import segdiff; segdiff.run()"]


def flags_in(text):
    """Returns the flags of all lines that begin with one, as examples do not."""
    lines = [line for line in text.splitlines() if line.startswith("  --")]
    return {flag for line in lines for flag in re.findall(r"--([\w.]+)", line)}


@pytest.mark.parametrize("name", segdiff.COMMANDS)
def test_the_help_of_a_command_lists_all_of_its_flags_and_the_exit_codes(name, capsys):
    assert segdiff.main([*name.split(), "--help"]) == errors.DONE
    text = capsys.readouterr().out
    assert flags_in(text) >= set(FLAGS[name])
    assert "Exit codes: " in text and "segdiff" in text
    assert max(map(len, text.splitlines())) <= 100 and text.count("\n") < 56


@pytest.mark.parametrize("name", [name for name in segdiff.COMMANDS if " " not in name])
def test_the_help_of_a_command_lists_no_flag_of_another(name, capsys):
    segdiff.main([name, "--help"])
    text = capsys.readouterr().out
    assert flags_in(text) & ALL_FLAGS == set(FLAGS[name])
    assert f"  segdiff {name} --" in text


def test_every_command_has_flags_in_this_test():
    assert FLAGS.keys() == segdiff.COMMANDS.keys()


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"]])
def test_alone_it_lists_the_commands_with_a_line_each(argv, capsys):
    assert segdiff.main(argv) == errors.DONE
    text = capsys.readouterr().out
    for name, program in segdiff.COMMANDS.items():
        assert sum(name in line and program.summary in line for line in text.splitlines()) == 1
    assert "64 bad command line" in text


@pytest.mark.parametrize("argv", [["experiments"], ["experiments", "--help"]])
def test_experiments_alone_lists_its_two_commands(argv, capsys):
    assert segdiff.main(argv) == errors.DONE
    text = capsys.readouterr().out
    assert "experiments run" in text and "experiments report" in text and "predict" not in text


def test_the_version_is_that_of_the_package(capsys):
    assert segdiff.main(["--version"]) == errors.DONE
    assert capsys.readouterr().out == f"{segdiff_jax.__version__}\n"


@pytest.mark.parametrize(
    ("argv", "module", "called"),
    [
        (["train", "--config=c.py"], "main", (["--config=c.py"], "train")),
        (["evaluate", "--config=c.py"], "main", (["--config=c.py"], "evaluate")),
        (["prepare"], "main", ([], "prepare")),
        (["check", "-x"], "main", (["-x"], "check")),
        (["app", "--port=1"], "app.run", (["--port=1"],)),
        (["predict", "--workdir=run"], "predict", (["--workdir=run"],)),
        (["import", "--weights=w.pt"], "import_torch", (["--weights=w.pt"], "import")),
        (["export", "--export=w.pt"], "export.run", (["--export=w.pt"], "export")),
        (["models"], "export.run", ([], "models")),
        (["experiments", "run", "--dir=d"], "experiments.run", (["--dir=d"],)),
        (["experiments", "report", "--dir=d"], "experiments.report", (["--dir=d"],)),
        (["--config=c.py", "--mode=all"], "main", (["--config=c.py", "--mode=all"],)),
    ],
)
def test_a_command_runs_its_program(argv, module, called, monkeypatch):
    program = importlib.import_module(f"segdiff_jax.{module}")
    monkeypatch.setattr(program, "main", lambda *given: (given, module))
    assert segdiff.main(argv) == (called, module)


@pytest.mark.parametrize("mode", ["train", "evaluate", "prepare", "check"])
def test_a_command_is_a_mode_of_the_program(mode, monkeypatch):
    main = importlib.import_module("segdiff_jax.main")
    commands = []
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(main, "run_mode", commands.append)
    monkeypatch.setattr(app, "set_up_logging", lambda: None)
    assert segdiff.main([mode, "--config=configs/synthetic.py"]) == errors.DONE
    assert [command.mode for command in commands] == [mode]


BAD = [
    (["trian", "--config=configs/synthetic.py"], "trian: no such command; did you mean train?"),
    (["xyzzy"], "xyzzy: no such command; see segdiff --help"),
    (["experiments", "rnu"], "experiments rnu: no such command; did you mean experiments run?"),
    (["train", "--config=configs/no.py"], "no such Python file"),
    (["train", "--config=configs/synthetic.py", "--mode=check"], "--mode: no such flag"),
    (["predict", "--wrkdir=x"], "--wrkdir: no such flag; did you mean workdir?"),
    (["import", "--export=w.pt"], "--export: no such flag"),
    (["import", "--workdir=x"], "--weights is missing"),
    (["export", "--workdir=x"], "--output is missing"),
    (["--mode=train"], "--config is missing"),
]


@pytest.mark.parametrize(("argv", "message"), BAD, ids=lambda x: " ".join(x)[:40])
def test_a_mistake_takes_one_line(argv, message, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert segdiff.main(argv) == errors.USAGE
    captured = capsys.readouterr()
    assert captured.out == "" and captured.err.count("\n") == 1
    assert captured.err.startswith("segdiff: ") and message in captured.err


@pytest.mark.parametrize("argv", [BAD[0][0], BAD[3][0], BAD[5][0], BAD[7][0]])
def test_a_mistake_shows_within_five_seconds_and_without_jax(argv):
    code = (
        "import sys; from segdiff_jax.cli import segdiff\n"
        f"code = segdiff.main({argv})\n"
        "sys.exit(code if 'jax' not in sys.modules else 1)"
    )
    start = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert time.monotonic() - start < 5
    assert done.returncode == errors.USAGE
    assert done.stderr.startswith("segdiff: ") and done.stderr.count("\n") == 1


@pytest.mark.parametrize("argv", [["--help"], ["train", "--help"], ["--version"]])
def test_a_reader_that_goes_away_is_no_error(argv):
    """As `segdiff --help | head` does: the pipe is closed before anything is written."""
    program = subprocess.Popen(
        [*SEGDIFF, *argv], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    program.stdout.close()
    assert (program.stderr.read(), program.wait()) == (b"", errors.DONE)
    program.stderr.close()


def test_the_installed_command_is_this_one():
    assert 'segdiff = "segdiff_jax.cli.segdiff:run"' in (ROOT / "pyproject.toml").read_text()
