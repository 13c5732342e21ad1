"""The architecture: who may import whom, and what is never imported."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter

import pytest
from small import ROOT

PACKAGE = ROOT / "segdiff_jax"
FLOORS = (
    {"accumulation", "errors", "ending", "config", "resampling", "unseen"},
    {
        *("averaging", "charts", "checkpoint", "data", "diffusion", "metrics", "models"),
        *(
            "collecting",
            "interruption",
            "large_pages",
            "lock",
            "page",
            "parallel",
            "programme",
            "validate",
            "watchdog",
            "writers",
        ),
    },
    {"baselines", "build", "command_line", "panels", "report", "segment", "step"},
    {"evaluate", "library"},
    {"train", "predict", "import_torch", "experiments"},
    {"main", "__init__"},  # the face of the package, which imports only when asked
)
ISLANDS = {  # files of their own, but part of that island
    **dict.fromkeys(("run_config", "checksums", "untrusted"), "checkpoint"),
    **{"boundary": "metrics", "rules": "validate", "sampler": "segment", "progress": "train"},
    **dict.fromkeys(("finite", "flat", "starting", "updates"), "train"),
    **{"writing": "errors", "networks": "build", "direct": "build", "agreement": "parallel"},
    **{"answering": "evaluate", "opening": "evaluate"},
    "roll_call": "parallel",
    "cpu_devices": "parallel",
    "loss": "step",
    **dict.fromkeys(("inputs", "masks", "overlay", "saving", "summary", "prediction"), "predict"),
    "predict_line": "predict",
    **dict.fromkeys(("import_line", "torch_files", "torch_names"), "import_torch"),
    **dict.fromkeys(
        ("torch_matching", "torch_parts", "torch_pickle", "torch_writing"), "import_torch"
    ),
}
DISTRIBUTIONS = {  # where the name to import is not the name to install
    "PIL": "pillow",
    "absl": "absl-py",
    "orbax": "orbax-checkpoint",
    "tensorflow_datasets": "tensorflow-datasets",
}


def name_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imports(path):
    """Returns the full names of all a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: imports are written in full"
            for alias in node.names:
                full = f"{node.module}.{alias.name}"
                found.add(full if full in MODULES else node.module)
    return found


GRAPH = {
    name: sorted(i for i in imports(path) if i in MODULES and i != "segdiff_jax")
    for name, path in MODULES.items()
}
EDGES = [(name, imported) for name, targets in GRAPH.items() for imported in targets]


def island(module):
    top = (module.split(".") + ["__init__"])[1]
    return ISLANDS.get(top, top)


def floor(module):
    at = [number for number, names in enumerate(FLOORS) if island(module) in names]
    assert at, f"{module} has no floor: give it one in FLOORS"
    return at[0]


def test_every_import_goes_down_and_islands_do_not_know_each_other():
    for name, imported in EDGES:
        # Floors from 2 up have rooms beside each other, such as build beside step.
        beside = floor(name) == floor(imported) >= 2 or island(name) == island(imported)
        assert floor(imported) < floor(name) or beside, f"{name} imports {imported}"


def test_no_import_goes_round_in_a_circle():
    tuple(TopologicalSorter(GRAPH).static_order())


def test_networks_share_their_layers_only():
    for name, imported in EDGES:
        if name.startswith("segdiff_jax.models."):
            parts = {
                "unet": ("attention", "time_embedding", "upsample"),
                "rrdb": ("dense_block", "dense_weights"),
                "dense_block": ("dense_weights", "spread"),
                "spread": ("dense_weights",),
            }
            shared = {"layers", "norm", "sums", "initial"}
            shared |= {"convolution", "plain_convolution", "winograd_convolution", "winograd"}
            shared |= {"winograd_matrices", "products", "grouping"}
            made_of = parts.get(name.rsplit(".", 1)[1], ())
            assert imported.rsplit(".", 1)[1] in shared | set(made_of)
    assert GRAPH["segdiff_jax.models.segdiff"] == GRAPH["segdiff_jax.models.initial"] == []


def test_the_command_line_imports_no_jax():
    code = "import sys, segdiff_jax.main; sys.exit('jax' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


@pytest.mark.parametrize("folder", ["segdiff_jax", "configs", "tests"])
def test_tensorflow_is_never_imported(folder):
    for path in (ROOT / folder).rglob("*.py"):
        assert "tensorflow" not in {i.split(".")[0] for i in imports(path)}, path


def test_an_installed_pytorch_is_not_imported_and_still_can_be(tmp_path):
    (tmp_path / "torch.py").write_text("Tensor = print('torch is imported')")
    code = "import segdiff_jax.main, segdiff_jax.train, segdiff_jax.predict; print('now')"
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{ROOT}"}
    words = [sys.executable, "-c", f"{code}; import torch"]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["now", "torch is imported"]


def test_no_name_is_a_bag():
    for path in PACKAGE.rglob("*"):
        assert not re.fullmatch(r"utils?|helpers?|misc|base|registry|core|lib", path.stem), path
        assert not (path.is_dir() and path.name == "common"), path


def requirements():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_requirements_have_both_bounds_or_say_the_lower():
    for line in requirements():
        assert re.fullmatch(r"[\w-]+>=[\d.]+(,<[\d.]+)?", line), line


def test_what_is_imported_is_required():
    required = {re.match(r"[\w-]+", line)[0] for line in requirements()}
    for path in MODULES.values():
        for top in {i.split(".")[0] for i in imports(path)} - set(sys.stdlib_module_names):
            if top != "segdiff_jax":
                assert DISTRIBUTIONS.get(top, top) in required, f"{path} imports {top}"


def test_the_package_depends_on_requirements_txt():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "dependencies" in project["project"]["dynamic"]
    dynamic = project["tool"]["setuptools"]["dynamic"]
    assert dynamic["dependencies"] == {"file": ["requirements.txt"]}
