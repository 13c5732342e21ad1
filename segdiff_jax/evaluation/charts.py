"""Draws the charts of a report as PNG bytes, and encodes pictures as data URLs.

Charts are drawn through matplotlib's objects, without the global state of pyplot.
"""

import base64
import io
import os
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BLUE, GREY, ORANGE = "#1f6feb", "#8b949e", "#eb6100"
LARGEST_PNG = 300_000  # bytes; `embed` converts larger pictures to lossy WebP


def reliability(bins: Sequence[Mapping[str, Any]]) -> bytes:
    """Draws the share of positive pixels against mean probability, and the pixels of each bin.

    Each bin is a mapping: "from", "to", "pixels", and "mean_probability" and "share_positive",
    which are None in a bin without pixels.
    """
    figure = new_figure(4.6, 5.0)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    known = [b for b in bins if b["pixels"]]
    predicted = [b["mean_probability"] for b in known]
    above.plot((0, 1), (0, 1), color=GREY, linestyle="--", label="perfectly calibrated")
    above.plot(predicted, [b["share_positive"] for b in known], "o-", color=BLUE, label="this run")
    above.set(ylabel="share of foreground pixels", xlim=(0, 1), ylim=(-0.02, 1.02))
    above.legend(frameon=False)
    centres = [(b["from"] + b["to"]) / 2 for b in bins]
    below.bar(centres, [b["pixels"] for b in bins], 0.9 / max(len(bins), 1), color=GREY)
    below.set(xlabel="predicted probability", ylabel="pixels")
    if known:
        below.set_yscale("log")
    return styled_png(figure)


def spread(values: Sequence[float], label: str, reference: tuple[str, float] | None) -> bytes:
    """Draws the defined scores in 0..1 of all images in ascending order, and that of a baseline.

    `label` is the name of the score, `reference` name and mean score of a baseline, or None.
    """
    figure = new_figure(4.6, 3.2)
    axes = figure.subplots()
    axes.plot(np.arange(1, len(values) + 1), np.sort(values), "o", color=BLUE, markersize=4)
    if values:
        axes.axhline(float(np.mean(values)), color=BLUE, linewidth=1, label="mean of this run")
    if reference is not None and np.isfinite(reference[1]):
        axes.axhline(reference[1], color=ORANGE, linestyle="--", linewidth=1, label=reference[0])
    axes.set(xlabel="images, from the lowest to the highest", ylabel=label, ylim=(-0.02, 1.02))
    axes.locator_params(axis="x", integer=True)
    axes.legend(frameon=False, fontsize=8)
    return styled_png(figure)


def training_curve(points: Sequence[Mapping[str, float]]) -> bytes:
    """Draws the loss against the step; `points` are mappings with "step" and "loss"."""
    figure = new_figure(4.6, 3.2)
    axes = figure.subplots()
    loss = np.array([point["loss"] for point in points], np.float64)
    axes.plot([point["step"] for point in points], loss, color=BLUE, linewidth=1)
    axes.set(xlabel="step", ylabel="training loss")
    if np.any(loss > 0) and not np.any(loss <= 0):
        axes.set_yscale("log")
    return styled_png(figure)


def render_png(figure: "Figure") -> bytes:
    """Returns a figure as the content of a PNG file."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")  # of an image's name
        FigureCanvasAgg(figure).print_png(file)
    return file.getvalue()


def embed(path: str | os.PathLike) -> str:
    """Returns the data URL of a PNG file, or of a smaller copy of it."""
    content = Path(path).read_bytes()
    if len(content) <= LARGEST_PNG:
        return data_url("png", content)
    smaller = io.BytesIO()
    with Image.open(io.BytesIO(content)) as picture:
        picture.save(smaller, "WEBP", quality=80)
    return data_url("webp", smaller.getvalue())


def data_url(kind: str, content: bytes) -> str:
    """Returns the bytes of a picture of a kind ("png", "webp") as the source of an <img>."""
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


def new_figure(width: float, height: float) -> "Figure":
    """Returns an empty figure; width and height in inches."""
    from matplotlib.figure import Figure  # slow to import, and only reports need it

    return Figure(figsize=(width, height), dpi=150, layout="constrained")


def styled_png(figure: "Figure") -> bytes:
    """Returns a figure with a light grid as the content of a PNG file."""
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.25)
    return render_png(figure)
