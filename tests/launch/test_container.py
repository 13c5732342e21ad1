"""The Dockerfile: what it copies is there, is let in, and is enough to install the package."""

import fnmatch
import os
import re
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml
from tiny_config import ROOT

LINES = [
    line
    for line in (ROOT / "Dockerfile").read_text().splitlines()
    if line and not line.startswith("#")
]


def copied():
    """Returns [(source, target)] of every COPY."""
    found = []
    for line in LINES:
        if line.startswith("COPY "):
            *sources, target = line.split()[1:]
            found += [(source, target) for source in sources]
    return found


def context():
    """Returns the files of the repository that .dockerignore lets in."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("no git checkout")
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [rule for rule in rules if rule and not rule.startswith("#")]

    def ignored(name):
        out = False
        for rule in rules:  # the last that matches decides, as in Docker
            pattern = rule.lstrip("!").removeprefix("**/")
            if fnmatch.fnmatch(name, pattern) or name.startswith(f"{pattern}/"):
                out = not rule.startswith("!")
        return out

    return [name for name in listed.stdout.splitlines() if not ignored(name)]


def test_everything_that_is_copied_is_let_in_and_nothing_else_is():
    let_in = {name.split("/")[0] for name in context()}
    assert let_in == {source for source, _ in copied()}


def test_the_image_is_the_place_where_the_jobset_works():
    jobset = yaml.safe_load((ROOT / "launch" / "gke_jobset.yaml").read_text())
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    (container,) = job["template"]["spec"]["containers"]
    assert f"WORKDIR {container['workingDir']}" in LINES


def test_every_extra_is_one_of_the_package():
    text = (ROOT / "Dockerfile").read_text()
    project = (ROOT / "pyproject.toml").read_text()
    for extra in re.findall(r"EXTRA=(\w+)", text):
        assert re.search(rf"^{extra} = ", project, re.MULTILINE), extra


@pytest.mark.slow
def test_the_copied_files_are_enough_to_build_a_wheel_with_its_configs(tmp_path):
    """By the command of the last RUN, without what it downloads."""
    for name in context():
        (tmp_path / "image" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "image" / name)
    pip = [sys.executable, "-m", "pip", "wheel", "--no-deps"]
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [*pip, "--wheel-dir", str(tmp_path), "."],
        cwd=tmp_path / "image",
        env=environment,
        capture_output=True,
        text=True,
    )
    if "Could not find a version that satisfies the requirement setuptools" in done.stderr:
        pytest.skip("no index of packages to take setuptools from")
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert "segdiff_jax/evaluation/report.html.j2" in names
    shipped = {name.rpartition("/")[2] for name in names if "segdiff_jax/configs/" in name}
    assert shipped == {path.name for path in (ROOT / "configs").glob("*.py")}
