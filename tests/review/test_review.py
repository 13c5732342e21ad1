"""Calibrating a run and rating masks with it, from the command line and as a library."""

import csv
import json
import shutil

import numpy as np
import pytest
import tifffile
from PIL import Image
from pixel_network import predictor_of
from tiny_config import tiny

from segdiff_jax import api, errors, trained_run
from segdiff_jax.certainty import store
from segdiff_jax.checkpoint import run_config
from segdiff_jax.cli import segdiff
from segdiff_jax.data.example import Example
from segdiff_jax.errors import UserError
from segdiff_jax.factory import datasets
from segdiff_jax.review import pairs

COUNT = 12
SETTINGS = ("--samples=6", "--budget=fast")


def write_pictures(folder, count=COUNT):
    """Writes images/ and masks/ of discs of 16 x 16 pixels."""
    rng = np.random.default_rng(3)
    for name in ("images", "masks"):
        (folder / name).mkdir(parents=True)
    for i in range(count):
        rows, columns = np.mgrid[:16, :16]
        mask = (rows - 6) ** 2 + (columns - 8) ** 2 < rng.integers(9, 30)
        image = np.clip(rng.normal(170 - 60 * mask[..., None], 20, (16, 16, 3)), 0, 255)
        Image.fromarray(image.astype(np.uint8)).save(folder / "images" / f"p{i:02d}.png")
        Image.fromarray(mask.astype(np.uint8) * 255).save(folder / "masks" / f"p{i:02d}.png")


def fake_load(workdirs, samples=6, threshold=None, calibrated=False, **settings):
    """Loads the network without a neighbourhood in place of a run's."""
    workdir = workdirs[0] if isinstance(workdirs, list) else workdirs
    config = run_config.read_config(workdir)
    config.sampling.update({"samples": samples, "budget": settings.get("budget", "fast")})
    model = api.Model((config,), (7,), predictor_of(samples=samples, shift=-0.8), 0.5)
    return api._with_calibration(model, workdir, threshold, calibrated)


@pytest.fixture(scope="module", autouse=True)
def place(tmp_path_factory):
    """A folder with run/, images/ and masks/, whose run is calibrated on these."""
    place = tmp_path_factory.mktemp("review")
    (place / "run").mkdir()
    run_config.write_config(tiny(), place / "run")
    write_pictures(place)
    folders = f"--images={place / 'images'}", f"--masks={place / 'masks'}"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(api, "load", fake_load)
        assert segdiff.main(["calibrate", f"--workdir={place / 'run'}", *folders, *SETTINGS]) == 0
        yield place


def load(place, **more):
    return fake_load(place / "run", **more)


def image_of(place, i=0):
    return np.asarray(Image.open(place / "images" / f"p{i:02d}.png"))


def rows_of(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_a_calibration_names_its_pictures_and_is_found_again(place):
    (entry,) = json.loads((place / "run" / store.FILE).read_text())["entries"]
    assert entry["calibration"]["n"] == COUNT and entry["calibration"]["fingerprint"]
    model = load(place)
    assert model.calibration.n == COUNT and model.uncalibrated == ""
    other = load(place, samples=3)
    assert other.calibration is None and "other settings" in other.uncalibrated


def test_an_answer_has_quality_area_count_and_objects(place):
    answer = load(place).predict(image_of(place))
    assert 0 <= answer.quality.low <= answer.quality.dice <= answer.quality.high <= 1
    assert answer.area[0.5].low >= answer.area[0.8].low >= 0
    assert np.isnan(answer.area[0.95].low)  # 12 pictures are too few
    assert answer.count[0.8].low == int(answer.count[0.8].low)
    assert len(answer.objects.confidence) == len(answer.objects.area)
    assert answer.disagreement.shape == answer.mask.shape
    inner, outer = answer.bounds(0.2)
    assert (inner <= outer).all()
    with pytest.raises(UserError, match="12 pictures, it takes"):
        answer.bounds(0.05)


def test_a_mask_of_another_size_is_refused(place):
    with pytest.raises(ValueError, match=r"the mask is \(3, 3\); it must be \(16, 16\)"):
        load(place).rate(image_of(place), np.zeros((3, 3)))


def test_the_calibrated_probability_is_that_of_the_fit(place):
    raw, shown = load(place).predict(image_of(place)), load(place, calibrated=True)
    found = shown.predict(image_of(place))
    expected = shown.calibration.pixels(raw.probability)
    np.testing.assert_array_equal(found.probability, expected)
    assert shown.threshold == shown.calibration.pixels.threshold
    np.testing.assert_array_equal(found.mask, expected > shown.threshold)


def test_rate_lists_masks_the_worst_first_with_pictures(place, tmp_path):
    folders = f"--images={place / 'images'}", f"--masks={place / 'masks'}"
    command = "rate", f"--workdir={place / 'run'}", *folders, f"--output={tmp_path}", *SETTINGS
    assert segdiff.main([*command]) == 0
    rows = rows_of(tmp_path / "ratings.csv")
    assert [int(row["rank"]) for row in rows] == [*range(1, COUNT + 1)]
    suspicion = [float(row["suspicion"]) for row in rows]
    assert suspicion == sorted(suspicion, reverse=True)
    assert len(list((tmp_path / "pictures").iterdir())) == COUNT
    rated = load(place).rate(image_of(place), np.asarray(Image.open(place / "masks" / "p00.png")))
    (own,) = [row for row in rows if row["name"] == "p00.png"]
    assert float(own["predicted_dice"]) == pytest.approx(rated.dice.dice, abs=1e-4)


def ratings(place, folder, *flags):
    """Returns the rows of ratings.csv for images/ and masks/ of a folder, by the name's stem."""
    folders = f"--images={folder / 'images'}", f"--masks={folder / 'masks'}"
    words = "rate", f"--workdir={place / 'run'}", *folders, f"--output={folder / 'out'}"
    assert segdiff.main([*words, *SETTINGS, *flags]) == 0
    rows = rows_of(folder / "out" / "ratings.csv")
    return {row["name"][:3]: row | {"name": ""} for row in rows}


def test_rate_takes_masks_of_labels_and_of_one_page(place, tmp_path):
    """They are rated as masks of 0 and 255, and --page counts for images alone."""
    write_pictures(tmp_path / "plain", 3)
    for name in ("images", "masks"):
        (tmp_path / "labels" / name).mkdir(parents=True)
    for i in range(3):
        image = Image.open(tmp_path / "plain" / "images" / f"p{i:02d}.png")
        path = tmp_path / "labels" / "images" / f"p{i:02d}.tif"
        Image.fromarray(255 - image_of(place)).save(path, save_all=True, append_images=[image])
        mask = np.asarray(Image.open(tmp_path / "plain" / "masks" / f"p{i:02d}.png")) // 255
        labels = mask * np.where(np.arange(16) < 8, 1, 2).astype(np.uint8)
        Image.fromarray(labels).save(tmp_path / "labels" / "masks" / f"p{i:02d}.tif")
    expected = ratings(place, tmp_path / "plain")
    for flags in ((), ("--foreground=nonzero",)):
        assert ratings(place, tmp_path / "labels", "--page=1", *flags) == expected
    one = ratings(place, tmp_path / "labels", "--page=1", "--foreground=2")
    assert one != expected


def test_rate_says_what_a_folder_without_images_holds(place, tmp_path):
    (tmp_path / "a.dcm").write_bytes(b"")
    with pytest.raises(UserError, match=r"holds no image \(there are 1 .dcm\)"):
        pairs.pair(tmp_path, place / "masks", "")


def test_predict_writes_the_columns_and_the_masks_of_a_risk(place, tmp_path):
    words = f"--workdir={place / 'run'}", f"--input={place / 'images'}", f"--output={tmp_path}"
    assert segdiff.main(["predict", *words, *SETTINGS, "--risk=0.2"]) == 0
    rows = rows_of(tmp_path / "summary.csv")
    answer = load(place).predict(image_of(place), number=0)
    (first,) = [row for row in rows if row["name"] == "p00.png"]
    assert float(first["predicted_dice"]) == pytest.approx(answer.quality.dice, abs=1e-4)
    assert float(first["area_low"]) == pytest.approx(answer.area[0.8].low, abs=1e-4)
    order = sorted(rows, key=lambda row: int(row["look_rank"]))
    quality = [float(row["predicted_dice"]) for row in order]
    assert quality == sorted(quality)
    bounds = [np.asarray(Image.open(tmp_path / name / "p00.png")) for name in ("inner", "outer")]
    for found, expected in zip(bounds, answer.bounds(0.2), strict=True):
        np.testing.assert_array_equal(found // 255, expected)


@pytest.mark.parametrize(("flags", "least"), [((), 0.5), (("--confidence=0",), 0.0)])
def test_objects_of_too_little_confidence_are_doubtful(flags, least, place, tmp_path):
    content = json.loads((place / "run" / store.FILE).read_text())
    by_area = {"names": ["log area"], "centre": [3.0], "spread": [1.0], "weights": [9.0]}
    content["entries"][0]["calibration"] |= {"confidence": {**by_area, "offset": 0.0}, "least": 0.5}
    shutil.copytree(place / "run", tmp_path / "run")
    (tmp_path / "run" / store.FILE).write_text(json.dumps(content))
    words = f"--workdir={tmp_path / 'run'}", f"--input={place / 'images'}"
    asked = *words, f"--output={tmp_path / 'out'}", *SETTINGS, "--outputs=objects", *flags
    assert segdiff.main(["predict", *asked]) == 0
    rows = [row for row in rows_of(tmp_path / "out" / "objects.csv") if row["confidence"]]
    unsure = [row for row in rows if float(row["confidence"]) < least]
    assert unsure == [row for row in rows if row["status"] == "doubtful"]
    assert {int(row["area"]) <= 20 for row in unsure} == ({True} if least else set())
    for path in (tmp_path / "out" / "labels").iterdir():
        kept = [r for r in rows if r["status"] == "object" and r["picture"][:3] == path.name[:3]]
        areas = np.bincount(tifffile.imread(path).ravel())[1:]
        assert [int(row["area"]) for row in kept] == areas.tolist()
        mask = np.asarray(Image.open(tmp_path / "out" / "mask" / f"{path.stem}.png")) > 0
        own = [r for r in rows if r["picture"][:3] == path.name[:3]]
        assert np.count_nonzero(mask) >= sum(int(row["area"]) for row in own)


def test_without_a_calibration_the_columns_are_empty(place, tmp_path):
    words = f"--workdir={place / 'run'}", f"--input={place / 'images'}", f"--output={tmp_path}"
    assert segdiff.main(["predict", *words, "--samples=3"]) == 0
    assert {row["predicted_dice"] for row in rows_of(tmp_path / "summary.csv")} == {""}


def examples_of(place):
    found = []
    for i in range(COUNT):
        mask = np.asarray(Image.open(place / "masks" / f"p{i:02d}.png")) // 255
        found.append(Example(image_of(place, i), mask, f"p{i:02d}"))
    return found


def test_an_evaluation_fits_the_validation_split_once(place, tmp_path, monkeypatch):
    config, asked = tiny(), []
    config.data.validation_split = "validation"

    def examples(config, split):
        asked.append(split)
        return examples_of(place)

    monkeypatch.setattr(datasets, "scored_examples", examples)
    run = trained_run.TrainedRun(config, 7, predictor_of(samples=4), [])
    fitted, note = trained_run.calibrated(run, tmp_path)
    again, _ = trained_run.calibrated(run, tmp_path)
    assert asked == ["validation"] and fitted.n == COUNT and "12 pictures of split" in note
    assert again.fingerprint == fitted.fingerprint
    config.data.train_split = "train+validation"  # trained on: says nothing
    nothing, reason = trained_run.calibrated(run._replace(step=8), tmp_path)
    assert nothing is None and "other settings" in reason and asked == ["validation"]


def test_check_of_a_run_rates_its_own_annotations(place, monkeypatch):
    monkeypatch.setattr(datasets, "scored_examples", lambda config, split: examples_of(place)[:5])
    assert segdiff.main(["check", f"--workdir={place / 'run'}", *SETTINGS]) == 0
    assert len(rows_of(place / "run" / "check" / "ratings.csv")) == 5


@pytest.mark.parametrize(
    ("command", "message", "code"),
    [
        (["calibrate"], "--workdir is missing", errors.USAGE),
        (["rate", "--workdir=RUN"], "--images is missing", errors.USAGE),
        (["calibrate", "--workdir=RUN", "--images=IMAGES"], "--masks is missing", errors.USAGE),
        (["rate", "--workdir=RUN", "--images=IMAGES", "--masks=IMAGES"], "--output is", 64),
        (["calibrate", "--workdir=RUN", "--split=test"], "is scored on it", errors.USAGE),
        (["calibrate", "--workdir=RUN", "--split=train"], "was trained on it", errors.USAGE),
        (["calibrate", "--workdir=RUN", "--images=IMAGES", "--masks=RUN"], "no mask", 65),
        (["check", "--workdir=RUN", "--samples=-1"], "--samples=-1: must be", errors.USAGE),
        (
            ["predict", "--workdir=RUN", "--input=IMAGES", "--output=OUT", "--confidence=0.5"],
            "--confidence=0.5: objects have none",
            64,
        ),
        (["predict", "--workdir=RUN", "--risk=0"], "--risk=0: must be a number, above 0", 64),
    ],
)
def test_mistakes_are_named(command, message, code, place, tmp_path, capsys):
    places = {"RUN": place / "run", "IMAGES": place / "images", "OUT": tmp_path / "out"}
    words = command[:1]
    for word in command[1:]:
        name, _, value = word.partition("=")
        words.append(f"{name}={places.get(value, value)}")
    assert segdiff.main(words) == code
    assert message in capsys.readouterr().err
