"""The grid "recipe": its cells, its scores of an image, and its tables."""

import json

import numpy as np
import pytest
from tiny_config import config_of

from segdiff_jax.config import flatten
from segdiff_jax.data.example import Example
from segdiff_jax.errors import UserError
from segdiff_jax.experiments import args, grids, joint_measurement, recipe, recipe_tables
from segdiff_jax.experiments.collect import read_grid
from segdiff_jax.experiments.results import RESULT, write_stamped

RANDOM = np.random.default_rng(0)


def test_a_variant_has_a_cell_for_each_seed_and_the_twin_its_own_number_of_updates():
    values = grids.Values(seeds=(3, 5), variants=("twin", "logit-T"), twin_steps=900)
    cells = {cell.name: cell for cell in grids.plan(values, (recipe.GRID,))}
    assert list(cells) == ["twin-s3", "twin-s5", "logit-T-s3", "logit-T-s5"]
    assert all(cell.measure == "joint" for cell in cells.values())
    assert cells["twin-s5"].overrides["train.steps"] == 900
    assert "train.steps" not in cells["logit-T-s3"].overrides
    assert cells["logit-T-s5"].overrides["seed"] == 5


def test_variants_of_other_costs_make_as_many_passes_as_the_twin():
    """An update has one pass of G, and one of the U-Net for each draw."""
    values = grids.Values(seeds=(0,), variants=(*recipe.OF_TWIN,), twin_steps=900)
    for cell in grids.plan(values, (recipe.GRID,)):
        given = cell.overrides
        draws, first = given["train.noise_draws_per_image"], given["train.share_at_T"]
        passes = 1 + first * 1 + (1 - first) * draws
        assert given["train.steps"] * passes == pytest.approx(900 * 2, rel=1e-3)


def test_the_recipe_runs_only_if_it_is_named():
    command = ["--config=configs/monuseg.py", "--dir=/nowhere/a"]
    assert {cell.grid for cell in args.parse(command).cells} == set(grids.PAPER_GRIDS)
    named = args.parse([*command, "--grid=recipe", "--seeds=0", "--variants=twin,logit-T-skip"])
    assert [cell.title for cell in named.cells] == ["recipe/twin-s0", "recipe/logit-T-skip-s0"]


def test_an_unknown_variant_is_refused_with_the_nearest_one():
    with pytest.raises(UserError, match=r"--variants=logit-skip: .*did you mean logit-T-skip"):
        args.parse(
            ["--config=configs/monuseg.py", "--dir=/nowhere/a", "--variants=twin,logit-skip"]
        )


@pytest.fixture(scope="module")
def row():
    truth = np.zeros((16, 16), np.uint8)
    truth[2:8, 2:8] = truth[10:14, 9:15] = 1
    p = np.clip(0.8 * truth + 0.1 + 0.05 * RANDOM.normal(size=truth.shape), 0.01, 0.99)
    soft = np.clip(p + 0.1 * RANDOM.normal(size=(64, 1, 1)), 0.001, 0.999)
    example = Example(np.zeros((16, 16, 3), np.uint8), truth, "a")
    found = joint_measurement.Predicted(example, {"fast": p, "balanced": p}, soft)
    return joint_measurement.scores(found, 0, "folder"), p, truth


def test_the_scores_of_the_map_are_those_by_hand(row):
    found, p, truth = row
    nll = -np.mean(truth * np.log(p) + (1 - truth) * np.log(1 - p))
    np.testing.assert_allclose(found["fast_nll"], nll, rtol=1e-9)
    np.testing.assert_allclose(found["balanced_brier"], np.mean((p - truth) ** 2), rtol=1e-12)
    np.testing.assert_allclose(found["map_area"], abs(p.sum() - truth.sum()), rtol=1e-9)
    assert found["fast_dice"] == 1 and found["map_count"] == 0


def test_coupled_samples_are_sharp_and_hold_the_doubt_of_the_map_between_them(row):
    found = row[0]
    assert found["coupled_within"] == 0 and found["pixels_within"] == 0
    assert found["soft_within"] > 0.7
    # 64 draws of each pixel, one object: a variance known to a quarter
    assert 0.6 < found["coupled_between"] < 1.4
    assert 0.8 < found["pixels_between"] < 1.2 and found["soft_between"] < 0.5


def test_the_tables_pair_a_variant_with_the_twin_image_by_image(tmp_path):
    config = config_of("synthetic")
    dice = {"twin-s0": (0.8, 0.6), "twin-s1": (0.8, 0.6), "logit-T-s0": (0.84, 0.62)}
    dice["logit-T-s1"] = (0.86, 0.64)
    for name, (a, b) in dice.items():
        rows = [
            {"name": image, "fast_dice": x, "balanced_dice": x, "map_area": 4.0, "map_count": 1}
            for image, x in (("a", a), ("b", b))
        ]
        if not name.startswith("twin"):
            for one in rows:
                one |= {"coupled_ged": 0.25, "coupled_crps_area": 3.0}
        write_stamped(tmp_path / "answers" / name / RESULT, {"rows": rows})
        cell = {"grid": "recipe", "name": name, "overrides": {}, "measure": "joint"}
        cell |= {"run": f"runs/{name}", "answer": f"answers/{name}"}
        write_stamped(tmp_path / "cells" / "recipe" / f"{name}.json", cell)
    description = {"command": [], "config": flatten(config)}
    (tmp_path / "grid.json").write_text(json.dumps(description))
    maps, samples = recipe_tables.tables([read_grid(tmp_path)])
    by_name = {row[1]: dict(zip(maps.header, row, strict=True)) for row in maps.rows}
    # gains 0.05 and 0.03 of Dice: mean 4, standard error 1
    assert by_name["logit-T"]["Dice, fast - twin"] == "+4.00 ± 1.00"
    assert by_name["twin"]["Dice, fast"] == "70.00 ± 0.00" and by_name["logit-T"]["seeds"] == "2"
    titles = [row[2] for row in samples.rows]
    assert titles.count("the map itself") == 2 and titles.count("coupled") == 1
    coupled = dict(zip(samples.header, samples.rows[titles.index("coupled")], strict=True))
    assert coupled["GED^2"].startswith("0.250") and coupled["CRPS of area"].startswith("3.0")
