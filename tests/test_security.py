"""What would let someone in is not called anywhere, and nothing shows a secret of the machine."""

import ast
import re
from importlib.metadata import version

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version
from tiny_config import ROOT

from segdiff_jax.config import default, flatten

FOLDERS = "segdiff_jax", "launch", "configs"
FILES = sorted(
    path
    for folder in ("segdiff_jax", "launch", "configs")
    for path in (ROOT / folder).rglob("*.py")
)
FORBIDDEN = {
    *("eval", "exec", "pickle.load", "pickle.loads", "pickle.Unpickler", "cPickle.load"),
    *("dill.load", "cloudpickle.load", "cloudpickle.loads", "joblib.load", "marshal.loads"),
    *("yaml.load", "yaml.unsafe_load", "torch.load", "os.system", "os.popen"),
    *("tarfile.open", "shutil.unpack_archive", "tempfile.mktemp", "xml.etree.ElementTree.parse"),
}
# The oldest versions without a hole that is known in what is used of them here. What pip installs
# into a new environment is newer; older ones are allowed where they come with the machine.
SAFE = {
    "pillow": "13.0.0",  # CVE-2026-96639, GHSA-5x8w-8jj5-q52h, GHSA-462x-pgg6-55fp: JPEG, TIFF
    "protobuf": "6.33.5",  # CVE-2026-0994: JSON that nests without end; TFDS keeps such files
    "defusedxml": "0.7.1",
}


def dotted(node):
    """Returns "a.b.c" for what is called."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def dangers(tree):
    """Yields (line, what) of every call that could execute the content of a file."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name, given = dotted(node.func), {word.arg: word.value for word in node.keywords}
        if name in FORBIDDEN or name.endswith((".extractall", ".extract")):
            yield node.lineno, name
        shell = given.get("shell")
        if shell is not None and not (isinstance(shell, ast.Constant) and shell.value is False):
            yield node.lineno, f"{name}(shell=...)"
        allowed = given.get("allow_pickle")
        loads = name in ("np.load", "numpy.load", "jnp.load")
        if (loads or allowed is not None) and not (
            isinstance(allowed, ast.Constant) and allowed.value is False
        ):
            yield node.lineno, f"{name} without allow_pickle=False"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_nothing_runs_what_a_file_says(path):
    assert list(dangers(ast.parse(path.read_text()))) == []


@pytest.mark.parametrize(
    "code",
    [
        "pickle.load(f)",
        "eval('1')",
        "np.load('x.npy')",
        "np.load('x.npy', allow_pickle=True)",
        "subprocess.run('ls', shell=True)",
        "torch.load('x', weights_only=True)",
        "archive.extractall(there)",
        "os.system('ls')",
    ],
)
def test_a_call_of_that_kind_would_be_found(code):
    assert len(list(dangers(ast.parse(code)))) == 1


def test_pillow_neither_loads_truncated_files_nor_shows_images():
    for path in FILES:
        assert not re.search(r"LOAD_TRUNCATED|ImageShow", path.read_text())


def test_unpicklers_are_those_that_allow_a_list_of_names():
    """A class may derive from pickle.Unpickler only to refuse what is not on its list."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any("Unpickler" in dotted(b) for b in node.bases):
                methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
                assert "find_class" in methods, path


@pytest.mark.parametrize("name", SAFE)
def test_what_reads_files_of_others_has_no_hole_that_is_known(name):
    assert Version(version(name)) >= Version(SAFE[name])


def locked(path):
    """Returns {name: [(requirement, hashes)]} of what `make install` takes from the network."""
    found = {}
    text = re.sub(r"\\\n", " ", path.read_text())
    for line in re.findall(r"^\w.*", text, re.MULTILINE):
        requirement, *hashes = re.split(r"\s+--hash=", line.strip())
        requirement = Requirement(requirement)
        found.setdefault(canonicalize_name(requirement.name), []).append((requirement, hashes))
    return found


@pytest.mark.parametrize("kind", ["", "-dev"])
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_what_is_installed_is_locked_by_hash_within_the_bounds(kind, python):
    lock = locked(ROOT / f"requirements{kind}.lock")
    for rows in lock.values():
        for _, hashes in rows:
            assert hashes and all(re.fullmatch(r"sha256:[0-9a-f]{64}", h) for h in hashes)
    where = {"python_version": python, "python_full_version": f"{python}.1"}
    for line in (ROOT / f"requirements{kind}.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        wanted = Requirement(line)
        rows = lock[canonicalize_name(wanted.name)]
        chosen = [one for one, _ in rows if not one.marker or one.marker.evaluate(where)]
        assert len(chosen) == 1, line
        assert wanted.specifier.contains(str(chosen[0].specifier).removeprefix("==")), chosen
    for name, oldest in SAFE.items():
        for one, _ in lock.get(name, []):
            assert Version(str(one.specifier).removeprefix("==")) >= Version(oldest)


def whole_environments(tree):
    """Returns the lines that use os.environ other than by the name of a variable."""
    named = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            named |= {id(one) for one in node.comparators}
        elif isinstance(node, ast.Subscript):
            named.add(id(node.value))
        elif isinstance(node, ast.Attribute) and node.attr in ("get", "pop", "setdefault"):
            named.add(id(node.value))
    return [
        node.lineno
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute | ast.Name)
        and dotted(node) in ("os.environ", "environ")
        and id(node) not in named
    ]


def test_nothing_takes_the_whole_environment_which_holds_the_keys_of_others():
    for path in FILES:
        if path.parent.name != "launch":  # a launcher hands it on
            assert whole_environments(ast.parse(path.read_text())) == [], path


@pytest.mark.parametrize("code", ["print(os.environ)", "os.environ.items()", "{**environ}"])
def test_taking_the_whole_environment_would_be_found(code):
    assert whole_environments(ast.parse(code)) == [1]


def test_no_config_field_is_a_secret():
    """config.json, the report and the messages of jobs that differ show every field."""
    secret = re.compile(r"token|secret|passw|credential|(^|[._])key")
    assert [field for field in flatten(default()) if secret.search(field)] == []


def test_no_shell_script_shows_what_it_expands():
    scripts = [*(ROOT / "launch").glob("*.sh"), ROOT / ".ci" / "run"]
    assert len(scripts) == 3
    for script in scripts:
        assert not re.search(r"\bset -\w*x|xtrace|\bbash -\w*x", script.read_text())
