"""A run from its config to its report: resumed as if never stopped, finished, refused."""

import gc
import json
import multiprocessing
import os
import re
import shutil
import signal
import time
from contextlib import ExitStack
from dataclasses import replace
from functools import partial

import jax
import numpy as np
import pytest
from mounts import full_disk, mounted, read_only_disk
from PIL import Image
from tiny_config import mesh_of, tiny

from segdiff_jax import evaluate, train, trained_run
from segdiff_jax.checkpoint.manager import Checkpoints
from segdiff_jax.checkpoint.run_config import read_config
from segdiff_jax.errors import BAD_CHECKPOINT, CANNOT_WRITE, INTERNAL, TerminatedError, UserError
from segdiff_jax.evaluation import scoring
from segdiff_jax.factory import datasets, training
from segdiff_jax.runtime import lock
from segdiff_jax.training import metrics_writer


@pytest.fixture(scope="module", autouse=True)
def quick_compilation():
    """These tests compare runs with each other; how fast the programs are does not matter."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture(scope="session")
def prepared(synthetic_set):
    return str(synthetic_set)


def config_for(prepared, **train_settings):
    config = tiny()
    config.data.prepared_dir = prepared
    config.data.validation_split = "validation"
    config.train.update(train_settings)
    return config


def run(config, workdir):
    return jax.tree.map(np.asarray, train.train(config, workdir))


def lines(workdir):
    return [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]


@pytest.fixture(scope="module")
def finished(prepared, tmp_path_factory):
    """Six updates without a stop, checkpoints at 2, 4 and 6."""
    workdir = tmp_path_factory.mktemp("run")
    return workdir, run(config_for(prepared), workdir)


def assert_equal(one, other):
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(other), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_run_stopped_twice_ends_bit_equal_to_one_never_stopped(prepared, finished, tmp_path):
    for steps in (3, 5, 6):  # not multiples of the interval: the last update is always saved
        state = run(config_for(prepared, steps=steps), tmp_path)
        assert int(state.step) == steps
    assert_equal(state, finished[1])
    key = ("step", "loss", "mse", "grad_norm")
    ours, theirs = ([[x[k] for k in key] for x in lines(w)] for w in (tmp_path, finished[0]))
    assert ours == theirs and [x[0] for x in ours] == [1, 2, 3, 4, 5, 6]


@pytest.mark.slow
def test_a_run_stopped_repeatedly_takes_every_step_and_validation_once(
    prepared, tmp_path, monkeypatch
):
    """Stops at updates that are no multiples of the interval: the second resume starts from one."""
    validated, stops, log = [], {7, 13, 20}, metrics_writer.log
    monkeypatch.setattr(scoring, "mean_scores", lambda *_: validated.append(0) or {"dice": 0.5})

    def log_and_stop(writer, step, *rest):
        log(writer, step, *rest)
        if step in stops:
            stops.remove(step)
            os.kill(os.getpid(), signal.SIGTERM)

    config = config_for(prepared, steps=22, checkpoint_every=3, evaluate_every=6)
    whole = run(config, tmp_path / "whole")
    assert len(validated) == 4  # at 6, 12, 18 and 22
    with monkeypatch.context() as patch:
        patch.setattr(train, "log", log_and_stop)
        for step in (7, 13, 20):
            with pytest.raises(TerminatedError, match=f"stopped at update {step} of 22"):
                run(config, tmp_path / "parts")
    assert_equal(run(config, tmp_path / "parts"), whole)
    assert len(validated) == 8
    key = ("step", "loss", "mse", "grad_norm", "validation_dice")
    ours, theirs = (
        [[line.get(k) for k in key] for line in lines(tmp_path / name)]
        for name in ("parts", "whole")
    )
    assert ours == theirs and [x[0] for x in ours if x[1] is not None] == list(range(1, 23))
    print(f"stopped at updates 7, 13, 20: state bit-equal, {len(ours)} lines equal, none twice")


def write_folder(place, inverted=(), names=range(6)):
    """Writes a folder of made-up images; returns a config that trains on all of them."""
    shutil.rmtree(place, ignore_errors=True)
    for kind in ("images", "masks"):
        (place / kind).mkdir(parents=True)
    for i in names:
        rng = np.random.default_rng(i)
        mask = rng.random((16, 16)) > 0.5
        Image.fromarray(rng.integers(0, 256, (16, 16, 3), np.uint8)).save(place / f"images/{i}.png")
        Image.fromarray(mask ^ (i in inverted)).save(place / f"masks/{i}.png")
    config = tiny()
    config.data.name, config.data.dir = "folder", str(place)
    config.data.prepared_dir = str(place.parent / "prepared")
    config.data.mean = config.data.std = ()
    config.folder.test_share = config.folder.validation_share = 0.0
    return config


@pytest.mark.parametrize(
    "change, said",
    [
        ({"inverted": (2, 3)}, "0 added, 0 removed, 2 changed (2, 3)"),
        ({"names": range(1, 6)}, "0 added, 1 removed (0), 0 changed"),
        ({"names": range(8), "inverted": (0,)}, "2 added (6, 7), 0 removed, 1 changed (0)"),
    ],
)
def test_a_run_resumes_on_its_own_data_only(tmp_path, caplog, change, said):
    workdir, place = tmp_path / "run", tmp_path / "cells"
    workdir.mkdir()
    train.prepare(write_folder(place), workdir)
    began = read_config(workdir)
    assert len(began.data.fingerprint) == 16 and began.data.mean
    train.prepare(write_folder(tmp_path / "copied elsewhere"), workdir)  # the same data
    config = write_folder(place, **change)
    with pytest.raises(UserError, match=re.escape(f"other data (train: {said})")) as error:
        train.train(config, workdir)
    assert error.value.code == BAD_CHECKPOINT
    assert read_config(workdir).data.fingerprint == began.data.fingerprint
    config.data.allow_change = True
    train.prepare(config, workdir)
    assert said in caplog.text
    now = read_config(workdir)
    assert now.data.mean == began.data.mean and now.data.fingerprint != began.data.fingerprint
    config.data.allow_change = False
    train.prepare(config, workdir)
    with pytest.raises(UserError, match="other data"):
        train.prepare(write_folder(place), workdir)


@pytest.mark.slow  # three more programs
def test_a_run_resumes_with_its_draws_denoised_one_by_one(prepared, tmp_path):
    draws = {"noise_draws_per_image": 2, "draws_at_once": 2}
    run(config_for(prepared, **draws), tmp_path / "whole")
    run(config_for(prepared, steps=4, **draws), tmp_path / "parts")
    run(config_for(prepared, **draws | {"draws_at_once": 1}), tmp_path / "parts")
    whole, parts = (
        [[line[k] for k in ("step", "loss", "grad_norm")] for line in lines(tmp_path / name)]
        for name in ("whole", "parts")
    )
    assert whole[:4] == parts[:4] and len(parts) == 6
    np.testing.assert_allclose(parts, whole, rtol=1e-4)


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_run_saves_its_step_and_ends_as_if_it_had_not_been(
    prepared, finished, tmp_path, monkeypatch, request, kind
):
    log = metrics_writer.log
    before = signal.signal(kind, signal.default_int_handler)  # it may be ignored in the background
    request.addfinalizer(lambda: signal.signal(kind, before))

    def log_and_stop(writer, step, window, pace):
        log(writer, step, window, pace)
        if step == 3:  # no multiple of the interval
            os.kill(os.getpid(), kind)

    with monkeypatch.context() as patch:
        patch.setattr(train, "log", log_and_stop)
        error = KeyboardInterrupt if kind == signal.SIGINT else TerminatedError
        with pytest.raises(error, match="stopped at update 3 of 6"):
            run(config_for(prepared), tmp_path)
    assert (tmp_path / "checkpoints" / "3").is_dir()
    assert_equal(run(config_for(prepared), tmp_path), finished[1])
    assert [x["step"] for x in lines(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_a_signal_during_validation_breaks_it_off_and_saves(prepared, tmp_path, monkeypatch):
    def wait(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)

    monkeypatch.setattr(scoring, "mean_scores", wait)
    began = time.monotonic()
    with pytest.raises(TerminatedError, match="stopped at update 2 of 6"):
        train.train(config_for(prepared, evaluate_every=2), tmp_path)
    assert time.monotonic() - began < 60 and (tmp_path / "checkpoints" / "2").is_dir()


def test_steps_after_the_last_checkpoint_are_repeated_bit_for_bit(prepared, finished, tmp_path):
    """What a kill -9 leaves: lines of updates that no checkpoint holds."""
    shutil.copytree(finished[0], tmp_path, dirs_exist_ok=True)
    shutil.rmtree(tmp_path / "checkpoints" / "6")
    state = run(config_for(prepared), tmp_path)
    assert_equal(state, finished[1])
    assert [x["step"] for x in lines(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_a_finished_run_is_left_as_it_is(prepared, finished):
    before = (finished[0] / "metrics.jsonl").read_bytes()
    assert_equal(run(config_for(prepared), finished[0]), finished[1])
    assert (finished[0] / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize("devices", [1, 2, 4, 8])
def test_a_checkpoint_of_eight_devices_is_the_same_on_any_number(prepared, finished, devices):
    config, checkpoints = config_for(prepared), Checkpoints(finished[0], writes=False)
    examples = datasets.examples(config, "train")
    setup = training.setup(config, examples, mesh_of(devices))
    state, whole = train.start(setup, checkpoints), setup.layout.flatten_state(finished[1])
    checkpoints.close()
    assert all(len(leaf.sharding.device_set) == devices for leaf in jax.tree.leaves(state))
    for leaf, saved in zip(jax.tree.leaves(state), jax.tree.leaves(whole), strict=True):
        assert all(np.array_equal(shard.data, saved) for shard in leaf.addressable_shards)


def test_a_fresh_start_is_the_flat_form_of_the_fresh_weights(prepared, tmp_path):
    config, checkpoints = config_for(prepared), Checkpoints(tmp_path, writes=False)
    setup = training.setup(config, datasets.examples(config, "train"), mesh_of(2))
    state = train.start(setup, checkpoints)
    fresh = training.jit_replicated(training.init_fn(config, (16, 16)), mesh_of(2))()
    checkpoints.close()
    assert state.params.shape == (setup.layout.size,)
    jax.tree.map(np.testing.assert_array_equal, setup.layout.to_host(state), jax.device_get(fresh))


def test_a_training_begins_with_the_averaged_weights_of_a_model(prepared, run_of_chance, tmp_path):
    config = config_for(prepared, start_from=str(run_of_chance))
    fresh = training.setup(config, datasets.examples(config, "train"), mesh_of(2))
    setup = replace(
        fresh,
        initial_state=partial(train.state_of_weights, fresh, str(run_of_chance), None),
    )
    checkpoints = Checkpoints(tmp_path, writes=False)
    state = setup.layout.to_host(train.start(setup, checkpoints))
    checkpoints.close()
    _, truth = trained_run.restore_ema(read_config(run_of_chance), run_of_chance, mesh_of(1))
    jax.tree.map(np.testing.assert_array_equal, state.params, truth)
    jax.tree.map(np.testing.assert_array_equal, state.ema_params, truth)
    assert state.step == 0
    assert not any(np.any(leaf) for leaf in jax.tree.leaves(state.opt_state))


def test_an_exported_model_is_not_trained_in_place(prepared, tmp_path):
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(UserError, match="--config.train.start_from=.* and another --workdir"):
        train.train(config_for(prepared), tmp_path)


def test_the_last_two_checkpoints_are_kept(finished):
    kept = {p.name for p in (finished[0] / "checkpoints").iterdir() if p.is_dir()}
    assert kept == {"4", "6"}


def test_the_config_comes_back_from_json_as_it_was(prepared, finished):
    found, given = read_config(finished[0]), config_for(prepared)
    for name in ("fingerprint", "objects", "pixel_size"):  # the run adds them
        given.data[name] = found.data[name]
    assert found.to_dict() == given.to_dict() and found.data.fingerprint
    assert min(found.data.objects) > 0 and found.data.pixel_size == 0  # drawings have none


def test_a_work_directory_of_other_settings_is_refused_with_both_values(prepared, finished):
    config = config_for(prepared, learning_rate=0.5)
    config.model.channels = 16
    with pytest.raises(UserError, match=r"\(model.channels, train.learning_rate\)") as error:
        train.train(config, finished[0])
    assert error.value.code == BAD_CHECKPOINT
    table = [line.split() for line in error.value.details]
    assert table == [
        ["key", "saved", "now"],
        ["model.channels", "8", "16"],
        ["train.learning_rate", "0.001", "0.5"],
    ]
    assert (
        len({line.index(row[2]) for line, row in zip(error.value.details, table, strict=True)}) == 1
    )


def train_into(trouble, prepared, workdir, reports):
    """Reports with which code, after how many seconds, a run ends whose disk is full."""
    jax.config.update("jax_disable_most_optimizations", True)  # as in `quick_compilation`
    log, began, checkpoints = train.log, [], workdir / "checkpoints"
    with ExitStack() as broken:

        def log_and_break(writer, step, *rest):
            log(writer, step, *rest)
            if step == 3:  # checkpoint 2 is there, 4 is next
                while not (checkpoints / "2").is_dir():
                    time.sleep(0.05)
                time.sleep(0.5)
                broken.enter_context(trouble(checkpoints))
                began.append(time.monotonic())

        train.log = log_and_break
        try:
            train.train(config_for(prepared), workdir)
        except UserError as error:
            reports.put((str(error), error.code, time.monotonic() - began[0]))
    reports.close()
    reports.join_thread()
    os._exit(0)  # of several writes that fail, Orbax lets the others wait for minutes


@pytest.mark.parametrize(
    "trouble", [full_disk, pytest.param(read_only_disk, marks=pytest.mark.slow)]
)
def test_a_disk_that_takes_no_more_ends_the_run_at_once_and_the_same_command_goes_on(
    prepared, finished, tmp_path, trouble
):
    spawn = multiprocessing.get_context("spawn")
    with mounted(tmp_path / "checkpoints", size="32m"):
        reports = spawn.Queue()
        child = spawn.Process(target=train_into, args=(trouble, prepared, tmp_path, reports))
        child.start()
        message, code, seconds = reports.get(timeout=120)
        child.join()
        assert "checkpoints: cannot be written: " in message
        assert code == CANNOT_WRITE and seconds < 10
        assert [p.name for p in (tmp_path / "checkpoints").glob("?")] == ["2"]
        assert_equal(run(config_for(prepared), tmp_path), finished[1])
    assert [x["step"] for x in lines(tmp_path)] == [1, 2, 3, 4, 5, 6]


def test_a_work_directory_that_cannot_be_written_is_reported_before_anything_is_read(
    prepared, tmp_path, monkeypatch
):
    monkeypatch.setattr(train, "_train", lambda *_: pytest.fail("it began"))
    with mounted(tmp_path), read_only_disk(tmp_path):
        with pytest.raises(UserError, match="cannot be written: Read-only") as error:
            train.train(config_for(prepared), tmp_path / "run")
    assert error.value.code == CANNOT_WRITE


def test_a_work_directory_in_use_is_refused(prepared, tmp_path, monkeypatch):
    monkeypatch.setattr(train, "_train", lambda *_: pytest.fail("it began"))
    with lock.locked(tmp_path), pytest.raises(UserError, match=f"in use by .*:{os.getpid()}: "):
        train.train(config_for(prepared), tmp_path)


def test_the_weights_of_a_run_are_not_scored_with_another_diffusion(prepared, finished):
    config = config_for(prepared)
    config.diffusion.T = 50
    with pytest.raises(UserError, match=r"other settings \(diffusion.T\)") as error:
        evaluate.evaluate(config, finished[0])
    assert error.value.code == BAD_CHECKPOINT


def test_a_loss_that_is_not_finite_stops_the_run_before_it_is_saved(prepared, tmp_path):
    with pytest.raises(UserError, match="update 2: loss is .* nothing was saved before") as error:
        train.train(config_for(prepared, learning_rate=1e20), tmp_path)
    assert error.value.code == INTERNAL
    assert not [p for p in (tmp_path / "checkpoints").iterdir() if p.is_dir()]


def test_an_empty_work_directory_cannot_be_evaluated(prepared, tmp_path):
    with pytest.raises(UserError, match="holds no run: it has no config.json") as error:
        evaluate.evaluate(config_for(prepared), tmp_path)
    assert error.value.code == BAD_CHECKPOINT


def test_the_report_scores_every_test_image_beside_the_baselines(prepared, finished, monkeypatch):
    config = config_for(prepared)
    page = evaluate.evaluate(config, finished[0])
    report = json.loads((page.parent / "report.json").read_text())
    assert [row["name"] for row in report["images"]] == [f"test-{i:04d}" for i in range(32)]
    assert len(list((page.parent / "panels").glob("*.png"))) == 32
    assert len(report["baselines"]) == 3
    panels = sorted((page.parent / "panels").glob("*.png"))
    monkeypatch.setattr(evaluate, "draw", lambda *_: None)  # they are there, and take seconds
    monkeypatch.setattr(evaluate, "save_panel", lambda directory, i, *_: panels[i])
    again = json.loads((evaluate.evaluate(config, finished[0]).parent / "report.json").read_text())
    assert again["images"] == report["images"]


def test_from_the_first_update_on_garbage_is_collected(prepared, tmp_path):
    gc.disable()
    try:
        train.train(config_for(prepared), tmp_path)
        assert gc.isenabled()
    finally:
        gc.enable()


def test_validation_is_scored_during_training_and_decides_the_best(prepared, tmp_path, monkeypatch):
    scores = iter([{"dice": 0.9}, {"dice": 0.1}, {"dice": 0.2}])
    monkeypatch.setattr(scoring, "mean_scores", lambda *_: next(scores))
    config = config_for(prepared, evaluate_every=2, result="best")
    train.train(config, tmp_path)
    assert [x["validation_dice"] for x in lines(tmp_path) if "validation_dice" in x] == [
        0.9,
        0.1,
        0.2,
    ]
    step, _ = trained_run.restore_ema(config, tmp_path, jax.make_mesh((8,), ("data",)))
    assert step == 2
