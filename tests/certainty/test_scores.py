"""The scores of certainty of a split, as the report has them, and their charts."""

import numpy as np
import pytest
from doubtful_pictures import picture

from segdiff_jax.certainty import calibration, scores
from segdiff_jax.evaluation import certainty_charts
from segdiff_jax.runtime import files


@pytest.fixture(scope="module")
def observed():
    return [calibration.observe(str(i), *picture(i, samples=6)) for i in range(24)]


@pytest.fixture(scope="module")
def content(observed):
    return scores.scores(observed, calibration.fit(observed))


def test_scores_are_those_of_the_pictures(observed, content):
    true = [one.dice for one in observed]
    assert content["quality"]["true"] == true
    assert content["quality"]["curve"][-1] == pytest.approx(1 - np.mean(true))
    assert content["pixels"]["image"]["pixels"] == sum(one.counts.sum() for one in observed)
    assert content["objects"]["objects"] == sum(len(one.right) for one in observed)
    area = content["intervals"]["area"]
    held = [
        low <= y <= high
        for low, high, y in zip(area["low"], area["high"], area["true"], strict=True)
    ]
    assert area["0.8"]["coverage"] == np.mean(held)
    assert content["risk"]["0.1"]["missed"] <= 0.1  # on the pictures of the fit itself


def test_without_a_calibration_pictures_and_pixels_are_scored_all_the_same(observed):
    plain = scores.scores(observed, None)
    assert plain["intervals"] == plain["risk"] == {} and plain["calibration"] is None
    assert "coverage" not in plain["quality"] and -1 <= plain["quality"]["spearman"] <= 1
    assert set(plain["pixels"]) == {"image", "band"}
    assert set(certainty_charts.charts(plain)) == {
        "Reliability in the band at contours",
        "Errors removed by deferral",
        "Risk and coverage of pictures",
    }


def test_every_score_has_a_chart_and_json_keeps_all(content):
    kept = files.to_json_types(content)
    drawn = certainty_charts.charts(kept)
    assert len(drawn) == 6 and all(png.startswith(b"\x89PNG") for png in drawn.values())
