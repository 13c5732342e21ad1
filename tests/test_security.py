"""What would let someone in is not called anywhere, and configs come from local files only."""

import ast

import pytest
from small import ROOT

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


def dotted(node):
    """Returns "a.b.c" for what is called."""
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else ""


def dangers(tree):
    """Yields (line, what) of every call that could run what a file says."""
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


def test_unpicklers_are_those_that_allow_a_list_of_names():
    """A class may derive from pickle.Unpickler only to refuse what is not on its list."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ClassDef) and any("Unpickler" in dotted(b) for b in node.bases):
                methods = {part.name for part in node.body if isinstance(part, ast.FunctionDef)}
                assert "find_class" in methods, path
