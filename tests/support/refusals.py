"""Calls that must end in an error for the user."""

import pytest

from segdiff_jax import errors


def refused(call, *arguments):
    """Returns the UserError that a call must raise; its message must be one line."""
    with pytest.raises(errors.UserError) as caught:
        call(*arguments)
    assert "\n" not in str(caught.value)
    return caught.value
