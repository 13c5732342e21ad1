"""Parses the command lines of `calibrate`, of `rate`, and of `check` with a run."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from segdiff_jax.checkpoint import places
from segdiff_jax.cli import options
from segdiff_jax.cli.predict_args import OF_MASKS, read_models, values_of
from segdiff_jax.errors import UserError

SETTINGS = (
    *("budget", "samples", "tolerance", "generations", "fusion", "separate", "steps", "overlap"),
    "seed",
)
READING = ("max_pixels", "page", "value_range", "float_range", "channels")
FLAGS: dict[str, tuple[str, ...]] = {
    "calibrate": (
        "model",
        "workdir",
        "split",
        "images",
        "masks",
        "mask_suffix",
        *OF_MASKS,
        "device",
    ),
    "rate": ("model", "workdir", "images", "masks", "mask_suffix", *OF_MASKS, "output", "device"),
    "check": ("workdir", "split", "output", "device"),
}
COMMON = """\
  --budget, --samples, --tolerance, --generations, --fusion, --separate, --steps, --overlap,
  --seed                     as of segdiff predict, for which they count; as in the run if not given
  --device=NAME              cpu, gpu or tpu; what JAX chooses if not given
  --max_pixels, --page, --value_range, --float_range, --channels: of image files, likewise
  --help                     prints this text

Exit codes: 0 done; 64 bad command line; 65 bad data; 66 bad checkpoint; 70 a number is not finite,
or an internal error; 74 cannot write; 130 interrupted."""
MASKS = """\
  --images=DIR --masks=DIR   {which};
  --mask_suffix=TEXT         a mask has the name of its image and this, such as _mask; or nothing
  --foreground=RULE          of the masks: auto, nonzero, VALUE or aboveVALUE, as of the config's
                             folder.foreground, which counts if not given
"""
HELPS = {
    "calibrate": f"""Fits what predictions say of their certainty on annotated pictures.

  segdiff calibrate --workdir=RUN
  segdiff calibrate --workdir=RUN --images=DIR --masks=DIR --samples=16

  --workdir=RUN[,RUN...]     the run, whose calibration.json is written; of several, the first's
  --model=DIR                instead: the folder of an exported model
  --split=NAME               of the run's data set, such as validation, which is the default. The
                             run must not have been trained on it, and the test split is scored
{MASKS.format(which="pictures in place of a split")}{COMMON}""",
    "rate": f"""Rates masks from elsewhere: their predicted Dice, and how surprising each is.

  segdiff rate --workdir=RUN --images=DIR --masks=DIR --output=DIR

  --workdir=RUN[,RUN...]     the run; segdiff calibrate makes its numbers hold
  --model=MODEL              instead: as of segdiff predict
{MASKS.format(which="the masks to rate, and their pictures")}\
  --output=DIR               is filled with ratings.csv, the most surprising masks first, and with
                             pictures/ of these: the mask's outline, and a tint where the samples
                             disagree with it
{COMMON}""",
    "check": f"""Lists the annotations of a run's own data set that look wrong.

  segdiff check --workdir=RUN --output=DIR

  --workdir=RUN              the run
  --split=NAME               of its data set, such as train, which is the default
  --output=DIR               as of segdiff rate; RUN/check if not given
{COMMON}

segdiff check --config=FILE lists the files of a data set that cannot be read.""",
}


class Command(NamedTuple):
    """Holds a parsed command line."""

    workdirs: list[Path]  # of the runs
    values: Mapping[str, Any]  # of SETTINGS, READING and OF_MASKS, those that were given
    split: str  # of the data set; "": the default
    images: Path | None  # folder; None: a split is used
    masks: Path | None  # likewise
    mask_suffix: str
    output: Path | None


def parse(argv: list[str], mode: str) -> Command:
    """Parses a command line, without the name of the program.

    Args:
      argv: the arguments.
      mode: one of `FLAGS`.

    Raises:
      UserError: a flag is unknown, or a value missing or not allowed.
    """
    names = (*FLAGS[mode], *SETTINGS, *READING)
    given = options.read_flags(dict.fromkeys(names), argv)
    flags = dict.fromkeys({name for names in FLAGS.values() for name in names}) | given
    values = values_of({name: flags[name] for name in (*SETTINGS, *READING, *OF_MASKS)})
    workdirs = read_models(flags["model"], flags["workdir"])
    if mode == "calibrate" and places.is_name(first := (flags["model"] or "").split(",")[0]):
        copy = f"segdiff export --model={first} --output=DIR makes a copy that can be"
        raise UserError(f"--model={first}: is no folder of yours, and not changed; {copy}")
    images, masks = (_folder(name, flags[name]) for name in ("images", "masks"))
    if (images is None) != (masks is None) or (mode == "rate" and images is None):
        missing = "images" if images is None else "masks"
        raise UserError(f"--{missing} is missing: --images=DIR and --masks=DIR go together")
    if images is not None and flags["split"]:
        raise UserError(f"--split={flags['split']}: not with --images, which take its place")
    output = options.directory("output", flags["output"]) if flags["output"] else None
    if mode == "rate" and output is None:
        raise UserError("--output is missing: must be a directory, which is made if need")
    suffix = flags["mask_suffix"] or ""
    options.use_device(flags["device"] or "")
    return Command(workdirs, values, flags["split"] or "", images, masks, suffix, output)


def _folder(name: str, text: str | None) -> Path | None:
    if not text:
        return None
    path = options.local_path(name, text)
    if not path.is_dir():
        raise UserError(f"--{name}={path}: must be a folder that exists")
    return path
