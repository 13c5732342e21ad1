"""The fit of certainty on pictures whose law is known, and the file it is kept in."""

import json

import numpy as np
import pytest
from doubtful_pictures import picture

from segdiff_jax.certainty import answers, calibration, conformal, objects, quantities, store
from segdiff_jax.errors import BAD_CHECKPOINT, UserError
from segdiff_jax.evaluation import ranking_scores
from segdiff_jax.evaluation.labelling import label
from segdiff_jax.metrics import regions
from segdiff_jax.runtime import files

FITTED, NEW = 50, 50
SETTINGS = {"updates": [7], "runs": [{"budget": "balanced", "samples": 12}]}


@pytest.fixture(scope="module")
def pictures():
    return [picture(seed) for seed in range(FITTED + NEW)]


@pytest.fixture(scope="module")
def observed(pictures):
    others = [truth for _, truth in pictures[1:]] + [pictures[0][1]]
    return [
        calibration.learn(f"{i}", found, truth, other)
        for i, ((found, truth), other) in enumerate(zip(pictures, others, strict=True))
    ]


@pytest.fixture(scope="module")
def fitted(observed):
    return calibration.fit(observed[:FITTED], "0123", "made up")


def test_the_predicted_dice_ranks_new_pictures_and_its_interval_holds(observed, fitted):
    new = observed[FITTED:]
    predicted, true = [fitted.quality(one.agreement) for one in new], [one.dice for one in new]
    assert ranking_scores.spearman(np.array([q.dice for q in predicted]), np.array(true)) > 0.5
    held = np.mean([q.low <= y <= q.high for q, y in zip(predicted, true, strict=True)])
    # 80 % of 60 pictures, by a quantile of 60: four standard errors of each
    assert abs(held - 0.8) < 4 * np.sqrt(0.16 * (1 / FITTED + 1 / NEW))


@pytest.mark.parametrize("name", ["area", "count"])
def test_intervals_hold_for_new_pictures_and_widen_with_the_level(observed, fitted, name):
    found = [getattr(fitted, name)(one.measured[name]) for one in observed[FITTED:]]
    for level in conformal.LEVELS:
        held = np.mean(
            [
                of[level].low <= one.truth[name] <= of[level].high
                for of, one in zip(found, observed[FITTED:], strict=True)
            ]
        )
        # whole numbers tie, and an interval of them may hold more often
        assert held > level - 4 * np.sqrt(level * (1 - level) * (1 / FITTED + 1 / NEW))
    assert all(of[0.5].low >= of[0.8].low and of[0.8].high <= of[0.95].high for of in found)
    if name == "count":
        assert all(of[0.8].low == int(of[0.8].low) for of in found)


def test_too_few_pictures_are_not_calibrated(observed):
    few = calibration.fit(observed[:6])
    assert few.quality is None and few.suspicion is None
    assert few.area.width[0.95] is None and few.area.width[0.8] is not None
    assert np.isnan(few.area(observed[9].measured["area"])[0.95].low)
    assert few.risk.outer(0.1) is None and few.risk.inner(0.1) is None
    nothing = calibration.fit([])
    assert (nothing.area, nothing.risk, nothing.ranges, nothing.pixels) == (None,) * 4


def test_the_masks_of_a_risk_keep_it(observed, fitted):
    from segdiff_jax.certainty import risk

    inner, outer = fitted.risk.inner(0.1), fitted.risk.outer(0.1)
    assert outer < 0.5 < inner
    losses = [risk.losses(one.counts.sum(axis=0), outer, inner) for one in observed[FITTED:]]
    errors = 4 * np.std(losses, axis=0) * np.sqrt(1 / FITTED + 1 / NEW)
    assert (np.mean(losses, axis=0) <= 0.1 + errors).all()
    stricter = fitted.risk.outer(0.05)
    assert stricter is None or stricter <= outer


def test_spoilt_annotations_are_found(observed, fitted):
    kinds = {kind for one in observed for kind in one.spoilt} - {"right"}
    assert len(kinds) == 4
    for kind in ("object added", "shifted"):  # the law itself leaves objects out
        rows = [
            (k, one.spoilt[k])
            for one in observed[FITTED:]
            for k in ("right", kind)
            if k in one.spoilt
        ]
        suspicion = np.array([float(fitted.suspicion(of)) for _, of in rows])
        assert ranking_scores.auroc(suspicion, np.array([k == kind for k, _ in rows])) > 0.65


def test_the_answer_joins_all_parts(pictures, fitted):
    found, _ = pictures[-1]
    mask = found.probability > 0.5
    known, unknown = answers.answer(found, mask, fitted), answers.answer(found, mask, None)
    assert 0 <= known.quality.low <= known.quality.dice <= known.quality.high <= 1
    assert np.isnan(unknown.quality.dice) and np.isnan(unknown.area[0.8].low)
    assert unknown.count[0.8].value == len(answers.objects(found, mask, fitted).area)
    assert known.unlike == () and unknown.unlike == ()
    strange = found._replace(image=255 - found.image // 4)
    assert "brightness" in answers.answer(strange, mask, fitted).unlike


def test_a_rating_knows_a_wrong_mask(pictures, fitted):
    found, truth = pictures[-1]
    right, wrong = (answers.rated(found, mask, fitted) for mask in (truth, ~truth))
    assert right.dice.dice > wrong.dice.dice and right.surprise < wrong.surprise
    assert right.suspicion < 0.5 < wrong.suspicion


def test_the_masks_of_a_risk_need_a_calibration(pictures):
    with pytest.raises(UserError, match="risk=0.1: the run is not calibrated"):
        answers.bounds(pictures[0][0].probability, 0.1, None)


def test_a_calibration_comes_back_from_its_file(observed, fitted, tmp_path):
    store.write(tmp_path, SETTINGS, fitted)
    found, reason = store.read(tmp_path, SETTINGS)
    assert reason == "" and found.n == FITTED and found.fingerprint == "0123"
    for one in observed[FITTED : FITTED + 3]:
        assert found.quality(one.agreement) == fitted.quality(one.agreement)
        assert found.area(one.measured["area"]) == fitted.area(one.measured["area"])
        assert found.ranges.unlike(one.statistics) == fitted.ranges.unlike(one.statistics)
        assert found.suspicion(one.spoilt["right"]) == fitted.suspicion(one.spoilt["right"])
    assert found.risk.outer(0.2) == fitted.risk.outer(0.2)


def test_each_way_of_predicting_has_its_own(fitted, tmp_path):
    assert "segdiff calibrate" in store.read(tmp_path, SETTINGS)[1]
    store.write(tmp_path, SETTINGS, fitted)
    other = {**SETTINGS, "updates": [8]}
    found, reason = store.read(tmp_path, other)
    assert found is None and "updates [7], now [8]" in reason
    store.write(tmp_path, other, fitted._replace(n=5))
    assert (store.read(tmp_path, SETTINGS)[0].n, store.read(tmp_path, other)[0].n) == (FITTED, 5)
    store.write(tmp_path, other, fitted._replace(n=6))
    assert len(json.loads((tmp_path / store.FILE).read_text())["entries"]) == 2


def test_the_least_confidence_is_kept_and_a_file_without_one_has_none(fitted, tmp_path):
    path = store.write(tmp_path, SETTINGS, fitted._replace(least=0.35))
    assert store.read(tmp_path, SETTINGS)[0].least == 0.35
    store.write(tmp_path, SETTINGS, fitted._replace(least=0.0))
    assert "least" not in json.loads(path.read_text())["entries"][0]["calibration"]
    assert store.read(tmp_path, SETTINGS)[0].least == 0.0


@pytest.mark.parametrize("specks", [0, 3, 40])
def test_objects_are_left_out_where_that_raises_the_precision_of_new_ones(specks):
    rng = np.random.default_rng(specks)
    listed, right, counts = [], [], []
    for _ in range(30):
        sure = rng.random(12 + specks) * np.repeat([1.0, 0.3], [12, specks])
        p = np.clip(sure, 0.01, 0.99)
        ones = np.ones(len(p))
        listed.append(objects.Objects(ones[None], 30 * ones, p, *(np.nan * ones,) * 4, ones[:0]))
        right.append(rng.random(len(p)) < sure)
        counts.append(float(right[-1].sum() + 1))
    line = objects.fit(listed, right)
    found = objects.least(listed, right, counts, line)
    precision = {}
    for cut in objects.CUTS:
        of = []
        for one, t, n in zip(listed, right, counts, strict=True):
            kept = objects.confidence(one, line) >= cut
            hit = int((t & kept).sum())
            of.append(hit / (hit + (int(kept.sum()) - hit) + (n - hit)))
        precision[cut] = np.mean(of)
    assert precision[found] == max(precision.values()) and found > 0
    assert objects.least(listed, right, counts, None) == 0.0
    perfect = [np.ones(len(t), bool) for t in right]
    assert objects.least(listed, perfect, [len(t) for t in right], line) == 0.0


@pytest.mark.parametrize("text", ["", "[]", '{"format": 2, "entries": []}', '{"format": 1}'])
def test_a_file_that_is_no_calibration_is_named(text, tmp_path):
    (tmp_path / store.FILE).write_text(text)
    with pytest.raises(UserError, match="is no calibration") as refusal:
        store.read(tmp_path, SETTINGS)
    assert refusal.value.code == BAD_CHECKPOINT


@pytest.mark.parametrize("key", ["quality", "area", "ranges", "n"])
def test_a_damaged_calibration_is_named(key, fitted, tmp_path):
    path = store.write(tmp_path, SETTINGS, fitted)
    content = json.loads(path.read_text())
    damaged = content["entries"][0]["calibration"]
    if key == "n":
        del damaged["n"]
    else:
        damaged[key] = {"line": 3}
    files.write_json(path, content)
    with pytest.raises(UserError, match="is no calibration"):
        store.read(tmp_path, SETTINGS)


def test_objects_say_how_sure_each_is(pictures):
    found, _ = pictures[0]
    mask = found.probability > 0.5
    listed = objects.find(found, mask)
    first = listed.labels == 1
    assert listed.area[0] == first.sum()
    assert listed.probability[0] == pytest.approx(found.probability[first].mean(), rel=1e-5)
    brute = []
    for sample in found.decisions:
        parts = regions(sample)
        brute.append(
            max(
                (
                    np.sum(first & (parts == k)) / np.sum(first | (parts == k))
                    for k in range(1, parts.max() + 1)
                ),
                default=0.0,
            )
        )
    assert listed.overlap[0] == pytest.approx(np.mean(brute))
    assert listed.held[0] == np.mean(np.array(brute) >= 0.5)
    nothing = objects.find(found, np.zeros_like(mask))
    assert len(nothing.area) == 0 and len(objects.confidence(nothing, None)) == 0


def test_objects_divided_by_distance_are_so_in_masks_passes_and_samples_alike(pictures):
    y, x = np.mgrid[:40, :40]
    discs = ((y - 20) ** 2 + (x - 11) ** 2 <= 49) | ((y - 20) ** 2 + (x - 25) ** 2 <= 49)
    maps = {name: getattr(pictures[0][0], name) for name in ("passes", "samples", "decisions")}
    maps = {name: discs * of for name, of in maps.items()} | {"probability": 0.9 * discs}
    found, mask = pictures[0][0]._replace(**maps, by_distance=True), discs
    assert found.labelled(mask).max() == 2
    np.testing.assert_array_equal(found.labelled(mask), label(mask, by_distance=True))
    counts = quantities.measure(found)["count"].centres
    divided = {"mask": [mask], "passes": found.passes > 0.5}
    divided |= {"samples": found.samples, "decisions": found.decisions}
    for name in counts:
        expected = [label(one, by_distance=True).max() for one in divided[name]]
        assert counts[name] == np.mean(expected), name
    for one, labels in zip(found.decisions, found.of_decisions(), strict=True):
        np.testing.assert_array_equal(labels, label(one, by_distance=True))
    np.testing.assert_array_equal(
        [labels.max() for labels in found.of_passes()],
        [label(one, by_distance=True).max() for one in found.passes > 0.5],
    )


def test_right_objects_and_their_number_are_those_of_the_labels_of_the_truth(pictures):
    found, truth = pictures[0]
    plain = calibration.observe("a", found, truth)
    assert plain.truth["count"] == label(truth).max()
    own = label(found.probability > 0.5)
    exact = calibration.observe("a", found, truth, np.where(own > 0, 2**31 - own, 0))
    assert exact.right.all() and exact.truth["count"] == own.max()
    third = np.where(own > 0, 1 + np.arange(own.shape[1]) % 3, 0)  # of each object a third
    assert not calibration.observe("a", found, truth, third).right.any()
