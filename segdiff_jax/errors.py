"""The error that a user sees as one line, and the exit codes of every program."""

import re
from collections.abc import Sequence
from pathlib import Path

DONE = 0
USAGE = 64  # bad command line or config
BAD_DATA = 65  # an unreadable, missing or inconsistent input file
BAD_CHECKPOINT = 66  # a checkpoint is missing, unusable or of another model
INTERNAL = 70  # a non-finite number, or an internal error
CANNOT_WRITE = 74  # disk full or no permission
INTERRUPTED = 130  # SIGINT, state saved
PEER_LOST = 134  # another process of the job is lost; JAX's own abort has this code in a shell, too
KILLED = 137  # SIGKILL, by the system or a person
HUNG = 142  # no progress for too long; the stacks were written
TERMINATED = 143  # SIGTERM, state saved

# what launchers print for a code
MEANINGS = {
    DONE: "done",
    USAGE: "bad command line or config, or processes that differ",
    BAD_DATA: "bad data",
    BAD_CHECKPOINT: "a checkpoint is missing, unusable or of another model",
    INTERNAL: "not a finite number, or a bug",
    CANNOT_WRITE: "cannot write",
    INTERRUPTED: "interrupted",
    PEER_LOST: "lost another process of the job",
    KILLED: "killed",
    HUNG: "hung",
    TERMINATED: "terminated",
}

# Codes after which launchers do not restart: the same command would fail again, or a person asked
# for the end. After any other but DONE they restart, a bounded number of times.
FINAL = (USAGE, BAD_DATA, BAD_CHECKPOINT, INTERNAL, CANNOT_WRITE, INTERRUPTED)

# what a terminal obeys, or shows as something else: controls, separators, directions, half pairs
_CONTROLS = re.compile(
    "[\0-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)


def printable(text: str) -> str:
    """Returns a text whose control characters are escaped, such as names of files of others."""
    return _CONTROLS.sub(lambda match: match[0].encode("unicode_escape").decode(), text)


class TerminatedError(BaseException):
    """Ends the process after SIGTERM, as KeyboardInterrupt does after Ctrl-C."""


class UserError(Exception):
    """Reports what the user can correct, in one line: the value, the place, what is allowed.

    Attributes:
      code: the exit code of the program, one of the constants of this module.
      details: lines to print before the message, such as one for each bad file.
    """

    def __init__(self, message: str, code: int = USAGE, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.details = tuple(details)


def bad_data(path: Path | str, what: str) -> UserError:
    """Returns the error for an input file or folder: its path, and what is wrong with it."""
    return UserError(f"{path}: {what}", BAD_DATA)


def one_line(error: BaseException) -> str:
    """Returns what an error of any type says in one line; its type, unless it is a `UserError`."""
    text = " ".join(str(error).split())[:300]
    if isinstance(error, UserError):
        return text
    if isinstance(error, MemoryError):
        return "it takes more memory than there is"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
