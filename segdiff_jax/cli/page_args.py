"""Parses the command line of `segdiff app`."""

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from segdiff_jax.checkpoint import places
from segdiff_jax.cli import options
from segdiff_jax.cli.options import whole_number
from segdiff_jax.cli.predict_args import read_models, values_of
from segdiff_jax.config.allowed import integer
from segdiff_jax.errors import UserError

DEFAULT_MODEL, DEFAULT_BUDGET, DEFAULT_SAMPLES, DEFAULT_MEGABYTES = "nuclei", "balanced", 8, 512
MOST_SAMPLES = 64
HELP = """SegDiff: a page in the browser of this machine: pictures in, outlines and certainty out.

  segdiff app
  segdiff app --model=RUN --port=8000

  --model=MODEL[,MODEL...]   a name of segdiff models, the directory of a run or of segdiff export,
                             or hf://OWNER/NAME; the probabilities of several are averaged; nuclei
  --workdir=RUN[,RUN...]     the same, of directories alone
  --budget=NAME              of the probability, chosen on the page when it opens: fast, balanced
                             or paper, see segdiff predict; balanced
  --threshold=P              of the probability, likewise; 0.5
  --samples=N                alternatives that are drawn of a picture, at most 64; 8
  --max_pixels=N             larger images are refused; as in the run if not given
  --max_megabytes=N          larger files are refused; 512
  --port=N                   of 127.0.0.1, the only address that is listened to; the first free
                             one from 7860 on if not given
  --device=cpu|gpu|tpu       what computes; the fastest that JAX finds if not given
  --help                     prints this text

Pictures and results stay on this machine, in a temporary folder (of TMPDIR, 4 GiB at most) that is
removed at the end. It needs gradio: pip install 'segdiff-jax[app]'.

Exit codes: 0 done; 64 bad command line, or no gradio; 66 bad checkpoint; 70 an internal error;
130 ended by Ctrl-C; 143 terminated."""
OWN = {
    "port": integer(1, 65535),
    "max_megabytes": integer(1, 10**6),
}
OF_PREDICT = ("budget", "threshold", "samples", "max_pixels")
FLAGS: dict[str, str | bool | None] = {
    **dict.fromkeys(("model", "workdir", "device"), ""),
    **dict.fromkeys((*OF_PREDICT, *OWN)),
}


class Command(NamedTuple):
    """Holds a parsed command line."""

    workdirs: list[Path]  # of the runs
    title: str  # of the network, for people
    budget: str
    threshold: float
    samples: int
    max_pixels: int | None  # None: as in the run
    max_bytes: int  # of a file
    port: int  # 0: any
    device: str


def parse(argv: list[str]) -> Command:
    """Parses a command line, without the name of the program.

    Raises:
      UserError: a flag is unknown, or a value missing or not allowed.
    """
    flags: dict[str, Any] = options.read_flags(FLAGS, argv)
    values = values_of({name: flags[name] for name in OF_PREDICT})
    samples = values.get("samples", DEFAULT_SAMPLES)
    if not 2 <= samples <= MOST_SAMPLES:
        raise UserError(f"--samples={samples}: must be an integer, at least 2, at most 64")
    port, megabytes = (_own(name, flags[name]) for name in OWN)
    model = flags["model"] or ("" if flags["workdir"] else DEFAULT_MODEL)
    workdirs = read_models(model, flags["workdir"])
    named = model and all(map(places.is_name, places.split(model)))
    title = model if named else ", ".join(path.resolve().name for path in workdirs)
    options.use_device(flags["device"])
    return Command(
        workdirs,
        title,
        values.get("budget", DEFAULT_BUDGET),
        values.get("threshold", 0.5),
        samples,
        values.get("max_pixels"),
        (megabytes or DEFAULT_MEGABYTES) * 10**6,
        port,
        flags["device"],
    )


def _own(name: str, text: str | None) -> int:
    """Returns the value of a flag of this program alone; 0: it is not given."""
    if text is None:
        return 0
    with suppress(ValueError):
        if OWN[name].accepts(value := whole_number(text)):
            return value
    raise UserError(f"--{name}={text}: must be {OWN[name].text}")
