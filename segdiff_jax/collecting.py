"""When Python looks for garbage: rarely while a programme starts.

Tracing a network makes hundreds of thousands of objects that stay, and looking through them again
and again takes almost a tenth of a second start (docs/performance.md). Afterwards as usual, so that
nothing large is kept by a cycle.
"""

import gc

USUAL = gc.get_threshold()
RARE = 200_000  # objects more than before


def rarely() -> None:
    """Lets the process make many more objects between two looks."""
    gc.set_threshold(RARE, *USUAL[1:])


def as_usual() -> None:
    """Undoes `rarely`."""
    gc.set_threshold(*USUAL)
