"""What the page says and gives back of a picture is what `segdiff predict` writes of it."""

import io
import zipfile

import numpy as np
import pytest
import tifffile
from page_pictures import page, picture, png, send, take
from PIL import Image
from stand_in import StandIn, run_of

from segdiff_jax import predict
from segdiff_jax.app import answers, exports, predicted
from segdiff_jax.app.predicted import Predicted
from segdiff_jax.certainty.answers import Objects
from segdiff_jax.certainty.calibration import Calibration
from segdiff_jax.cli.predict_args import parse
from segdiff_jax.prediction.object_files import Outlined
from segdiff_jax.prediction.object_table import DOUBTFUL, OBJECT, Row

OPTIONS = (
    {"interior": True},
    {"classes": ("green", "blue")},
    {"separate": "distance"},
    {"classes": ("green", "blue"), "overlap": True},
)


@pytest.mark.parametrize("options", [{}, *OPTIONS])
@pytest.mark.parametrize("threshold", [0.3, 0.7])
def test_files_are_those_of_predict_with_that_threshold(tmp_path, options, threshold):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").write_bytes(png(picture()))
    run_of(tmp_path)
    words = [f"--workdir={tmp_path / 'run'}", f"--input={tmp_path / 'in'}"]
    words += [f"--output={tmp_path / 'out'}", "--outputs=labels,objects,geojson,rois"]
    model = StandIn(**options)
    model.threshold = threshold
    predict.predict(parse(words), model)

    handlers, session = page(tmp_path / "page", load=lambda *_: StandIn(**options))
    send(handlers, session, a_png=png(picture()))
    take(handlers)
    handlers.set_threshold("one", threshold)
    source = session.source(1)
    places = {"labels": "labels/a.tif", "geojson": "geojson/a.geojson", "rois": "rois/a.zip"}
    places["csv"] = "objects.csv"
    for kind, place in places.items():
        expected = (tmp_path / "out" / place).read_bytes()
        assert exports.encode(kind, source, tmp_path) == expected, kind
    mask = np.asarray(Image.open(tmp_path / "out" / "mask" / "a.png"))
    np.testing.assert_array_equal(source[3].mask, mask)
    labels = tifffile.imread(tmp_path / "out" / "labels" / "a.tif")
    np.testing.assert_array_equal(source[3].labels, labels)


@pytest.mark.parametrize("options", OPTIONS)
def test_predictions_are_the_same_after_they_were_written_and_read(tmp_path, options):
    model = StandIn(samples=3, whole=True, **options)
    found = predicted.predict(model, picture(), lambda share: None)
    predicted.save(found, tmp_path / "a.npz")
    read = predicted.load(tmp_path / "a.npz")
    assert (tmp_path / "a.npz").stat().st_size == pytest.approx(predicted.size(found), abs=6000)
    for name in ("image", "shown", "probability", "uncertainty", "interior", "samples"):
        np.testing.assert_array_equal(getattr(read, name), getattr(found, name), name)
    one, other = (answers.answer(each, each, 0.4, None, ("a", None)) for each in (found, read))
    assert repr([each.row for each in one.objects]) == repr([each.row for each in other.objects])
    np.testing.assert_array_equal(one.labels, other.labels)
    np.testing.assert_array_equal(one.known.held, other.known.held)


def test_the_share_that_is_done_is_told_after_each_row_of_tiles():
    told = []
    predicted.predict(StandIn(rows=10), picture(), told.append)
    assert told == [0.25, 0.5, 0.75, 1.0]


def test_without_a_calibration_the_dice_is_the_one_that_the_probability_expects():
    shown = np.zeros((2, 4), np.float32)
    shown[0] = 0.9, 0.8, 0.6, 0.2
    whole = (shown * 65535).astype(np.uint16)
    found = Predicted(np.zeros((2, 4, 3), np.uint8), shown, whole, whole, None, None)
    line = answers.answer(found, None, 0.5, None, ("a", None)).line
    # 2 (0.9 + 0.8 + 0.6) / (2.5 + 3)
    assert line.dice == pytest.approx(4.6 / 5.5, abs=1e-6) and not line.calibrated
    assert line.share == 3 / 8
    empty = answers.answer(found, None, 0.95, None, ("a", None)).line
    assert empty.dice == 0 and empty.objects == 0


def row(label, status=OBJECT, area=10, confidence=np.nan, agreement=np.nan, probability=0.9):
    box = 0.0, 0.0, 0, 0, 1, 1, 4.0
    return Row("a", label, status, "", area, *box, probability, agreement, np.nan, confidence)


def test_a_person_looks_first_at_what_is_most_probably_wrong():
    rows = [
        row(1, confidence=0.9, agreement=0.1),
        row(2, confidence=0.4),
        row(3, agreement=0.7),
        row(4, status=DOUBTFUL, agreement=0.8),
        row(5, probability=0.6),
        row(6, probability=0.6, area=99),
    ]
    order = answers.look_first([Outlined(one, []) for one in rows])
    assert [one.label for one in order] == [4, 2, 6, 5, 3, 1]


@pytest.mark.parametrize("least", [0.0, 0.5])
def test_confidence_is_of_the_map_and_agreement_of_the_samples(monkeypatch, least):
    labels, one, two = np.array([[1, 0, 2]]), np.array([0.1, 0.9]), np.array([0.2, 0.3])

    def objects(found, mask, calibration):
        of = two if calibration is None else one
        return Objects(labels, np.ones(2, np.int64), of, of, of, of, (), ("", ""))

    found = predicted.predict(StandIn(), picture(), lambda share: None)
    monkeypatch.setattr(answers.answers, "objects", objects)
    fitted = Calibration(*[None] * 9, 1, "", "", {}, least)
    known = answers._known(found, found, found.shown > 0.5, fitted)
    kept = slice(1 if least else 0, None)
    for of, expected in ((known.confidence, one), (known.probability, one)):
        np.testing.assert_array_equal(of, expected[kept])
    for of, expected in ((known.held, two), (known.area_std, two)):
        np.testing.assert_array_equal(of, expected[kept])
    assert known.labels.max() == (1 if least else 2)
    assert [unsure.confidence for unsure in known.doubtful] == ([0.1] if least else [])
    alone = answers._known(found, None, found.shown > 0.5, fitted)
    np.testing.assert_array_equal(alone.held, one)


def test_the_zip_of_all_has_the_files_of_each_picture_and_one_table(tmp_path):
    handlers, session = page(tmp_path)
    send(handlers, session, a_png=png(picture()), b_png=png(picture(3)))
    send(handlers, session, **{"A.tif": png(picture(6))})
    take(handlers)
    path = tmp_path / "all.zip"
    exports.write_all(path, session.order(), session.source, tmp_path)
    with zipfile.ZipFile(path) as file:
        names, table = file.namelist(), file.read("objects.csv").decode().splitlines()
        labels = {n: tifffile.imread(io.BytesIO(file.read(n))) for n in names if "labels" in n}
        assert file.testzip() is None
    stems = {name.partition("/")[2].rpartition(".")[0] for name in names if "/" in name}
    assert len(stems) == 3 and len({stem.lower() for stem in stems}) == 3  # also on Windows
    assert len(names) == 10 and len(table) == 1 + 3 * 2
    assert all(found.max() == 2 for found in labels.values())
    assert {line.split(",")[0] for line in table[1:]} == {"a.png", "b.png", "A.tif"}
