"""launch/: the local launcher, the JobSet, the notebook. tpu_pod.sh has tests/test_tpu_pod.py."""

import ast
import base64
import importlib.util
import io
import json
import os
import re
import signal
import subprocess
import sys
import time

import nbformat
import numpy as np
import pytest
import yaml
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError
from PIL import Image
from tiny_config import ROOT, slack

from launch.local import Job, Layout
from segdiff_jax import errors

pytestmark = pytest.mark.fault

# --- launch/local.py ----------------------------------------------------------------------------

ME = "import os, signal, sys, time; me = int(sys.argv[-1].split('=')[1]); "


def job(code, processes=2, grace=0.5, **kind):
    """Runs Python code that knows its number as `me`; returns exit code, lines and seconds."""
    output, start = io.StringIO(), time.monotonic()
    program = (sys.executable, "-u", "-c", ME + code)
    started = Job(["word"], Layout(processes, **kind), output, program)
    result = started.wait(grace)
    assert all(process.returncode is not None for process in started.processes)
    return result, output.getvalue().splitlines(), time.monotonic() - start


def test_every_process_gets_its_number_and_its_lines_start_with_it():
    code, lines, _ = job("print(sys.argv[1:]); print('second', file=sys.stderr)", 3)
    assert code == 0 and len(lines) == 6
    for i in range(3):
        mine = [line for line in lines if line.startswith(f"[{i}] ")]
        words = ast.literal_eval(mine[0][4:])
        assert words[0] == "word" and words[2:] == ["--processes=3", f"--process={i}"]
        assert re.fullmatch(r"--coordinator=127\.0\.0\.1:\d+", words[1])
        assert mine[1] == f"[{i}] second"


def test_the_coordinator_binds_the_loopback_address_and_devices_are_virtual():
    names = "JAX_COORDINATOR_BIND_ADDRESS", "JAX_PLATFORMS", "XLA_FLAGS"
    _, lines, _ = job(f"print(*(os.environ[n] for n in {names}), sys.argv[2])", devices=3)
    for line in lines:
        _, address, platform, *flags, coordinator = line.split()
        assert platform == "cpu" and coordinator == f"--coordinator={address}"
        assert [f for f in flags if "count" in f] == ["--xla_force_host_platform_device_count=3"]


def test_gpus_are_split_evenly():
    _, lines, _ = job("print(os.environ['CUDA_VISIBLE_DEVICES'])", gpus=6)
    assert sorted(lines) == ["[0] 0,1,2", "[1] 3,4,5"]


@pytest.mark.parametrize("layout", [Layout(0), Layout(2, 0), Layout(2, 1, -2), Layout(2, 1, 3)])
def test_layouts_that_cannot_be_are_refused(layout):
    with pytest.raises(errors.UserError, match="must be"):
        Job([], layout)


def test_when_one_dies_the_others_are_ended_and_its_code_is_returned():
    code, _, seconds = job("time.sleep(60) if me else sys.exit(142)")
    assert code == 142 and seconds < 20 * slack()


def test_a_process_that_does_not_listen_is_killed():
    code, _, seconds = job(
        "signal.signal(signal.SIGTERM, signal.SIG_IGN) if me else (time.sleep(1), sys.exit(7)); "
        "time.sleep(60)"
    )
    assert code == 7 and seconds < 20 * slack()


def test_the_reason_is_preferred_to_the_loss_of_a_peer():
    code, _, _ = job("time.sleep(0.5 * me); sys.exit(65 if me else 134)", grace=10)
    assert code == 65


def test_codes_of_processes_that_were_ended_do_not_count():
    handler = "signal.signal(signal.SIGTERM, lambda *_: sys.exit(64)); time.sleep(60)"
    code, _, _ = job(f"time.sleep(1) or sys.exit(134) if me == 0 else exec({handler!r})")
    assert code == 134


def test_a_killed_process_counts_as_a_shell_says_and_is_named():
    code, lines, _ = job("os.kill(os.getpid(), 9) if me else None")
    assert code == 137
    assert lines == [
        "local: process 1 of 2 ended with 137 (killed)",
        "local: the job ended with 137 (killed)",
    ]


def launched(code):
    """Starts a process that runs a job of two, as the command line does."""
    program = (sys.executable, "-u", "-c", ME + code)
    call = f"local.run([], local.Layout(2), 5, {program!r})"
    return subprocess.Popen(
        [sys.executable, "-c", f"import sys; from launch import local; sys.exit({call})"],
        cwd=ROOT,
        text=True,
        stdout=subprocess.PIPE,
    )


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signals_are_passed_on_and_the_processes_may_save(number, code):
    handler = f"signal.signal({int(number)}, lambda *_: (print('saved'), sys.exit({code})))"
    with launched(f"{handler}; print('ready'); time.sleep(60)") as launcher:
        ready = [launcher.stdout.readline() for _ in range(2)]
        assert sorted(ready) == ["[0] ready\n", "[1] ready\n"]
        launcher.send_signal(number)
        rest = launcher.communicate(timeout=30)[0]
    assert launcher.returncode == code and {"[0] saved", "[1] saved"} <= set(rest.splitlines())


def test_a_second_signal_kills():
    deaf = "signal.signal(15, lambda *_: print('no')); print('on')\nwhile 1: time.sleep(1)"
    with launched(deaf) as launcher:
        heard = [launcher.stdout.readline() for _ in range(2)]
        launcher.terminate()
        heard.append(launcher.stdout.readline())
        launcher.terminate()
        launcher.communicate(timeout=30)
    assert launcher.returncode == 137 and heard[2].endswith("no\n")


def command(*words):
    environment = os.environ | {"PYTHONPATH": ""}
    return subprocess.run(
        [sys.executable, "launch/local.py", *words],
        cwd=ROOT,
        env=environment,
        text=True,
        capture_output=True,
        timeout=60,
    )


@pytest.mark.parametrize(
    "words", [["--processes=x"], ["--typo=1"], ["--processes=0"], ["--gpus=3"], ["typo"]]
)
def test_mistakes_on_its_command_line_end_with_64(words):
    done = command(*words)
    assert done.returncode == 64 and done.stderr.startswith("local: "), done.stderr


def test_a_mistake_in_the_command_line_of_the_training_ends_with_64():
    done = command("--processes=2", "--", "--config=configs/nothing.py")
    assert done.returncode == 64 and "[1] segdiff: --config=configs/nothing.py" in done.stdout


def test_its_help_names_every_option():
    done = command("--help")
    assert done.returncode == 0 and all(f"--{name}=" in done.stdout for name in Layout._fields)


LISTENING = """
import jax
host = sys.argv[2].split('=')[1]
jax.distributed.initialize(host, 2, me)
from jax.experimental import multihost_utils
multihost_utils.sync_global_devices('all')
inodes = set()
for entry in os.scandir('/proc/self/fd'):
    try:
        inodes.add(os.readlink(entry.path))
    except OSError:
        pass
for table in ('tcp', 'tcp6'):
    for line in open(f'/proc/self/net/{table}').read().splitlines()[1:]:
        words = line.split()
        if words[3] == '0A' and f'socket:[{words[9]}]' in inodes:
            print('listens', words[1].rsplit(':', 1)[0], int(words[1].rsplit(':', 1)[1], 16))
multihost_utils.sync_global_devices('seen')
"""
LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F"}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_job_listens_on_the_loopback_address_only():
    output = io.StringIO()
    program = (sys.executable, "-u", "-c", ME + LISTENING)
    started = Job(["word"], Layout(2), output, program)
    assert started.wait() == 0, output.getvalue()
    found = [line.split()[2:] for line in output.getvalue().splitlines() if "listens" in line]
    print(f"ports: {len(found)}, on {sorted({address for address, _ in found})}")
    assert {address for address, _ in found} <= LOOPBACK, found
    assert found  # the coordinator at least


# --- launch/gke_jobset.yaml ---------------------------------------------------------------------

# What the fields that we use may hold, written from the types of JobSet v1alpha2 and batch/v1:
# a dict is an object of those fields and no other, a list has items of that form, a type or a
# regular expression is a value.
WORD = r"[A-Za-z0-9]([-A-Za-z0-9_./]*[A-Za-z0-9])?"
TEXTS = {"*": str}
POD = {
    "restartPolicy": "Never",
    "serviceAccountName": WORD,
    "terminationGracePeriodSeconds": int,
    "nodeSelector": TEXTS,
    "containers": [
        {
            "name": WORD,
            "image": str,
            "command": [str],
            "args": [str],
            "workingDir": str,
            "env": [{"name": "[A-Z_]+", "value": str}],
            "ports": [{"containerPort": int}],
            "resources": {"limits": {"google.com/tpu": int}},
            "securityContext": {"allowPrivilegeEscalation": bool},
            "volumeMounts": [{"name": WORD, "mountPath": str}],
        }
    ],
    "volumes": [
        {
            "name": WORD,
            "csi": {"driver": str, "volumeAttributes": TEXTS},
            "emptyDir": {"medium": "Memory"},
        }
    ],
}
JOB = {
    "completionMode": "Indexed",
    "parallelism": int,
    "completions": int,
    "backoffLimit": int,
    "podFailurePolicy": {
        "rules": [
            {
                "action": "FailJob|FailIndex|Ignore|Count",
                "onExitCodes": {"containerName": WORD, "operator": "In|NotIn", "values": [int]},
            }
        ]
    },
    "template": {"metadata": {"annotations": TEXTS}, "spec": POD},
}
JOBSET = {
    "apiVersion": r"jobset\.x-k8s\.io/v1alpha2",
    "kind": "JobSet",
    "metadata": {"name": "[a-z]([-a-z0-9]*[a-z0-9])?", "annotations": TEXTS},
    "spec": {
        "failurePolicy": {
            "maxRestarts": int,
            "restartStrategy": "Recreate|BlockingRecreate|InPlaceRestart",
            "rules": [
                {
                    "name": "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?",
                    "action": "FailJobSet|RestartJobSet(AndIgnoreMaxRestarts)?",
                    "onJobFailureReasons": ["PodFailurePolicy|BackoffLimitExceeded"],
                }
            ],
        },
        "replicatedJobs": [{"name": WORD, "replicas": int, "template": {"spec": JOB}}],
    },
}


def wrong(value, form, place="jobset"):
    """Yields a line for every value that does not match the schema."""
    if isinstance(form, dict) and isinstance(value, dict):
        for key, inner in value.items():
            if key not in form and "*" not in form:
                yield f"{place}.{key}: no such field"
            else:
                yield from wrong(inner, form.get(key, form.get("*")), f"{place}.{key}")
    elif isinstance(form, list) and isinstance(value, list):
        for i, inner in enumerate(value):
            yield from wrong(inner, form[0], f"{place}[{i}]")
    elif isinstance(form, str):
        if not (isinstance(value, str) and re.fullmatch(form, value)):
            yield f"{place}: {value!r} is not {form}"
    elif not (isinstance(form, type) and type(value) is form):
        yield f"{place}: {value!r} is not {form}"


@pytest.fixture
def jobset():
    return yaml.safe_load((ROOT / "launch" / "gke_jobset.yaml").read_text())


def test_the_jobset_has_only_fields_that_exist(jobset):
    found = list(wrong(jobset, JOBSET))
    print(f"jobset: {len(found)} fields that are none")
    assert found == []


def test_a_misspelt_field_of_the_jobset_would_be_found(jobset):
    jobset["spec"]["failurePolicy"]["maxRestart"] = 3
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    job["backoffLimit"] = "0"
    job["template"]["spec"]["restartPolicy"] = "OnFailure"
    assert len(list(wrong(jobset, JOBSET))) == 3


def test_the_jobset_restarts_by_the_exit_codes_of_the_package(jobset):
    spec = jobset["spec"]
    (slice_,) = spec["replicatedJobs"]
    job = slice_["template"]["spec"]
    (rule,) = job["podFailurePolicy"]["rules"]
    assert rule["action"] == "FailJob" and rule["onExitCodes"]["operator"] == "In"
    assert sorted(rule["onExitCodes"]["values"]) == sorted(errors.FINAL)
    (container,) = job["template"]["spec"]["containers"]
    assert rule["onExitCodes"]["containerName"] == container["name"]
    (fail,) = spec["failurePolicy"]["rules"]
    assert fail["action"] == "FailJobSet" and fail["onJobFailureReasons"] == ["PodFailurePolicy"]
    assert 0 < spec["failurePolicy"]["maxRestarts"] < 100
    assert job["backoffLimit"] == 0 and job["template"]["spec"]["restartPolicy"] == "Never"


def test_the_slice_of_the_jobset_has_as_many_pods_as_its_topology(jobset):
    job = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]
    pod = job["template"]["spec"]
    chips = 1
    for side in pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x"):
        chips *= int(side)
    (container,) = pod["containers"]
    assert job["parallelism"] == job["completions"]
    assert job["completions"] * container["resources"]["limits"]["google.com/tpu"] == chips


def test_the_jobset_gives_python_its_signals_and_no_secrets(jobset):
    pod = jobset["spec"]["replicatedJobs"][0]["template"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["command"] == ["python", "-m", "segdiff_jax.main"]
    assert [variable["name"] for variable in container["env"]] == ["JAX_COORDINATOR_PORT"]
    mounts = {mount["name"] for mount in container["volumeMounts"]}
    assert mounts == {volume["name"] for volume in pod["volumes"]}


# --- launch/colab.ipynb -------------------------------------------------------------------------


@pytest.fixture
def notebook():
    return json.loads((ROOT / "launch" / "colab.ipynb").read_text())


def code_of(notebook):
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    return ["".join(cell["source"]) for cell in cells]


def test_the_notebook_is_small_and_stripped(notebook):
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert len(notebook["cells"]) <= 14
    ids = [cell["id"] for cell in notebook["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in notebook["cells"]:
        assert cell["metadata"] == {} and cell["cell_type"] in ("code", "markdown")
        if cell["cell_type"] == "code":
            assert cell["outputs"] == [] and cell["execution_count"] is None


def test_the_cells_are_python_and_name_files_that_are_there(notebook):
    for code in code_of(notebook):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module.startswith("segdiff_jax"):
                assert importlib.util.find_spec(node.module), node.module
    text = json.dumps(notebook)
    for name in re.findall(r"configs/\w+\.py", text):
        assert (ROOT / name).is_file(), name


def executed(notebook, folder, monkeypatch, changes):
    """Runs the notebook in a kernel of its own, outside of Colab; returns its cells and seconds."""
    for name in ("configs", "segdiff_jax"):
        (folder / name).symlink_to(ROOT / name)
    places = ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR")
    variables = dict.fromkeys(places, folder / "jupyter") | {"PYTHONPATH": ROOT}
    for name, value in variables.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.delenv("XLA_FLAGS")  # one device, as there
    if changes:  # how fast the programs are does not matter
        monkeypatch.setenv("XLA_FLAGS", "--xla_backend_optimization_level=0")
    read = nbformat.reads(json.dumps(notebook), as_version=4)
    for cell in read.cells:
        for long, short in changes:
            cell.source = cell.source.replace(long, short)
    places = {"metadata": {"path": str(folder)}}
    start = time.monotonic()
    NotebookClient(read, timeout=1200, kernel_name="python3", resources=places).execute()
    return read.cells, time.monotonic() - start


def pictures(cells):
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return [output.data["image/png"] for output in outputs if "image/png" in output.get("data", {})]


SMALL = "channels=8", "multipliers=1,2", "rrdb_blocks=1", "rrdb_features=8", "rrdb_growth=4"
SMALLER = '.log_every=2", ' + ", ".join(f'"--config.model.{setting}"' for setting in SMALL) + "]"
SHORT = (
    *(("UPDATES = 60 if", "UPDATES = 2 if"), ("samples=4", "samples=2"), ("count=48", "count=8")),
    ('.log_every=2"]', SMALLER),
)
KINDS = "fluorescence", "stained"  # of sample pictures
OF_CHANCE = 'MODEL = "nuclei"'  # the network of the package takes half a minute to compile


@pytest.mark.parametrize("changes", [SHORT, pytest.param((), marks=pytest.mark.slow)])
def test_the_notebook_runs_in_a_kernel(notebook, tmp_path, monkeypatch, changes, run_of_chance):
    """With a training of two updates, and as it is: in less than five minutes on two idle cores."""
    if changes:
        changes = (*changes, (OF_CHANCE, f"MODEL = {str(run_of_chance)!r}"))
    for long, _ in changes:
        assert "".join(code_of(notebook)).count(long) == 1, long
    if not changes:  # from nothing, as a reader would
        monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path / "xla"))
    monkeypatch.setenv("HOME", str(tmp_path))  # prepared sets go there
    cells, seconds = executed(notebook, tmp_path, monkeypatch, changes)
    shown = [Image.open(io.BytesIO(base64.b64decode(text))) for text in pictures(cells)]
    said = "".join(output.get("text", "") for cell in cells for output in cell.get("outputs", []))
    print(f"notebook{' as it is' * (not changes)}: {len(shown)} pictures after {seconds:.0f} s")
    # two samples, and up to three of the test split, whose share is drawn by name
    assert (2 if changes else 4) < len(shown) <= 5 and all(one.width >= 64 for one in shown)
    updates = 2 if changes else 60
    assert f"{updates}/{updates}" in said and "cores: it will be used" in said
    assert re.search(r"predicting on \d x \w+", said) and "every file can be used" in said
    names = [f"nuclei_{of}_{what}.png" for of in KINDS for what in ("labels", "mask")]
    assert sorted(path.name for path in (tmp_path / "predicted").glob("*.png")) == names
    counts = [int(n) for n in re.findall(r"nuclei_\w+\.png: (\d+) objects", said)]
    assert len(counts) == 2
    for kind, count in zip(KINDS, counts, strict=True):
        labels = np.asarray(Image.open(tmp_path / "predicted" / f"nuclei_{kind}_labels.png"))
        assert labels.max() == count
    if not changes:
        assert 30 <= counts[0] <= 55 and 30 <= counts[1] <= 70 and said.count("expected Dice") == 2
        assert seconds < 300 * slack()
        if folder := os.environ.get("SEGDIFF_NOTEBOOK_PICTURES"):
            for number, picture in enumerate(shown):
                picture.save(f"{folder}/{number}.png")


def test_the_notebook_installs_from_a_wheel_or_a_clone_that_one_variable_names(
    notebook, tmp_path, monkeypatch
):
    """Runs its first cell where the package is missing, and looks at the arguments of pip."""
    install = code_of(notebook)[0]
    assert install.count('SOURCE = ""') == 1 and "OWNER" not in json.dumps(notebook)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    told = []
    monkeypatch.setattr(subprocess, "run", lambda words, **_: told.append(words[-1]))
    with pytest.raises(AssertionError, match="set SOURCE above, or upload a wheel"):
        exec(install, {})
    wheel = tmp_path / "segdiff_jax-1.0-py3-none-any.whl"
    wheel.touch()
    exec(install, {})
    exec(install.replace('SOURCE = ""', 'SOURCE = "git+https://example.org/a/segdiff_jax"'), {})
    assert told == [
        f"segdiff_jax @ {wheel.as_uri()}",
        "segdiff_jax @ git+https://example.org/a/segdiff_jax",
    ]


def test_a_cell_that_fails_raises(notebook, tmp_path, monkeypatch):
    failing = json.loads(json.dumps(notebook))
    failing["cells"] = failing["cells"][:3]
    failing["cells"][2]["source"] += ["\nassert tpu, 'no TPU here'"]
    with pytest.raises(CellExecutionError, match="no TPU here"):
        executed(failing, tmp_path, monkeypatch, ())
