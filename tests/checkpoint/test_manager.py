"""Checkpoints are read as they were written, or not at all, whatever happens to the files."""

import os
import shutil
import time

import jax
import numpy as np
import pytest
from checkpoint_files import like, restored, save, state, step_of
from mounts import full_disk, mounted

from segdiff_jax.checkpoint.manager import Checkpoints
from segdiff_jax.errors import BAD_CHECKPOINT, CANNOT_WRITE, INTERNAL, UserError

# of several reads that fail, orbax reports one and leaves the others behind
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    """A run with checkpoints at 10 and 20."""
    directory = tmp_path_factory.mktemp("run")
    save(directory, 10, 20)
    return directory


@pytest.fixture
def run(template, tmp_path):
    return shutil.copytree(template, tmp_path / "run")


def flip(path, rng):
    content = bytearray(path.read_bytes())
    content[rng.integers(len(content))] ^= 1 << rng.integers(8)
    path.write_bytes(bytes(content))


def truncate(path, rng):
    os.truncate(path, rng.integers(path.stat().st_size))


def zero(path, rng):
    content = bytearray(path.read_bytes())
    start = rng.integers(len(content))
    content[start : start + 512] = bytes(len(content[start : start + 512]))
    path.write_bytes(bytes(content))


def double(path, rng):
    path.write_bytes(path.read_bytes() * 2)


def delete(path, rng):
    path.unlink()


DAMAGES = (flip, truncate, zero, double, delete)


def damage_and_restore(template, directory, seed):
    """Damages one file of the newest checkpoint; returns the step that was restored."""
    rng = np.random.default_rng(seed)
    shutil.copytree(template, directory)
    files = [f for f in sorted((directory / "checkpoints" / "20").rglob("*")) if f.is_file()]
    files = [f for f in files if f.stat().st_size]
    DAMAGES[seed % len(DAMAGES)](files[rng.integers(len(files))], rng)
    step = step_of(restored(directory))
    shutil.rmtree(directory)
    return step


def test_a_damaged_checkpoint_gives_its_own_values_or_those_of_the_one_before(template, tmp_path):
    steps = [damage_and_restore(template, tmp_path / str(seed), seed) for seed in range(60)]
    assert set(steps) == {10, 20}  # all values were compared; some damages touch what is not needed


@pytest.mark.fault
def test_three_hundred_damages_give_no_wrong_value_and_no_stop(template, tmp_path):
    steps = [damage_and_restore(template, tmp_path / str(seed), seed) for seed in range(300)]
    print(f"damages: 300, newest {steps.count(20)}, the one before {steps.count(10)}")
    assert set(steps) == {10, 20}


def array_file(run, step):
    """Returns the file that holds the kernel: the largest of the checkpoint's weights."""
    files = [f for f in (run / "checkpoints" / str(step) / "ema").rglob("*") if f.is_file()]
    return max(files, key=lambda f: f.stat().st_size)


def flip_a_value(run, step):
    path = array_file(run, step)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(bytes(content))


def test_a_flipped_bit_in_an_array_is_found_and_the_checkpoint_renamed(run, caplog):
    flip_a_value(run, 20)
    assert step_of(restored(run)) == 10
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["10", "20.corrupt-1"]
    assert "20.corrupt-1" in caplog.text


def test_training_continues_to_save_after_a_damaged_checkpoint(run):
    flip_a_value(run, 20)
    checkpoints = Checkpoints(run)
    assert step_of(checkpoints.restore(like(state(0)))) == 10
    for step in (15, 20):
        checkpoints.save(step, *state(step), None)
    checkpoints.close()
    assert step_of(restored(run)) == 20


def test_when_all_are_damaged_nothing_is_deleted_and_nothing_starts_from_the_beginning(run):
    for step in (10, 20):
        flip_a_value(run, step)
    for _ in range(2):  # also when it is tried again
        with pytest.raises(UserError, match="holds only damaged checkpoints") as caught:
            restored(run)
        assert caught.value.code == BAD_CHECKPOINT
    names = sorted(p.name for p in (run / "checkpoints").iterdir())
    assert names == ["10.corrupt-1", "20.corrupt-1"]


def test_an_empty_folder_named_like_a_step_is_no_checkpoint(run):
    (run / "checkpoints" / "30").mkdir()
    assert step_of(restored(run)) == 20


def test_other_files_beside_the_checkpoints_stay_and_are_not_read(run):
    directory = run / "checkpoints"
    (directory / "30").write_text("a file")
    (directory / "notes").mkdir()
    for _ in range(2):
        assert step_of(restored(run)) == 20
    assert sorted(path.name for path in directory.iterdir()) == ["10", "20", "30", "notes"]


def test_a_checkpoint_that_was_copied_without_its_markers_is_not_deleted(run):
    """Copies that were interrupted lack them, and those that leave out empty files."""
    markers = list(run.rglob("commit_success.txt"))
    assert markers
    for marker in markers:
        marker.unlink()
    for _ in range(3):
        assert step_of(restored(run)) == 20
    assert sorted(path.name for path in (run / "checkpoints").iterdir()) == ["10", "20"]


@pytest.mark.parametrize("order", [(20, 10), (10, 20)])
def test_a_run_that_was_copied_in_any_order_loses_nothing_when_it_is_opened(run, tmp_path, order):
    """Copies have new times, and no file system keeps the order of names."""
    copy = tmp_path / "copy"
    for step in order:
        into = copy / "checkpoints" / str(step)
        shutil.copytree(
            run / "checkpoints" / str(step), into, copy_function=lambda a, b: shutil.copyfile(a, b)
        )
        time.sleep(0.05)
    for _ in range(3):
        assert step_of(restored(copy)) == 20
        assert sorted(path.name for path in (copy / "checkpoints").iterdir()) == ["10", "20"]
    save(copy, 30)
    assert sorted(path.name for path in (copy / "checkpoints").iterdir()) == ["20", "30"]


def test_weights_are_read_from_the_one_before_and_nothing_is_renamed(run):
    flip_a_value(run, 20)
    checkpoints = Checkpoints(run)
    step, weights = checkpoints.restore_ema(like(state(0)[0]), "last")
    checkpoints.close()
    assert step == 10
    jax.tree.map(np.testing.assert_array_equal, weights, state(10)[0])
    assert (run / "checkpoints" / "20").is_dir()


def test_another_model_is_reported_and_not_treated_as_damage(run):
    checkpoints = Checkpoints(run)
    with pytest.raises(UserError, match="is of another model"):
        checkpoints.restore(like(state(0, width=41)))
    checkpoints.close()
    assert (run / "checkpoints" / "20").is_dir()


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_not_saved(run, value):
    checkpoints, (weights, rest) = Checkpoints(run), state(30)
    rest["moments"][7] = value
    with pytest.raises(
        UserError, match=r"\['moments'\] is not finite .*/checkpoints/20;"
    ) as caught:
        checkpoints.save(30, weights, rest, None)
    checkpoints.close()
    assert caught.value.code == INTERNAL
    assert sorted(p.name for p in (run / "checkpoints").iterdir()) == ["10", "20"]


def test_an_error_in_the_background_shows_at_the_next_check(run):
    with mounted(run / "checkpoints") as disk, full_disk(disk, leave=20_000):
        checkpoints = Checkpoints(run)
        with pytest.raises(
            UserError, match="checkpoints: cannot be written: No space left"
        ) as caught:
            checkpoints.save(30, *state(30, width=10_000), None)
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                checkpoints.check()
                time.sleep(0.01)
    assert caught.value.code == CANNOT_WRITE


def test_a_reader_disturbs_no_save_in_flight(run):
    unfinished = run / "checkpoints" / "30.orbax-checkpoint-tmp"
    unfinished.mkdir()
    reader = Checkpoints(run, writes=False)
    step, _ = reader.restore_ema(like(state(0)[0]), "last")
    reader.close()
    assert step == 20 and unfinished.is_dir()


def test_a_reader_finds_the_checkpoint_that_replaced_the_one_it_listed(run):
    reader = Checkpoints(run, writes=False)
    save(run, 30, 40)
    assert not (run / "checkpoints" / "20").exists()
    step, weights = reader.restore_ema(like(state(0)[0]), "last")
    assert step == 40
    jax.tree.map(np.testing.assert_array_equal, weights, state(40)[0])


def test_a_reader_creates_nothing(tmp_path):
    reader = Checkpoints(tmp_path, writes=False)
    with pytest.raises(UserError, match="holds no last checkpoint"):
        reader.restore_ema(like(state(0)[0]), "last")
    assert list(tmp_path.iterdir()) == []


def test_checkpoints_without_checksums_are_read_with_a_warning(run, caplog):
    shutil.rmtree(run / "checkpoints" / "20" / "checksums")
    assert step_of(restored(run)) == 20
    assert "not verified" in caplog.text


def test_the_best_checkpoint_on_validation_is_kept_and_can_be_scored(tmp_path):
    """Scores are handed in, so that the best is known: the one in the middle."""
    checkpoints = Checkpoints(tmp_path)
    for step, dice in ((1, 0.2), (2, 0.9), (3, 0.5), (4, 0.4), (5, None)):
        ema = {"w": np.full(3, float(step), np.float32)}
        scores = None if dice is None else {"dice": dice}
        checkpoints.save(step, ema, {"step": np.array(step)}, scores)
    checkpoints.close()
    shapes = {"w": jax.ShapeDtypeStruct((3,), np.float32)}
    again = Checkpoints(tmp_path)
    assert [again.restore_ema(shapes, which)[0] for which in ("best", "last")] == [2, 5]
    np.testing.assert_array_equal(again.restore_ema(shapes, "best")[1]["w"], 2.0)
