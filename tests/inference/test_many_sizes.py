"""Pictures of any size share a handful of compiled programs."""

import os
import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image
from tiny_config import tiny, write_run

PICTURES, SIZES, MOST = 200, 40, 6
CONSTANTS = 20  # programs that make keys and constants, in milliseconds, whatever the pictures are
COMPILED = re.compile(r"Finished XLA compilation of jit\((\w+)\)")


@pytest.mark.slow
@pytest.mark.parametrize("samples", [0, 2])
def test_two_hundred_pictures_of_forty_sizes_compile_at_most_six_programs(tmp_path, samples):
    """Counts in the log of JAX what a program compiles that finds nothing in a cache."""
    config = tiny()
    config.sampling.tile, config.sampling.stride = 32, 24
    write_run(config, tmp_path / "run", 1)
    rng = np.random.default_rng(5)
    sizes = rng.integers(9, 80, (SIZES, 2))
    assert len({tuple(size) for size in sizes}) == SIZES
    (tmp_path / "in").mkdir()
    for number in range(PICTURES):
        pixels = rng.integers(0, 256, (*sizes[number % SIZES], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{number:03d}.png")
    words = f"--workdir={tmp_path / 'run'}", f"--input={tmp_path / 'in'}"
    flags = (f"--samples={samples}", "--outputs=samples") if samples else ()
    done = subprocess.run(
        [sys.executable, "-m", "segdiff_jax.predict", *words, *flags]
        + ["--generations=2", "--steps=2", f"--output={tmp_path / 'out'}"],
        env=os.environ | {"JAX_LOG_COMPILES": "1", "JAX_ENABLE_COMPILATION_CACHE": "0"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert len(list((tmp_path / "out" / "mask").iterdir())) == PICTURES
    programs = COMPILED.findall(done.stderr)
    network = [name for name in programs if name == "sample_rows"]
    counts = f"{len(network)} of the network, {len(programs) - len(network)} of keys and constants"
    print(f"{PICTURES} pictures of {SIZES} sizes, {samples} samples: compiled {counts}")
    assert 0 < len(network) <= MOST, programs
    assert len(programs) - len(network) <= CONSTANTS, programs
