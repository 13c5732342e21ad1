"""Objects of an image of 10,000 x 10,000 pixels: whole, and in a bounded memory."""

import json
import subprocess
import sys

import numpy as np
import pytest
import tifffile
from tiny_config import ROOT, tiny

SIDE, STEP, BAND = 10_000, 100, 192  # pixels; between discs; of the rows of a band
LIMIT = 3 * 2**30  # bytes

PREDICTION = """
import sys
import numpy as np
from stand_in import StandIn
from segdiff_jax import predict
from segdiff_jax.cli.predict_args import parse
from segdiff_jax.inference.predictor import PredictedRows

class Small(StandIn):  # which keeps no copy of the image
    def bands(self, images, first=0):
        for place, image in enumerate(images):
            for top in range(0, len(image), self.rows):
                soft = np.float32(image[top : top + self.rows, :, 0][None]) / 255
                last = top + self.rows >= len(image)
                yield PredictedRows(place, top, soft, soft[0], None, last)

place, side, band = sys.argv[1], *map(int, sys.argv[2:])
argv = [f"--workdir={place}", f"--input={place}/large.tif", f"--output={place}/out"]
argv += ["--outputs=labels,objects,geojson,rois", f"--max_pixels={side**2}"]
predict.predict(parse(argv), Small(rows=band, generations=1))
with open("/proc/self/status") as file:
    print(next(line for line in file if line.startswith("VmHWM")).split()[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="reads the peak of memory from /proc")
def test_labels_of_a_large_image_are_not_cut_and_take_at_most_three_gigabytes(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(tiny().to_dict()))
    y, x = np.mgrid[:STEP, :STEP] - STEP // 2
    disc = (y**2 + x**2) <= (0.4 * STEP) ** 2
    image = np.tile(np.uint8(255) * disc[..., None], (SIDE // STEP, SIDE // STEP, 3))
    tifffile.imwrite(tmp_path / "large.tif", image, photometric="rgb", compression="zlib")
    del image
    words = [sys.executable, "-c", PREDICTION, tmp_path, SIDE, BAND]
    path = f"{ROOT}:{ROOT / 'tests/support'}"
    done = subprocess.run(
        [*map(str, words)], cwd=ROOT, env={"PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    peak = int(done.stdout.split()[-1]) * 1024
    assert peak < LIMIT, peak / 2**30
    labels = tifffile.imread(tmp_path / "out/labels/large.tif")
    count = (SIDE // STEP) ** 2
    areas = np.bincount(labels.ravel())[1:]
    assert labels.shape == (SIDE, SIDE) and (areas == disc.sum()).all() and len(areas) == count
    blocks = labels.reshape(SIDE // STEP, STEP, SIDE // STEP, STEP).swapaxes(1, 2)
    assert (blocks[:, :, disc] == blocks[:, :, disc][..., :1]).all()
    lines = (tmp_path / "out/objects.csv").read_text().splitlines()
    features = json.loads((tmp_path / "out/geojson/large.geojson").read_text())["features"]
    assert len(lines) == count + 1 and len(features) == count
