"""Calls that must end in an error for the user, and damages of files that cause them."""

import shutil

import pytest

from segdiff_jax import errors


def refused(call, *arguments):
    """Returns the UserError that a call must raise; its message must be one line."""
    with pytest.raises(errors.UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return caught.value


def refused_for(file, reason, prepare, left):
    """Checks that a set is not prepared: the error names the file and the reason.

    Args:
      file: the damaged one.
      reason: a part of the message.
      prepare: the call.
      left: yields the prepared sets that are there, once it is iterated after the call.
    """
    error = refused(prepare)
    assert str(file) in str(error) and reason in str(error)
    assert error.code == errors.BAD_DATA
    assert not list(left)


def truncated(file):
    """Cuts a file to half its length; returns it."""
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    return file


def emptied(folder):
    """Deletes the folders in a folder; returns it."""
    for child in folder.iterdir():
        shutil.rmtree(child)
    return folder
