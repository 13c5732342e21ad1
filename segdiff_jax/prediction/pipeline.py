"""Image files in, maps and a summary out; what is done is left alone.

Memory: of an image larger than `LARGE` pixels, one is held at a time, with five bytes a pixel for
its maps besides the three of its own; smaller ones are read while the device works.
"""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
from absl import logging
from tqdm import tqdm

from segdiff_jax.data.image_io import writing
from segdiff_jax.data.image_io.headers import Limits
from segdiff_jax.data.image_io.reading import read_image, read_size
from segdiff_jax.errors import BAD_DATA, UserError
from segdiff_jax.prediction import summary
from segdiff_jax.prediction.inputs import Input
from segdiff_jax.prediction.output_maps import OutputMaps
from segdiff_jax.prediction.overlay import overlay
from segdiff_jax.prediction.summary import Summary

LARGE = 2**24  # pixels of an image that is read only once all before it are finished


LOOKS = 5  # images named at the end


class Band(Protocol):
    """Finished rows of one of several images, see `library.Model.bands`."""

    @property
    def image(self) -> int:  # noqa: D102
        ...

    @property
    def top(self) -> int:  # noqa: D102
        ...

    @property
    def generations(self) -> np.ndarray:  # noqa: D102
        ...

    @property
    def last(self) -> bool:  # noqa: D102
        ...


class Model(Protocol):
    """What is needed of `library.Model`."""

    def bands(self, images: Iterable[np.ndarray], first: int = 0) -> Iterator[Band]:
        """Yields finished rows of image after image, from top to bottom."""
        ...


class Job(NamedTuple):
    """An image that is to be answered: the file, and its (height, width)."""

    input: Input
    shape: tuple[int, int]


class Source(NamedTuple):
    """What was read of a file: pixels [H, W, 3] uint8, its tags, and its state before."""

    image: np.ndarray
    tags: writing.Tags
    state: os.stat_result


class Open(NamedTuple):
    """An image whose rows are not all finished."""

    job: Job
    source: Source
    maps: OutputMaps


@dataclass
class FolderPrediction:
    """The work of one call.

    Attributes:
      model: that answers.
      output: the folder of all that is written.
      limits: of reading.
      threshold: of the masks.
      keep: number of generations to write one by one; 0: none.
      summary: open.
      random: whether the model draws its masks, see `averaging.uncertainty`.
      problems: a line for each file that could not be read so far.
    """

    model: Model
    output: Path
    limits: Limits
    threshold: float
    keep: int
    summary: Summary
    random: bool = True
    problems: list[str] = field(default_factory=list)

    def is_done(self, one: Input) -> bool:
        """Whether all that is made of an image was made before, of the file as it is now."""
        files = [*one.maps(self.output).values(), *one.generations(self.output, self.keep)]
        return self.summary.is_done(one.name, one.path, files)

    def run(self, inputs: Iterable[Input]) -> None:
        """Answers all images; those that cannot be read are noted in `problems`.

        Raises:
          UserError: something cannot be written, or an answer is not finite.
        """
        jobs = [job for job in map(self._job, inputs) if job]
        with tqdm(
            desc="predicting",
            total=sum(job.shape[0] * job.shape[1] for job in jobs),
            unit="px",
            unit_scale=True,
            mininterval=1 if sys.stderr.isatty() else 30,  # a log is not to be flooded
            leave=False,
            disable=not jobs,
        ) as progress:
            for batch in batches(jobs):
                left = batch
                while left:  # noise goes by number, so that a gap needs a new start
                    left = self._answer(left, progress)

    def _job(self, input: Input) -> Job | None:
        try:
            return Job(input, read_size(input.path, self.limits))
        except UserError as error:
            self._note(error)
            return None

    def _note(self, error: UserError) -> None:
        # what the reader calls by the names of a config are flags here
        self.problems.append(str(error).replace("config.reading.", "--"))

    def _answer(self, jobs: list[Job], progress: tqdm) -> list[Job]:
        """Answers jobs of consecutive numbers up to the first unreadable one; returns the rest."""
        opened: dict[int, Open] = {}
        began, read = time.monotonic(), 0

        def images() -> Iterator[np.ndarray]:
            nonlocal read
            for job, found in self._read_ahead(jobs):
                read += 1
                if isinstance(found, UserError):
                    self._note(found)
                    progress.update(job.shape[0] * job.shape[1])
                    return
                keep_in = self.output if self.keep else None
                maps = OutputMaps(found.image.shape[:2], self.threshold, keep_in, self.random)
                opened[read - 1] = Open(job, found, maps)
                yield found.image

        for band in self.model.bands(images(), jobs[0].input.number):
            one = opened[band.image]
            try:
                one.maps.add(band.top, band.generations)
            except UserError as error:
                raise UserError(f"{one.job.input.path}: {error}", error.code) from error
            progress.update(band.generations.shape[1] * band.generations.shape[2])
            if band.last:
                self._finish(opened.pop(band.image), began)
                began = time.monotonic()
        return jobs[read:]

    def _read_ahead(self, jobs: list[Job]) -> Iterator[tuple[Job, Source | UserError]]:
        """Yields what is read, or why it is not, while a thread reads the next file."""
        with ThreadPoolExecutor(1) as reader:
            ahead = [reader.submit(self._read, jobs[0])]
            for place, job in enumerate(jobs):
                found = ahead.pop().result()
                ahead += [reader.submit(self._read, later) for later in jobs[place + 1 : place + 2]]
                yield job, found

    def _read(self, job: Job) -> Source | UserError:
        path = job.input.path
        try:
            state = path.stat()
            image = read_image(path, self.limits)
            return Source(image, writing.read_tags(path, self.limits.page), state)
        except UserError as error:
            return error
        except OSError as error:
            return UserError(f"{path}: {error.strerror or error}", BAD_DATA)
        except Exception as error:
            error.add_note(
                f"while reading {path}"
            )  # a bug; in a thread no traceback names the file
            raise

    def _finish(self, one: Open, began: float) -> None:
        """Writes all files of an image, then its row."""
        output, input, maps = self.output, one.job.input, one.maps
        image, own_tags, state = one.source
        paths = input.maps(output)
        figures = maps.figures()
        picture = overlay(image, maps.mask, maps.uncertainty)
        reduced = picture.shape != image.shape
        if reduced:
            height, width = picture.shape[:2]
            logging.info("%s: its overlay is reduced to %d x %d", input.name, width, height)
        # on fewer pixels the tags would be wrong
        tags = writing.NO_TAGS if reduced else own_tags
        writing.save(paths["overlay"], picture, tags, like_source=True)
        for name in ("probability", "uncertainty", "mask"):
            writing.save(paths[name], getattr(maps, name), own_tags)
        if maps.generations is not None:
            files = input.generations(output, self.keep)
            for path, generation in zip(files, maps.generations, strict=True):
                writing.save(path, generation, own_tags)
        seconds, shape = time.monotonic() - began, one.job.shape
        self.summary.add(summary.row(input.name, shape, figures, seconds, state))


def batches(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Yields jobs of consecutive numbers together; a large image comes alone."""
    batch: list[Job] = []
    for job in jobs:
        large = any(one.shape[0] * one.shape[1] > LARGE for one in (job, *batch[-1:]))
        if batch and (large or job.input.number != batch[-1].input.number + 1):
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch


def log_looks(path: Path, rows: Iterable[summary.Row]) -> None:
    """Says where the summary is, and which images most need a look; the rows are ranked."""
    rows = sorted(rows, key=lambda row: row.look_rank)
    logging.info("%s: %d images; a human should look first at", path, len(rows))
    for row in rows[:LOOKS]:
        logging.info(
            "  %d. %s: agreement %.3f, foreground %.1f %%",
            row.look_rank,
            row.name,
            row.agreement,
            100 * row.foreground_share,
        )
