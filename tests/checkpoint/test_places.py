"""The places of trained networks: shipped names, folders, repositories in a local cache."""

import shutil
import sys

import numpy as np
import pytest
from refusals import refused

import segdiff_jax
from segdiff_jax import errors
from segdiff_jax.checkpoint import places
from segdiff_jax.cli import segdiff

COMMIT = "0123456789abcdef0123456789abcdef01234567"
IMAGE = np.random.default_rng(0).integers(0, 256, (16, 16, 3), np.uint8)


@pytest.fixture(scope="module")
def exported(run_of_chance, tmp_path_factory):
    folder = tmp_path_factory.mktemp("exported") / "model"
    argv = ["export", f"--workdir={run_of_chance}", f"--output={folder}"]
    assert segdiff.main(argv) == errors.DONE
    return folder


@pytest.fixture
def shipping(exported, tmp_path, monkeypatch):
    """A package that ships the network "nuclei"."""
    shutil.copytree(exported, tmp_path / "weights" / "nuclei")
    monkeypatch.setattr(places, "SHIPPED", tmp_path / "weights")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def cache(exported, tmp_path, monkeypatch):
    """The cache of huggingface_hub with the repository someone/cells, and no network."""
    pytest.importorskip("huggingface_hub")
    repository = tmp_path / "hub" / "models--someone--cells"
    snapshot = repository / "snapshots" / COMMIT
    (repository / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(exported.iterdir())):
        blob = repository / "blobs" / f"{number:040x}"
        shutil.copy(file, blob)
        (snapshot / file.name).symlink_to(f"../../blobs/{blob.name}")
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(COMMIT)
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return snapshot


def same(a, b):
    np.testing.assert_array_equal(a.predict(IMAGE).probability, b.predict(IMAGE).probability)


def test_a_shipped_name_is_loaded_and_listed_and_its_card_printed(shipping, exported, capsys):
    same(segdiff_jax.load("nuclei"), segdiff_jax.load(exported))
    assert segdiff.main(["models"]) == errors.DONE
    assert "nuclei: 0.2 MB" in capsys.readouterr().out
    assert segdiff.main(["models", "--card=nuclei"]) == errors.DONE
    assert "# segdiff synthetic" in capsys.readouterr().out


def test_a_name_is_the_shipped_network_and_a_path_a_folder(shipping, run_of_chance):
    shutil.copytree(run_of_chance, shipping / "nuclei")
    assert places.find("nuclei") == places.SHIPPED / "nuclei"
    assert places.find("./nuclei").resolve() == shipping / "nuclei"


def test_an_unknown_name_lists_what_is_shipped(shipping, capsys):
    error = refused(segdiff_jax.load, "nucleus")
    assert "the package ships nuclei; did you mean nuclei?" in str(error)
    assert error.code == errors.BAD_CHECKPOINT
    argv = ["predict", "--model=nucleus", "--input=x.png", "--output=out"]
    assert segdiff.main(argv) == errors.USAGE
    assert "--model=nucleus: no such folder, and the package ships n" in capsys.readouterr().err


def test_nothing_is_shipped_that_is_no_network():
    for name in places.shipped():
        assert (places.SHIPPED / name / places.CARD).is_file(), name
        size = sum(path.stat().st_size for path in (places.SHIPPED / name).iterdir())
        assert size <= 8e6, name


def test_a_repository_in_the_cache_is_loaded_without_a_network(cache, exported):
    same(segdiff_jax.load("hf://someone/cells"), segdiff_jax.load(exported))
    assert places.find(f"hf://someone/cells@{COMMIT}") == cache


@pytest.mark.parametrize(
    ("text", "what", "code"),
    [
        ("hf://someone/other", "hf://someone/other: ", errors.BAD_CHECKPOINT),
        ("hf://someone", "must be hf://OWNER/NAME", errors.USAGE),
        ("hf://a/b/c", "must be hf://OWNER/NAME", errors.USAGE),
        ("gs://bucket/model", "must be a name, a folder, or hf://", errors.USAGE),
        ("x" * 5000, "no such folder", errors.USAGE),
        ("a\0b", "no such folder", errors.USAGE),
    ],
)
def test_a_place_that_cannot_be_takes_one_line(text, what, code, cache):
    error = refused(places.find, text)
    assert what in str(error) and error.code == code and len(str(error)) < 600


def test_a_repository_that_lacks_the_weights_is_refused(cache):
    (cache / places.WEIGHTS).unlink()
    error = refused(places.find, "hf://someone/cells")
    assert "no model.safetensors" in str(error) and error.code == errors.BAD_CHECKPOINT


def test_without_the_extra_the_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'segdiff_jax[hub]'" in str(refused(places.find, "hf://someone/cells"))


def test_a_shipped_network_is_not_calibrated_in_place(shipping, capsys):
    argv = ["calibrate", "--model=nuclei", "--images=.", "--masks=."]
    assert segdiff.main(argv) == errors.USAGE
    assert "segdiff export --model=nuclei --output=DIR" in capsys.readouterr().err


def test_model_and_workdir_exclude_each_other_and_several_are_joined(shipping, exported, capsys):
    from segdiff_jax.cli import predict_args

    found = predict_args.read_models(f"nuclei,{exported}", "")
    assert found == [places.SHIPPED / "nuclei", exported]
    assert "not with --workdir" in str(refused(predict_args.read_models, "nuclei", "run"))
