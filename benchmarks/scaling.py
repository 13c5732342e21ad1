"""On paper: what one update sends between TPU chips, and how much of the time that leaves.

Every core takes one image. Gradients meet in one all-reduce of 4 bytes a parameter; round a ring
of n chips each sends 2 (n - 1) / n of them. An update computes the forward pass three times over
(once forward, twice backward). Nothing is assumed to overlap.

Published figures of cloud.google.com/tpu/docs, v3 (two cores, 32 GiB a chip): 123 TFLOP/s in
bfloat16 a chip; all-reduce 340 TB/s in a pod of 1024 chips, which is 332 GB/s a chip.
"""

PEAK = 123e12 / 2  # operations a second of a core
CORES = 2  # of a chip
LINKS = 340e12 / 1024  # bytes a second that a chip moves in an all-reduce
UTILISATION = 0.4  # of the peak that convolutions reach: an assumption, nothing published
BACKWARD = 2.0  # times the forward pass


def wire_bytes(parameters: int, chips: int) -> float:
    """Returns the bytes that each chip sends in one update.

    Args:
      parameters: of the network, float32.
      chips: in the ring, at least 1.
    """
    return 2 * (chips - 1) / chips * 4 * parameters


def efficiency(forward: float, parameters: int, cores: int, links: float = LINKS) -> float:
    """Returns the share of an update that is not spent in the all-reduce, 0..1.

    Args:
      forward: operations of the forward pass of one image.
      parameters: of the network.
      cores: in all; each takes one image.
      links: bytes a second of a chip.
    """
    computing = (1 + BACKWARD) * forward / (UTILISATION * PEAK)
    talking = wire_bytes(parameters, max(1, cores // CORES)) / links
    return computing / (computing + talking)


def batch_that_fits(memory: float, parameters: int, kept: float) -> int:
    """Returns how many images a device trains on together, from what must lie in its memory.

    The weights, their average, two moments of Adam and the gradient are 20 bytes a parameter. A
    tenth of the memory is left for what the compiler needs besides.

    Args:
      memory: bytes of the device.
      parameters: of the network.
      kept: bytes that the forward pass of one image keeps for the backward pass.
    """
    return max(0, int((0.9 * memory - 20 * parameters) // kept))
