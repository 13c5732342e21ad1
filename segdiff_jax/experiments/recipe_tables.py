"""Fills the tables of the grid "recipe": the probability map, and the samples."""

import math
import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from segdiff_jax.evaluation.joint_scores import LABELS
from segdiff_jax.experiments.collect import CellResult, Grid
from segdiff_jax.experiments.recipe import GRID
from segdiff_jax.experiments.table_formats import Table

# (heading, key of a row, factor, digits); a key is missing where a network has no samples
MAP = (
    ("Dice, fast", "fast_dice", 100, 2),
    ("NLL, fast", "fast_nll", 1, 4),
    ("Brier, fast", "fast_brier", 1, 4),
    ("Dice, balanced", "balanced_dice", 100, 2),
    ("NLL, balanced", "balanced_nll", 1, 4),
)
SAMPLES = (
    ("within / p(1-p)", "within", 1, 3),
    ("between / p(1-p)", "between", 1, 3),
    ("Brier, infinitely many", "unbiased_brier", 1, 4),
    ("GED^2", "ged", 1, 3),
    ("HM-IoU", "hm_iou", 1, 3),
    ("CRPS of area", "crps_area", 1, 1),
    ("CRPS of count", "crps_count", 1, 2),
)
LAW = tuple((title, key, 1, 1 if key.startswith("area") else 3) for key, title in LABELS.items())
KINDS = {"pixels": "pixels drawn from the map", "soft": "samples, soft", "coupled": "coupled"}


def tables(grids: Sequence[Grid]) -> list[Table]:
    """Returns the tables of maps and of samples; none where no grid has such cells."""
    grids = [grid for grid in grids if grid.done(GRID)]
    if not grids:
        return []
    made = [_map_table(grids), _sample_table(grids)]
    of_law = _law_table(grids)
    return [*made, of_law] if of_law.rows else made


def _map_table(grids: Sequence[Grid]) -> Table:
    heads = [head for head, *_ in MAP]
    header = ["data", "variant", "seeds", *heads, "Dice, fast - twin", "Dice, balanced - twin"]
    rows = []
    for grid in grids:
        found = _by_variant(grid)
        for name, seeds in found.items():
            cells = [_mean([_rows(one, key) for one in seeds], *f) for _, key, *f in MAP]
            paired = [
                _paired(seeds, found.get("twin", []), f"{budget}_dice")
                for budget in ("fast", "balanced")
            ]
            rows.append([grid.data, name, str(len(seeds)), *cells, *paired])
    notes = [
        "Mean over images and seeds ± standard deviation of the seeds' means; Dice in percent.",
        "Differences: mean over images of the difference of the means over seeds ± its standard "
        "error over images.",
    ]
    return Table("recipe_map", "Recipe: the probability map", header, rows, notes)


def _sample_table(grids: Sequence[Grid]) -> Table:
    header = ["data", "variant", "samples", *(head for head, *_ in SAMPLES)]
    rows = []
    for grid in grids:
        for name, seeds in _by_variant(grid).items():
            errors = [_mean([_rows(s, f"map_{k}") for s in seeds], 1, 2) for k in ("area", "count")]
            rows.append([grid.data, name, "the map itself", *["-"] * (len(SAMPLES) - 2), *errors])
            for kind, title in KINDS.items():
                if not _rows(seeds[0], f"{kind}_ged"):
                    continue
                cells = [
                    _mean([_rows(s, f"{kind}_{key}") for s in seeds], *f) for _, key, *f in SAMPLES
                ]
                rows.append([grid.data, name, title, *cells])
    notes = ["The error of the map is the CRPS of one value: |area - true area| and of the count."]
    return Table("recipe_samples", "Recipe: samples of the joint distribution", header, rows, notes)


def _law_table(grids: Sequence[Grid]) -> Table:
    header = ["variant", "samples", *(head for head, *_ in LAW)]
    rows = []
    for grid in grids:
        for name, seeds in _by_variant(grid).items():
            for kind, title in KINDS.items():
                if _rows(seeds[0], f"{kind}_whole"):
                    cells = [
                        _mean([_rows(s, f"{kind}_{key}") for s in seeds], *f) for _, key, *f in LAW
                    ]
                    rows.append([name, title, *cells])
    notes = ["Of sets whose law is known; an exact sampler has whole 1 and taken 0.5."]
    return Table("recipe_law", "Recipe: samples against the known law", header, rows, notes)


def _by_variant(grid: Grid) -> dict[str, list[CellResult]]:
    """Returns the cells that are done, the seeds of a variant together."""
    found: dict[str, list[CellResult]] = {}
    for name, cell in grid.done(GRID).items():
        found.setdefault(name.rpartition("-s")[0], []).append(cell)
    return found


def _rows(cell: CellResult, key: str) -> dict[str, float]:
    """Returns {image: score} where it is defined."""
    rows: Sequence[Mapping[str, Any]] = cell.result["rows"]
    return {row["name"]: row[key] for row in rows if row.get(key) is not None}


def _mean(seeds: Sequence[Mapping[str, float]], factor: float = 1, digits: int = 2) -> str:
    means = [factor * statistics.fmean(of.values()) for of in seeds if of]
    if not means:
        return "-"
    spread = f" ± {statistics.stdev(means):.{digits}f}" if len(means) > 1 else ""
    return f"{statistics.fmean(means):.{digits}f}{spread}"


def _paired(ours: Sequence[CellResult], twins: Sequence[CellResult], key: str) -> str:
    """Returns mean and standard error over images of the mean over seeds less that of the twin."""
    if not twins or ours is twins:
        return "-"
    first, second = ([_rows(cell, key) for cell in side] for side in (ours, twins))
    names = set.intersection(*(set(of) for of in (*first, *second)))
    if len(names) < 2:
        return "-"
    gains = [
        100 * (statistics.fmean(of[n] for of in first) - statistics.fmean(of[n] for of in second))
        for n in sorted(names)
    ]
    error = statistics.stdev(gains) / math.sqrt(len(gains))
    return f"{statistics.fmean(gains):+.2f} ± {error:.2f}"
