"""Computes how the rows of a batch are divided over devices, and over the parts of an update."""

from typing import NamedTuple


class BatchLayout(NamedTuple):
    """Divides a batch of any size over any number of devices.

    Row i of the batch lies in slot i. Every device has the same number of slots, one after another,
    and works through them in `parts`; slots behind the last row are padding, which weighs nothing.
    Ten rows on two devices in two parts:

        slot    0  1  2 | 3  4  5 | 6  7  8 | 9 10 11
        device  0  0  0   0  0  0   1  1  1   1  1  1
        part    0  0  0   1  1  1   0  0  0   1  1  1
        row     0  1  2   3  4  5   6  7  8   9  -  -

    Attributes:
      batch_size: rows of an update, over all devices; at least 1.
      devices: of all processes.
      parts: whose gradients are summed one after another.
      rows: slots of a device in a part.
    """

    batch_size: int
    devices: int
    parts: int
    rows: int

    @property
    def slots(self) -> int:
        """Returns the number of rows with padding, over all devices and parts."""
        return self.devices * self.parts * self.rows

    @property
    def padding(self) -> int:
        """Returns the number of slots without a row."""
        return self.slots - self.batch_size

    def describe(self) -> str:
        """Returns the division in words."""
        rows = f"{self.parts * self.rows} of {self.batch_size} rows each"
        parts = f", in {self.parts} parts" if self.parts > 1 else ""
        return f"{rows}{parts}" + (f", {self.padding} are padding" if self.padding else "")


def divide(batch_size: int, devices: int, accumulate: int = 1) -> BatchLayout:
    """Divides a batch over devices, and into `accumulate` parts, or fewer where as few rows do."""
    of_device = -(-batch_size // devices)  # rounded up
    rows = -(-of_device // min(accumulate, of_device))
    return BatchLayout(batch_size, devices, -(-of_device // rows), rows)
