"""Runs of the tiny network in processes of their own, started by the real command line."""

import json
import os
import subprocess

from tiny_config import ROOT, SECRETS, tiny

from launch.local import MAIN
from segdiff_jax import train
from segdiff_jax.checkpoint.manager import Checkpoints
from segdiff_jax.factory import datasets, training
from segdiff_jax.runtime import distributed

# Runs the program with a fault in one of its processes, given by the environment: at an update,
# in the data pipeline.
FAULTY = """
import os, runpy, signal, sys, time
me = int(sys.argv[-1].split('=')[1])
fault, place, step = os.environ.get('FAULT', '- 0 0').split()
signal.signal(signal.SIGINT, signal.default_int_handler)
if me == int(place) and fault != '-':
    import segdiff_jax.data.batches as data
    original = data.batches
    def batches(*words, **more):
        for number, batch in enumerate(original(*words, **more), 1):
            if number == int(step):
                hang_here(fault)
            yield batch
    def hang_here(fault):
        if fault == 'kill':
            os.kill(os.getpid(), signal.SIGKILL)
        if fault == 'stop':
            os.kill(os.getpid(), signal.SIGSTOP)
        if fault == 'term':
            return os.kill(os.getpid(), signal.SIGTERM)
        if fault == 'hang':
            time.sleep(1000)
        raise RuntimeError('a fault of the test')
    data.batches = batches
runpy.run_module('segdiff_jax.main', run_name='__main__', alter_sys=True)
"""


def write_config(folder, changes=""):
    """Writes a config file of the tiny network, changed by a statement about `c`; returns it."""
    file = folder / "tiny_config.py"
    file.write_text(f"""
import sys
sys.path.insert(0, {str(ROOT / "tests" / "support")!r})
from tiny_config import tiny

def get_config():
    c = tiny()
    {changes}
    return c
""")
    return file


def prepare(folder, prepared, changes=""):
    """Writes the config file, changed or not, and links the prepared data; returns the folder."""
    (folder / "data").symlink_to(prepared)
    write_config(folder, changes)
    return folder


def run_arguments(folder, workdir, *flags):
    """Returns the command line of a run on the data of a folder that `prepare` made."""
    locations = [f"--config.data.prepared_dir={folder / 'data'}", f"--workdir={workdir}"]
    return [f"--config={folder / 'tiny_config.py'}", *locations, *flags]


def environment():
    """Returns this environment with secrets, and without optimization of compiled programs."""
    return os.environ | SECRETS | {"JAX_DISABLE_MOST_OPTIMIZATIONS": "1"}


def start_run(folder, workdir, *flags, main=MAIN):
    """Starts a run in a process of its own."""
    return subprocess.Popen(
        [*main, *run_arguments(folder, workdir, *flags)],
        cwd=ROOT,
        env=environment(),
        text=True,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )


def finish(process):
    """Waits for a process, which must succeed; returns its output."""
    with process:
        try:
            output = "".join(process.communicate(timeout=1800))
        finally:
            process.kill()  # one that takes too long is not left behind
    assert process.returncode == 0, output
    return output


def final_state(folder, workdir):
    """Returns the state of the last checkpoint on the host, read by eight devices."""
    config = tiny()
    config.data.prepared_dir = str(folder / "data")
    examples = datasets.examples(config, "train")
    checkpoints = Checkpoints(workdir)
    setup = training.setup(config, examples, distributed.all_devices())
    state = setup.layout.to_host(train.start(setup, checkpoints))
    checkpoints.close()
    return state


def losses(workdir):
    """Returns (step, loss) of each line of metrics.jsonl that has a loss."""
    rows = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if "loss" in row]
