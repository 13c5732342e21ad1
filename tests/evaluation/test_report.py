"""Panels and reports: what they show, what is written, and that nothing undefined becomes 0."""

import base64
import io
import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image

from segdiff_jax import metrics
from segdiff_jax.errors import CANNOT_WRITE, UserError
from segdiff_jax.evaluation import charts, html_page, object_scores, panels, report

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


def draw(name: str = "one", size: int = 16) -> Figure:
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


def test_the_contours_of_all_images_together_stand_beside_the_mean(tmp_path):
    counts = np.array([[1, 4, 2, 4]] * 5)
    _, content, page = write(tmp_path, contours=counts)
    assert content["pooled_boundary_f"] == pytest.approx(1 / 3)  # of 1/4 and 1/2
    assert "contours of all images together" in page and "0.3333" in page
    _, content, page = write(tmp_path, contours=np.zeros((5, 4), int))
    assert content["pooled_boundary_f"] is None and "contours of all" not in page


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
    assert report.review_order([{"dice": 0.5}, {"dice": None}, {"dice": 0.0}]) == [1, 2, 0]


def test_page_of_many_images_shows_the_lowest_and_an_even_rest(tmp_path):
    rows = [{"name": str(i), "dice": i / 100, "iou": 0.0} for i in range(100)]
    files = [report.save_panel(tmp_path, 0, "same", draw())] * 100
    _, content, html = write(tmp_path, rows=rows, panels=files)
    shown = [int(i) for i in re.findall(r'id="image-(\d+)"', html)]
    assert len(shown) == report.MAX_PANELS and shown[:12] == list(range(12))
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


def maps_of(figure: Figure) -> dict:
    """The maps of a panel by their titles, without the bars and squares of the key."""
    titles = [text for text in texts_of(figure) if text not in KEY | {*panels.MEANINGS}][2:]
    images = figure.axes[0].images
    return dict(zip(titles, images[: len(titles)], strict=True))


def texts_of(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.axes[0].texts]


def drawn(figure: Figure) -> np.ndarray:
    """The pixels of a panel."""
    return np.asarray(Image.open(io.BytesIO(charts.render_png(figure))).convert("RGB"))


def colour_at(figure: Figure, image, y: float, x: float) -> tuple:
    """The drawn colour of a map at a place in 0..1 of its height and width."""
    left, right, bottom, top = image.get_extent()
    pixels = drawn(figure)
    row, column = ((top + (bottom - top) * y), (left + (right - left) * x))
    return tuple(pixels[int(row * panels.DPI), int(column * panels.DPI)])


KEY = {"0", "0.5", "1", "0.25", "probability", "disagreement (std)", "uncertainty (std)"}
UPPER = ["image", "truth", "mean probability", "disagreement", "errors"]


def test_panel_has_its_maps_where_they_belong():
    image, truth, generations, probability = example()
    figure = draw()
    maps = maps_of(figure)
    singles = [f"generation {i}" for i in range(1, 5)]
    assert list(maps) == UPPER + singles
    np.testing.assert_array_equal(maps["image"].get_array(), image)
    np.testing.assert_array_equal(maps["truth"].get_array(), truth)
    np.testing.assert_array_equal(
        maps["errors"].get_array(), panels.error_map(image, truth, probability)
    )
    np.testing.assert_array_equal(maps["disagreement"].get_array(), generations.std(axis=0))
    assert maps["disagreement"].get_cmap().name == "inferno"
    assert maps["disagreement"].get_clim() == (0, 0.5)
    soft = [maps["mean probability"], *(maps[title] for title in singles)]
    for cell, values in zip(soft, [probability, *generations[:4]], strict=True):
        np.testing.assert_array_equal(cell.get_array(), values)
        colours = cell.to_rgba(cell.get_array(), bytes=True)[..., :3]
        certain, impossible = colours[values == 1], colours[values == 0]
        assert (certain == (127, 0, 0)).all() and (impossible == (0, 0, 127)).all()
    columns = [maps[title].get_extent()[0] for title in UPPER]
    assert columns == sorted(columns) and columns[:4] == [
        maps[title].get_extent()[0] for title in singles
    ]
    assert maps["image"].get_extent()[2] < maps["generation 1"].get_extent()[3]


def test_a_panel_is_drawn_with_these_colours_upright():
    truth = np.zeros((20, 30), np.uint8)
    truth[:10, :15] = 1
    image = np.zeros((20, 30, 3), np.uint8)
    image[:10, 15:] = (10, 20, 200)
    probability = truth.astype(np.float32)
    figure = panels.panel(image, truth, probability[None], probability, "x", {})
    maps = maps_of(figure)
    assert colour_at(figure, maps["image"], 0.25, 0.75) == (10, 20, 200)
    assert colour_at(figure, maps["truth"], 0.25, 0.25) == (255, 255, 255)
    assert colour_at(figure, maps["truth"], 0.75, 0.25) == (0, 0, 0)
    assert colour_at(figure, maps["errors"], 0.25, 0.25) == panels.HIT
    for title in ("mean probability", "generation 1"):
        assert colour_at(figure, maps[title], 0.25, 0.25) == (127, 0, 0)
        assert colour_at(figure, maps[title], 0.75, 0.75) == (0, 0, 127)


def test_the_key_of_a_panel_has_the_colours_of_its_maps():
    figure = draw()
    probability, deviation, *squares = figure.axes[0].images[9:]
    for bar, name, high in ((probability, "jet", 1), (deviation, "inferno", 0.5)):
        assert bar.get_cmap() == colormaps[name] and bar.get_clim() == (0, high)
        np.testing.assert_allclose(bar.get_array()[0, [0, -1]], (0, high))
    found = [tuple(square.get_array()[0, 0]) for square in squares]
    assert found == [panels.HIT, panels.MISS, panels.FALSE_ALARM]
    texts = texts_of(figure)
    assert KEY - {"uncertainty (std)"} <= set(texts)
    assert [text for text in texts if text in panels.MEANINGS] == list(panels.MEANINGS)


def test_the_heading_of_a_panel_is_its_name_as_it_is_and_its_scores():
    image, truth, generations, probability = example()
    scores = {"iou": 0.1234, "area_ratio": math.nan}
    figure = panels.panel(image, truth, generations, probability, "$x_$ \u65e5", scores)
    name, heading = texts_of(figure)[:2]
    assert name == "$x_$ \u65e5" and heading == "IoU 0.123    area ratio undefined"
    assert drawn(figure).std() > 0  # neither a formula nor a missing letter stops it


def test_panel_with_one_generation_leaves_the_other_cells_white():
    image, truth, generations, probability = example()
    scores = {"iou": math.nan}
    figure = panels.panel(image, truth, generations[:1], probability, "x", scores)
    maps = maps_of(figure)
    assert list(maps) == [*UPPER, "generation 1"]
    pixels = drawn(figure)
    _, right, bottom, top = (int(side * panels.DPI) for side in maps["generation 1"].get_extent())
    left = int(maps["errors"].get_extent()[0] * panels.DPI)
    assert (pixels[top:bottom, right + 5 : left - 5] == 255).all()
    assert not (pixels[top:bottom, 20:right] == 255).all()


@pytest.mark.parametrize(("count", "rows"), [(3, 1), (8, 2), (20, 2)])
def test_samples_take_the_place_of_generations_four_in_a_row_beside_the_key(count, rows):
    image, truth, generations, probability = example()
    samples = np.random.default_rng(1).integers(0, 2, (count, *truth.shape), np.uint8)
    figure = panels.panel(image, truth, generations, probability, "x", {}, samples=samples)
    maps, shown = maps_of(figure), [f"sample {k + 1}" for k in range(min(count, 8))]
    assert list(maps) == UPPER + shown
    for title, sample in zip(shown, samples, strict=False):
        np.testing.assert_array_equal(maps[title].get_array(), sample)
    boxes = [maps[title].get_extent() for title in shown]
    assert len({box[2] for box in boxes}) == rows and len({box[0] for box in boxes}) <= 4
    assert max(box[1] for box in boxes) < maps["errors"].get_extent()[0]
    of_a_map = panels.panel(image, truth, generations[:1], probability, "x", {}, False)
    with_samples = panels.panel(
        image, truth, generations[:1], probability, "x", {}, False, samples=samples
    )
    assert "sample 1" not in texts_of(of_a_map) and {*shown} <= {*texts_of(with_samples)}


def test_disagreement_ignores_what_lies_outside_zero_and_one():
    image, truth, generations, probability = example()
    wild = np.where(generations == 1, 7.0, np.where(generations == 0, -7.0, generations))
    pictures = [
        drawn(panels.panel(image, truth, g, probability, "x", {})) for g in (generations, wild)
    ]
    np.testing.assert_array_equal(*pictures)


@pytest.mark.parametrize("shape", [(40, 30), (600, 8), (1, 900), (97, 131)])
def test_panel_stretches_maps_of_different_sizes_to_the_shape_of_the_truth(shape):
    image, _, generations, _ = example(size=16)
    truth, probability = np.zeros(shape, np.uint8), np.zeros(shape)
    figure = panels.panel(image, truth, generations, probability, "crop", {})
    width, height = figure.get_size_inches()
    boxes = set()
    for cell in maps_of(figure).values():
        left, right, bottom, top = cell.get_extent()
        assert 0 < left < right < width and 0 < top < bottom < height
        boxes.add((round(bottom - top, 9), round(right - left, 9)))
    ((high, wide),) = boxes
    assert max(high, wide) == panels.SIDE and high / wide == pytest.approx(shape[0] / shape[1])


def test_errors_have_one_colour_each():
    truth, probability = np.array([[1, 1, 0, 0]]), np.array([[0.9, 0.5, 0.9, 0.1]])
    image = np.full((1, 4, 3), 100, np.uint8)
    expected = [panels.HIT, panels.MISS, panels.FALSE_ALARM, (40, 40, 40)]
    np.testing.assert_array_equal(panels.error_map(image, truth, probability)[0], expected)


def test_large_panels_are_embedded_smaller(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (400, 400, 3), np.uint8)
    figure = Figure((4, 4), dpi=100)
    figure.figimage(noise)
    path = report.save_panel(tmp_path, 0, "noise", figure)
    assert path.stat().st_size > charts.LARGEST_PNG
    assert charts.embed(path).startswith("data:image/webp;base64,")


def test_every_score_is_explained_on_the_page():
    shown = {*metrics.KEYS, *report.FURTHER, *object_scores.LABELS}
    assert set(html_page.MEANINGS) == shown
