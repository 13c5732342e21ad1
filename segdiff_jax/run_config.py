"""The config beside the checkpoints of a run, and what may change when the run goes on."""

import json
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from segdiff_jax.config import default, flatten
from segdiff_jax.errors import BAD_CHECKPOINT, UserError

# keys that may differ between the start of a run and its continuation
FREE = ("train.steps", "train.log_every", "train.checkpoint_every", "train.evaluate_every")
FREE_GROUPS = (
    *("sampling", "reading", "cityscapes.test_expansion"),
    *("data.dir", "data.prepared_dir", "data.test_split", "diffusion.clip_x0"),
    *("train.map", "train.result"),
)


def write_config(config: ConfigDict, workdir: Path) -> None:
    """Writes `config.json`, or holds a continued run to what it began with.

    Raises:
      UserError: the directory belongs to a run with other settings; both are named.
    """
    path = workdir / "config.json"
    if path.exists():
        saved, given = flatten(read_config(workdir)), flatten(config)
        differ = [
            f"{key} was {saved.get(key)}, now {given.get(key)}"
            for key in sorted(saved.keys() | given.keys())
            if saved.get(key) != given.get(key) and not key.startswith((*FREE, *FREE_GROUPS))
        ]
        if differ:
            raise UserError(
                f"{workdir} holds a run with other settings ({'; '.join(differ)}): "
                "choose another workdir, or the settings it began with",
                BAD_CHECKPOINT,
            )
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(config.to_dict(), indent=2) + "\n")
    temporary.replace(path)


def read_config(workdir: Path) -> ConfigDict:
    """Returns the config of a run; what it does not say is as in `config.default`.

    Raises:
      UserError: the directory holds no run, or its config cannot be read.
    """
    path = workdir / "config.json"
    try:
        loaded = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f"{path} is not the config of a run: {error}", BAD_CHECKPOINT) from error
    return ConfigDict(_merged(default().to_dict(), _tuples(loaded)))


def _merged(old: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    """Returns `old` with the values of `new`, group by group: what `new` lacks stays."""
    merged = old | new
    for key, value in old.items():
        if isinstance(value, dict) and isinstance(new.get(key), dict):
            merged[key] = _merged(value, new[key])
    return merged


def _tuples(value: Any) -> Any:
    """JSON has only lists; every sequence of a config is a tuple."""
    if isinstance(value, dict):
        return {key: _tuples(inner) for key, inner in value.items()}
    return tuple(map(_tuples, value)) if isinstance(value, list) else value
