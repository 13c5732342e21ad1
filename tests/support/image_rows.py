"""Short images of one row, and files of them by Pillow."""

import io

import numpy as np
import pytest
from image_files import chunk
from PIL import Image

from segdiff_jax import errors


def grey(*values, dtype=np.uint8):
    """One row of pixels."""
    return np.array([values], dtype)


def colour(*values, dtype=np.uint8):
    return np.array([values], dtype)


def by_pillow(array, form, mode=None, **options):
    file = io.BytesIO()
    image = Image.fromarray(array)
    (image if mode is None else image.convert(mode)).save(file, form, **options)
    return file.getvalue()


def palette(*colours):
    return chunk(b"PLTE", bytes(sum(colours, ())))


def refusal(read, *arguments):
    with pytest.raises(errors.UserError) as caught:
        read(*arguments)
    message = str(caught.value)
    assert caught.value.code == errors.BAD_DATA and "\n" not in message
    assert message.startswith(f"{arguments[0]}: ")
    return message
