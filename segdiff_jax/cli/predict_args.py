"""Parses the command line of `predict`."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ml_collections import ConfigDict

from segdiff_jax.checkpoint import places, run_config
from segdiff_jax.cli import options
from segdiff_jax.cli.options import whole_number
from segdiff_jax.config.allowed import SIDE, STEPS, Allowed, integer, is_range, number
from segdiff_jax.config.schema import FIELDS, MAX_SEED
from segdiff_jax.errors import UserError
from segdiff_jax.prediction import scales
from segdiff_jax.prediction.inputs import (
    ALL,
    AUTO,
    CLASSES,
    FOLDERS,
    GENERATIONS,
    MAPS_ALONE,
    OBJECTS,
    OF_OBJECTS,
    SAMPLES,
    Input,
    expand,
    find_all,
)
from segdiff_jax.prediction.summary import unrelated_content

HELP = """SegDiff: predicts the masks of new images with a trained run.

  segdiff predict --model=RUN --input=FILE_OR_FOLDER --output=DIR
  segdiff predict --model=RUN --input=slides --recursive --output=masks --outputs=all

  --model=MODEL[,MODEL...]   a name of segdiff models, the directory of a run or of segdiff export,
                             or hf://OWNER/NAME; the probabilities of several are averaged
  --workdir=RUN[,RUN...]     the same, of directories alone
  --input=FILE_OR_FOLDER     PNG, JPEG, TIFF, BMP, GIF, WebP, NPY; --recursive: sub-folders, too.
                             Several: with commas or --input again; patterns: 'plate?/*.tif'
  --output=DIR               is filled with probability/ (16 bit: 65535 is 1), mask/ (0, 255),
                             uncertainty/ (16 bit: 65535 is a standard deviation of 0.5 between
                             generations; sqrt(p(1-p)) if these are no samples), overlay/ and
                             summary.csv; as TIFF for TIFF, with its GeoTIFF tags, else as PNG;
                             by a run of classes also with classes/, classes.csv (docs/classes.md).
                             After segdiff calibrate, summary.csv has predicted Dice and intervals.
                             The same command again skips finished images;
  --overwrite                predicts them again
  --outputs=NAMES            joined by commas. samples: also writes each, samples/NAME_1.png;
                             labels, geojson (QuPath, GIS), rois (ImageJ): a file of the objects of
                             an image; objects: objects.csv, with labels/, the default if images of
                             the training hold several; all: all of these; maps: none;
                             generations: each map that the probability is made of, as with
  --save_generations
  --budget=NAME              of the probability: fast, one pass; balanced, one of each orientation;
                             paper, N masks by the reverse process:
  --generations=N
  --fusion=NAME              of these: mean, median, majority, staple or medoid
  --samples=N                whole masks besides, by the reverse process
  --tolerance=T              fewer, once the standard error of their mean area is below T of it
  --separate=distance        tells objects apart that touch, see docs/objects.md; auto: as learnt
  --steps=N                  reverse steps of a mask (0: all)
  --overlap=PIXELS           width of the overlap of neighbouring tiles
  --seed=N                   of the noise. All these are as in the run if not given
  --scale=F                  images are predicted F times as large, and the results brought back;
                             auto: so that their pixels become as large as those of the training
  --object_size=PIXELS       likewise: objects of this diameter become as large as in training
  --threshold=P              foreground is where the probability is above it; 0.5
  --calibrated               probability and threshold as segdiff calibrate fitted them
  --confidence=C             objects of less are doubtful (docs/objects.md); as fitted
  --risk=R                   also inner/, of which at most R is not foreground, and outer/, which
                             misses at most R, on average; overlay/ has both outlines
  --max_pixels=N             larger images are refused (64000000)
  --page=N                   of TIFF files with several pages, from 0, without overviews
  --channels=N[,N,N]         channels that are read as grey, or as R, G and B, from 0
  --value_range=RANGE        black and white of images of more than 8 bits: auto, what the file
                             declares or the usual range that holds its values; full, that of its
                             type; LOW,HIGH; as the run was trained if not given
  --float_range=LOW,HIGH     of float images, none of whose values may be beyond
  --device=cpu|gpu|tpu       what computes; the fastest that JAX finds if not given
  --help                     prints this text

Exit codes: 0 done; 64 bad command line; 65 some images failed, the others are done;
66 bad checkpoint; 70 a number is not finite, or an internal error; 74 cannot write; 130
interrupted: finished images are complete, and the same command continues."""


def _floats(text: str) -> tuple[float, ...]:
    return tuple(map(float, text.strip("()").split(",")))


def _channels(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.strip("()").split(",")))


def _are_channels(v: tuple[int, ...]) -> bool:
    return len(v) > 0 and FIELDS["reading.channels"].allowed.accepts(v)


def _scale(text: str) -> float | str:
    return text if text == scales.AUTO else float(text)


_SCALE_NUMBER = number(scales.LEAST, scales.MOST)
_SCALE = Allowed(
    f"{_SCALE_NUMBER.text}, or {scales.AUTO}",
    lambda v: v == scales.AUTO or _SCALE_NUMBER.accepts(v),
)
PATHS = ("model", "workdir", "input", "output")
NEEDED = ("input", "output")
SWITCHES = ("save_generations", "recursive", "overwrite", "calibrated")
EXTRA = (SAMPLES, GENERATIONS, OBJECTS, *OF_OBJECTS)  # outputs on request
OF_MASKS = ("foreground",)  # values of the programs that read masks
# a value of the command line: how to parse it, and what it may be
VALUES: dict[str, tuple[Callable[[str], Any], Allowed]] = {
    "budget": (str, FIELDS["sampling.budget"].allowed),
    "samples": (whole_number, FIELDS["sampling.samples"].allowed),
    "tolerance": (float, FIELDS["sampling.tolerance"].allowed),
    "generations": (whole_number, FIELDS["sampling.generations"].allowed),
    "fusion": (str, FIELDS["sampling.fusion"].allowed),
    "separate": (str, FIELDS["sampling.separate"].allowed),
    "steps": (
        whole_number,
        integer(0, STEPS)._replace(text="an integer, at least 1, or 0 for all"),
    ),
    "overlap": (
        whole_number,
        integer(0, SIDE)._replace(text="an integer, at least 0, in pixels"),
    ),
    "seed": (whole_number, integer(0, MAX_SEED)),
    "threshold": (float, number(0, 1, below=True)),
    "scale": (_scale, _SCALE),
    "object_size": (float, number(1, 10**5)),
    "confidence": (float, number(0, 1)),
    "risk": (float, number(0, 1, above=True, below=True)),
    "max_pixels": (whole_number, FIELDS["reading.max_pixels"].allowed),
    "page": (whole_number, integer(0, 10**6)),
    "foreground": (str, FIELDS["folder.foreground"].allowed),
    "value_range": (str, FIELDS["reading.value_range"].allowed),
    "float_range": (_floats, Allowed("LOW,HIGH: two numbers, the lower first", is_range)),
    "channels": (_channels, Allowed("one or three numbers from 0, such as 0,1,2", _are_channels)),
}
FLAGS: dict[str, str | bool | None] = {
    **dict.fromkeys((*PATHS, "outputs", "device"), ""),
    **dict.fromkeys(SWITCHES, False),
    **dict.fromkeys(name for name in VALUES if name not in OF_MASKS),
}


class Command(NamedTuple):
    """Holds a parsed command line."""

    workdirs: list[Path]  # of the runs; each holds config.json
    folder: Path  # of the input; names in the summary are relative to it
    inputs: list[Input]  # the images, at least one
    output: Path  # need not exist
    values: Mapping[str, Any]  # those of `VALUES` that were given, by name
    outputs: frozenset[str]  # those of `EXTRA` that were asked for
    overwrite: bool
    device: str = ""  # of options.DEVICES, or "": that JAX chooses
    calibrated: bool = False  # whether to predict the calibrated probability


def parse(argv: list[str]) -> Command:
    """Parses a command line, without the name of the program.

    Raises:
      UserError: a flag is unknown, a value missing or not allowed, or a file in the way.
    """
    given, argv = options.take("input", argv)
    flags: dict[str, Any] = options.read_flags(FLAGS, argv) | {"input": ",".join(given)}
    values = values_of({name: flags[name] for name in VALUES if name in flags})
    if {"scale", "object_size"} <= values.keys():
        raise UserError("--object_size and --scale: only one of both may be given")
    workdirs = read_models(flags["model"], flags["workdir"])
    if missing := [f"--{name}" for name in NEEDED if not flags[name]]:
        raise UserError(f"{missing[0]} is missing: --model, --input and --output are needed")
    configs = [_saved(workdir) for workdir in workdirs]
    _check_steps(configs, values)
    paths = [path for text in given for path in _input_paths(text)]
    folder, inputs = find_all(paths, flags["recursive"])
    output = options.directory("output", flags["output"])
    _check_output(output, folder, inputs, paths, flags)
    extra = _outputs(flags, configs, values)
    options.use_device(flags["device"])
    more = flags["overwrite"], flags["device"], flags["calibrated"]
    return Command(workdirs, folder, inputs, output, values, extra, *more)


def values_of(flags: Mapping[str, str | None]) -> dict[str, Any]:
    """Returns the values of the flags that were given, by name; raises UserError if not allowed."""
    return {name: _value(name, text) for name, text in flags.items() if text is not None}


def _value(name: str, text: str) -> Any:
    read, allowed = VALUES[name]
    with suppress(ValueError):
        if allowed.accepts(value := read(text)):
            return value
    raise UserError(f"--{name}={text}: must be {allowed.text}")


def _input_paths(text: str) -> list[Path]:
    """Returns the files and folders of a value of --input: a path, a pattern, or several of them.

    A path that exists is itself, whatever characters it has.
    """
    path = options.local_path("input", text)
    if "," in text and not path.exists():
        return [path for part in text.split(",") if part for path in _input_paths(part)]
    return expand(path)


def read_models(model: str | None, workdir: str | None) -> list[Path]:
    """Returns the folders of trained networks: of --model, or of --workdir; one of the two.

    Raises:
      UserError: both or none are given, or there is no such network.
    """
    if model and workdir:
        raise UserError(f"--model={model}: not with --workdir, which names directories alone")
    if workdir:
        return read_workdirs(workdir)
    if not model:
        what = "--model=MODEL, or --workdir=RUN, must name a trained network"
        raise UserError(f"--workdir is missing: {what}")
    try:
        found = [places.find(part) for part in places.split(model)]
    except UserError as error:
        raise UserError(f"--{error}", error.code) from error
    for folder in found:
        _saved(folder)
    return found


def read_workdirs(text: str) -> list[Path]:
    """Returns the runs that --workdir names, joined by commas; a directory may have one, too.

    Raises:
      UserError: one of them is no directory, or holds no run.
    """
    whole = options.local_path("workdir", text)
    parts = [text] if whole.is_dir() else text.split(",")
    workdirs = [options.local_path("workdir", part) for part in parts]
    for workdir in workdirs:
        _saved(workdir)
    return workdirs


def _saved(workdir: Path) -> ConfigDict:
    """Returns the config of a run."""
    if not workdir.is_dir():
        raise UserError(f"--workdir={workdir}: must be the directory of a run")
    return run_config.read_config(workdir)


def _check_steps(configs: list[ConfigDict], values: Mapping[str, Any]) -> None:
    """Checks values against the configs of the runs."""
    T, tile = min(c.diffusion.T for c in configs), configs[0].sampling.tile
    steps, overlap = values.get("steps", 0), values.get("overlap", 0)
    if steps > T:
        raise UserError(f"--steps={steps}: must be at most {T}, the steps of the run")
    if tile and overlap >= tile:
        raise UserError(f"--overlap={overlap}: must be less than a tile, {tile} pixels")


def _outputs(
    flags: Mapping[str, Any], configs: list[ConfigDict], values: Mapping[str, Any]
) -> frozenset[str]:
    """Returns the outputs on request; samples must be drawn to be written."""
    text = flags["outputs"]
    names = set(filter(None, text.split(","))) or {AUTO}
    if not names <= {*EXTRA, MAPS_ALONE, ALL, AUTO}:
        allowed = ", ".join((*EXTRA, ALL, MAPS_ALONE))
        raise UserError(f"--outputs={text}: must be of {allowed}, joined by commas")
    drawn = values.get("samples", max(c.sampling.samples for c in configs))
    if ALL in names:
        names = names - {ALL} | {OBJECTS, *OF_OBJECTS, *((SAMPLES,) if drawn else ())}
    if SAMPLES in names and not drawn:
        raise UserError(f"--outputs={text}: needs --samples=N, as the run draws none")
    return frozenset(names | ({GENERATIONS} if flags["save_generations"] else set()))


def _check_output(
    output: Path, folder: Path, inputs: list[Input], paths: list[Path], values: dict[str, Any]
) -> None:
    """Checks that no image of the input, nor any unrelated file, is overwritten or read again."""
    for path in paths if values["recursive"] else []:
        if output.resolve().is_relative_to(path.resolve()):
            raise UserError(f"--output={output}: lies in {path}, where --recursive would find it")
    place = output.resolve()
    of_image = (Input.maps, Input.bounds, Input.classes, Input.of_objects)
    if folder.resolve().is_relative_to(place / CLASSES):  # one for each class, which a run names
        raise UserError(f"--output={output}: holds the input, which it would overwrite")
    written = {path for i in inputs for of in of_image for path in of(i, place).values()}
    if taken := [i.path for i in inputs if folder.resolve() / i.name in written]:
        raise UserError(f"--output={output}: {taken[0]} of the input would be overwritten")
    if not values["overwrite"] and (name := unrelated_content(output, FOLDERS)):
        raise UserError(f"--output={output}: holds {name}, which no prediction made: --overwrite?")
