"""The division of a batch: every row once, no device with more than its share."""

import math
from itertools import product

import pytest

from segdiff_jax.data.batch_layout import divide


@pytest.mark.parametrize("batch_size, devices", [*product((1, 3, 8, 30, 64), (1, 2, 3, 8, 64))])
def test_every_row_has_a_slot_and_no_device_has_more_than_its_share(batch_size, devices):
    for accumulate in (1, 2, 3, 8, 100):
        rows = divide(batch_size, devices, accumulate)
        share = math.ceil(batch_size / devices)
        assert rows.slots >= batch_size and 1 <= rows.parts <= min(accumulate, share)
        assert rows.rows == math.ceil(share / min(accumulate, share))
        assert share <= rows.rows * rows.parts < share + rows.rows  # no part is empty
        assert rows.padding == rows.slots - batch_size
    assert (divide(batch_size, devices).padding == 0) == (batch_size % devices == 0)


def test_its_words_name_rows_parts_and_padding():
    assert divide(8, 4).describe() == "2 of 8 rows each"
    assert divide(30, 8, 3)[2:] == (2, 2)  # 4 rows in 3 parts of 2 would be one part too many
    assert divide(30, 8, 2).describe() == "4 of 30 rows each, in 2 parts, 2 are padding"
