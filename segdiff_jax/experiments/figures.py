"""Draws the paper's Figures 2 to 9 from our results. A figure without results is not drawn."""

from collections.abc import Iterator, Sequence

import numpy as np

from segdiff_jax.experiments import paper, samples
from segdiff_jax.experiments.collect import CellResult, Grid
from segdiff_jax.experiments.plots import Drawn, Line, chart, sheet


def every(grids: Sequence[Grid]) -> list[Drawn]:
    """Returns all figures; those without results have the reason in place of a picture."""
    return [
        masks(grids),
        training_images(grids),
        _curve_figure(grids, "figure4", "reverse", "iou", "standard_deviation"),
        _curve_figure(grids, "figure5", "generations", "iou", "standard_error"),
        _curve_figure(grids, "figure6", "generations", "calibration", "standard_error"),
        variants(grids),
        chart(
            "figure8",
            "IoU against the number of RRDB blocks of G; bars: standard error over images.",
            [("RRDB blocks", "IoU", _iou_by_field(grids, "blocks", "model.rrdb_blocks"))],
            _missing(grids, "blocks"),
        ),
        chart(
            "figure9",
            "(a) IoU and (b) seconds to sample one generation of one image, against the diffusion "
            "steps T: one training for each T, sampled with all T steps; bars in (a): standard "
            "error over images.",
            [
                ("(a) diffusion steps T", "IoU", _iou_by_field(grids, "steps", "diffusion.T")),
                ("(b) diffusion steps T", "seconds", list(_seconds(grids))),
            ],
            [*_missing(grids, "steps"), *_missing(grids, "seconds")],
        ),
    ]


def _missing(grids: Sequence[Grid], grid: str) -> list[str]:
    return [line for one in grids for line in one.missing(grid)]


def training_images(grids: Sequence[Grid]) -> Drawn:
    """Fig. 3: the IoU with fewer training images, relative to that with all of them."""
    lines = []
    for grid in grids:
        cells = grid.done("images")
        whole = _mean(cells["all"], "iou") if "all" in cells else 0.0
        if whole == 0 or len(cells) < 2:
            continue
        known = sorted((count, cell) for name, cell in cells.items() if (count := _count(cell)))
        y = np.array([100 * _mean(cell, "iou") / whole for _, cell in known])
        spread = np.array([100 * _error(cell, "iou") / whole for _, cell in known])
        lines.append(Line(grid.data, [count for count, _ in known], y, spread))
    return chart(
        "figure3",
        "IoU with fewer training images, percent of that with all of them (horizontal line); the "
        "smaller sets are parts of the larger ones; bars: standard error over images. (The "
        "paper's figure compares methods by the number of training images of a class.)",
        [("training images", "IoU, % of all images", lines)],
        _missing(grids, "images"),
        level=100.0,
        logarithmic=True,
    )


def _count(cell: CellResult) -> int:
    return int(cell.overrides["data.train_images"])


CURVES = {
    "figure4": (
        "IoU of the estimate of x0 after each reverse step, mean and standard deviation over "
        "images; estimates are averaged over generations.",
        ("reverse steps", "IoU"),
    ),
    "figure5": (
        "IoU of the mean of the first n of one set of generations; bars: standard error over "
        "images.",
        ("generations averaged", "IoU"),
    ),
    "figure6": (
        "Calibration score (lower is better) of the mean of the first n of one set of "
        "generations; bars: standard error over images.",
        ("generations averaged", "calibration score"),
    ),
}


def _curve_figure(grids: Sequence[Grid], name: str, grid: str, key: str, spread: str) -> Drawn:
    """Figures 4 to 6, each a measurement that is a curve."""
    lines = []
    for one in grids:
        for cell in one.done(grid).values():
            assert cell.result
            curve = cell.result["curves"][key]
            y = np.array(curve["mean"], np.float64)
            half = np.array(curve[spread], np.float64)
            lines.append(Line(one.data, list(range(1, len(y) + 1)), y, half))
    caption, axes = CURVES[name]
    return chart(name, caption, [(*axes, lines)], _missing(grids, grid), band=name == "figure4")


def _iou_by_field(grids: Sequence[Grid], grid: str, field: str) -> list[Line]:
    """Returns the IoU against a config field, a line for each data set."""
    lines = []
    for one in grids:
        known = sorted((cell.overrides[field], cell) for cell in one.done(grid).values())
        if known:
            y = np.array([_mean(cell, "iou") for _, cell in known])
            error = np.array([_error(cell, "iou") for _, cell in known])
            lines.append(Line(one.data, [value for value, _ in known], y, error))
    return lines


def _seconds(grids: Sequence[Grid]) -> Iterator[Line]:
    for one in grids:
        results = [cell.result for cell in one.done("seconds").values() if cell.result]
        results.sort(key=lambda result: result["steps"])
        if results:
            x = [result["steps"] for result in results]
            y = np.array([result["seconds"] for result in results])
            yield Line(one.data, x, y, np.zeros(len(y)))


def _mean(cell: CellResult, key: str) -> float:
    assert cell.result
    return float(np.float64(cell.result["summary"][key]["mean"]))


def _error(cell: CellResult, key: str) -> float:
    """Returns the standard error over images; NaN, which draws no bar, if there is one image."""
    assert cell.result
    return float(np.float64(cell.result["summary"][key]["standard_error"]))


def masks(grids: Sequence[Grid]) -> Drawn:
    """Fig. 2: several generations of one image, their mean, and the truth."""
    done = [cell for grid in grids for cell in grid.done("generations").values()]
    found = [kept for cell in done for kept in samples.load(cell.measurement)]
    count = min((len(kept["generations"]) for kept in found), default=0)
    titles = ["image", *(f"generation {i + 1}" for i in range(count)), "mean", "truth"]
    rows = [
        [kept["image"], *kept["generations"][:count], kept["mean"], kept["truth"]] for kept in found
    ]
    caption = (
        "The image, single generations, the mean of all of them (jet, 0 blue to 1 red), the truth."
    )
    return sheet("figure2", caption, titles, rows, _missing(grids, "generations"))


def variants(grids: Sequence[Grid]) -> Drawn:
    """Fig. 7: the mean masks of variants one to four and of the full method."""
    names, rows = ("one", "two", "three", "four", "full"), []
    for grid in grids:
        done = grid.done("conditioning")
        if set(names) <= done.keys():
            kept = [samples.load(done[name].measurement) for name in names]
            for same in zip(*kept, strict=True):
                rows.append([same[0]["image"], *(one["mean"] for one in same), same[0]["truth"]])
    titles = ["image", *(paper.VARIANTS[name].partition(":")[0] for name in names), "truth"]
    caption = (
        "The image, the mean masks of variants one to four of Table 4 and of the full method "
        "(jet, 0 blue to 1 red), the truth."
    )
    return sheet("figure7", caption, titles, rows, _missing(grids, "conditioning"))
