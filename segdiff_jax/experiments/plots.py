"""Draws line charts and sheets of pictures in the style of a paper's figures.

The colours are those of Okabe and Ito, which differ in any colour vision; lines differ by their
marks, too. Probabilities are in the jet scale from 0, blue, to 1, red, as in the paper.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKS = "osD^vP"
WIDTH = 3.4  # of a column, inches
MAX_TICKS = 8  # on an axis with a tick for each value


class Drawn(NamedTuple):
    """A figure, or None if there are no results; the cells not run, and the command for them."""

    name: str
    caption: str
    figure: "Figure | None"
    missing: list[str]


class Line(NamedTuple):
    """One line of a chart: y over x, with half the length of its error bars."""

    label: str
    x: Sequence[float]
    y: np.ndarray
    spread: np.ndarray


def chart(
    name: str,
    caption: str,
    panels: Sequence[tuple[str, str, list[Line]]],
    missing: list[str],
    **style: Any,
) -> Drawn:
    """Draws panels (label of x, label of y, lines) side by side, except those without lines."""
    panels = [panel for panel in panels if panel[2]]
    if not panels:
        return Drawn(name, caption, None, missing)
    figure = _figure(WIDTH * len(panels), 2.6)
    columns = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, panel in zip(columns, panels, strict=True):
        _lines(axes, *panel, **style)
    return Drawn(name, caption, figure, missing)


def _lines(
    axes: "Axes",
    x_label: str,
    y_label: str,
    lines: Sequence[Line],
    band: bool = False,
    level: float | None = None,
    logarithmic: bool = False,
) -> None:
    for i, line in enumerate(lines):
        style: dict[str, Any] = {"color": COLOURS[i % len(COLOURS)], "label": line.label}
        if band:
            axes.plot(line.x, line.y, **style)
            above, below = line.y + line.spread, line.y - line.spread
            axes.fill_between(line.x, below, above, color=style["color"], alpha=0.2, linewidth=0)
        else:
            style |= {"marker": MARKS[i % len(MARKS)], "markersize": 3.5, "linewidth": 1.2}
            axes.errorbar(line.x, line.y, line.spread, capsize=2, **style)
    if level is not None:
        axes.axhline(level, color="#888888", linewidth=0.8, linestyle="--")
    if logarithmic:
        axes.set_xscale("log")
    values = sorted({x for line in lines for x in line.x})
    if len(values) <= MAX_TICKS:
        axes.set_xticks(values, [str(x) for x in values])
        axes.set_xticks([], minor=True)
    axes.set(xlabel=x_label, ylabel=y_label)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False, fontsize=7)


def sheet(
    name: str, caption: str, titles: list[str], rows: list[list[np.ndarray]], missing: list[str]
) -> Drawn:
    """Draws rows of pictures: RGB images, probabilities in jet, uint8 masks in black and white."""
    if not rows:
        return Drawn(name, caption, None, missing)
    figure = _figure(2 * WIDTH, 2 * WIDTH / len(titles) * len(rows) + 0.25)
    grid = figure.subplots(len(rows), len(titles), squeeze=False)
    for row, line in zip(rows, grid, strict=True):
        for picture, axes in zip(row, line, strict=True):
            scale = "gray" if picture.dtype == np.uint8 else "jet"
            options = {} if picture.ndim == 3 else {"vmin": 0, "vmax": 1, "cmap": scale}
            axes.imshow(picture, interpolation="nearest", **options)
            axes.set_axis_off()
    for title, axes in zip(titles, grid[0], strict=True):
        axes.set_title(title, fontsize=7)
    return Drawn(name, caption, figure, missing)


def _figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure  # slow to import

    return Figure(figsize=(width, height), dpi=200, layout="constrained")
