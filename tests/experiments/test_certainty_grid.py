"""The grid "certainty": scores over halves, saved evidence, and runs that rate one another."""

import numpy as np
import pytest
from doubtful_pictures import picture

from segdiff_jax.certainty import calibration, evidence
from segdiff_jax.data.example import Example
from segdiff_jax.experiments import certainty_measurement, certainty_rivals, certainty_tables
from segdiff_jax.experiments.collect import CellResult, Grid
from segdiff_jax.experiments.grids import Values, plan

COUNT = 32


@pytest.fixture(scope="module")
def pictures():
    return [picture(seed, samples=6) for seed in range(COUNT)]


@pytest.fixture(scope="module")
def saved(pictures, tmp_path_factory):
    path = tmp_path_factory.mktemp("cell") / certainty_tables.EVIDENCE
    examples = [Example(found.image, truth.astype(np.uint8), "x") for found, truth in pictures]
    certainty_measurement.save(path, [found for found, _ in pictures], examples)
    return path


@pytest.fixture(scope="module")
def halves(pictures):
    learnt = [
        calibration.learn(str(i), found, truth, pictures[i - 1][1])
        for i, (found, truth) in enumerate(pictures)
    ]
    return certainty_measurement.halves(learnt)


def test_a_fit_on_one_half_is_scored_on_the_other(halves):
    # half of the pictures may hold too few wrong objects
    assert all(len(v) == certainty_measurement.HALVES for k, v in halves.items() if k != "objects")
    assert np.mean(halves["spearman"]) > 0.1
    # 80 % of 16 pictures by a fit on 16, whose quantile is the 14th of 17
    assert 0.6 < np.mean(halves["dice interval holds"]) <= 1
    assert 0.6 < np.mean(halves["area holds"]) <= 1
    assert np.mean(halves["spoilt"]) > 0.5


def test_saved_evidence_agrees_with_masks_as_before(pictures, saved):
    for (found, truth), (again, true) in zip(
        pictures, certainty_measurement.read(saved), strict=True
    ):
        np.testing.assert_array_equal(true, truth)
        np.testing.assert_array_equal(again.samples, found.samples)
        assert evidence.agreement(again, truth) == pytest.approx(evidence.agreement(found, truth))


def test_a_run_rates_the_masks_of_another_and_seeds_are_an_ensemble(pictures):
    rated = certainty_rivals.rate(pictures, pictures)
    assert rated["spearman"] > 0.3 and 0.6 < rated["interval holds"] <= 1
    same = certainty_rivals.ensemble([pictures, pictures])
    assert np.isnan(same["spearman"])  # two equal runs agree everywhere
    assert certainty_rivals.spoilt_by_mask(pictures)["mean"] > 0.5


def test_the_tables_have_a_column_for_each_variant_and_a_line_for_each_rival(halves, saved):
    result = {"halves": halves, "seconds": {"predicted": 1.0, "answered": 1.1}}
    cells = {
        name: CellResult(name, {}, "done", result, saved.parent)
        for name in ("twin-s0", "logit-T-s0")
    }
    grid = Grid(saved.parent, [], {"data.name": "synthetic"}, {"certainty": cells})
    scores, rivals = certainty_tables.tables([grid])
    assert len(scores.header) == 3 and scores.rows[-1][1:] == ["1.100", "1.100"]
    assert {row[2] for row in rivals.rows} >= {"rates the masks of twin"}


def test_its_trainings_are_those_of_the_recipe():
    values = Values(variants=("twin",), seeds=(0, 3))
    recipe, certainty = (plan(values, (grid,)) for grid in ("recipe", "certainty"))
    assert [cell.overrides for cell in recipe] == [cell.overrides for cell in certainty]
    assert {cell.measure for cell in certainty} == {"certainty"}
