"""The wheel: what it holds, and that it is enough to predict in an environment of its own."""

import fnmatch
import json
import subprocess
import sys
import tomllib
import types
import venv
import zipfile

import numpy as np
import pytest
from PIL import Image
from tiny_config import ROOT

from segdiff_jax import errors
from segdiff_jax.checkpoint import places
from segdiff_jax.cli import segdiff
from segdiff_jax.export import run

PACKAGE = ROOT / "segdiff_jax"
NO_INDEX = ("Could not find a version", "No matching distribution", "Connection", "connect")


@pytest.fixture
def given(monkeypatch):
    """What setup.py hands to setuptools."""
    found = {}
    packages = [
        ".".join(path.parent.relative_to(ROOT).parts) for path in PACKAGE.rglob("__init__.py")
    ]
    stub = types.ModuleType("setuptools")
    monkeypatch.setattr(stub, "setup", lambda **words: found.update(words), raising=False)
    monkeypatch.setattr(stub, "find_packages", lambda include: packages, raising=False)
    monkeypatch.setitem(sys.modules, "setuptools", stub)
    exec((ROOT / "setup.py").read_text(), {})
    return found


def test_every_file_of_the_package_is_of_the_wheel(given):
    """Modules are in a package that is listed; whatever else there is, a pattern names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    patterns = project["tool"]["setuptools"]["package-data"]
    for path in PACKAGE.rglob("*"):
        if path.is_dir() or "__pycache__" in path.parts:
            continue
        if path.suffix == ".py":
            assert ".".join(path.parent.relative_to(ROOT).parts) in given["packages"], path
        else:
            assert any(listed(path, package, of) for package, of in patterns.items()), path


def listed(path, package, patterns):
    """Returns whether a pattern of a package names a file; those of "*" are of every package."""
    folder = path.parent if package == "*" else ROOT.joinpath(*package.split("."))
    if folder not in path.parents or not (folder / "__init__.py").exists():
        return False
    name = path.relative_to(folder).as_posix()
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def test_the_configs_are_a_package_of_the_wheel(given):
    assert "segdiff_jax.configs" in given["packages"]
    assert given["package_dir"] == {"segdiff_jax.configs": "configs"}


@pytest.mark.slow
def test_a_bare_environment_predicts_with_the_wheel_outside_the_clone(run_of_chance, tmp_path):
    """Builds the wheel, installs it with what it needs, and predicts a picture by the command."""
    model, picture = tmp_path / "model", tmp_path / "picture.png"
    argv = ["export", f"--workdir={run_of_chance}", f"--output={model}"]
    assert segdiff.main(argv) == errors.DONE
    pixels = np.random.default_rng(0).integers(0, 256, (40, 30, 3), np.uint8)
    Image.fromarray(pixels).save(picture)

    def call(*words):
        done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True, env=environment)
        if done.returncode and any(word in done.stderr for word in NO_INDEX):
            pytest.skip("no index of packages")
        assert done.returncode == 0, done.stderr
        return done.stdout

    environment = {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path)}
    call(sys.executable, "-m", "pip", "wheel", "--no-deps", f"--wheel-dir={tmp_path}", str(ROOT))
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    shipped = {name.rpartition("/")[2] for name in names if name.startswith("segdiff_jax/configs/")}
    assert shipped == {path.name for path in (ROOT / "configs").glob("*.py")}
    assert not [name for name in names if name.startswith(("tests/", "configs/", "benchmarks/"))]
    venv.create(tmp_path / "bare", with_pip=True)
    scripts = tmp_path / "bare" / ("Scripts" if sys.platform == "win32" else "bin")
    call(str(scripts / "python"), "-m", "pip", "install", "--quiet", str(wheel))
    command = str(scripts / "segdiff")
    call(command, "predict", f"--model={model}", f"--input={picture}", "--output=masks")
    assert np.asarray(Image.open(tmp_path / "masks" / "mask" / "picture.png")).shape == (40, 30)
    read = "import sys; from segdiff_jax.cli import options; "
    read += "print(options.load_config(sys.argv[1]).data.name)"
    for source in ("monuseg:small", "configs/monuseg.py"):
        assert call(str(scripts / "python"), "-c", read, source) == "monuseg\n"


def test_the_card_of_each_shipped_network_stands_in_models_md():
    for name in places.shipped():
        assert run.body_of_card(name) in (ROOT / "MODELS.md").read_text("utf-8"), name


def test_the_sample_pictures_are_free_small_and_were_not_trained_on():
    """They are of the test split of the network, and each says where it is from."""
    split = json.loads((places.find("nuclei") / places.SPLIT).read_text())
    samples = sorted((PACKAGE / "samples").iterdir())
    assert len(samples) == 2 and sum(path.stat().st_size for path in samples) < 200_000
    for path in samples:
        with Image.open(path) as picture:
            said = picture.info
        assert said["Title"] in split["test"] and said["Title"] not in split["train"], path
        assert "Data Science Bowl 2018" in said["Source"] and said["Copyright"] == "CC0 1.0"


def test_a_prediction_imports_nothing_that_only_training_and_reports_need():
    """With an exported model; each of these takes a tenth of a second to two."""
    heavy = ["orbax", "tensorflow_datasets", "matplotlib", "clu", "optax", "jinja2", "tensorboardX"]
    heavy += ["scipy.stats", "scipy.optimize", "scipy.sparse", "huggingface_hub"]
    code = (
        "import sys, segdiff_jax.api, segdiff_jax.predict, segdiff_jax.prediction.pipeline; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "[]\n", done.stderr
