"""Predicts the images of a folder and writes maps, overlay and summary row of each.

Memory: of an image larger than `LARGE` pixels, one is held at a time, with three bytes a pixel of
its own and five of its maps; the file of a smaller one is read while the device predicts others.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from absl import logging
from tqdm import tqdm

from segdiff_jax.certainty.calibration import Calibration
from segdiff_jax.data.classes import member, members
from segdiff_jax.data.composite import composite
from segdiff_jax.data.image_io import writing
from segdiff_jax.data.image_io.headers import Limits
from segdiff_jax.data.image_io.reading import read_size
from segdiff_jax.errors import BAD_DATA, UserError
from segdiff_jax.evaluation.class_colours import PALETTE
from segdiff_jax.inference.predictor import PredictedRows
from segdiff_jax.prediction import class_table, log_lines, summary
from segdiff_jax.prediction.certainty_columns import CertaintyColumns, Known
from segdiff_jax.prediction.class_table import ClassTable
from segdiff_jax.prediction.image_reader import ImageFile, ImageReader, Job, as_flags, problem
from segdiff_jax.prediction.inputs import Input
from segdiff_jax.prediction.object_outputs import ObjectMaps, ObjectOutputs
from segdiff_jax.prediction.output_maps import OutputMaps
from segdiff_jax.prediction.overlay import overlay
from segdiff_jax.prediction.scales import Scales
from segdiff_jax.prediction.summary import Row, Summary
from segdiff_jax.runtime import compilation
from segdiff_jax.runtime.files import WriteError

LARGE = 2**24  # pixels of an image that is read only once all before it are finished

# Predicts images [H, W, 3] uint8, the first of which has the given number: see `api.Model.bands`.
Bands = Callable[[Iterable[np.ndarray], int], Iterable[PredictedRows]]


@dataclass
class FolderPrediction:
    """Predicts images and writes the results to a folder."""

    bands: Bands
    output: Path
    limits: Limits
    threshold: float  # of the masks
    saved_generations: int  # how many to write one by one; 0: none
    summary: Summary  # open
    random: bool = True  # whether generations are samples of masks, see `averaging.uncertainty`
    expected: bool = False  # how the agreement is computed, see `OutputMaps`
    save_samples: bool = False  # whether to write the samples one by one
    whole: bool = False  # whether an image is predicted as a whole, see `Predictor.whole`
    shown: Callable[[np.ndarray], np.ndarray] = lambda p: p  # see `api.Model.shown`
    calibration: Calibration | None = None  # of the certainty; None: its columns are empty
    bounds: tuple[float, float] | None = None  # thresholds of the inner and the outer mask
    objects: ObjectOutputs | None = None  # what is written of them
    scales: Scales = field(default_factory=Scales)  # of the pictures that the network sees
    classes: tuple[str, ...] = ()  # names of those that the network learnt
    overlap: bool = False  # whether a pixel may belong to several of them
    channels: tuple[str, ...] = ()  # names of those of images; (): RGB
    by_distance: bool = False  # see `PredictedRows`
    class_table: ClassTable | None = None  # of the classes; None: there are none
    diameter: float = 0.0  # of the objects of the training, pixels; 0: sizes are not compared
    problems: list[UserError] = field(default_factory=list)  # of the images that failed so far
    done: list[Row] = field(default_factory=list)  # of each image finished so far

    def is_done(self, input: Input) -> bool:
        """Returns whether all results of an image exist and are of its file as it is now."""
        generations = input.generations(self.output, self.saved_generations)
        files = [*input.maps(self.output).values(), *generations]
        files += input.bounds(self.output).values() if self.bounds else ()
        files += self._class_files(input) if self.classes else ()
        if (row := self.summary.rows.get(input.name)) is None:
            return False
        if self.save_samples:
            files += input.samples(self.output, row.samples)
        if self.class_table is not None and input.name not in self.class_table.lines:
            return False
        if self.objects and not self.objects.is_done(input, self.output, row.width * row.height):
            return False
        return self.summary.is_done(input.name, input.path, files)

    def run(self, inputs: Iterable[Input]) -> None:
        """Predicts all images; whatever fails for one of them is added to `problems`.

        Raises:
          WriteError: nothing at all can be written any more.
        """
        jobs = list(self._jobs(inputs))
        with (
            tqdm(
                desc="predicting",
                total=sum(job.pixels for job in jobs),
                unit="px",
                unit_scale=True,
                mininterval=1 if sys.stderr.isatty() else 30,  # seconds; fewer lines in a log
                leave=False,
                disable=not jobs,
            ) as progress,
            compilation.reported_to(partial(describe, progress)),
        ):
            left = [*batches(jobs)][::-1]
            while left:  # after a bad file, the numbers that seed the noise have a gap
                left += filter(None, self._predict(left.pop(), progress)[::-1])
        log_lines.cost(self.done)
        log_lines.values(self.done)

    def _jobs(self, inputs: Iterable[Input]) -> Iterator[Job]:
        for input in inputs:
            try:
                shape = read_size(input.path, self.limits)
                job = Job(input, shape, self.scales.choose(input))
                if self.whole and job.pixels > LARGE:
                    raise UserError(
                        f"{input.path}: its {job.pixels} pixels are more than {LARGE}, the most "
                        "with --tolerance, and with --fusion=staple and medoid",
                        BAD_DATA,
                    )
                if job.pixels * max(job.scale, 1) ** 2 > self.limits.max_pixels:
                    raise UserError(
                        f"{input.path}: its {job.pixels} pixels, {job.scale:g} times as large in "
                        f"both directions, are more than --max_pixels={self.limits.max_pixels}",
                        BAD_DATA,
                    )
                yield job
            except Exception as error:  # libraries raise nearly anything
                self._add_problem(input.path, error)

    def _add_problem(self, path: Path, error: Exception) -> None:
        """Keeps the line of an image that failed; raises an error that would end all others too."""
        if isinstance(error, WriteError) and error.everywhere:
            raise error
        logging.debug("%s", path, exc_info=error)
        self.problems.append(problem(path, error))

    def _predict(self, jobs: list[Job], progress: tqdm) -> list[list[Job]]:
        """Predicts jobs of consecutive numbers up to one that fails; returns those left to do.

        An error of the devices does not say to which of several images it belongs: then the first
        of those that are left is to be predicted alone.
        """
        reader = ImageReader(jobs, self.limits, self.channels)
        stream, ended = iter(self.bands(reader, jobs[0].input.number)), 0
        started, maps = time.monotonic(), None
        of_objects = self.objects is not None or self.calibration is not None
        certainty = CertaintyColumns(self.calibration, self.random, of_objects)
        while True:
            try:
                if (rows := next(stream, None)) is None:
                    break
            except Exception as error:  # libraries raise nearly anything
                if len(jobs) > ended + 1 and reader.count > ended + 1:
                    return [jobs[ended : ended + 1], jobs[ended + 1 :]]
                return self._give_up(jobs, ended, error, progress)
            job, file = jobs[rows.image], reader.files[rows.image]
            try:
                maps = maps or self._maps(file.image.shape[:2], rows.interior is not None)
                shown = self.shown(rows.probability)
                more = rows.samples, rows.interior, rows.shown_shares(self.shown)
                maps.add(rows.top, rows.generations, shown, *more)
                certainty.add(rows, job.pixels)
                if rows.last:
                    holds = job.scale == 1
                    seen = file.image, maps.mask, holds, self._each(maps)
                    known = certainty.known(rows.image, *seen)
                    self._finish(job, file, maps, started, known)
            except Exception as error:
                return self._give_up(jobs, rows.image, error, progress)
            progress.update(rows.generations.shape[1] * rows.generations.shape[2])
            if rows.last:
                del reader.files[rows.image]
                started, maps, ended = time.monotonic(), None, rows.image + 1
        if reader.error:
            return self._give_up(jobs, ended, reader.error, progress)
        return []

    def _give_up(
        self, jobs: list[Job], index: int, error: Exception, progress: tqdm
    ) -> list[list[Job]]:
        """Adds the problem of a job, and returns those after it."""
        self._add_problem(jobs[index].input.path, error)
        progress.update(jobs[index].pixels)
        return [jobs[index + 1 :]]

    def _maps(self, shape: tuple[int, int], interior: bool) -> OutputMaps:
        """Returns the maps of an image of shape (H, W), which are empty."""
        wanted = {"generations": self.saved_generations > 0, "samples": self.save_samples}
        sized = self.diameter > 0 and shape[0] * shape[1] <= log_lines.MAX_PIXELS
        wanted |= {"interior": (self.objects is not None or sized) and interior}
        wanted |= {"shares": self.objects is not None}
        keep = [name for name, kept in wanted.items() if kept]
        more = self.random, self.expected, self.bounds, len(self.classes), self.overlap
        return OutputMaps(shape, self.threshold, self.output, keep, *more)

    def _finish(
        self, job: Job, file: ImageFile, maps: OutputMaps, started: float, known: Known
    ) -> None:
        """Writes the files of an image, and then its row, which marks it as done."""
        input, paths = job.input, job.input.maps(self.output)
        bounds = None if maps.inner is None or maps.outer is None else (maps.inner, maps.outer)
        for path, mask in zip(input.bounds(self.output).values(), bounds or (), strict=False):
            writing.save(path, mask, file.tags)
        shown = maps.uncertainty, bounds, known.objects, maps.classes, self.overlap
        picture = overlay(composite(file.image), maps.mask, *shown)
        tags = file.tags
        if picture.shape[:2] != file.image.shape[:2]:
            height, width = picture.shape[:2]
            logging.info("%s: its overlay is reduced to %d x %d", input.name, width, height)
            tags = writing.NO_TAGS  # resolution and place do not fit
        writing.save(paths["overlay"], picture, tags, like_source=True)
        for name in ("probability", "uncertainty", "mask"):
            writing.save(paths[name], getattr(maps, name), file.tags)
        if maps.classes is not None:
            self._save_classes(input, maps.classes, known, file.tags)
        if maps.generations is not None:
            outputs = input.generations(self.output, self.saved_generations)
            for path, generation in zip(outputs, maps.generations, strict=True):
                writing.save(path, generation, file.tags)
        if maps.samples is not None:
            self._save_samples(input, maps.samples, file.tags)
        of_classes = maps.classes, maps.shares, self.classes, self.by_distance, self.overlap
        of_objects = ObjectMaps(maps.mask, maps.probability, maps.interior, *of_classes)
        if self.objects is not None:
            self.objects.write(input, self.output, of_objects, known.objects, file.tags)
        if self.diameter:
            log_lines.size(input.name, of_objects, known.objects, self.diameter)
        seconds = time.monotonic() - started
        more = file.state, as_flags(file.values), known.columns
        row = summary.row(input.name, job.shape, maps.statistics(), seconds, *more)
        self.summary.add(row)
        self.done.append(row)

    def _save_classes(
        self, input: Input, classes: np.ndarray, known: Known, tags: writing.Tags
    ) -> None:
        """Writes the class map of an image, or the mask of each, and its lines of classes.csv."""
        paths, pixels = self._class_files(input), list[int]()
        if not self.overlap:
            writing.save(paths[0], classes, tags, palette=PALETTE[: len(self.classes) + 1])
        for k in range(1, len(self.classes) + 1):
            own = member(classes, k, self.overlap)
            pixels.append(int(np.count_nonzero(own)))
            if self.overlap:
                writing.save(paths[k - 1], own * np.uint8(255), tags)
        if self.class_table is not None:
            lines = class_table.rows(input.name, self.classes, pixels, known.classes)
            self.class_table.add(input.name, lines)

    def _class_files(self, input: Input) -> list[Path]:
        return [*input.classes(self.output, self.classes if self.overlap else ()).values()]

    def _each(self, maps: OutputMaps) -> np.ndarray | None:
        """Returns the masks [C, H, W] of classes that overlap; None: none do, or nothing asks."""
        asked = self.objects is not None or self.calibration is not None
        if not (self.overlap and asked) or maps.classes is None:
            return None
        return members(maps.classes, len(self.classes))

    def _save_samples(self, input: Input, samples: np.ndarray, tags: writing.Tags) -> None:
        """Writes samples [S, H, W], and removes those beyond S of an earlier command."""
        for path, sample in zip(input.samples(self.output, len(samples)), samples, strict=True):
            writing.save(path, sample, tags)
        number = len(samples) + 1
        while (stale := input.samples(self.output, number)[-1]).exists():
            stale.unlink()
            number += 1


def describe(progress: tqdm, compiled: str) -> None:
    """Writes into a progress line what is compiled; "": nothing is, images are predicted."""
    progress.set_description(f"compiling for {compiled}" if compiled else "predicting")


def batches(jobs: Iterable[Job]) -> Iterator[list[Job]]:
    """Yields jobs of consecutive numbers together; an image larger than `LARGE` comes alone."""
    batch: list[Job] = []
    for job in jobs:
        large = any(one.pixels > LARGE for one in (job, *batch[-1:]))
        if batch and (large or job.input.number != batch[-1].input.number + 1):
            yield batch
            batch = []
        batch.append(job)
    if batch:
        yield batch
