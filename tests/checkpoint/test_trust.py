"""Of an untrusted work directory, links out of it and files that are too large are not read."""

import os
import re
import resource
import shutil
import time
from pathlib import Path

import pytest
from checkpoint_files import restored, save, state, step_of
from tiny_config import mesh_of, tiny

from segdiff_jax import main
from segdiff_jax.checkpoint import manager, run_config, trust
from segdiff_jax.checkpoint.manager import Checkpoints
from segdiff_jax.errors import BAD_CHECKPOINT, UserError
from segdiff_jax.runtime import distributed, own_files


@pytest.fixture(scope="module")
def template(tmp_path_factory):
    directory = tmp_path_factory.mktemp("run")
    save(directory, 10, 20)
    run_config.write_config(tiny(), directory)
    return directory


@pytest.fixture
def run(template, tmp_path):
    return shutil.copytree(template, tmp_path / "run")


@pytest.fixture
def elsewhere(template, tmp_path):
    """The same files, outside of the work directory."""
    return shutil.copytree(template, tmp_path / "elsewhere")


def step(run):
    return run / "checkpoints" / "20"


def replace(path, target):
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    path.symlink_to(target)


def array_file(run):
    return max(step(run).glob("ema/**/d/*"), key=lambda path: path.stat().st_size)


def enlarge(path):
    os.truncate(path, 10**9)  # a sparse file of a gigabyte


def rename_in(path, key, value):
    text = path.read_text()
    assert key in text
    path.write_text(text.replace(key, value))


def refuse(run, modes=(True, False)):
    """Expects exit code 66 of `Checkpoints`, in one line, before a file is read."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for writes in modes:
        with pytest.raises(UserError, match="not read, it is not|nothing is written") as caught:
            Checkpoints(run, writes=writes)
        assert caught.value.code == BAD_CHECKPOINT and "\n" not in str(caught.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50_000  # kB
    return str(caught.value)


def read(run):
    """Returns the step of the averaged weights that a reader finds."""
    like = manager.abstract(state(20)[0], distributed.everywhere(mesh_of(1)))
    found, _ = Checkpoints(run, writes=False).restore_ema(like, "last")
    return found


def test_links_out_of_the_work_directory_are_read_and_never_written(run, elsewhere):
    manifest = step(run) / "ema" / "manifest.ocdbt"
    for path in (array_file(run), manifest, step(run) / "ema", step(run), run / "checkpoints"):
        there = elsewhere / path.relative_to(run)
        replace(path, there)
        assert re.search(rf"{path} is a link out of .*, to {there}", refuse(run, [True]))
        assert read(run) == 20


def test_a_link_that_is_not_absolute_is_followed_too(run, elsewhere):
    replace(step(run), "../../elsewhere/checkpoints/20")
    assert "is a link out of" in refuse(run, [True]) and read(run) == 20


def test_a_run_of_links_alone_as_the_cache_of_a_hub_is_read(run, tmp_path):
    blobs, snapshot = tmp_path / "blobs", tmp_path / "snapshot"
    blobs.mkdir()
    for number, path in enumerate(sorted(run.rglob("*"))):
        if path.is_file():
            path.rename(blobs / str(number))
            path.symlink_to(f"{'../' * len(path.relative_to(run).parts)}blobs/{number}")
    run.rename(snapshot)
    assert read(snapshot) == 20 and run_config.read_config(snapshot).train.steps == 6


def test_what_a_link_leads_to_is_checked_as_well(run, elsewhere):
    """A folder elsewhere is entered, and what is in it has the same limits."""
    replace(step(run), elsewhere / "checkpoints" / "20")
    enlarge(step(elsewhere) / "ema" / "_METADATA")
    assert "_METADATA has 1000 MB; at most 67 MB are allowed" in refuse(run, [False])
    (step(elsewhere) / "ema" / "_METADATA").unlink()
    os.mkfifo(step(elsewhere) / "ema" / "_METADATA")
    assert "is neither a file nor a folder" in refuse(run, [False])


def test_a_link_to_a_folder_beside_the_checkpoints_is_one_out_of_them(run):
    shutil.move(step(run), run / "stash")
    step(run).symlink_to(run / "stash")
    refuse(run, [True])
    assert read(run) == 20


def test_links_that_stay_inside_are_allowed(run):
    (run / "checkpoints" / "newest").symlink_to("20")
    (run / "checkpoints" / "gone").symlink_to("30")
    assert step_of(restored(run)) == 20


def test_the_work_directory_itself_may_be_a_link(run, tmp_path):
    (tmp_path / "shortcut").symlink_to(run)
    (run / "checkpoints" / "newest").symlink_to("20")
    assert step_of(restored(tmp_path / "shortcut")) == 20


@pytest.mark.parametrize("name", ["_CHECKPOINT_METADATA", "ema/_METADATA", "checksums/metadata"])
def test_metadata_of_a_gigabyte_is_refused(run, name):
    enlarge(step(run) / name)
    assert f"{name} has 1000 MB; at most 67 MB are allowed" in refuse(run)


def test_arrays_may_be_large(run):
    enlarge(array_file(run))
    trust.check_checkpoints(run / "checkpoints")


@pytest.mark.parametrize(
    "name, key, value",
    [
        ("_CHECKPOINT_METADATA", '"ema"', '"../../ema"'),
        ("_CHECKPOINT_METADATA", '"ema"', '"\\u002e\\u002e/ema"'),
        ("ema/_METADATA", '"kernel"', '"../kernel"'),
        ("ema/_METADATA", '"kernel"', '"a/../../kernel"'),
        ("ema/_METADATA", '"kernel"', '"..\\\\kernel"'),
        ("ema/_METADATA", '"kernel"', '".."'),
    ],
)
def test_names_that_lead_upwards_are_refused(run, name, key, value):
    rename_in(step(run) / name, key, value)
    assert "which leads out of the checkpoint" in refuse(run)


def test_names_with_dots_are_names():
    for name in ("a..b", "...", "a/b", "x0.kernel", "..a"):
        assert not trust.UPWARDS.search(name)


def test_what_never_ends_is_not_opened(run):
    path = step(run) / "ema" / "_METADATA"
    path.unlink()
    os.mkfifo(path)
    began = time.monotonic()
    assert "is neither a file nor a folder" in refuse(run) and time.monotonic() - began < 10


def test_links_in_a_circle_are_refused(run):
    path = step(run) / "ema" / "_METADATA"
    replace(path, path)
    assert "cannot be read: Too many levels of symbolic links" in refuse(run)
    replace(path, path.parent)  # to the folder that it is in
    trust.check_checkpoints(run / "checkpoints", writes=False)


def test_damage_is_not_taken_for_malice(run):
    (step(run) / "ema" / "_METADATA").write_text("[" * 100_000)
    assert step_of(restored(run)) == 10


def test_a_file_that_a_training_deletes_meanwhile_is_no_matter(run, monkeypatch):
    gone = run / "checkpoints" / "10"
    listed = list(own_files.below(run / "checkpoints"))
    shutil.rmtree(gone)
    monkeypatch.setattr(own_files, "below", lambda directory, follow: listed)
    trust.check_checkpoints(run / "checkpoints")


BAD_CONFIGS = {
    "a list": lambda path: path.write_text("[]"),
    "no group": lambda path: path.write_text('{"train": 3}'),
    "deep": lambda path: path.write_text("[" * 100_000),
    "cut": lambda path: os.truncate(path, 100),
    "bytes": lambda path: path.write_bytes(b"\xff\xfe"),
}


@pytest.mark.parametrize("what", BAD_CONFIGS)
def test_a_config_that_is_none_is_refused(run, what):
    BAD_CONFIGS[what](run / "config.json")
    with pytest.raises(UserError, match=r"config\.json") as caught:
        run_config.read_config(run)
    assert caught.value.code == BAD_CHECKPOINT


def test_a_config_of_a_gigabyte_is_refused_before_it_is_read(run):
    enlarge(run / "config.json")
    with pytest.raises(UserError, match=r"config\.json has 1000 MB; at most 1 MB are") as caught:
        run_config.read_config(run)
    assert caught.value.code == BAD_CHECKPOINT


WRITTEN = {
    "train": [
        *(
            ".lock",
            ".lock-holder",
            "metrics.jsonl",
            "training_images.txt",
            "data.json",
            "config.json",
        ),
        *("checkpoints", "tensorboard", "tensorboard/events", "checkpoints/x", "parameters.txt"),
    ],
    "evaluate": ["report", "report/report.html"],
}


@pytest.mark.parametrize(
    "mode, name", [(m, name) for m, names in WRITTEN.items() for name in names]
)
def test_nothing_is_written_through_a_link_out_of_the_work_directory(
    run, name, mode, tmp_path, capsys
):
    config, prey = tmp_path / "tiny_config.py", tmp_path / "prey"
    config.write_text("from tiny_config import tiny as get_config\n")
    prey.write_text("of somebody else")
    (run / name).parent.mkdir(exist_ok=True)
    if (run / name).exists():
        replace(run / name, prey)
    else:
        (run / name).symlink_to(prey)
    code = main.main([f"--config={config}", f"--workdir={run}", f"--mode={mode}"])
    said = capsys.readouterr().err.splitlines()[-1]
    assert code == BAD_CHECKPOINT and f"{run / name} is a link out of {run}, to {prey}" in said
    assert prey.read_text() == "of somebody else"


ODD = {"pipe": os.mkfifo, "folder": Path.mkdir}
PLACES = [
    *(("train", kind, name) for kind in ODD for name in (".lock", "metrics.jsonl", "config.json")),
    *(("train", kind, name) for kind in ODD for name in (".lock-holder", "data.json")),
    *(("train", "pipe", name) for name in ("checkpoints", "tensorboard", "checkpoints/20/x")),
    *(("evaluate", "pipe", name) for name in ("metrics.jsonl", "config.json", "report")),
    *(("evaluate", "pipe", name) for name in ("report/report.html", "checkpoints")),
    ("evaluate", "folder", "config.json"),
]


@pytest.mark.parametrize("mode, kind, name", PLACES)
def test_something_else_in_the_place_of_a_file_ends_at_once_with_66(
    run, mode, kind, name, tmp_path, capsys
):
    config, path = tmp_path / "tiny_config.py", run / name
    config.write_text("from tiny_config import tiny as get_config\n")
    path.parent.mkdir(exist_ok=True)
    if path.exists():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    ODD[kind](path)
    code = main.main([f"--config={config}", f"--workdir={run}", f"--mode={mode}"])
    lines = [line for line in capsys.readouterr().err.splitlines() if "segdiff: " in line]
    assert code == BAD_CHECKPOINT and len(lines) == 1 and str(run) in lines[0]


def test_a_config_of_now_is_read_as_it_was_written(run):
    assert run_config.read_config(run).to_dict() == tiny().to_dict()
