"""A save that is cut off at any file operation: what is found then is whole, and saving goes on."""

import errno
import json
import os
import shutil
import subprocess
import sys

import pytest
from checkpoint_files import save
from tiny_config import ROOT

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD"),
    pytest.mark.skipif(not shutil.which("cc"), reason="needs a C compiler"),
]


@pytest.fixture(scope="module")
def shim(tmp_path_factory):
    path = tmp_path_factory.mktemp("shim") / "crash_point.so"
    source = ROOT / "tests" / "support" / "crash_point.c"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", path, source, "-ldl"], check=True)
    return path


def points(shim, tmp_path, error, every, first=1):
    """Returns a row for each crash point that was tried, and what the saves said."""
    template = tmp_path / "template"
    save(template, 10, 20)
    (tmp_path / "scratch").mkdir()
    words = [template, tmp_path / "scratch", error, every, first]
    done = subprocess.run(
        [sys.executable, ROOT / "tests" / "support" / "crash_driver.py", *map(str, words)],
        cwd=ROOT,
        env=os.environ | {"LD_PRELOAD": str(shim), "PYTHONPATH": f"{ROOT}:{ROOT}/tests/support"},
        capture_output=True,
        text=True,
        timeout=3000,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert rows, done.stderr[-3000:]
    return rows, done.stderr


def check(rows, said, name):
    cut = [row for row in rows if not row["said it was saved"]]
    print(
        f"{name}: {len(cut)} crash points, {sum(row['resumed'] for row in cut)} resumed whole, "
        f"{sum(row['step'] == 30 for row in cut)} of them with the new checkpoint"
    )
    for row in rows:
        assert row["resumed"] and row["step"] in (20, 30), f"{row}\n{said[-6000:]}"
        assert row["step"] == 30 or not row["said it was saved"], row
    return cut


@pytest.mark.parametrize("every", [13, pytest.param(1, marks=pytest.mark.slow)])
def test_a_save_killed_at_a_file_operation_leaves_a_whole_state(shim, tmp_path, every):
    rows, said = points(shim, tmp_path, 0, every)
    cut = check(rows, said, f"SIGKILL at every {every}. operation")
    assert len(cut) >= 3 and all(row["code"] == -9 for row in cut)
    assert rows[-1]["said it was saved"]  # all operations were reached


@pytest.mark.parametrize(
    "number",
    [errno.ENOSPC, *(pytest.param(n, marks=pytest.mark.slow) for n in (errno.EIO, errno.EROFS))],
)
@pytest.mark.parametrize("every", [41, pytest.param(1, marks=pytest.mark.slow)])
def test_a_save_that_the_disk_refuses_leaves_a_whole_state(shim, tmp_path, number, every):
    rows, said = points(shim, tmp_path, number, every)
    cut = check(rows, said, f"{errno.errorcode[number]} from every {every}. operation")
    assert len(cut) >= 2 and all(row["code"] == 3 for row in cut)
