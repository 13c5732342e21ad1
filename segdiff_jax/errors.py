"""The one kind of error a user sees as a single line, and the exit codes of every programme."""

from collections.abc import Sequence

DONE = 0


USAGE = 64  # bad command line or config


BAD_DATA = 65  # an unreadable, missing or inconsistent input file


BAD_CHECKPOINT = 66  # a checkpoint is missing, unusable or of another model


INTERNAL = 70  # a non-finite number, or an error of ours


CANNOT_WRITE = 74  # disk full or no permission


INTERRUPTED = 130  # SIGINT, state saved


PEER_LOST = 134  # another process of the job is gone; also what JAX's own abort is for a shell


KILLED = 137  # SIGKILL, by the system or a person


HUNG = 142  # no progress for too long; the stacks were written


TERMINATED = 143  # SIGTERM, state saved


# The codes in words, for launchers.
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


# Codes that a restart of the same command would only repeat, or that a person asked for: what
# launchers do not restart after. Any other but DONE they do, a bounded number of times.
FINAL = (USAGE, BAD_DATA, BAD_CHECKPOINT, INTERNAL, CANNOT_WRITE, INTERRUPTED)


class TerminatedError(BaseException):
    """The process was told to end (SIGTERM), as KeyboardInterrupt is for Ctrl-C."""


class UserError(Exception):
    """Something the user can mend; the message is one line: the value, the place, what is allowed.

    Attributes:
      code: the exit code of the programme, one of the constants of this module.
      details: lines to print before the message, such as one for each bad file.
    """

    def __init__(self, message: str, code: int = USAGE, details: Sequence[str] = ()) -> None:
        super().__init__(message)
        self.code = code
        self.details = tuple(details)
