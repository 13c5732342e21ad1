"""Names the machine of a measurement: processor, GPUs, versions; and the devices that JAX has."""

import os
import platform
import subprocess
from importlib.metadata import version
from typing import Any

ASKED = "nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"


def machine() -> dict[str, Any]:
    """Returns the GPUs with driver and memory, the processor, and versions; imports no jax."""
    try:
        said = subprocess.run(ASKED, capture_output=True, text=True, timeout=30).stdout
    except (OSError, subprocess.TimeoutExpired):  # there is no such program
        said = ""
    return {
        "gpus": [line for line in said.split("\n") if line],
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("jax", "jaxlib", "flax")},
    }


def with_devices() -> dict[str, Any]:
    """Returns `machine`, and the kinds of the devices that JAX has; it holds them from now on."""
    import jax

    return {**machine(), "devices": [device.device_kind for device in jax.devices()]}
