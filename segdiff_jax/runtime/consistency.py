"""Checks that all processes of a job run the same thing, before anything is compiled.

Processes that differ in config, version, data or their number would wait for one another in
collectives of different shapes, or train with settings that were not asked for.
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

MAY_DIFFER = ("data.dir", "data.prepared_dir")  # paths of a machine
MAX_SHOWN = 5  # differences that are named
Facts = Mapping[str, str]


def run_facts(
    version: str, fields: Mapping[str, Any], workdir: Path, mode: str, processes: int
) -> dict[str, str]:
    """Returns the settings that all processes must have in common.

    Args:
      version: of this package.
      fields: the config, flattened: "group.key" -> value.
      workdir: of the run.
      mode: of the command line.
      processes: of the command line; JAX takes process 0's, and compares it with no other's.
    """
    config = {f"config.{k}": repr(v) for k, v in fields.items() if k not in MAY_DIFFER}
    versions = {"segdiff_jax": f"{version} ({_sources_digest()})", "jax": jax.__version__}
    facts = {"processes": str(processes), "mode": mode, "workdir": str(workdir)}
    return versions | facts | config


def data_facts(examples: Sequence, split: str) -> dict[str, str]:
    """Returns the number and the checksum of the examples, which all processes must share."""
    crc = 0
    for example in examples:
        crc = zlib.crc32(example.name.encode(), crc)
        annotations = () if example.annotations is None else (example.annotations,)
        for array in (example.image, example.mask, *annotations):
            crc = zlib.crc32(np.ascontiguousarray(array).reshape(-1).view(np.uint8), crc)
    return {f"data of {split}": f"{len(examples)} examples, checksum {crc:08x}"}


def check(facts: Facts) -> None:
    """Compares the facts of all processes. A collective: every process must call it.

    Raises:
      UserError: they differ; the message names a process, the keys and both values.
    """
    if jax.process_count() > 1:
        compare([json.loads(text) for text in _gather(json.dumps(dict(facts)))])


def compare(per_process: Sequence[Facts]) -> None:
    """Compares the facts of processes 1, 2, ... with those of process 0; raises as `check` does."""
    first = per_process[0]
    for process, facts in enumerate(per_process):
        keys = [k for k in {**first, **facts} if first.get(k) != facts.get(k)]
        if keys:
            shown = [f"{k} is {facts.get(k)}, not {first.get(k)}" for k in keys[:MAX_SHOWN]]
            more = [f"and {len(keys) - MAX_SHOWN} more"] if len(keys) > MAX_SHOWN else []
            raise UserError(
                f"process {process} of {len(per_process)} differs from process 0: "
                f"{'; '.join([*shown, *more])}; all must be started alike"
            )


def _gather(text: str) -> list[str]:
    """Returns the texts of all processes, in the order of their numbers."""
    own = np.frombuffer(text.encode(), np.uint8)
    lengths = np.asarray(multihost_utils.process_allgather(np.array(own.size, np.int32)))
    padded = np.zeros(lengths.max(), np.uint8)
    padded[: own.size] = own
    rows = np.asarray(multihost_utils.process_allgather(padded))
    return [row[:n].tobytes().decode() for row, n in zip(rows, lengths, strict=True)]


def _sources_digest() -> str:
    """Returns a digest of the source files, which change more often than the version."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parents[1].rglob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:12]
