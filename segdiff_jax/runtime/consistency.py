"""What the processes of a job must have in common, compared before anything is compiled.

Processes that differ in their config or version would wait for each other in collectives of
different shapes, or train something that nobody asked for.
"""

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from segdiff_jax.errors import UserError

LOCAL = ("data.dir", "data.prepared_dir")  # paths may differ from machine to machine


SHOWN = 5  # differences that are named


Facts = Mapping[str, str]


def run_facts(version: str, fields: Mapping[str, Any], workdir: Path, mode: str) -> dict[str, str]:
    """Returns what every process must have been started with.

    Args:
      version: of this package.
      fields: of the config, flattened: "group.key" -> value.
      workdir: of the run.
      mode: of the command line.
    """
    config = {f"config.{k}": repr(v) for k, v in fields.items() if k not in LOCAL}
    versions = {"segdiff_jax": f"{version} ({_sources()})", "jax": jax.__version__}
    return {**versions, "mode": mode, "workdir": str(workdir), **config}


def data_facts(examples: Sequence, split: str) -> dict[str, str]:
    """Returns what every process must have read: the number of examples and their checksum."""
    crc = 0
    for example in examples:
        crc = zlib.crc32(example.name.encode(), crc)
        for array in (example.image, example.mask):
            crc = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8), crc)
    return {f"data of {split}": f"{len(examples)} examples, checksum {crc:08x}"}


def check(facts: Facts) -> None:
    """Compares the facts of all processes; all of them must call it.

    Raises:
      UserError: they differ; it names a process, what differs, and both values.
    """
    if jax.process_count() > 1:
        compare([json.loads(text) for text in _gather(json.dumps(dict(facts)))])


def compare(everyone: Sequence[Facts]) -> None:
    """Compares the facts of processes 0, 1, ... with those of process 0.

    Raises:
      UserError: some differ.
    """
    first = everyone[0]
    for process, facts in enumerate(everyone):
        keys = [k for k in {**first, **facts} if first.get(k) != facts.get(k)]
        if keys:
            told = [f"{k} is {facts.get(k)}, not {first.get(k)}" for k in keys[:SHOWN]]
            more = [f"and {len(keys) - SHOWN} more"] if len(keys) > SHOWN else []
            raise UserError(
                f"process {process} of {len(everyone)} differs from process 0: "
                f"{'; '.join([*told, *more])}; all must be started alike"
            )


def _gather(text: str) -> list[str]:
    """Returns the texts of all processes in order."""
    mine = np.frombuffer(text.encode(), np.uint8)
    lengths = np.asarray(multihost_utils.process_allgather(np.array(mine.size, np.int32)))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: mine.size] = mine
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:n].tobytes().decode() for row, n in zip(rows, lengths, strict=True)]


def _sources() -> str:
    """Returns a digest of the files of this package, whose version changes less often."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
