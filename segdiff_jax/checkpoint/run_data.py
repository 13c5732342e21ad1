"""Records the data that a run is trained on, and checks those of a later command against them.

`config.json` holds the fingerprint of the images and masks to train on (data.fingerprint);
`data.json` holds the checksum of each of them, so that what has changed can be named.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from absl import logging

from segdiff_jax.checkpoint import trust
from segdiff_jax.errors import BAD_CHECKPOINT, UserError
from segdiff_jax.runtime.files import write_json

NAME = "data.json"
TRAIN, VALIDATION = "train", "validation"  # what examples are for; their splits may have any name
MAX_NAMED = 3  # examples in a message

Digests = Mapping[str, str]  # name of an example -> its checksum
Data = Mapping[str, Digests]  # by what the examples are for


def fingerprint(examples: Digests) -> str:
    """Returns one checksum of all examples, whatever their order is."""
    text = json.dumps(sorted(examples.items()))
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def check(workdir: Path, recorded: str, now: Data, allow_change: bool = False) -> None:
    """Checks that a run goes on with the data that it began with.

    Args:
      workdir: of the run.
      recorded: the fingerprint in its config; "": an earlier version recorded none.
      now: the data of this command.
      allow_change: whether changes are only logged.

    Raises:
      UserError: the data are others; how many were added, removed and changed is named.
    """
    saved = read(workdir)
    lines = [
        f"{use}: {_changes(saved[use], examples)}"
        for use, examples in now.items()
        if use in saved and saved[use] != examples
    ]
    if recorded and TRAIN not in saved and recorded != fingerprint(now[TRAIN]):
        lines.append(f"{TRAIN}: {len(now[TRAIN])} images now; which changed was in {NAME}")
    if not lines:
        return
    what = f"{workdir} holds a run on other data ({'; '.join(lines)})"
    if not allow_change:
        raise UserError(
            f"{what}: choose another workdir, or the data it began with, or go on with these: "
            "--config.data.allow_change=True",
            BAD_CHECKPOINT,
        )
    logging.warning("%s: it goes on with these, as config.data.allow_change says", what)


def _changes(before: Digests, now: Digests) -> str:
    """Returns "2 added (a, b), 0 removed, 1 changed (c)"."""
    names = {
        "added": now.keys() - before.keys(),
        "removed": before.keys() - now.keys(),
        "changed": {name for name in now.keys() & before.keys() if now[name] != before[name]},
    }
    return ", ".join(f"{len(some)} {what}{_named(sorted(some))}" for what, some in names.items())


def _named(names: list[str]) -> str:
    more = ", ..." if len(names) > MAX_NAMED else ""
    return f" ({', '.join(names[:MAX_NAMED])}{more})" if names else ""


def read(workdir: Path) -> dict[str, dict[str, str]]:
    """Returns the recorded data of a run; {} if there is no readable record."""
    path = workdir / NAME
    if not path.exists():
        return {}
    try:
        trust.check_metadata_file(path)
        content = json.loads(path.read_bytes())
        return {str(use): {**examples} for use, examples in content.items()}
    except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
        logging.warning("%s cannot be read: %s", path, error)
        return {}


def write(workdir: Path, now: Data) -> None:
    """Records the data of a run; raises UserError if they cannot be written."""
    write_json(workdir / NAME, {**read(workdir), **now}, indent=0)
