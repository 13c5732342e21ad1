"""The grid of experiments: which cells there are, who does them, and what is measured."""

import json
import os
import subprocess
import sys
import time

import pytest
from tiny_config import ROOT, config_of, tiny

from segdiff_jax import errors
from segdiff_jax.config import default, flatten, validate
from segdiff_jax.errors import UserError
from segdiff_jax.experiments import args, claims, grids, run
from segdiff_jax.experiments.claims import claim, holder
from segdiff_jax.experiments.grids import GRIDS, Cell, Values
from segdiff_jax.experiments.results import FAILED, RESULT, TRAINED, look, write_json

ALL = grids.plan(Values(), tuple(GRIDS))


def hashes(config, cell):
    made = grids.configured(config, cell)
    return grids.training_hash(made), grids.answer_hash(made, cell.measure)


@pytest.mark.parametrize("name", ["monuseg", "vaihingen"])
def test_every_cell_of_a_benchmark_is_an_allowed_config(name):
    for cell in ALL:
        validate.check(grids.configured(config_of(name), cell))


def test_cells_have_names_of_their_own_and_set_only_knobs():
    assert len({cell.title for cell in ALL}) == len(ALL)
    assert all(set(cell.overrides) <= set(flatten(default())) for cell in ALL)


def test_equal_trainings_of_several_grids_are_one():
    """MoNuSeg has 12 blocks, T = 100, all images, and the code's side of every difference."""
    config = config_of("monuseg")
    by_title = {
        cell.title: hashes(config, cell)
        for cell in grids.plan(Values(blocks=(12, 1)), tuple(GRIDS))
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
    ("key", "value", "training", "answer"),
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
def test_a_knob_changes_the_name_of_what_depends_on_it(key, value, training, answer):
    plain, changed = (Cell("g", "c", over) for over in ({}, {key: value}))
    before, after = hashes(tiny(), plain), hashes(tiny(), changed)
    assert [x != y for x, y in zip(before, after, strict=True)] == [training, answer]


def test_the_config_of_the_grid_is_left_as_it_is():
    config = tiny()
    before = flatten(config)
    for cell in ALL:
        grids.configured(config, cell)
    assert flatten(config) == before


RACER = """
import sys, time
from pathlib import Path
from segdiff_jax.experiments.claims import claim

place, log, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
while not log.with_name("go").exists():
    time.sleep(0.001)
for i in range(40):
    cell = place / f"cell{i}"
    with claim(cell, lambda: None) as mine:
        if mine and not (done := cell.with_suffix(".done")).exists():
            with open(log, "a") as file:
                file.write(f"{i} {name}\\n")
            time.sleep(0.005)
            done.touch()
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
    assert {name for _, name in lines} == {"a", "b"}  # else nobody raced
    assert not list(tmp_path.glob("*.claim-*"))


def test_a_claim_names_its_owner_and_is_released_even_by_an_error(tmp_path):
    with pytest.raises(KeyboardInterrupt), claim(tmp_path / "x", lambda: None) as mine:
        assert mine
        owner = holder(tmp_path / "x")
        assert (owner.pid, owner.dead) == (os.getpid(), False)
        with claim(tmp_path / "x", lambda: None) as again:
            assert not again
        raise KeyboardInterrupt
    assert holder(tmp_path / "x") is None


def test_the_cell_of_a_process_that_was_killed_is_taken_over_at_once(tmp_path):
    code = (
        "import os, sys; from pathlib import Path\n"
        "from segdiff_jax.experiments.claims import claim\n"
        "with claim(Path(sys.argv[1]), print): os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "x")], cwd=ROOT)
    left = holder(tmp_path / "x")
    assert left.dead and left.number == 0
    with claim(tmp_path / "x", lambda: None) as mine:
        assert mine
        assert holder(tmp_path / "x").number == 1


def test_of_another_machine_only_a_claim_without_beats_is_dead(tmp_path):
    file = tmp_path / "x.claim-0"
    file.write_text(json.dumps({"host": "other", "pid": 1, "space": "another"}))
    assert not holder(tmp_path / "x").dead
    old = time.time() - claims.STALE - 5
    os.utime(file, (old, old))
    assert holder(tmp_path / "x").dead


def test_an_owner_beats_and_learns_that_it_was_thought_dead(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "BEAT", 0.02)
    lost = []
    with claim(tmp_path / "x", lambda: lost.append(True)) as mine:
        assert mine
        file = tmp_path / "x.claim-0"
        os.utime(file, (0, 0))
        wait_until(lambda: file.stat().st_mtime > 0)
        (tmp_path / "x.claim-1").touch()
        wait_until(lambda: lost)
        assert holder(tmp_path / "x").number == 1


def wait_until(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_cell_is_open_then_running_then_done_or_failed(tmp_path):
    work, answer = tmp_path / "runs" / "a", tmp_path / "answers" / "b"
    assert look(work, answer) == ("open", "not run")
    with claim(work, lambda: None):
        assert look(work, answer).state == "running"
        assert f":{os.getpid()}" in look(work, answer).line
    write_json(work / TRAINED, {})
    assert look(work, answer) == ("open", "trained, not measured")
    write_json(answer / FAILED, {"line": "too hot", "code": 70})
    assert look(work, answer) == ("failed", "failed: too hot")
    write_json(answer / RESULT, {})
    assert look(work, answer).state == "done"


def words(tmp_path, *more):
    return ["--config=configs/synthetic.py", f"--dir={tmp_path}", *more]


@pytest.fixture
def in_the_repository(monkeypatch):
    monkeypatch.chdir(ROOT)


def test_list_says_what_there_is_and_runs_nothing(tmp_path, in_the_repository, capsys):
    flags = ("--grid=steps,images", "--T=25,50", "--images=4,0", "--list")
    assert run.main(words(tmp_path / "g", *flags)) == errors.DONE
    out = capsys.readouterr().out
    assert [line.split()[0] for line in out.splitlines()] == [
        *("steps/T25", "steps/T50", "images/images4", "images/all")
    ]
    assert "diffusion.T=25" in out and out.count("not run") == 4
    assert not (tmp_path / "g").exists()


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--grid=conditionning"], "did you mean conditioning?"),
        (["--T=25,x"], "--T=25,x: must be integers joined by commas, each at least 1"),
        (["--T=25,25"], "names a value twice"),
        (["--images=-1"], "--images=-1: must be integers"),
        (["--generations=3,4"], "--generations=3,4: must be an integer"),
        (["--grdi=steps"], "--grdi: no such flag; did you mean --grid?".replace("--grid", "grid")),
        (["--config.train.stepz=1"], "did you mean config.train.steps"),
    ],
)
def test_a_mistake_takes_one_line(tmp_path, in_the_repository, capsys, more, said):
    assert run.main(words(tmp_path, *more)) == errors.USAGE
    err = capsys.readouterr().err
    assert said in err and err.count("\n") == 1


def test_a_directory_holds_the_grid_of_one_config(tmp_path, in_the_repository):
    args.describe(args.parse(words(tmp_path)))
    args.parse(words(tmp_path, "--config.train.log_every=7", "--T=30"))
    with pytest.raises(UserError, match="train.steps was 60, now 9") as caught:
        args.parse(words(tmp_path, "--config.train.steps=9"))
    assert caught.value.code == errors.BAD_CHECKPOINT


def test_a_cell_that_cannot_be_is_written_down_and_named_at_the_end(
    tmp_path, in_the_repository, capsys
):
    """The grid's network has too few levels for variants five and six."""
    command = args.parse(words(tmp_path, "--grid=conditioning"))
    chosen = [cell for cell in command.cells if cell.name in ("five", "six")]
    with pytest.raises(UserError, match="2 of 2 cells failed") as caught:
        run.run(command._replace(cells=chosen))
    assert caught.value.code == errors.USAGE
    assert "conditioning/six" in caught.value.details[1]
    assert "needs at least 6 levels" in caught.value.details[1]
    assert "failed: config.model.conditioning" in run.listed(command)[-1]
    assert not list(tmp_path.rglob("*.claim-*"))
