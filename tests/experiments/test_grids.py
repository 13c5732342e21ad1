"""The grid of experiments: its cells, their directories, and processes that share them."""

import errno
import os
import socket
import subprocess
import sys

import pytest
from tiny_config import ROOT, config_of, tiny

from segdiff_jax import errors
from segdiff_jax.config import default, flatten, validate
from segdiff_jax.errors import UserError
from segdiff_jax.experiments import args, grids, run
from segdiff_jax.experiments.grids import GRIDS, PAPER_GRIDS, Cell, CellPaths, Values
from segdiff_jax.experiments.results import (
    FAILED,
    RESULT,
    TRAINED,
    cell_state,
    read_json,
    write_stamped,
)
from segdiff_jax.runtime import lock

ALL = grids.plan(Values(), tuple(GRIDS))


@pytest.fixture
def paths(tmp_path):
    return CellPaths(tmp_path / "runs" / "a", tmp_path / "answers" / "b")


def hashes(config, cell):
    changed = grids.cell_config(config, cell)
    return grids.training_hash(changed), grids.measurement_hash(changed, cell.measure)


@pytest.mark.parametrize("name", ["monuseg", "vaihingen"])
def test_every_cell_of_a_benchmark_is_an_allowed_config(name):
    for cell in ALL:
        validate.check(grids.cell_config(config_of(name), cell))


def test_cells_have_unique_names_and_override_only_config_fields():
    assert len({cell.title for cell in ALL}) == len(ALL)
    assert all(set(cell.overrides) <= set(flatten(default())) for cell in ALL)


def test_equal_trainings_of_several_grids_are_one():
    """MoNuSeg has 12 blocks, T = 100, all images, and the code's side of every difference."""
    config = config_of("monuseg")
    by_title = {
        cell.title: hashes(config, cell) for cell in grids.plan(Values(blocks=(12, 1)), PAPER_GRIDS)
    }
    full = by_title["conditioning/full"]
    same = ("steps/T100", "blocks/blocks12", "images/all", "differences/generations-code")
    assert [by_title[title] for title in same] == [full] * 4
    measured = ("generations/up-to-30", "reverse/all-steps", "seconds/T100")
    assert [by_title[title][0] for title in measured] == [full[0]] * 3
    assert len({by_title[title][1] for title in (*measured, "conditioning/full")}) == 4
    trainings = {training for training, _ in by_title.values()}
    # full, six variants, two baselines, five other T, one other count of blocks, three sizes of
    # the training set, the other schedule, the other loss
    assert len(trainings) == 1 + 6 + 2 + 5 + 1 + 3 + 2


@pytest.mark.parametrize(
    ("key", "value", "training", "measurement"),
    [
        ("train.learning_rate", 3e-3, True, True),
        ("seed", 4, True, True),
        ("model.rrdb_blocks", 2, True, True),
        ("sampling.steps", 7, False, True),
        ("diffusion.clip_x0", True, False, True),
        ("sampling.rows_at_once", 3, False, False),
        ("train.draws_at_once", 1, False, False),
        ("data.dir", "/elsewhere", False, False),
        ("train.log_every", 3, False, False),
        ("job.hang_seconds", 3.0, False, False),
        ("model.remat", "all", False, False),
    ],
)
def test_a_field_changes_the_names_of_the_directories_that_depend_on_it(
    key, value, training, measurement
):
    plain, changed = (Cell("g", "c", over) for over in ({}, {key: value}))
    before, after = hashes(tiny(), plain), hashes(tiny(), changed)
    assert [x != y for x, y in zip(before, after, strict=True)] == [training, measurement]


def test_the_config_of_the_grid_is_left_as_it_is():
    config = tiny()
    before = flatten(config)
    for cell in ALL:
        grids.cell_config(config, cell)
    assert flatten(config) == before


RACER = """
import sys, time
from pathlib import Path
from segdiff_jax.experiments import run
from segdiff_jax.experiments.grids import Cell
from segdiff_jax.runtime.lock import InUseError

folder, log, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]

def work():
    with open(log, "a") as file:
        file.write(f"{i} {name}\\n")
    time.sleep(0.005)
    return {}

while not log.with_name("go").exists():
    time.sleep(0.001)
left = list(range(40))
while left:
    for i in list(left):
        try:
            run._do_once(Cell("g", str(i), {}), folder / f"{i}", folder / "locks" / f"{i}",
                         "result.json", work)
            left.remove(i)
        except InUseError:
            pass
"""


def test_of_processes_that_race_for_cells_each_cell_is_done_by_one(tmp_path):
    log = tmp_path / "log"
    racers = [
        subprocess.Popen([sys.executable, "-c", RACER, str(tmp_path), str(log), name], cwd=ROOT)
        for name in "ab"
    ]
    (tmp_path / "go").touch()
    assert [racer.wait(60) for racer in racers] == [0, 0]
    lines = [line.split() for line in log.read_text().splitlines()]
    assert sorted(int(i) for i, _ in lines) == list(range(40))
    assert {name for _, name in lines} == {"a", "b"}  # both took part
    assert not list(tmp_path.rglob(lock.HOLDER))


CELL = Cell("g", "c", {})


def do(paths, work=dict):
    run._do_once(CELL, paths.run, paths.run_lock, TRAINED, work)


def test_a_cell_is_locked_while_it_is_done_and_free_after_an_interruption(paths):
    def work():
        assert lock.owner(paths.run_lock) == f"{socket.gethostname()}:{os.getpid()}"
        with pytest.raises(lock.InUseError):
            do(paths)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        do(paths, work)
    assert lock.owner(paths.run_lock) is None and not paths.run.exists()
    do(paths)
    do(paths, None)  # a cell that is done is not done again
    assert (paths.run / TRAINED).exists()


def test_the_cell_of_a_process_that_was_killed_is_taken_over_at_once(paths):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from segdiff_jax.runtime.lock import locked\n"
        "with locked(Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(paths.run_lock)], cwd=ROOT)
    assert (paths.run_lock / lock.HOLDER).exists()
    assert cell_state(paths).name == "open"
    do(paths)
    assert (paths.run / TRAINED).exists()


def test_a_cell_is_open_then_running_then_done_or_failed(paths):
    assert cell_state(paths) == ("open", "not run")
    for directory in (paths.run_lock, paths.measurement_lock):
        with lock.locked(directory):
            assert cell_state(paths).name == "running"
            assert f":{os.getpid()}" in cell_state(paths).message
    write_stamped(paths.run / TRAINED, {})
    assert cell_state(paths) == ("open", "trained, not measured")
    write_stamped(paths.measurement / FAILED, {"line": "too hot", "code": 70})
    assert cell_state(paths) == ("failed", "failed: too hot")
    write_stamped(paths.measurement / RESULT, {})
    assert cell_state(paths).name == "done"


def test_a_failure_is_written_down_and_a_full_disk_ends_the_grid(paths):
    def fail(error):
        raise error

    do(paths, lambda: fail(ValueError("two\nlines")))
    failure = read_json(paths.run / FAILED)
    assert (failure["line"], failure["code"]) == ("ValueError: two lines", errors.INTERNAL)
    do(paths, None)  # one that failed is not done again
    (paths.run / FAILED).unlink()
    with pytest.raises(OSError):
        do(paths, lambda: fail(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))))
    with pytest.raises(lock.InUseError):  # a training that `main` runs in this directory
        do(paths, lambda: fail(lock.InUseError("runs/x is in use")))
    assert not (paths.run / FAILED).exists()


def arguments(tmp_path, *more):
    return ["--config=configs/synthetic.py", f"--dir={tmp_path}", *more]


@pytest.fixture
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_list_prints_every_cell_and_runs_nothing(tmp_path, in_the_repository, capsys):
    flags = ("--grid=steps,images", "--T=25,50", "--images=4,0", "--list")
    assert run.main(arguments(tmp_path / "g", *flags)) == errors.DONE
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == [
        *("steps/T25", "steps/T50", "images/images4", "images/all")
    ]
    assert "diffusion.T=25" in out and out.count("not run") == 4
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--grid=conditionning"], "did you mean conditioning?"),
        (["--T=25,x"], "--T=25,x: must be integers joined by commas, each at least 1"),
        (["--T=25,25"], "names a value twice"),
        (["--images=-1"], "--images=-1: must be integers"),
        (["--generations=3,4"], "--generations=3,4: must be an integer"),
        (["--grdi=steps"], "--grdi: no such flag; did you mean grid?"),
        (["--config.train.stepz=1"], "did you mean config.train.steps"),
    ],
)
def test_a_mistake_takes_one_line(tmp_path, in_the_repository, capsys, more, message):
    assert run.main(arguments(tmp_path, *more)) == errors.USAGE
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1


def test_a_directory_holds_the_grid_of_one_config(tmp_path, in_the_repository):
    args.describe(args.parse(arguments(tmp_path)))
    args.parse(arguments(tmp_path, "--config.train.log_every=7", "--T=30"))
    with pytest.raises(UserError, match="train.steps was 180, now 9") as caught:
        args.parse(arguments(tmp_path, "--config.train.steps=9"))
    assert caught.value.code == errors.BAD_CHECKPOINT


def test_a_contradictory_cell_is_written_down_and_named_at_the_end(
    tmp_path, in_the_repository, capsys
):
    """The grid's network has too few levels for variants five and six."""
    command = args.parse(arguments(tmp_path, "--grid=conditioning"))
    chosen = [cell for cell in command.cells if cell.name in ("five", "six")]
    with pytest.raises(UserError, match="2 of 2 cells failed") as caught:
        run.run(command._replace(cells=chosen))
    assert caught.value.code == errors.USAGE
    assert "conditioning/six" in caught.value.details[1]
    assert "needs at least 6 levels" in caught.value.details[1]
    assert "failed: config.model.conditioning" in run.listed(command)[-1]
    assert not list(tmp_path.rglob(lock.HOLDER))
