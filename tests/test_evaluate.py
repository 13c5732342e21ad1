"""An evaluation: rows, further scores and panels, with a segmenter that knows its samples."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from segdiff_jax import evaluate, metrics
from segdiff_jax.certainty.evidence import Evidence
from segdiff_jax.data.channels import Channels
from segdiff_jax.data.classes import member, pack
from segdiff_jax.data.datasets import ambiguous
from segdiff_jax.data.example import Example, majority
from segdiff_jax.evaluation import annotator_scores, joint_scores, object_scores, report
from segdiff_jax.evaluation.labelling import label
from segdiff_jax.inference.predicted_rows import Further
from segdiff_jax.inference.predictor import PredictedRows, Predictor, Run

PLACES = [("test", 3), ("test", 7)]
COUNT = 6  # samples
OBJECTS = object_scores.LABELS


class Exact(Predictor):
    """Returns exact samples of the law as generations; `random` as a sampler declares it."""

    fusion = "mean"

    def __init__(self, random):
        sampler = SimpleNamespace(random=random)
        super().__init__((Run(SimpleNamespace(sampler=sampler, generations=COUNT)),))

    def __call__(self, images, key):
        del key
        for i, (_, place) in enumerate(zip(images, PLACES, strict=True)):
            soft = ambiguous.annotations(*place, COUNT, first=1000).astype(np.float32)
            yield PredictedRows(i, 0, soft, soft.mean(axis=0), None, True)


def examples(annotators=8):
    found = []
    for place in PLACES:
        masks, image = ambiguous.annotations(*place, 8), ambiguous.scene(*place).image
        name = "{}-{:04d}".format(*place)
        several = masks[:annotators] if annotators > 1 else None
        mask = majority(masks) if annotators > 1 else masks[0]
        found.append(Example(image, mask, name, annotations=several))
    return found


def rows(tmp_path, data, chosen, random=True):
    further = evaluate.further_scores(data, chosen, random)
    return evaluate.evaluate_split(Exact(random), chosen, 0, tmp_path, further)


def test_a_row_of_several_annotators_has_the_scores_of_samples_against_all(tmp_path):
    chosen = examples()
    found = rows(tmp_path, "folder", chosen)
    for row, example, place in zip(found.rows, chosen, PLACES, strict=True):
        samples = ambiguous.annotations(*place, COUNT, first=1000) > 0
        p = samples.mean(0)
        assert set(row) == {"name", *metrics.KEYS, *annotator_scores.LABELS, *OBJECTS}
        truth = metrics.scores(p.astype(np.float32), example.mask)  # the majority
        assert {key: row[key] for key in metrics.KEYS} == pytest.approx(truth, abs=1e-6)
        wanted = annotator_scores.scores(p, example.annotations, samples)
        assert {k: row[k] for k in wanted} == pytest.approx(wanted, abs=1e-6)  # p is float32


def test_the_set_of_known_law_is_scored_against_it(tmp_path):
    for row in rows(tmp_path, "ambiguous", examples()).rows:
        assert {*annotator_scores.LABELS, *joint_scores.LABELS} < set(row)
        assert row["whole"] == 1 and row["area_std_exact"] > 100


def test_one_annotator_and_generations_that_are_no_samples_have_no_further_scores(tmp_path):
    for row in rows(tmp_path, "folder", examples(1)).rows:
        assert set(row) == {"name", *metrics.KEYS, *OBJECTS}
    plain = {"annotator_dice", "mutual_dice", "ncc"}
    for row in rows(tmp_path, "ambiguous", examples(), random=False).rows:
        assert set(row) == {"name", *metrics.KEYS, *plain, *OBJECTS}


def test_an_example_of_one_annotator_among_others_of_several_is_scored(tmp_path):
    chosen = examples()
    chosen[0] = chosen[0]._replace(annotations=None)
    alone, other = rows(tmp_path, "folder", chosen).rows
    assert set(alone) == set(other) and np.isnan(alone["mutual_dice"])


def test_the_report_holds_the_further_scores_and_their_meanings(tmp_path):
    found = rows(tmp_path, "ambiguous", examples())
    page = report.write_report(
        tmp_path,
        title="t",
        settings={},
        rows=found.rows,
        baselines={"all foreground": {"iou": 0.1, "dice": 0.2}},
        calibration_sums=found.calibration,
        panels=found.panels,
        objects=found.objects,
    )
    content = json.loads((tmp_path / "report.json").read_text())
    assert set(content["further"]) == set(report.FURTHER)
    assert set(content["summary"]) == set(metrics.KEYS)
    mean = np.mean([row["ged_squared"] for row in found.rows])
    assert content["further"]["ged_squared"]["mean"] == pytest.approx(mean)
    html = page.read_text()
    assert all(label in html for label in report.FURTHER.values())
    assert "Annotators and samples" in html
    of = content["objects"]
    assert of["together"] == pytest.approx(object_scores.scores(found.objects))
    assert of["images"]["pq"]["mean"] == pytest.approx(np.mean([row["pq"] for row in found.rows]))
    assert of["hits"]["0.5"] == found.objects.hits[0] and len(of["hits"]) == 10
    assert "<h2>Objects</h2>" in html
    assert all(f"<td>{label}</td>" in html for label in object_scores.LABELS.values())


def test_objects_are_scored_against_their_labels_where_the_truth_has_them(tmp_path):
    plain = examples(1)
    halves = []
    for example in plain:
        objects = np.where(example.mask > 0, 1 + np.arange(example.mask.shape[1]) % 2, 0)
        halves.append(example._replace(objects=objects))
    for chosen in (plain, halves):
        found = rows(tmp_path, "folder", chosen)
        for row, example, place in zip(found.rows, chosen, PLACES, strict=True):
            mask = (ambiguous.annotations(*place, COUNT, first=1000) > 0).mean(0) > 0.5
            true = label(example.mask) if example.objects is None else example.objects
            of = object_scores.count(label(mask), true)
            assert {k: row[k] for k in OBJECTS} == pytest.approx(
                object_scores.scores(of), nan_ok=True
            )
        true = sum(row["true_objects"] for row in found.rows)
        assert found.objects.true == true
    assert true == 4  # two stripes in each


class ExactClasses(Exact):
    """Returns the true classes of a picture."""

    def __init__(self, classes, overlap=False):
        super().__init__(random=False)
        object.__setattr__(self, "classes", classes)
        object.__setattr__(self, "overlap", overlap)

    def __call__(self, images, key):
        del key
        for i, _ in enumerate(images):
            soft = np.stack([member(self.classes, k, self.overlap) for k in (1, 2)])
            soft, channels = soft.astype(np.float32), Channels(("a", "b"), overlap=self.overlap)
            further, mask = Further(channels, soft, soft[None], None), soft.max(axis=0)
            yield PredictedRows(i, 0, mask[None], mask, None, False, None, further)


def test_objects_of_two_classes_that_touch_are_two_and_are_labelled_once(tmp_path, monkeypatch):
    classes = np.zeros((20, 30), np.uint8)
    classes[4:15, 3:14], classes[4:15, 14:26] = 1, 2
    mask, image = (classes > 0).astype(np.uint8), np.zeros((20, 30, 3), np.uint8)
    chosen = [Example(image, mask, "x", classes=classes)]  # no file tells its objects
    calls, labelled = [], Evidence.labelled
    monkeypatch.setattr(Evidence, "labelled", lambda *of: calls.append(1) or labelled(*of))
    found = evaluate.evaluate_split(ExactClasses(classes), chosen, 0, tmp_path, lambda _: {})
    assert found.objects.true == 2 and found.objects.hits[0] == 2 and len(calls) == 1
    assert found.rows[0]["ap50"] == found.rows[0]["pq"] == 1
    rows = found.classes["classes"]
    assert [*rows] == ["a", "b"]
    assert all(
        rows[name]["together"]["dice"] == rows[name]["together"]["ap50"] == 1 for name in rows
    )


def test_objects_of_classes_that_overlap_are_scored_by_class(tmp_path):
    masks = np.zeros((2, 20, 30), bool)
    masks[0, 3:17, 3:20], masks[1, 5:10, 5:10], masks[1, 12:16, 18:25] = True, True, True
    image, bits = np.zeros((20, 30, 3), np.uint8), pack([*masks])
    mask = masks.any(axis=0).astype(np.uint8)
    found = masks.copy()
    found[1, 5:10, 5:10] = False  # a lesion within an organ is missed
    chosen = [Example(image, mask, "x", classes=bits)]
    predictor = ExactClasses(pack([*found]), overlap=True)
    scored = evaluate.evaluate_split(predictor, chosen, 0, tmp_path, lambda _: {})
    rows = scored.classes["classes"]
    assert rows["a"]["together"] == {"dice": 1, "iou": 1, "ap50": 1, "pq": 1}
    assert rows["b"]["together"]["dice"] == 2 * 28 / (28 + 53)
    assert rows["b"]["together"]["ap50"] == 0.5
    assert scored.rows[0]["dice"] == 1 and scored.objects.true == 3 and scored.objects.found == 2
    assert scored.panels[0].exists()
