"""Estimates the traffic of a training step between TPU chips, and the efficiency that it leaves.

Every core takes one image. The gradients are reduced by one all-reduce of 4 bytes a parameter;
around a ring of n chips each sends 2 (n - 1) / n of them. The backward pass takes twice the time
of the forward pass. Computation and communication do not overlap.

Published figures of cloud.google.com/tpu/docs, v3 (two cores, 32 GiB a chip): 123 TFLOP/s in
bfloat16 a chip; all-reduce 340 TB/s in a pod of 1024 chips, which is 332 GB/s a chip.
"""

PEAK = 123e12 / 2  # operations a second of a core
CORES = 2  # of a chip
LINKS = 340e12 / 1024  # bytes a second that a chip moves in an all-reduce
UTILISATION = 0.4  # of the peak, by convolutions: an assumption
BACKWARD = 2.0  # times the forward pass


def wire_bytes(parameters: int, chips: int) -> float:
    """Returns the bytes that each chip sends in a training step.

    Args:
      parameters: of the network, float32.
      chips: in the ring, at least 1.
    """
    return 2 * (chips - 1) / chips * 4 * parameters


def efficiency(forward: float, parameters: int, cores: int, links: float = LINKS) -> float:
    """Returns the share of a training step that is not spent in the all-reduce, 0..1.

    Args:
      forward: operations of the forward pass of one image.
      parameters: of the network.
      cores: in all; each takes one image.
      links: bytes a second of a chip.
    """
    compute = (1 + BACKWARD) * forward / (UTILISATION * PEAK)
    transfer = wire_bytes(parameters, max(1, cores // CORES)) / links
    return compute / (compute + transfer)


def batch_that_fits(memory: float, parameters: int, kept: float) -> int:
    """Returns the largest batch of a device, estimated from the sizes of its arrays.

    The weights, their average, two moments of Adam and the gradient are 20 bytes a parameter. A
    tenth of the memory is left for temporary arrays of the compiler.

    Args:
      memory: bytes of the device.
      parameters: of the network.
      kept: bytes of the residuals of one image.
    """
    return max(0, int((0.9 * memory - 20 * parameters) // kept))
