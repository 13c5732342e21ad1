"""Finds trained networks: by the name of one that the package ships, as a folder, or on a hub.

nuclei                 shipped with the package; ./nuclei is a folder
runs/mine              a run, or a folder that `segdiff export` wrote
hf://owner/name[@REV]  the same folder as a repository of Hugging Face (extra `hub`)
"""

import difflib
import re
from contextlib import suppress
from pathlib import Path

from segdiff_jax.errors import BAD_CHECKPOINT, USAGE, UserError, one_line

SHIPPED = Path(__file__).resolve().parents[1] / "weights"
HUB = "hf://"
REPOSITORY = re.compile(r"hf://([\w.-]+/[\w.-]+?)(?:@([\w./-]+))?")
# files of an exported model; nothing else of a repository is downloaded
CONFIG, WEIGHTS, CARD, CALIBRATION = (
    *("config.json", "model.safetensors", "README.md", "calibration.json"),
)
SPLIT = "split.json"  # the names of the pictures of each split, on request
FILES = (CONFIG, WEIGHTS, CARD, CALIBRATION, SPLIT)


def shipped() -> list[str]:
    """Returns the names of the networks that are part of the package."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{WEIGHTS}"))


def is_name(text: str) -> bool:
    """Returns whether a text names a network that is no folder of the user's."""
    return text in shipped() or text.startswith(HUB)


def find(text: str, code: int = USAGE) -> Path:
    """Returns the folder of a network, which is downloaded if it is on a hub.

    Args:
      text: see the top of this file.
      code: exit code of an error of the text itself.

    Raises:
      UserError: there is none of this name, or it cannot be downloaded.
    """
    if text.startswith(HUB):
        return _from_hub(text, code)
    if "://" in text:
        raise UserError(f"model={text}: must be a name, a folder, or hf://OWNER/NAME", code)
    if text in shipped():
        return SHIPPED / text
    if (path := _folder(text)) is not None:
        return path
    near = difflib.get_close_matches(text, shipped(), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    names = ", ".join(shipped()) or "none"
    text = text if len(text) < 200 else f"{text[:100]}..."
    raise UserError(f"model={text}: no such folder, and the package ships {names}{hint}", code)


def split(text: str) -> list[str]:
    """Returns the networks that a text names, joined by commas; a folder may have one, too."""
    return [text] if _folder(text) is not None else text.split(",")


def _folder(text: str) -> Path | None:
    """Returns the folder of this name; None: there is none, or no file system could have it."""
    with suppress(OSError, RuntimeError, ValueError):  # too long, no such user, a zero byte
        path = Path(text).expanduser()
        return path if path.is_dir() else None
    return None


def _from_hub(text: str, code: int) -> Path:
    """Returns the folder of a repository in the cache of huggingface_hub."""
    match = REPOSITORY.fullmatch(text)
    if match is None:
        raise UserError(f"model={text}: must be hf://OWNER/NAME, or hf://OWNER/NAME@REVISION", code)
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        install = "pip install 'segdiff_jax[hub]'"
        raise UserError(f"model={text}: needs huggingface_hub: {install}", code) from error
    try:
        found = Path(snapshot_download(match[1], revision=match[2], allow_patterns=[*FILES]))
    except (
        Exception
    ) as error:  # of the network, the hub or its cache, in types of several libraries
        raise UserError(f"model={text}: {one_line(error)}", BAD_CHECKPOINT) from error
    if missing := [name for name in (CONFIG, WEIGHTS) if not (found / name).is_file()]:
        what = f"it has no {missing[0]}: segdiff export writes such folders"
        raise UserError(f"model={text}: is no model of segdiff: {what}", BAD_CHECKPOINT)
    return found
