"""The one kind of error a user sees as a single line, and the exit codes of every programme."""

from collections.abc import Sequence

DONE = 0
USAGE = 64  # bad command line or config
BAD_DATA = 65  # an unreadable, missing or inconsistent input file
BAD_CHECKPOINT = 66  # a checkpoint is missing, unusable or of another model
INTERNAL = 70  # a non-finite number, or an error of ours
CANNOT_WRITE = 74  # disk full or no permission
INTERRUPTED = 130  # SIGINT, state saved
TERMINATED = 143  # SIGTERM, state saved

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
