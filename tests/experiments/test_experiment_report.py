"""Tables and figures of results that were written by hand, whose numbers are known."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from bounds import assert_within
from PIL import Image
from tiny_config import ROOT, config_of

from segdiff_jax import errors, metrics
from segdiff_jax.config import flatten
from segdiff_jax.data.example import Example
from segdiff_jax.evaluation.scoring import ScoredPrediction
from segdiff_jax.experiments import figures, paper, report, tables
from segdiff_jax.experiments.collect import read_grid, runs_of
from segdiff_jax.experiments.grids import Cell
from segdiff_jax.experiments.results import RESULT, write_stamped
from segdiff_jax.experiments.samples import SampleRecorder
from segdiff_jax.inference.averaging import average

RANDOM = np.random.default_rng(0)
SOFT = RANDOM.uniform(0, 1, (6, 8, 8)).astype(np.float32)
EXAMPLE = Example(
    RANDOM.integers(0, 256, (8, 8, 3), np.uint8), RANDOM.integers(0, 2, (8, 8), np.uint8), "a"
)


def summary(mean, error=0.01):
    return {"mean": mean, "standard_deviation": 4 * error, "standard_error": error}


def scores(iou, **others):
    """A result whose two images have this mean IoU; `others` sets other scores."""
    means = dict.fromkeys(metrics.KEYS, 0.5) | {"iou": iou} | others
    return {
        "summary": {key: summary(mean) for key, mean in means.items()},
        "groups": {},
        "rows": [{**means, "name": name, "iou": iou + d} for name, d in (("a", 0.1), ("b", -0.1))],
        "images": 2,
        "seconds": 1.25,
        "knobs": flatten(config_of("vaihingen")),
        "training": {
            **{"updates": 120, "batch_size": 4, "seconds": 33.3},
            "parameters": {"all": 1234567, "encoder": 1000},
        },
    }


def curve(values):
    spread = [0.01] * len(values)
    made = {"mean": values, "standard_deviation": spread, "standard_error": spread}
    return {"curves": dict.fromkeys(metrics.KEYS, made), "training": {}}


@pytest.fixture
def grid(tmp_path):
    """A grid on Vaihingen: some cells are done, one failed, others were not run."""
    directory = tmp_path / "grid"
    knobs = flatten(config_of("vaihingen"))
    words = ["--config=configs/vaihingen.py", f"--dir={directory}", "--grid=steps"]
    write_stamped(directory / "grid.json", {"command": words, "config": knobs})

    def cell(grid, name, overrides, result=None):
        kept = {"run": f"runs/{grid}-{name}", "answer": f"answers/{grid}-{name}"}
        made = Cell(grid, name, overrides)
        write_stamped(directory / "cells" / grid / f"{name}.json", made._asdict() | kept)
        if result:
            write_stamped(directory / kept["answer"] / RESULT, result)
        return directory / kept["answer"]

    recorder = SampleRecorder()
    recorder(ScoredPrediction(EXAMPLE, SOFT, average(SOFT, (8, 8)), {}))
    for name, iou in (("full", 0.9012), ("one", 0.8123), ("two", 0.7), ("three", 0.6)):
        recorder.save(cell("conditioning", name, {}, scores(iou, area_ratio=0.9399)))
    cell("conditioning", "four", {"model.conditioning": "inject1"})
    failed = cell("conditioning", "six", {"model.conditioning": "inject5"})
    write_stamped(failed / "failed.json", {"line": "too deep", "code": 64})
    for T, iou in ((25, 0.81), (50, 0.83), (100, 0.87)):
        cell("steps", f"T{T}", {"diffusion.T": T}, scores(iou))
    cell("steps", "T200", {"diffusion.T": 200})
    for name, count, iou in (("images4", 4, 0.3), ("images8", 8, 0.45), ("all", 0, 0.6)):
        cell("images", name, {"data.train_images": count}, scores(iou))
    recorder.save(cell("generations", "up-to-6", {}, curve([0.5, 0.6, 0.62, 0.63, 0.64, 0.64])))
    for name, iou in (("schedule-code", 0.8), ("schedule-paper", 0.75)):
        cell("differences", name, {}, scores(iou))
    return directory


def row_of(table, *start):
    rows = [row for row in table.rows if row[: len(start)] == list(start)]
    assert len(rows) == 1, (start, table.rows)
    return dict(zip(table.header, rows[0], strict=True))


def tables_of(grid):
    found = read_grid(grid)
    return {table.name: table for table in tables.every([found], runs_of([found], []))}


def test_table_4_has_the_papers_numbers_beside_ours(grid):
    table = tables_of(grid)["table4"]
    row = row_of(table, "vaihingen", paper.VARIANTS["one"])
    assert row["IoU, paper"] == "85.45" and row["IoU, ours"] == "81.23 ± 1.00"
    assert row["WCov, paper"] == "88.67" and row["WCov, ours"] == "93.99 ± 1.00"
    assert row["parameters"] == "1,234,567"
    bus = row_of(table, "cityscapes bus", paper.VARIANTS["full"])
    assert bus["FBound, paper"] == "63.87" and bus["FBound, ours"] == tables.NOT_RUN


def test_what_has_not_been_run_is_named_with_the_command_that_runs_it(grid):
    table = tables_of(grid)["table4"]
    assert row_of(table, "vaihingen", paper.VARIANTS["four"])["IoU, ours"] == tables.NOT_RUN
    notes = "\n".join(table.notes)
    command = f"{report_command(grid)} --grid=conditioning"
    assert "conditioning/four: not run" in notes and command in notes
    assert "conditioning/six: failed: too deep" in notes
    assert "Not run: cityscapes bus: " in notes and "configs/cityscapes.py:bus" in notes
    assert "conditioning/one" not in notes


def report_command(grid):
    return f"python -m segdiff_jax.experiments.run --config=configs/vaihingen.py --dir={grid}"


def test_table_2_takes_the_full_method_of_a_grid(grid):
    found = tables_of(grid)
    row = row_of(found["table2"], f"SegDiff, ours: {grid}, 2 images")
    assert row["mIoU"] == "90.12 ± 1.00" and row["WCov"] == "93.99 ± 1.00"
    assert row_of(found["table2"], "SegDiff, paper")["FBound"] == "85.09"
    assert row_of(found["table2"], "DSAC")["F1-Score"] == "-"
    assert row_of(found["table3"], "SegDiff, ours")["Dice"] == tables.NOT_RUN


@pytest.fixture
def cityscapes_runs(tmp_path):
    """A tight run of one class, and one of all classes with expansion."""
    made = []
    for argument, classes in (("bus,tight", ["bus"]), ("all", [*paper.CLASSES])):
        workdir = tmp_path / argument
        (workdir / "report").mkdir(parents=True)
        config = config_of("cityscapes", argument)
        (workdir / "config.json").write_text(json.dumps(config.to_dict()))
        groups = {name: {"images": 3, "iou": 0.5 + i / 100} for i, name in enumerate(classes)}
        content = {
            "summary": {key: summary(0.77) for key in metrics.KEYS},
            "groups": groups if len(classes) > 1 else {},
            "images": [{}, {}],
        }
        (workdir / "report" / "report.json").write_text(json.dumps(content))
        made.append(workdir)
    return made


def test_table_1_gathers_classes_and_protocols_of_ordinary_runs(cityscapes_runs):
    table = tables.table_1(runs_of([], cityscapes_runs))
    tight = row_of(table, "tight", "SegDiff, ours")
    assert tight["Bus"] == "77.00" and tight["Car"] == tables.NOT_RUN
    assert tight["Mean"] == tables.NOT_RUN  # of one class would be no mean of eight
    expansion = row_of(table, "expansion", "SegDiff, ours")
    assert expansion["Bicycle"] == "50.00" and expansion["Rider"] == "57.00"
    assert expansion["Mean"] == "53.50"
    assert any("tight" in note and "bicycle" in note for note in table.notes)


def lines_by_label(axes):
    handles, labels = axes.get_legend_handles_labels()
    return {label: bars[0] for label, bars in zip(labels, handles, strict=True)}


def test_figure_3_by_class_goes_from_few_training_objects_to_many(cityscapes_runs):
    drawn = figures.classes(runs_of([], cityscapes_runs))
    expansion, tight = drawn.figure.axes
    lines, of_tight = map(lines_by_label, (expansion, tight))
    assert lines.keys() == {*paper.TABLE_1["expansion"].rows, "SegDiff, ours"}
    order = ["train", "bus", "truck", "motorcycle", "rider", "bicycle", "person", "car"]
    ours = lines["SegDiff, ours"]
    np.testing.assert_allclose(ours.get_ydata(), [50 + paper.CLASSES.index(name) for name in order])
    assert ours.get_xdata().tolist() == [paper.TRAINING_OBJECTS[name] for name in order]
    assert lines["PSP-DeepLab"].get_ydata()[0] == 68.76  # train, of the paper's Table 1
    bus = of_tight["SegDiff, ours"]
    assert (bus.get_xdata().tolist(), bus.get_ydata().tolist()) == ([400], [77])
    assert figures.classes([]).figure is None and len(figures.classes([]).missing) == 2


def test_the_papers_means_are_those_of_its_classes():
    """A slip in typing a number would show here; the paper's own slip is Segformer's, by 0.01."""
    for numbers in paper.TABLE_1.values():
        for name, row in numbers.rows.items():
            assert abs(sum(row[:-1]) / 8 - row[-1]) < 0.035, name


def test_differences_are_paired_by_image(grid):
    table = tables_of(grid)["differences"]
    row = row_of(table, "vaihingen", "schedule: beta x 1000/T (code), unscaled (paper)")
    assert row["IoU, second - first"] == "-5.00 ± 0.00"  # each image lost five percent
    assert row_of(table, "vaihingen", tables.PAIRS["loss"])["Dice, first"] == tables.NOT_RUN


def test_lines_go_through_the_results(grid):
    drawn = {one.name: one for one in figures.every([read_grid(grid)])}
    line = drawn["figure9"].figure.axes[0].lines[0]
    assert line.get_xdata().tolist() == [25, 50, 100]
    np.testing.assert_allclose(line.get_ydata(), [0.81, 0.83, 0.87])
    assert any("steps/T200: not run" in text for text in drawn["figure9"].missing)
    relative = drawn["figure3"].figure.axes[0].lines[0]
    np.testing.assert_allclose(relative.get_ydata(), [50, 75])
    assert relative.get_xdata().tolist() == [4, 8]
    five = drawn["figure5"].figure.axes[0].lines[0]
    assert five.get_xdata().tolist() == [1, 2, 3, 4, 5, 6]
    np.testing.assert_allclose(five.get_ydata(), [0.5, 0.6, 0.62, 0.63, 0.64, 0.64])


def test_no_share_of_a_score_of_zero_is_drawn(grid):
    path = grid / "answers" / "images-all" / RESULT
    result = json.loads(path.read_text())
    result["summary"]["iou"]["mean"] = 0.0
    write_stamped(path, result)
    assert figures.training_images([read_grid(grid)]).figure is None


def test_nothing_is_drawn_of_what_has_not_been_run(grid):
    drawn = {one.name: one for one in figures.every([read_grid(grid)])}
    names = {name for name, one in drawn.items() if one.figure is None}
    assert names == {"figure3_classes", "figure4", "figure7", "figure8"}  # 7 lacks variant four
    assert "--grid=reverse" in drawn["figure4"].missing[0]


def test_masks_are_shown_in_jet_between_0_and_1(grid):
    drawn = {one.name: one for one in figures.every([read_grid(grid)])}["figure2"]
    image, first, *_, mean, truth = (axes.images[0] for axes in drawn.figure.axes)
    for map_, value in ((first, SOFT[0]), (mean, SOFT.mean(axis=0))):
        assert map_.get_cmap().name == "jet" and map_.get_clim() == (0, 1)
        assert_within(map_.get_array(), value, 0.5 / 255, 1e-6)  # kept as bytes
    np.testing.assert_array_equal(truth.get_array(), EXAMPLE.mask)
    np.testing.assert_array_equal(image.get_array(), EXAMPLE.image)


def test_fewer_generations_than_are_usually_shown_are_shown(grid):
    recorder = SampleRecorder()
    recorder(ScoredPrediction(EXAMPLE, SOFT[:2], average(SOFT[:2], (8, 8)), {}))
    recorder.save(grid / "answers" / "generations-up-to-6")
    drawn = figures.masks([read_grid(grid)])
    titles = [axes.get_title() for axes in drawn.figure.axes]
    assert titles == ["image", "generation 1", "generation 2", "mean", "truth"]


def test_the_report_writes_tables_figures_and_one_page(grid, capsys):
    stale = grid / "report" / "figures" / "figure4.png"
    stale.parent.mkdir(parents=True)
    stale.touch()
    assert report.main([f"--dir={grid}"]) == errors.DONE
    folder = grid / "report"
    assert capsys.readouterr().out.strip() == str(folder / "report.html")
    names = {file.stem for file in (folder / "figures").glob("*.png")}
    assert names == {"figure2", "figure3", "figure5", "figure6", "figure9"}
    for name in names:
        with Image.open(folder / "figures" / f"{name}.png") as picture:
            assert min(picture.size) > 200
        assert (folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    rows = list(csv.reader((folder / "tables" / "table4.csv").read_text().splitlines()))
    assert rows[0][:2] == ["data", "method"] and len(rows) == 1 + 14
    assert "| 85.45 | 81.23 ± 1.00 |" in (folder / "tables" / "table4.md").read_text()
    html = (folder / "report.html").read_text()
    assert html.count("data:image/png;base64,") == 5
    assert html.count("Not drawn: nothing of it has been run.") == 4


def test_a_report_needs_no_jax(grid):
    code = (
        "import sys\nfrom segdiff_jax.experiments import report\n"
        "assert report.main(sys.argv[1:]) == 0\nassert 'jax' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, f"--dir={grid}"], cwd=ROOT, check=True)


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], errors.USAGE, "--dir is missing"),
        (["--dirs=x"], errors.USAGE, "did you mean dir?"),
        (["--dir=/not/there"], errors.USAGE, "--dir=/not/there: must be a directory"),
        (["--dir=tests"], errors.BAD_DATA, "tests: holds no grid"),
    ],
)
def test_a_mistake_takes_one_line(arguments, code, message, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert report.main(arguments) == code
    err = capsys.readouterr().err
    assert message in err and err.count("\n") == 1
