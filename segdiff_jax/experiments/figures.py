"""Draws the paper's Figures 2 to 9 from our results. A figure without results is not drawn."""

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from segdiff_jax.experiments import paper, samples, tables
from segdiff_jax.experiments.collect import CellResult, Grid, Run
from segdiff_jax.experiments.plots import Drawn, Line, chart, sheet

_BY_COUNT = sorted(paper.CLASSES, key=paper.TRAINING_OBJECTS.__getitem__)


def every(grids: Sequence[Grid], runs: Sequence[Run] = ()) -> list[Drawn]:
    """Returns all figures; those without results have the reason in place of a picture."""
    return [
        masks(grids),
        training_images(grids),
        classes(runs),
        *(_curve_figure(grids, figure) for figure in CURVES),
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
            _missing(grids, "steps", "seconds"),
        ),
    ]


def _missing(grids: Sequence[Grid], *names: str) -> list[str]:
    return [line for name in names for grid in grids for line in grid.missing(name)]


def training_images(grids: Sequence[Grid]) -> Drawn:
    """Draws Fig. 3: the IoU with fewer training images, relative to that with all of them."""
    lines = []
    for grid in grids:
        cells = grid.done("images")
        everything = float(_iou(cells["all"])[0]) if "all" in cells else 0.0
        known = [(n, c) for c in cells.values() if (n := c.overrides["data.train_images"])]
        if everything > 0 and known:
            line, share = _iou_line(grid, known), 100 / everything
            lines.append(line._replace(y=line.y * share, spread=line.spread * share))
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


OF_FIRST = "of the mean of the first n of one set of generations; bars: standard error over images."
CURVES = {  # figure: grid, score, labels of x and y, caption
    "figure4": (
        *("reverse", "iou", "reverse steps", "IoU"),
        "IoU of the estimate of x0 after each reverse step, mean and standard deviation over "
        "images; estimates are averaged over generations.",
    ),
    "figure5": ("generations", "iou", "generations averaged", "IoU", f"IoU {OF_FIRST}"),
    "figure6": (
        *("generations", "calibration", "generations averaged", "calibration score"),
        f"Calibration score (lower is better) {OF_FIRST}",
    ),
}


def classes(runs: Sequence[Run]) -> Drawn:
    """Draws Fig. 3 as the paper has it: the IoU of methods by class, from few objects to many."""
    panels, missing = [], []
    runs = [run for run in runs if run.fields["model.kind"] == "diffusion"]
    for protocol, numbers in paper.TABLE_1.items():
        ours = tables.iou_by_class(runs, tables.PROTOCOLS[protocol])
        known = [name for name in _BY_COUNT if name in ours]
        if not known:
            missing.append(f"cityscapes, {protocol}: no run of a class; see Table 1")
            continue
        lines = [
            _class_line(method, dict(zip(paper.CLASSES, row, strict=False)), _BY_COUNT)
            for method, row in numbers.rows.items()
        ]
        percent = {name: 100 * ours[name] for name in known}
        lines.append(_class_line("SegDiff, ours", percent, known))
        panels.append((f"training objects of a class ({protocol})", "mean IoU, %", lines))
    caption = (
        "IoU by class of Cityscapes against the number of training objects of the class "
        f"({', '.join(_BY_COUNT)}); the numbers of the others are the paper's Table 1."
    )
    return chart("figure3_classes", caption, panels, missing, logarithmic=True)


def _class_line(label: str, iou: Mapping[str, float | None], names: Sequence[str]) -> Line:
    values = [(paper.TRAINING_OBJECTS[name], iou[name]) for name in names]
    x, y = zip(*[(n, v) for n, v in values if v is not None], strict=True)
    return Line(label, x, np.array(y), np.zeros(len(y)))


def _curve_figure(grids: Sequence[Grid], figure: str) -> Drawn:
    """Draws Figures 4 to 6, each a measurement that is a curve."""
    grid, score, x_label, y_label, caption = CURVES[figure]
    band, lines = figure == "figure4", []
    for one in grids:
        for cell in one.done(grid).values():
            curve = cell.result["curves"][score]
            spread = curve["standard_deviation" if band else "standard_error"]
            y, half = (np.array(values, np.float64) for values in (curve["mean"], spread))
            lines.append(Line(one.data, range(1, len(y) + 1), y, half))
    return chart(figure, caption, [(x_label, y_label, lines)], _missing(grids, grid), band=band)


def _iou_by_field(grids: Sequence[Grid], grid: str, field: str) -> list[Line]:
    """Returns the IoU against a config field, a line for each data set."""
    return [
        _iou_line(one, [(cell.overrides[field], cell) for cell in done.values()])
        for one in grids
        if (done := one.done(grid))
    ]


def _iou_line(grid: Grid, cells: list[tuple[int, CellResult]]) -> Line:
    x, known = zip(*sorted(cells), strict=True)
    y, error = np.array([_iou(cell) for cell in known]).T
    return Line(grid.data, x, y, error)


def _seconds(grids: Sequence[Grid]) -> Iterator[Line]:
    for one in grids:
        results = [cell.result for cell in one.done("seconds").values()]
        if known := sorted((result["steps"], result["seconds"]) for result in results):
            x, y = zip(*known, strict=True)
            yield Line(one.data, x, np.array(y), np.zeros(len(y)))


def _iou(cell: CellResult) -> np.ndarray:
    """Returns the mean IoU and its standard error; NaN, which draws no bar, of one image."""
    summary = cell.result["summary"]["iou"]
    return np.array([summary["mean"], summary["standard_error"]], np.float64)


def masks(grids: Sequence[Grid]) -> Drawn:
    """Draws Fig. 2: several generations of one image, their mean, and the truth."""
    done = [cell for grid in grids for cell in grid.done("generations").values()]
    found = [image for cell in done for image in samples.load(cell.measurement)]
    count = min((len(image["generations"]) for image in found), default=0)
    titles = ["image", *(f"generation {i + 1}" for i in range(count)), "mean", "truth"]
    rows = [[x["image"], *x["generations"][:count], x["mean"], x["truth"]] for x in found]
    caption = (
        "The image, single generations, the mean of all of them (jet, 0 blue to 1 red), the truth."
    )
    return sheet("figure2", caption, titles, rows, _missing(grids, "generations"))


def variants(grids: Sequence[Grid]) -> Drawn:
    """Draws Fig. 7: the mean masks of variants one to four and of the full method."""
    names, rows = ("one", "two", "three", "four", "full"), []
    for grid in grids:
        done = grid.done("conditioning")
        if set(names) <= done.keys():
            recorded = [samples.load(done[name].measurement) for name in names]
            for same in zip(*recorded, strict=True):
                rows.append([same[0]["image"], *(one["mean"] for one in same), same[0]["truth"]])
    titles = ["image", *(paper.VARIANTS[name].partition(":")[0] for name in names), "truth"]
    caption = (
        "The image, the mean masks of variants one to four of Table 4 and of the full method "
        "(jet, 0 blue to 1 red), the truth."
    )
    return sheet("figure7", caption, titles, rows, _missing(grids, "conditioning"))
