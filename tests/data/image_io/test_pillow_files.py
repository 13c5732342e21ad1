"""What a prepared set stores is read back without limits of its own."""

import io

import numpy as np
import pytest
from PIL import Image

from segdiff_jax.data.image_io import pillow_files


@pytest.mark.parametrize("shape", [(7, 9, 3), (7, 9), (1, 1, 3)])
def test_pillows_own_limit_does_not_count(shape, monkeypatch):
    array = np.random.default_rng(0).integers(0, 256, shape).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 0)
    np.testing.assert_array_equal(pillow_files.decode_stored(file.getvalue()), array)


def test_labels_of_16_bits_are_stored_exactly():
    labels = np.arange(2**16, dtype=np.uint16).reshape(128, 512)
    stored = pillow_files.encode_stored(labels)
    np.testing.assert_array_equal(pillow_files.decode_stored(stored), labels)


def test_damage_is_an_exception():
    stored = pillow_files.encode_stored(np.zeros((9, 9), np.uint16))
    for damaged in (b"", stored[: len(stored) // 2], stored[:3]):
        with pytest.raises(Exception, match=r".*"):
            pillow_files.decode_stored(damaged)
