"""Fills the paper's Tables 1 to 4 with our numbers beside its, and two tables of our own."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from segdiff_jax.experiments import certainty_tables, paper, recipe_tables
from segdiff_jax.experiments.collect import PROGRAM, CellResult, Grid, Run
from segdiff_jax.experiments.table_formats import Table
from segdiff_jax.metrics import LABELS

NOT_RUN = "not run"
PROTOCOLS = {"expansion": 15, "tight": 0}  # percent around an object's box
PERCENT = "Percent; ours with the standard error over the test images."
WCOV = "WCov of ours is the ratio of areas that the authors' code computes."
MAIN = "python -m segdiff_jax.main --config=configs/{}.py{} --config.data.dir=DIR"


def every(grids: Sequence[Grid], runs: Sequence[Run]) -> list[Table]:
    """Returns all tables."""
    diffusion = [run for run in runs if run.fields["model.kind"] == "diffusion"]
    two = _benchmark("table2", paper.TABLE_2, diffusion)
    three = _benchmark("table3", paper.TABLE_3, diffusion)
    ours = [table_1(diffusion), two, three, table_4(grids), baselines(grids), differences(grids)]
    return ours + recipe_tables.tables(grids) + certainty_tables.tables(grids)


def table_1(runs: Sequence[Run]) -> Table:
    """Returns Table 1: IoU of street objects by class and protocol."""
    rows, notes = [], ["IoU, percent, mean over objects; Mean is over the eight classes."]
    for protocol, numbers in paper.TABLE_1.items():
        rows += [[protocol, name, *map(_printed, row)] for name, row in numbers.rows.items()]
        ours = iou_by_class(runs, PROTOCOLS[protocol])
        if set(paper.CLASSES) <= ours.keys():
            ours["mean"] = sum(ours[name] for name in paper.CLASSES) / len(paper.CLASSES)
        cells = [_printed(100 * ours[k]) if k in ours else NOT_RUN for k in numbers.keys]
        rows.append([protocol, "SegDiff, ours", *cells])
        if left := [name for name in paper.CLASSES if name not in ours]:
            argument = ":CLASS" + ",tight" * (protocol == "tight")
            command = MAIN.format(paper.DATA["table1"], argument)
            notes.append(f"Not run, {protocol}: {', '.join(left)}. {command}, then --runs=WORKDIR")
    columns = paper.TABLE_1["tight"].columns
    header = ["protocol", "method", *columns]
    return Table("table1", paper.TITLES["table1"], header, rows, notes)


def iou_by_class(runs: Sequence[Run], expansion: int) -> dict[str, float]:
    """Returns the mean IoU by class, of the runs with this expansion of an object's box."""
    found: dict[str, float] = {}
    for run in runs:
        name = run.fields["data.name"]
        if run.fields.get(f"{name}.test_expansion") != expansion:
            continue
        classes = run.fields[f"{name}.classes"]
        scores = run.groups or {classes[0]: {"iou": run.summary["iou"]["mean"]}}
        found |= {name: row["iou"] for name, row in scores.items() if row["iou"] is not None}
    return found


def _benchmark(name: str, numbers: paper.Numbers, runs: Sequence[Run]) -> Table:
    """Returns Table 2 or 3: the paper's rows, and one row for each of our runs on the data set."""
    data = paper.DATA[name]
    rows = [[method, *map(_printed, row)] for method, row in numbers.rows.items()]
    ours = [run for run in runs if run.fields["data.name"] == data]
    notes, keys = [PERCENT], numbers.keys
    for run in ours:
        cells = [_percent(run.summary[key]) for key in keys]
        rows.append([f"SegDiff, ours: {run.name}, {run.images} images", *cells])
        coverage = _percent(run.summary["weighted_coverage"])
        if "area_ratio" in keys:
            notes.append(f"{run.name}: weighted coverage of the literature {coverage}.")
    if not ours:
        rows.append(["SegDiff, ours", *[NOT_RUN] * len(keys)])
        notes.append(f"Not run: {MAIN.format(data, '')}, then --runs=WORKDIR")
    if "area_ratio" in keys:
        notes.append(WCOV)
    return Table(name, paper.TITLES[name], ["method", *numbers.columns], rows, notes)


def table_4(grids: Sequence[Grid]) -> Table:
    """Returns Table 4: variants of the conditioning, on the paper's data sets and ours."""
    by_data = {grid.data: grid for grid in grids}
    rows, notes, header = [], [PERCENT], ["data", "method", "parameters"]
    for column in next(iter(paper.TABLE_4.values())).columns:
        header += [f"{column}, paper", f"{column}, ours"]
    for data in [*paper.TABLE_4, *(name for name in by_data if name not in paper.TABLE_4)]:
        grid, numbers = by_data.get(data), paper.TABLE_4.get(data)
        done = grid.done("conditioning") if grid else {}
        for variant, title in paper.VARIANTS.items():
            printed = numbers.rows[variant] if numbers else (None,) * 4
            cells = [data, title, _parameters(done.get(variant))]
            for value, key in zip(printed, paper.TABLE_2.keys, strict=True):
                cells += [_printed(value), _score(done.get(variant), key)]
            rows.append(cells)
        if grid is None:
            name, _, kind = data.partition(" ")
            flags = f"--config=configs/{name}.py{kind and f':{kind}'} --dir=DIR --grid=conditioning"
            notes.append(f"Not run: {data}: {PROGRAM} {flags}")
        else:
            notes += [f"Not run: {line}" for line in grid.missing("conditioning")]
    notes.append(WCOV)
    return Table("table4", "Table 4: conditioning", header, rows, notes)


def baselines(grids: Sequence[Grid]) -> Table:
    """Compares SegDiff with its network without diffusion and a U-Net (not in the paper)."""
    keys = ("dice", "iou", "weighted_coverage", "boundary_f", "calibration")
    header = ["data", "network", "parameters", "updates x batch", "seconds of updates"]
    header += [*(LABELS[key] for key in keys), "seconds per image"]
    note = "Percent; calibration: lower is better. Seconds of updates are without compilation, "
    rows, notes = [], [f"{note}those per image with it."]
    titles = {"full": "SegDiff", "twin": "deterministic twin", "unet": "plain U-Net"}
    for grid in grids:
        done = grid.done("conditioning") | grid.done("baselines")
        for name, title in titles.items():
            cell = done.get(name)
            seconds = f"{cell.result['seconds']:.3g}" if cell else NOT_RUN
            cells = [_parameters(cell), *_training(cell), *(_score(cell, key) for key in keys)]
            rows.append([grid.data, title, *cells, seconds])
        notes += [f"Not run: {line}" for line in grid.missing("baselines")]
    if not grids:
        notes.append(f"Not run: {PROGRAM} --grid=baselines")
    return Table("baselines", "With and without diffusion", header, rows, notes)


def _training(cell: CellResult | None) -> list[str]:
    if cell is None:
        return [NOT_RUN] * 2
    training = cell.result["training"]
    seconds = NOT_RUN if training["seconds"] is None else f"{training['seconds']:.0f}"
    return [f"{training['updates']} x {training['batch_size']}", seconds]


PAIRS = {
    "schedule": "schedule: beta x 1000/T (code), unscaled (paper)",
    "loss": "loss over pixels: sum (code), mean",
    "variance": "reverse variance: beta (code), posterior (paper)",
    "clipping": "clip x0 when sampling: off (code), on",
    "generations": "generations: 9 (code), 30 (paper)",
}
# the cells of a pair are NAME-code and NAME-paper, except for these
SIDES = {"loss": ("sum", "mean"), "clipping": ("off", "on")}
WCOV_KEYS = "area_ratio", "weighted_coverage", "iou"


def differences(grids: Sequence[Grid]) -> Table:
    """Compares the scores of both sides of each disagreement between paper and code."""
    header = ["data", "disagreement"]
    for key in ("dice", "iou"):
        header += [f"{LABELS[key]}, {side}" for side in ("first", "second", "second - first")]
    rows, notes = [], ["Percent; the difference is paired by image, with its standard error."]
    for grid in grids:
        done = grid.done("differences")
        for name, title in PAIRS.items():
            first, second = SIDES.get(name, ("code", "paper"))
            sides = done.get(f"{name}-{first}"), done.get(f"{name}-{second}")
            cells = [grid.data, title]
            for key in ("dice", "iou"):
                cells += [*(_score(side, key) for side in sides), _paired(*sides, key)]
            rows.append(cells)
        if full := grid.done("conditioning").get("full"):
            ratio, coverage, iou = (_percent(full.result["summary"][key]) for key in WCOV_KEYS)
            notes.append(
                f"{grid.data}: WCov of the same masks: as the ratio of areas (code) {ratio}, "
                f"as the literature's weighted coverage {coverage}; IoU {iou}."
            )
        notes += [f"Not run: {line}" for line in grid.missing("differences")]
    return Table("differences", "Where paper and code disagree", header, rows, notes)


def _paired(first: CellResult | None, second: CellResult | None, key: str) -> str:
    """Returns mean and standard error over images of the second score minus the first."""
    if first is None or second is None:
        return NOT_RUN
    before = {row["name"]: row[key] for row in first.result["rows"]}
    rises = [
        100 * (row[key] - before[row["name"]])
        for row in second.result["rows"]
        if row[key] is not None and before.get(row["name"]) is not None
    ]
    if len(rises) < 2:
        return "undefined"
    error = statistics.stdev(rises) / math.sqrt(len(rises))
    return f"{statistics.fmean(rises):+.2f} ± {error:.2f}"


def _score(cell: CellResult | None, key: str) -> str:
    if cell is None:
        return NOT_RUN
    summary = cell.result["summary"][key]
    if key == "calibration":  # a squared difference and not a share
        return _printed(summary["mean"], 4)
    return _percent(summary)


def _percent(summary: Mapping[str, Any]) -> str:
    mean, error = summary["mean"], summary["standard_error"]
    if mean is None:
        return "undefined"
    return f"{100 * mean:.2f}" + ("" if error is None else f" ± {100 * error:.2f}")


def _printed(value: float | None, digits: int = 2) -> str:
    return "-" if value is None else f"{value:.{digits}f}"


def _parameters(cell: CellResult | None) -> str:
    return NOT_RUN if cell is None else f"{cell.result['training']['parameters']['all']:,}"
