"""The faults of `make mutants` can be put into the code as it is."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

RUN = Path(__file__).with_name("run.py")


def test_every_fault_stands_once_in_the_code_and_names_its_tests():
    done = subprocess.run([sys.executable, RUN, "--check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) faults", done.stdout)[1]) >= 80


@pytest.mark.slow  # `make mutants` runs it a hundred times
def test_a_fault_that_is_not_noticed_fails_the_run(tmp_path):
    """A comment is no fault: no test can notice it."""
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); import run; from mutation import Mutation\n"
        "harmless = Mutation('none', 'data/crops', 'import numpy as np', 'import numpy as np  #', "
        "'data/test_crops.py')\n"
        "print([verdict for _, verdict, _ in run.run([harmless], 1)])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(RUN.parent)], capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "['survived']", done.stdout + done.stderr
