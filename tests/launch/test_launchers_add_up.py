"""Every launcher with every shipped config: hosts, chips and batch, flags, variables and paths."""

import contextlib
import math
import mmap
import re
import shlex
from itertools import product
from pathlib import Path
from typing import NamedTuple

import jax
import jaxlib
import pytest
import yaml
from tiny_config import ROOT

from segdiff_jax.cli import main_args
from segdiff_jax.config.schema import FIELDS
from segdiff_jax.data.batch_layout import divide
from segdiff_jax.runtime.cpu_devices import MAX_DEVICES

LAUNCH = ROOT / "launch"
LAUNCHERS = sorted(path for path in LAUNCH.iterdir() if path.is_file())
JOBSET = yaml.safe_load((LAUNCH / "gke_jobset.yaml").read_text())
JOB = JOBSET["spec"]["replicatedJobs"][0]["template"]["spec"]
POD = JOB["template"]["spec"]
(CONTAINER,) = POD["containers"]


@pytest.fixture(autouse=True)
def where_it_runs(tmp_path, monkeypatch):
    """Changes to a folder that looks like the place where the launchers start the program."""
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "bucket" / "monuseg").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


class Place(NamedTuple):
    """Where a launcher starts the program."""

    launcher: str
    processes: int
    devices: int  # of all processes


def chips_of(kind):
    """Returns (hosts, JAX devices) of a type of slice, by the tables of Cloud TPU.

    The number counts the cores of v2 to v4 and v5p, of which JAX sees two as one from v4 on.
    """
    version, _, number = kind.partition("-")
    count = int(number)
    devices = count // 2 if version in ("v4", "v5p") else count
    of_host = 8 if version in ("v2", "v3") or count <= 8 else 4
    return max(1, devices // of_host), devices


def places():
    """Yields where each launcher starts the program: as it is, as its text says, at its limits."""
    yield Place("gke_jobset.yaml as it is", JOB["completions"], jobset_command()[0])
    for topology, pods in topologies():
        yield Place(f"gke_jobset.yaml {topology}", pods, math.prod(map(int, topology.split("x"))))
    documents = "".join(path.read_text() for path in LAUNCHERS)
    kinds = {*re.findall(r"--type=(v\w+-\d+)", documents)} | {"v2-8", "v3-32", "v4-32", "v5p-16"}
    for kind in sorted(kinds | {"v5litepod-4", "v5litepod-16", "v6e-64"}):
        yield Place(f"tpu_pod.sh {kind}", *chips_of(kind))
    for processes, devices in re.findall(r"local.py --processes=(\d) --devices=(\d)", documents):
        yield Place("local.py", int(processes), int(processes) * int(devices))
    for processes, gpus in re.findall(r"local.py --processes=(\d) --gpus=(\d)", documents):
        yield Place("local.py", int(processes), int(gpus))
    for devices in (1, *range(2, MAX_DEVICES + 1), 8):
        yield Place("one process, or colab.ipynb", 1, devices)


def topologies():
    """Returns [(topology, pods)] of the table in gke_jobset.yaml."""
    table = re.findall(r"^#   v\d\w  .*$", (LAUNCH / "gke_jobset.yaml").read_text(), re.MULTILINE)
    found = [
        pair for line in table for pair in re.findall(r"(\d+x\d+(?:x\d+)?) (\d+)(?:,|$)", line)
    ]
    return [(topology, int(pods)) for topology, pods in found]


@pytest.fixture(scope="module")
def configs(tmp_path_factory):
    """Returns {name: config} of everything in configs/, and of the small ones."""
    folder = tmp_path_factory.mktemp("own") / "train"
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True)
    arguments = {"folder": [str(folder.parent), f"{folder.parent},small"]}
    found = {}
    for path in sorted((ROOT / "configs").glob("*.py")):
        small = [":small"] if ":small" in path.read_text() else []
        words = [f":{word}" for word in arguments.get(path.stem, [])] or ["", *small]
        for word in words:
            name = f"{path.stem}{':small' if word.endswith('small') else ''}"
            found[name] = main_args.parse([f"--config={path}{word}"]).config
    return found


def test_every_launcher_divides_the_batch_of_every_config(configs):
    """By the arithmetic that the training itself uses; prints the table."""
    seen = sorted(set(places()))
    assert len(configs) >= 9 and len(seen) >= 25
    print(f"{'launcher':28} {'processes':>9} {'devices':>7}  rows a device (idle) by config")
    for place in seen:
        assert place.devices % place.processes == 0, place
        cells = []
        for name, config in configs.items():
            for accumulate in (4, 1):
                rows = divide(config.train.batch_size, place.devices, accumulate)
                assert rows.slots % place.processes == 0, (place, name)
                assert rows.slots >= config.train.batch_size and rows.rows >= 1, (place, name)
            idle = max(0, place.devices - math.ceil(rows.batch_size / (rows.rows * rows.parts)))
            cells.append(f"{name} {rows.rows * rows.parts}{f' ({idle})' if idle else ''}")
        print(f"{place.launcher:28} {place.processes:9} {place.devices:7}  {', '.join(cells)}")


def test_the_launchers_as_they_are_leave_no_chip_idle():
    """The batch of the JobSet's own command, and of the slice of the guide, fill their chips."""
    commands = [jobset_command(), *guide_commands()]
    assert len(commands) >= 2
    for devices, words in commands:
        rows = divide(main_args.parse(words).config.train.batch_size, devices)
        assert rows.padding == 0, (devices, words)


def jobset_command():
    """Returns (chips, command line) of the JobSet."""
    return JOB["completions"] * CONTAINER["resources"]["limits"]["google.com/tpu"], CONTAINER[
        "args"
    ]


def guide_commands():
    """Yields (chips, command line of main) of every slice that a document starts."""
    for document in (LAUNCH / "README.md", ROOT / "docs" / "tpu.md"):
        text = document.read_text() if document.exists() else ""
        for line in re.findall(r"^launch/tpu_pod.sh .*$", text.replace("\\\n", " "), re.MULTILINE):
            words = shlex.split(line)
            kinds = [word.partition("=")[2] for word in words if word.startswith("--type=")]
            if kinds and "--" in words:
                yield chips_of(kinds[0])[1], words[words.index("--") + 1 :]


def test_the_topologies_of_the_jobset_have_as_many_chips_as_their_pods():
    found = topologies()
    assert len(found) >= 15
    for topology, pods in found:
        assert math.prod(map(int, topology.split("x"))) == 4 * pods, topology


def test_every_command_in_a_launcher_is_one_that_the_program_takes():
    """Flags, fields and configs go through the program's own parser."""
    _, words = jobset_command()
    assert main_args.parse(words).coordinator == "auto"
    for _, words in guide_commands():
        main_args.parse(words)
    text = (ROOT / "docs" / "tpu.md").read_text()
    for line in re.findall(r"^python launch/local\.py .*$", text, re.MULTILINE):
        ours, _, words = line.partition(" -- ")
        assert main_args.parse(words.split()).config.train.batch_size
        assert re.fullmatch(r"python launch/local\.py --processes=\d --devices=\d", ours)


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda path: path.name)
def test_every_field_and_file_that_a_launcher_names_exists(launcher):
    text = launcher.read_text()
    for field in re.findall(r"--config\.([a-z_]+\.[a-zA-Z_]+|seed)\b", text):
        assert field in FIELDS, field
    for field in re.findall(r"`((?:job|train|sampling|model|data)\.[a-z_]+)`", text):
        assert field in FIELDS, field
    for name in re.findall(
        r"(?<![\w/.])((?:configs|launch|tests|docs|segdiff_jax)/[\w/]+\.\w+)", text
    ):
        assert (ROOT / name).exists(), name


def contains(file, word):
    with open(file, "rb") as opened, contextlib.suppress(ValueError):  # an empty file
        return mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ).find(word) >= 0
    return False


@pytest.mark.parametrize("launcher", LAUNCHERS, ids=lambda path: path.name)
def test_every_variable_that_a_launcher_sets_is_read_by_something(launcher):
    """JAX's and XLA's in their sources or libraries, ours in ours."""
    known = r"\b((?:JAX|PJRT|SEGDIFF|XLA|TPU|LIBTPU)_[A-Z_]+|--?xla_\w+)\b"
    names = {name.lstrip("-") for name in re.findall(known, launcher.read_text())}
    places = [*Path(jax.__file__).parent.rglob("*.py"), *Path(jaxlib.__file__).parent.glob("*.so")]
    ours = [*(ROOT / "segdiff_jax").rglob("*.py"), *LAUNCH.glob("*.sh")]
    for name in names - {"XLA_FLAGS"}:
        searched = ours if name.startswith("SEGDIFF") else places
        word = name.removeprefix("JAX_") if name.startswith("JAX_") else name
        spellings = {name.encode(), word.lower().encode() if word != name else name.encode()}
        found = any(contains(file, s) for file, s in product(searched, spellings))
        assert found, f"{launcher.name}: nothing reads {name}"


def test_the_jobset_mounts_the_bucket_where_its_command_looks():
    mounts = {mount["mountPath"]: mount["name"] for mount in CONTAINER["volumeMounts"]}
    _, words = jobset_command()
    given = [word.split("=", 1)[1] for word in words if word.startswith("--workdir=")]
    given.append(main_args.parse(words).config.data.dir)
    for path in given:
        assert f"{CONTAINER['workingDir']}/{path.split('/')[0]}" in mounts
    ports = {port["containerPort"] for port in CONTAINER["ports"]}
    (port,) = [v["value"] for v in CONTAINER["env"] if v["name"] == "JAX_COORDINATOR_PORT"]
    assert int(port) in ports
