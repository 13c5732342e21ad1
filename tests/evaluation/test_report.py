"""Panels and reports: what is drawn, what is written, and that nothing undefined turns into 0."""

import base64
import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from segdiff_jax import metrics
from segdiff_jax.errors import CANNOT_WRITE, UserError
from segdiff_jax.evaluation import charts, html_page, panels, report

NAME = """../<b>&"'>é"""
SETTINGS = {"<data> set": "<synthetic>", "generations": 9, "step": np.int64(3), "size": (64, 64)}
BASELINES = {"all foreground": {"iou": 0.25, "dice": 0.4, "area_ratio": math.nan}}


def refuse_constant(name: str):
    raise AssertionError(f"{name} is not JSON")


def example(seed: int = 0, size: int = 16):
    rng = np.random.default_rng(seed)
    truth = np.zeros((size, size), np.uint8)
    truth[2:9, 3:11] = 1
    generations = np.clip(truth + 0.4 * rng.standard_normal((5, size, size)), 0, 1)
    image = rng.integers(0, 256, (size, size, 3), np.uint8)
    return image, truth, generations, generations.mean(axis=0)


def draw(name: str = "one", size: int = 16) -> Image.Image:
    image, truth, generations, probability = example(size=size)
    scores = metrics.scores(probability, truth)
    return panels.panel(image, truth, generations, probability, name, scores)


def write(directory, count: int = 3, **changes):
    """A report of a few images, the second without anything in it."""
    rows, files, sums = [], [], np.zeros((3, 10))
    for i in range(count):
        image, truth, generations, probability = example(i)
        if i == 1:
            truth, generations, probability = truth * 0, generations * 0, probability * 0
        scores, name = metrics.scores(probability, truth), f"{NAME}{i}"
        rows.append({"name": name, **scores})
        sums += metrics.calibration(probability, truth)
        if "panels" not in changes:
            picture = panels.panel(image, truth, generations, probability, name, scores)
            files.append(report.save_panel(directory, i, name, picture))
    arguments = {
        "title": "A <title>",
        "settings": SETTINGS,
        "rows": rows,
        "baselines": BASELINES,
        "calibration_sums": sums,
        "panels": files,
        "training_curve": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}],
    }
    path = report.write_report(directory, **{**arguments, **changes})
    content = json.loads((directory / "report.json").read_text(), parse_constant=refuse_constant)
    return arguments, content, path.read_text()


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    directory = tmp_path_factory.mktemp("report")
    return directory, *write(directory)


class Reader(HTMLParser):
    """Texts, and the addresses a browser would open."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts, self.addresses, self.images, self.tags = [], [], [], set()
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        attributes = dict(attrs)
        self.addresses += [attributes[key] for key in ("src", "href") if key in attributes]
        self.images += [attributes["alt"]] if tag == "img" else []

    def handle_data(self, data):
        self.texts.append(data)


def test_json_gives_back_what_was_reported(written):
    _, arguments, content, _ = written
    for row, read in zip(arguments["rows"], content["images"], strict=True):
        assert read["name"] == row["name"]
        for key in metrics.KEYS:
            assert read[key] == (None if math.isnan(row[key]) else row[key])
    expected = {"<data> set": "<synthetic>", "generations": 9, "step": 3, "size": [64, 64]}
    assert content["settings"] == expected
    baseline = {"iou": 0.25, "dice": 0.4, "area_ratio": None}
    assert content["baselines"] == {"all foreground": baseline}
    assert content["training_curve"] == arguments["training_curve"]


def test_json_has_mean_and_spread_and_counts_the_undefined(written):
    _, arguments, content, _ = written
    dice = [row["dice"] for row in arguments["rows"]]
    summary = content["summary"]
    assert summary["dice"]["mean"] == pytest.approx(np.mean(dice))
    assert summary["dice"]["standard_deviation"] == pytest.approx(np.std(dice, ddof=1))
    assert summary["dice"]["standard_error"] == pytest.approx(np.std(dice, ddof=1) / 3**0.5)
    assert (summary["area_ratio"]["defined"], summary["area_ratio"]["undefined"]) == (2, 1)


def test_json_has_the_bins_of_the_calibration(written):
    _, arguments, content, _ = written
    bins, sums = content["calibration"]["bins"], arguments["calibration_sums"]
    assert [b["pixels"] for b in bins] == sums[2].tolist()
    assert (bins[3]["from"], bins[3]["to"]) == (0.3, 0.4)
    assert bins[9]["mean_probability"] == pytest.approx(sums[0, 9] / sums[2, 9])
    assert bins[9]["share_positive"] == pytest.approx(sums[1, 9] / sums[2, 9])
    assert content["calibration"]["pooled_score"] == metrics.calibration_score(sums)


def test_bins_without_pixels_are_null(tmp_path):
    sums = np.zeros((3, 10))
    sums[:, 2] = 0.5, 1, 2
    _, content, _ = write(tmp_path, calibration_sums=sums)
    assert content["calibration"]["bins"][0]["mean_probability"] is None
    assert content["calibration"]["bins"][2]["mean_probability"] == 0.25


def test_page_holds_everything_it_shows(written):
    *_, html = written
    reader = Reader(html)
    assert reader.addresses
    assert all(address.startswith(("data:image/", "#image-")) for address in reader.addresses)
    assert not re.search(r"url\(|@import|<script|<link", html)
    anchors = [address[1:] for address in reader.addresses if address.startswith("#")]
    assert len(anchors) == 3 and all(f'id="{anchor}"' in html for anchor in anchors)
    for address in reader.addresses:
        if address.startswith("data:"):
            picture = Image.open(io.BytesIO(base64.b64decode(address.split(",")[1])))
            picture.load()


def test_page_escapes_every_text_from_outside(written):
    *_, html = written
    reader = Reader(html)
    for i in range(3):
        assert f"{NAME}{i}" in reader.texts and f"{NAME}{i}" in reader.images
    assert {"A <title>", "<data> set", "<synthetic>"} <= set(reader.texts)
    assert not {"data", "synthetic"} & reader.tags and "<b>&" not in html


def test_undefined_is_a_word_on_the_page_and_never_zero(written):
    *_, html = written
    table = html.split("Every image")[1].split("</table>")[0]
    row = next(r for r in table.split("<tr") if 'href="#image-1"' in r)
    cells = [re.sub("<.*?>", "", cell).strip() for cell in row.split("<td>")[1:]]
    assert cells[1:] == ["0.0000", "0.0000", "undefined", "undefined", "1.0000", "0.0000"]
    assert "undefined for 1" in html


def test_page_compares_with_the_baselines(written, tmp_path):
    *_, html = written
    assert "baseline: all foreground" in html and "0.4000" in html
    assert "Not above a baseline" not in html
    *_, worse = write(tmp_path, baselines={"<i>good": {"dice": 0.99}, "poor": {"dice": 0.1}})
    assert "Not above a baseline" in worse and "&lt;i&gt;good, the best baseline" in worse
    assert "baseline: &lt;i&gt;good" in worse


def test_page_starts_with_the_image_that_needs_a_look(written):
    *_, html = written
    shown = [int(i) for i in re.findall(r'id="image-(\d+)"', html)]
    listed = [int(i) for i in re.findall(r'href="#image-(\d+)"', html)]
    assert shown[0] == 1 and sorted(shown) == [0, 1, 2] and shown == listed


def test_images_without_dice_come_before_the_lowest():
    assert report.by_need([{"dice": 0.5}, {"dice": None}, {"dice": 0.0}]) == [1, 2, 0]


def test_page_of_many_images_shows_the_lowest_and_an_even_rest(tmp_path):
    rows = [{"name": str(i), "dice": i / 100, "iou": 0.0} for i in range(100)]
    files = [report.save_panel(tmp_path, 0, "same", draw())] * 100
    _, content, html = write(tmp_path, rows=rows, panels=files)
    shown = [int(i) for i in re.findall(r'id="image-(\d+)"', html)]
    assert len(shown) == report.SHOWN and shown[:12] == list(range(12))
    assert shown[12] == 12 and shown[-1] == 99 and np.ptp(np.diff(shown[12:])) <= 1
    assert html.count("<td>99</td>") == 0 and ">99</a>" in html and "<td>50</td>" in html
    assert {row["panel"] for row in content["images"]} == {"panels/0000_same.png"}


def test_page_does_without_panels_and_without_curve(tmp_path):
    _, content, html = write(tmp_path, panels=(), training_curve=None, baselines={})
    assert "Look at these first" not in html and "Training loss" not in html
    assert content["training_curve"] is None and "panel" not in content["images"][0]


def test_some_images_may_lack_a_panel(tmp_path):
    path = report.save_panel(tmp_path, 1, "b", draw())
    _, content, html = write(tmp_path, panels=[None, path, None])
    assert re.findall(r'id="image-(\d+)"', html) == ["1"]
    assert [row["panel"] for row in content["images"]] == [None, "panels/0001_b.png", None]


def test_a_report_of_nothing_is_refused(tmp_path):
    with pytest.raises(UserError, match="no images"):
        write(tmp_path, rows=[], panels=())
    with pytest.raises(ValueError, match="1 panels for 3 rows"):
        write(tmp_path, panels=[None])


def test_a_single_image_has_no_standard_error(tmp_path):
    _, content, html = write(tmp_path, count=1)
    assert content["summary"]["dice"]["standard_error"] is None
    mean = content["summary"]["dice"]["mean"]
    assert f"Mean Dice {mean:.4f} over 1 image." in html and "<td>1.0000</td>" in html


def test_files_appear_whole_or_not_at_all(tmp_path, monkeypatch):
    write(tmp_path)
    assert not list(tmp_path.rglob("*.tmp"))
    before = (tmp_path / "report.json").read_bytes()

    def fail(source, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(UserError, match="report.json: cannot be written: No space") as error:
        write(tmp_path, title="another", panels=())
    assert error.value.code == CANNOT_WRITE
    assert (tmp_path / "report.json").read_bytes() == before
    assert not list(tmp_path.rglob("*.tmp"))


def test_panel_files_stay_in_their_folder_whatever_the_name(tmp_path):
    paths = [report.save_panel(tmp_path, i, "../../etc/x y", draw()) for i in (3, 4)]
    assert [path.parent for path in paths] == [tmp_path / "panels"] * 2
    assert [path.name for path in paths] == ["0003_.._.._etc_x_y.png", "0004_.._.._etc_x_y.png"]


@pytest.mark.parametrize(
    ("shape", "expected"),
    [((64, 64), (192, 192)), ((16, 16), (192, 192)), ((256, 256), (256, 256)),
     ((512, 512), (320, 320)), ((97, 131), (194, 262)), ((1000, 10), (320, 3)),
     ((1, 900), (1, 320))],
)  # fmt: skip
def test_cells_of_small_images_are_whole_multiples(shape, expected):
    assert panels.cell_size(shape) == expected


def cells(picture: Image.Image, side: int) -> np.ndarray:
    """[2, 5, side, side, 3]: the pictures of the grid, without titles."""
    pixels, column = np.asarray(picture), max(side, panels.SMALLEST) + panels.GAP
    row = side + panels.TITLE + panels.GAP
    return np.stack([
        [pixels[y : y + side, x : x + side]
         for x in (panels.GAP + i * column for i in range(panels.COLUMNS))]
        for y in (panels.HEADER + panels.TITLE + j * row for j in range(2))
    ])  # fmt: skip


def test_panel_has_its_cells_where_they_belong():
    image, truth, generations, probability = example()
    picture = draw()
    assert picture.size == (5 * 212 + 12, 60 + 2 * (192 + 36))
    above, below = cells(picture, 192)[:, :, ::12, ::12]
    np.testing.assert_array_equal(above[0], image)
    np.testing.assert_array_equal(above[1], np.repeat(truth[..., None] * 255, 3, axis=-1))
    np.testing.assert_array_equal(above[4], panels.error_map(image, truth, probability))
    for cell, values in [(above[2], probability), *zip(below, generations[:4], strict=False)]:
        certain, impossible = cell[values == 1], cell[values == 0]
        assert (certain == (127, 0, 0)).all() and (impossible == (0, 0, 127)).all()
    spread = generations.std(axis=0)
    brightness = above[3].sum(axis=-1, dtype=int)
    assert np.corrcoef(spread.ravel(), brightness.ravel())[0, 1] > 0.9


def test_panel_with_one_generation_leaves_the_other_cells_white():
    image, truth, generations, probability = example()
    scores = {"iou": math.nan}
    picture = panels.panel(image, truth, generations[:1], probability, "x", scores)
    below = cells(picture, 192)[1]
    assert (below[1:4] == 255).all() and not (below[0] == 255).all()


def test_disagreement_ignores_what_lies_outside_zero_and_one():
    image, truth, generations, probability = example()
    wild = np.where(generations == 1, 7.0, np.where(generations == 0, -7.0, generations))
    pictures = [
        panels.panel(image, truth, g, probability, "x", {}).tobytes() for g in (generations, wild)
    ]
    assert pictures[0] == pictures[1]


def test_panel_joins_maps_of_different_sizes():
    image, _, generations, _ = example(size=16)
    truth, probability = np.zeros((40, 30), np.uint8), np.zeros((40, 30))
    picture = panels.panel(image, truth, generations, probability, "crop", {})
    assert picture.size == (5 * 212 + 12, 60 + 2 * (200 + 36))


def test_errors_have_one_colour_each():
    truth, probability = np.array([[1, 1, 0, 0]]), np.array([[0.9, 0.5, 0.9, 0.1]])
    image = np.full((1, 4, 3), 100, np.uint8)
    expected = [panels.HIT, panels.MISS, panels.FALSE_ALARM, (40, 40, 40)]
    np.testing.assert_array_equal(panels.error_map(image, truth, probability)[0], expected)


def test_large_panels_are_embedded_smaller(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    path = report.save_panel(tmp_path, 0, "noise", Image.fromarray(noise))
    assert path.stat().st_size > charts.LARGEST_PNG
    assert charts.embed(path).startswith("data:image/webp;base64,")


def test_every_score_is_explained_on_the_page():
    assert set(html_page.MEANINGS) == set(metrics.KEYS)
