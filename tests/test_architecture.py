"""The architecture: who may import whom, and what is never imported."""

import ast
import os
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter

import pytest
from code_generators import PROMISED
from tiny_config import ROOT

PACKAGE = ROOT / "segdiff_jax"

# Floor by floor from below: package or program -> what it may import besides itself.
BELOW_PROGRAMS = (
    *("factory", "checkpoint", "evaluation", "training", "inference", "data", "data.image_io"),
    *("data.datasets", "models", "runtime", "errors"),
)
MAY_IMPORT = {
    "errors": (),
    "diffusion": (),
    "models.ops": (),
    "models": ("models.ops",),
    "metrics": ("errors",),
    "config": ("errors",),
    "torch_weights": ("errors",),
    "runtime": ("errors",),
    "data": ("errors",),
    "data.image_io": ("errors", "runtime"),
    "checkpoint": ("config", "runtime", "errors"),
    "data.datasets": ("data", "data.image_io", "runtime", "errors"),
    "training": ("data", "diffusion", "models", "errors"),
    "inference": ("data", "diffusion", "models", "runtime"),
    "evaluation": ("inference", "data", "metrics", "runtime", "errors"),
    "certainty": (
        *("evaluation", "inference", "data", "metrics", "checkpoint", "runtime", "errors"),
    ),
    "prediction": (
        *("certainty", "evaluation", "inference", "data", "data.image_io", "runtime", "errors"),
    ),
    "factory": (
        *("training", "inference", "data", "data.image_io", "data.datasets", "diffusion"),
        *("models", "models.ops", "runtime", "errors"),
    ),
    "cli": ("prediction", "checkpoint", "config", "runtime", "errors"),
    "trained_run": (*BELOW_PROGRAMS, "certainty"),
    "train": (*BELOW_PROGRAMS, "trained_run"),
    **dict.fromkeys(
        ("evaluate", "api", "import_torch"),
        (*BELOW_PROGRAMS, "certainty", "trained_run", "metrics", "config", "torch_weights", "cli"),
    ),
    "predict": ("api", "prediction", "cli", "data.image_io", "runtime", "errors"),
    "napari_plugin": ("api", "certainty", "checkpoint", "config", "data.image_io", "errors"),
    "export": (
        *("api", "trained_run", "import_torch", "certainty", "inference", "factory", "checkpoint"),
        *("metrics", "models", "config", "cli", "runtime", "errors"),
    ),
    "app": (
        *("api", "prediction", "certainty", "evaluation", "cli", "data", "data.image_io"),
        *("runtime", "errors"),
    ),
    "review": (
        *("api", "certainty", "prediction", "cli", "factory", "data", "data.image_io"),
        *("runtime", "errors"),
    ),
}
ALL_BELOW = ("main", "experiments", "__init__")  # may import everything below them
READS_CONFIG = {
    *("cli", "config", "factory", "checkpoint.run_config", "experiments", "main", "train"),
    *("trained_run", "evaluate", "api", "predict", "import_torch", "export"),
}
FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)
DISTRIBUTIONS = {  # where the name to import is not the name to install
    "PIL": "pillow",
    "absl": "absl-py",
    "skimage": "scikit-image",
    "orbax": "orbax-checkpoint",
    "tensorflow_datasets": "tensorflow-datasets",
    **dict.fromkeys(("fastapi", "starlette", "uvicorn"), "gradio"),  # which needs them
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


def package(module):
    """Returns the row of the table a module belongs to."""
    parts = module.split(".")[1:] or ["__init__"]
    nested = ".".join(parts[:2])
    return nested if nested in MAY_IMPORT else parts[0]


def test_every_package_and_program_has_a_row_in_the_table():
    assert {package(name) for name in MODULES} == {*MAY_IMPORT, *ALL_BELOW}


def test_every_import_goes_down_as_the_table_says():
    for name, imported in EDGES:
        here, there = package(name), package(imported)
        if here not in ALL_BELOW:
            assert there in (here, *MAY_IMPORT[here]), f"{name} imports {imported}"


def test_nothing_below_imports_a_program_that_may_import_everything():
    for name, imported in EDGES:
        if package(name) not in ALL_BELOW:
            assert package(imported) not in ALL_BELOW, f"{name} imports {imported}"


def test_the_table_itself_has_no_cycle():
    tuple(TopologicalSorter(MAY_IMPORT).static_order())


def test_no_import_goes_round_in_a_circle():
    tuple(TopologicalSorter(GRAPH).static_order())


def test_a_config_is_read_only_at_the_door():
    for name, path in MODULES.items():
        if package(name) not in READS_CONFIG and name.removeprefix("segdiff_jax.") not in (
            READS_CONFIG
        ):
            assert "ConfigDict" not in path.read_text(), name


def test_the_root_shows_the_programs_and_little_else():
    assert len(list(PACKAGE.glob("*.py"))) <= 11


def test_imports_inside_functions_stand_only_where_a_mistake_is_named_before_jax_is_imported():
    allowed = {"main.py", "predict.py", "import_torch.py", "__init__.py", "run.py", "registry.py"}
    allowed |= {"calibrate.py", "rate.py", "certainty_tables.py"}
    for path in MODULES.values():
        functions = [n for n in ast.walk(ast.parse(path.read_text())) if isinstance(n, FUNCTION)]
        inside = [n.module for f in functions for n in ast.walk(f) if isinstance(n, ast.ImportFrom)]
        ours = [module for module in inside if module.startswith("segdiff_jax")]
        assert not ours or path.name in allowed, path


def test_files_and_functions_keep_their_size():
    total = 0
    for path in MODULES.values():
        text = path.read_text()
        lines = text.count("\n")
        total += lines
        assert path.name == "__init__.py" or 25 <= lines <= 350, f"{path} has {lines} lines"
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, FUNCTION):
                size = node.end_lineno - node.lineno + 1
                assert size <= 40, f"{path}: {node.name} has {size} lines"
    assert total <= 32_520  # 520 of them are classes that overlap


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


def test_the_tests_whose_tolerances_may_be_used_up_exist():
    assert (ROOT / PROMISED).is_file()


def test_no_name_is_a_bag():
    for path in PACKAGE.rglob("*"):
        assert not re.fullmatch(r"utils?|helpers?|misc|core|lib|common|build", path.stem), path


def requirements():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_requirements_have_both_bounds_or_say_the_lower():
    for line in requirements():
        assert re.fullmatch(r"[\w-]+>=[\d.]+(,<[\d.]+)?", line), line


def test_what_is_imported_is_required():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extra = [line for lines in project["optional-dependencies"].values() for line in lines]
    required = {re.match(r"[\w-]+", line)[0] for line in (*requirements(), *extra)}
    for path in MODULES.values():
        for top in {i.split(".")[0] for i in imports(path)} - set(sys.stdlib_module_names):
            if top != "segdiff_jax":
                assert DISTRIBUTIONS.get(top, top) in required, f"{path} imports {top}"


def test_the_package_depends_on_requirements_txt():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert "dependencies" in project["project"]["dynamic"]
    dynamic = project["tool"]["setuptools"]["dynamic"]
    assert dynamic["dependencies"] == {"file": ["requirements.txt"]}
