"""Draws a panel for each image: input, truth, prediction, uncertainty, errors and samples.

The upper row has image, truth, mean probability, disagreement and errors, the lower one up to four
generations and the key to the colors; or, if samples are drawn, up to eight of them in two rows.
Classes, true and found, come before these.
Generations that are no samples of masks, such as that of a network of one pass, are not shown, and
the uncertainty takes the place of their disagreement, see `averaging.uncertainty`.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from segdiff_jax.data.composite import composite
from segdiff_jax.evaluation.class_colours import COLOURS, coloured
from segdiff_jax.inference.averaging import uncertainty
from segdiff_jax.metrics import LABELS

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Light grey for hits makes the errors stand out; orange and blue differ in any color vision.
HIT, FALSE_ALARM, MISS = (232, 232, 232), (235, 97, 0), (0, 150, 255)
MEANINGS = {"foreground, found": HIT, "foreground, missed": MISS, "background, marked": FALSE_ALARM}
GREY = {"cmap": "gray", "vmin": 0, "vmax": 1}
PROBABILITY = {"cmap": "jet", "vmin": 0, "vmax": 1}
# numbers in 0..1 have a standard deviation of at most one half
DEVIATION = {"cmap": "inferno", "vmin": 0, "vmax": 0.5}
KINDS = ("true", "found")  # of class maps
COLUMNS, GENERATIONS, SAMPLES = 5, 4, 8
BESIDE_KEY = COLUMNS - 1  # maps in each lower row
# inches: longer side of a map, least width of a column, height of the key, the heading and a title
SIDE, NARROWEST, KEY, HEADER, TITLE, GAP = 2.0, 1.3, 1.8, 0.45, 0.22, 0.08
LINE = 0.18  # inches, of the key
DPI = 140


class ClassPanel(NamedTuple):
    """The names of classes, the true and the predicted class map [h, w], whether they overlap."""

    names: tuple[str, ...]
    true: np.ndarray
    found: np.ndarray
    overlap: bool = False


def panel(
    image: np.ndarray,
    truth: np.ndarray,
    generations: np.ndarray,
    probability: np.ndarray,
    name: str,
    scores: Mapping[str, float],
    random: bool = True,
    annotations: np.ndarray | None = None,
    *,
    samples: np.ndarray | None = None,
    classes: ClassPanel | None = None,
) -> "Figure":
    """Draws the panel of one image; every map is stretched to the shape of the truth.

    Args:
      image: [H, W, C] uint8, shown as `composite`.
      truth: [h, w] in {0, 1}.
      generations: [S, h', w'] in 0..1; the first four are shown, all count in the disagreement.
      probability: [h, w] in 0..1, the mean over generations; foreground is above 0.5.
      name: of the image, for the heading.
      scores: by key of `metrics.LABELS`, for the heading; nan is shown as "undefined".
      random: whether generations are samples of masks; if not, they are not shown.
      annotations: [A, h, w] in {0, 1}; the share of them that marks a pixel replaces the truth.
      samples: [S, h', w'] of 0 and 1; the first eight are shown, in place of the generations.
      classes: None: there are none.
    """
    soft, image = np.clip(generations, 0, 1), composite(image)
    marked = ("truth", truth > 0) if annotations is None else ("annotators", annotations.mean(0))
    mean, doubt = ("mean probability", "disagreement") if random else ("probability", "uncertainty")
    maps = {
        "image": (image, {}),
        marked[0]: (marked[1], GREY),
        mean: (probability, PROBABILITY),
        doubt: (uncertainty(soft, random), DEVIATION),
        "errors": (error_map(image, truth, probability), {}),
    }
    drawn = soft[: GENERATIONS * random] if samples is None else samples[:SAMPLES]
    maps |= _of_classes(classes) | _numbered(drawn, samples is not None)
    return _draw(maps, truth.shape, name, scores, doubt, classes.names if classes else ())


def _of_classes(
    classes: ClassPanel | None,
) -> dict[str, tuple[np.ndarray, Mapping[str, Any]]]:
    if classes is None:
        return {}
    maps = {kind: coloured(getattr(classes, kind), classes.overlap) for kind in KINDS}
    return {f"{kind} classes": (drawn, {}) for kind, drawn in maps.items()}


def _numbered(
    masks: Iterable[np.ndarray], are_samples: bool
) -> dict[str, tuple[np.ndarray, Mapping[str, Any]]]:
    kind, options = ("sample", GREY) if are_samples else ("generation", PROBABILITY)
    return {f"{kind} {i}": (mask, options) for i, mask in enumerate(masks, start=1)}


def error_map(image: np.ndarray, truth: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Marks hits, false alarms and misses in color on the darkened image; [h, w, 3] uint8."""
    true, pred = truth > 0, probability > 0.5
    height, width = true.shape
    dark = Image.fromarray(image).convert("L").resize((width, height), Image.Resampling.BILINEAR)
    colors = np.repeat(np.asarray(dark)[..., None] * 0.4, 3, axis=-1)
    colors[true & pred], colors[~true & pred], colors[true & ~pred] = HIT, FALSE_ALARM, MISS
    return colors.astype(np.uint8)


def _draw(
    maps: Mapping[str, tuple[np.ndarray, Mapping[str, Any]]],
    shape: tuple[int, ...],
    name: str,
    scores: Mapping[str, float],
    doubt: str,
    classes: tuple[str, ...],
) -> "Figure":
    """Draws everything into one axes in inches: an axes for each map takes three times as long."""
    from matplotlib.figure import Figure  # slow to import, and only reports need it

    height, width = (SIDE * side / max(shape) for side in shape)
    column, row = max(width, NARROWEST) + GAP, height + TITLE + GAP
    lower = max(1, -(-(len(maps) - COLUMNS) // BESIDE_KEY))  # rows
    key = [*MEANINGS.items(), *zip(classes, COLOURS, strict=False)]
    of_key = KEY + LINE * (len(key) - len(MEANINGS))
    size = COLUMNS * column + GAP, HEADER + row + max(lower * row, of_key)
    figure = Figure(figsize=size, dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, size[0]), ylim=(size[1], 0), autoscale_on=False)
    axes.axis("off")
    axes.text(GAP, 0.22, name, fontsize=11, parse_math=False)
    text = "    ".join(
        f"{LABELS.get(key, key)} {f'{value:.3f}' if np.isfinite(value) else 'undefined'}"
        for key, value in scores.items()
    )
    axes.text(GAP, 0.4, text, fontsize=8, color="#444444")
    for i, (title, (values, options)) in enumerate(maps.items()):
        down, right = divmod(i - COLUMNS, BESIDE_KEY) if i >= COLUMNS else (-1, i)
        x, y = GAP + right * column, HEADER + (down + 1) * row
        _draw_map(axes, title, values, (x, y, width, height), options)
    _draw_key(axes, GAP + (COLUMNS - 1) * column, HEADER + row, doubt, key)
    return figure


def _draw_map(
    axes: "Axes", title: str, values: np.ndarray, box: tuple[float, ...], options: Mapping[str, Any]
) -> None:
    """Draws a title at (x, y) and a map below it; `box` holds x, y and the map's width, height."""
    x, y, width, height = box
    axes.text(x, y + TITLE - 0.05, title, fontsize=8)
    extent = x, x + width, y + TITLE + height, y + TITLE
    axes.imshow(values, extent=extent, aspect="auto", **options)


def _draw_key(
    axes: "Axes", x: float, y: float, doubt: str, key: Iterable[tuple[str, tuple[int, int, int]]]
) -> None:
    """Draws two color bars and the meanings of the colors of errors and classes."""
    width, ramp = NARROWEST - GAP, np.linspace(0, 1, 256)[None]
    for title, options in (("probability", PROBABILITY), (f"{doubt} (std)", DEVIATION)):
        _draw_map(axes, title, ramp * options["vmax"], (x, y, width, 0.09), options)
        for place, align in ((0, "left"), (0.5, "center"), (1, "right")):
            label, at = f"{place * options['vmax']:g}", x + place * width
            axes.text(at, y + TITLE + 0.21, label, fontsize=7, horizontalalignment=align)
        y += 0.5
    for meaning, color in key:
        square = np.array([[color]], np.uint8)
        axes.imshow(square, extent=(x, x + 0.1, y + 0.22, y + 0.12), aspect="auto")
        axes.text(x + 0.15, y + 0.21, meaning, fontsize=8, parse_math=False)
        y += LINE
