"""Reads the images of a prediction, one file ahead, and says in a line what is wrong with one."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import numpy as np

from segdiff_jax.data.image_io import bands, writing
from segdiff_jax.data.image_io.headers import Limits
from segdiff_jax.errors import BAD_DATA, UserError, one_line
from segdiff_jax.prediction.inputs import Input
from segdiff_jax.runtime.files import WriteError


class Job(NamedTuple):
    """Describes an image to predict: its file, its shape (H, W), and its scale, see `scales`."""

    input: Input
    shape: tuple[int, int]
    scale: float = 1.0

    @property
    def pixels(self) -> int:
        """Returns H * W."""
        return self.shape[0] * self.shape[1]


class ImageFile(NamedTuple):
    """Holds an image [H, W, 3] uint8, the tags to copy, and the state of its file before."""

    image: np.ndarray
    tags: writing.Tags
    state: os.stat_result
    values: str  # see `reading.ReadImage`


class ImageReader:
    """Iterates over the images of jobs, up to the first unreadable one; reads one file ahead.

    Attributes:
      count: how many files have been read or tried.
      files: those read, by their index in `jobs`; the consumer removes what it has finished.
      error: why the last file cannot be used, if it cannot.
    """

    def __init__(self, jobs: Sequence[Job], limits: Limits, channels: tuple[str, ...] = ()) -> None:
        self.jobs, self.limits, self.channels, self.count = jobs, limits, channels, 0
        self.files: dict[int, ImageFile] = {}
        self.error: UserError | None = None

    def __iter__(self) -> Iterator[np.ndarray]:
        """Yields the images [H, W, 3] uint8 in order."""
        with ThreadPoolExecutor(1) as executor:
            ahead = [executor.submit(self._read, self.jobs[0].input)]
            for index in range(len(self.jobs)):
                self.count += 1
                try:
                    file = self.files[index] = ahead.pop().result()
                except UserError as error:
                    self.error = error
                    return
                for job in self.jobs[index + 1 : index + 2]:
                    ahead.append(executor.submit(self._read, job.input))
                yield file.image

    def _read(self, input: Input) -> ImageFile:
        path = input.path
        try:
            state = path.stat()
            image, values = bands.read(path, self.channels, self.limits)
            tags = writing.read_tags(path, self.limits.page)
            tags = writing.usable_tags(tags, input.suffix, input.name)
            return ImageFile(image, tags, state, values)
        except Exception as error:  # libraries raise nearly anything
            raise problem(path, error) from error


def problem(path: Path, error: Exception) -> UserError:
    """Returns the line of an image that failed, for whatever reason; its path comes first."""
    # the reader names config fields, which are flags of the program
    text = as_flags(one_line(error))
    if isinstance(error, OSError) and not isinstance(error, UserError):
        text = error.strerror or text
    code = error.code if isinstance(error, UserError) else BAD_DATA
    named = str(path) in text or isinstance(error, WriteError)
    return UserError(text if named else f"{path}: {text}", code)


def as_flags(text: str) -> str:
    """Returns what the reader says of config fields with the flags of this program."""
    return text.replace("config.reading.", "--")
