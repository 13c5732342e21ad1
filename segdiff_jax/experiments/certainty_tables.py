"""Fills the tables of the grid "certainty": scores over halves, and runs that rate one another."""

import itertools
import statistics
from collections.abc import Mapping, Sequence

from segdiff_jax.experiments.collect import CellResult, Grid
from segdiff_jax.experiments.recipe import CERTAINTY
from segdiff_jax.experiments.table_formats import Table

EVIDENCE = "evidence.npz"  # predictions of a cell, beside its result
# scores of a half by name: where `scores.scores` has them
PATHS = {
    "band ece": ("pixels", "band", "ece"),
    "band auroc": ("pixels", "band", "auroc"),
    "removed at 5 %": ("pixels", "image", "removed5"),
    "removed at 12 %": ("pixels", "image", "removed12"),
    "spearman": ("quality", "spearman"),
    "error of dice": ("quality", "mean_error"),
    "gap closed": ("quality", "closed"),
    "dice interval holds": ("quality", "coverage"),
    "objects": ("objects", "confidence"),
    "objects, mean p": ("objects", "mean probability"),
    "objects, passes": ("objects", "passes"),
    "objects, samples": ("objects", "samples"),
    **{f"{q} holds": ("intervals", q, "0.8", "coverage") for q in ("area", "count")},
    **{f"{q} score": ("intervals", q, "0.8", "score") for q in ("area", "count")},
    "outer misses": ("risk", "0.1", "missed"),
    "inner is wrong": ("risk", "0.1", "false"),
}
MORE = ("area score, constant", "area score, p(1-p)", "spoilt", "strangers")


def tables(grids: Sequence[Grid]) -> list[Table]:
    """Returns the tables; none where no grid has such cells."""
    grids = [grid for grid in grids if grid.done(CERTAINTY)]
    return [_halves(grids), _rivals(grids)] if grids else []


def _halves(grids: Sequence[Grid]) -> Table:
    names = (*PATHS, *MORE)
    columns, header = [], ["score"]
    for grid in grids:
        for variant, seeds in _by_variant(grid).items():
            header.append(f"{grid.data}, {variant}, {len(seeds)} seeds")
            columns.append(seeds)
    rows = [[name, *(_over_seeds(seeds, name) for seeds in columns)] for name in names]
    rows.append(["time with all numbers", *(_cost(seeds) for seeds in columns)])
    notes = [
        "Fitted on half of validation and test, scored on the other: means over 20 halves, and "
        "over seeds ± standard deviation of the seeds' means."
    ]
    return Table(
        "certainty", "Certainty: fitted on one half, scored on the other", header, rows, notes
    )


def _over_seeds(seeds: Sequence[CellResult], name: str) -> str:
    found = [seed.result["halves"].get(name) for seed in seeds]
    return _mean(
        [statistics.fmean(x for x in values if x is not None) for values in found if values]
    )


def _cost(seeds: Sequence[CellResult]) -> str:
    seconds: list[Mapping[str, float]] = [seed.result["seconds"] for seed in seeds]
    return _mean([of["answered"] / of["predicted"] for of in seconds])


def _mean(values: Sequence[float]) -> str:
    if not values:
        return "-"
    spread = f" ± {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    return f"{statistics.fmean(values):.3f}{spread}"


def _rivals(grids: Sequence[Grid]) -> Table:
    # jax takes seconds to import, and no other table needs it
    from segdiff_jax.experiments import certainty_measurement, certainty_rivals

    header = ["data", "run", "what", "score", "value"]
    rows: list[list[str]] = []
    for grid in grids:
        found = _by_variant(grid)
        seen = {
            name: [certainty_measurement.read(seed.measurement / EVIDENCE) for seed in seeds]
            for name, seeds in found.items()
        }
        for name, seeds in seen.items():
            if len(seeds) > 1:
                title = f"pairwise Dice of {len(seeds)} seeds"
                rows += _lines(grid.data, name, title, certainty_rivals.ensemble(seeds))
            rows += _lines(
                *(grid.data, name, "spoilt, by the Dice with its mask"),
                certainty_rivals.spoilt_by_mask(seeds[0]),
            )
        for one, other in itertools.permutations(seen, 2):
            rated = certainty_rivals.rate(seen[one][0], seen[other][0])
            rows += _lines(grid.data, one, f"rates the masks of {other}", rated)
    return Table("certainty_rivals", "Certainty: runs that rate one another", header, rows, [])


def _lines(data: str, run: str, what: str, found: Mapping[str, float]) -> list[list[str]]:
    return [[data, run, what, name, f"{value:.3f}"] for name, value in found.items()]


def _by_variant(grid: Grid) -> dict[str, list[CellResult]]:
    """Returns the cells that are done, the seeds of a variant together."""
    found: dict[str, list[CellResult]] = {}
    for name, cell in grid.done(CERTAINTY).items():
        found.setdefault(name.rpartition("-s")[0], []).append(cell)
    return found
