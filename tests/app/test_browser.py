"""The page in a real browser without a window: pictures are sent, pixels and files come back."""

import csv
import importlib.util
import io
import json
import time
import zipfile

import numpy as np
import pytest
import tifffile
from page_pictures import load, picture, png
from page_server import CHROMIUM, served
from PIL import Image
from roifile import ImagejRoi

from segdiff_jax.app.layers import palette
from segdiff_jax.prediction.overlay import INSIDE, TINT

# libraries below the page are newer than the notes about what they use
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]
MISSING = [name for name in ("gradio", "playwright") if importlib.util.find_spec(name) is None]
WHY = f"needs {', '.join(MISSING)}" if MISSING else "" if CHROMIUM else "needs Chromium on the PATH"
if WHY:
    pytest.skip(WHY, allow_module_level=True)

from playwright.sync_api import sync_playwright  # noqa: E402

SHOWN = "document.querySelectorAll('#sd-pictures tr[data-key]').length == {} && " + (
    "!document.querySelector('.sd-spin')"
)


@pytest.fixture(scope="module")
def browser():
    with sync_playwright() as tools:
        chromium = tools.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("GRADIO_TEMP_DIR", "")  # and what else is set is restored
        with served(load, tmp_path_factory.mktemp("page")) as (found, handlers):
            yield found, handlers


@pytest.fixture
def page(browser, address):
    """Returns an open page; it must ask nobody else, and log no error."""
    context = browser.new_context(viewport={"width": 1300, "height": 900})
    found = context.new_page()
    asked, failed = [], []
    found.on("request", lambda request: asked.append(request.url))
    found.on("pageerror", lambda error: failed.append(str(error)))
    found.on("console", lambda line: line.type == "error" and failed.append(line.text))
    found.goto(address[0])
    found.wait_for_selector(".sd-drop")
    yield found
    context.close()
    hosts = {url.split("/")[2] for url in asked if url.startswith(("http", "ws"))}
    assert hosts == {address[0].split("/")[2]}
    assert not failed


def send(page, *files):
    """Chooses files (name, content) and waits until as many rows are there."""
    sent = [{"name": n, "mimeType": "image/png", "buffer": content} for n, content in files]
    page.set_input_files(".sd-drop input", sent)


def wait_for(page, count):
    page.wait_for_function(SHOWN.format(count), timeout=60_000)
    page.wait_for_function(
        "[...document.querySelectorAll('.sd-view img')].every(i => i.complete && i.naturalWidth)"
    )


def fetched(page, selector, attribute):
    """Returns the content of the address that an element has, as the page itself gets it."""
    address = page.locator(selector).first.get_attribute(attribute)
    numbers = page.evaluate(
        "async (a) => [...new Uint8Array(await (await fetch(a)).arrayBuffer())]", address
    )
    return bytes(numbers)


def pixels(page, selector):
    return np.asarray(Image.open(io.BytesIO(fetched(page, selector, "src"))))


def on_screen(page):
    """Returns the pixels of the picture as it is shown, [H, W, 3], at its own size."""
    shown = Image.open(io.BytesIO(page.locator(".sd-view").screenshot())).convert("RGB")
    return np.asarray(shown.resize((50, 40), Image.Resampling.NEAREST))


def test_a_picture_is_shown_with_its_outlines_and_fades_into_its_maps(page):
    send(page, ("a.png", png(picture())))
    wait_for(page, 1)
    outlines = pixels(page, ".sd-outlines")
    ring = np.zeros((40, 50), bool)
    ring[4:16, 5:15] = True
    ring[5:15, 6:14] = False
    yellow = (outlines == (*INSIDE, 255)).all(axis=-1)
    np.testing.assert_array_equal(yellow[:18], ring[:18])
    shown = on_screen(page).astype(int)
    assert np.abs(shown[10, 5] - INSIDE).max() < 40  # of the outline
    assert shown[10, 10].min() > 200 and shown[10, 40].max() < 40  # object and background

    page.evaluate("segdiff.fade(1)")
    of_map = on_screen(page).astype(int)
    assert np.abs(of_map[10, 40] - palette("viridis")[0]).max() < 12
    assert np.abs(of_map[10, 10] - palette("viridis")[255]).max() < 12
    page.evaluate("segdiff.fade(2)")
    assert np.abs(on_screen(page)[10, 40].astype(int) - palette("magma")[0]).max() < 12
    page.evaluate("segdiff.fade(0)")
    page.locator("#sd-layers input").first.uncheck()
    page.wait_for_timeout(200)
    assert on_screen(page)[10, 5].min() > 200  # no outline


def test_the_sliders_are_moved_by_keys_and_the_threshold_acts_at_once(page):
    send(page, ("a.png", png(picture())), ("b.png", png(picture(9))))
    wait_for(page, 2)
    assert ", 2 objects" in page.locator(".sd-summary").text_content()
    page.locator("input[type=range]").nth(1).focus()
    for _ in range(40):
        page.keyboard.press("ArrowRight")
    page.wait_for_selector(".sd-summary:has-text(', 1 objects')")
    page.wait_for_function("!document.querySelector('#sd-pictures').textContent.includes('...')")
    page.locator("input[type=range]").first.focus()
    for _ in range(3):
        page.keyboard.press("PageUp")
    shown = page.evaluate(
        "getComputedStyle(document.documentElement).getPropertyValue('--sd-probability')"
    )
    assert 0 < float(shown) <= 1


def test_all_files_are_downloaded_and_agree(page):
    send(page, ("a.png", png(picture())), ("b b.png", png(picture(9))))
    wait_for(page, 2)
    name = page.locator(".sd-summary").text_content().partition(":")[0]
    content = {}
    for link in page.locator(".sd-files a").all():
        with page.expect_download() as download:
            link.click()
        content[download.value.suggested_filename] = download.value.path().read_bytes()
    stem = name.removesuffix(".png")
    ends = ("labels.tif", "objects.csv", "geojson", "rois.zip")
    assert set(content) == {*(f"{stem}.{end}" for end in ends), "segdiff.zip"}
    labels = tifffile.imread(io.BytesIO(content[f"{stem}.labels.tif"]))
    rows = list(csv.DictReader(io.StringIO(content[f"{stem}.objects.csv"].decode())))
    areas = np.bincount(labels.ravel())[1:]
    assert [int(row["area"]) for row in rows] == areas.tolist() == [120, 160]
    features = json.loads(content[f"{stem}.geojson"])["features"]
    assert [f["properties"]["measurements"]["Area px^2"] for f in features] == [120, 160]
    with zipfile.ZipFile(io.BytesIO(content[f"{stem}.rois.zip"])) as file:
        boxes = [ImagejRoi.frombytes(file.read(one)) for one in file.namelist()]
    assert [(b.right - b.left) * (b.bottom - b.top) for b in boxes] == [120, 160]
    with zipfile.ZipFile(io.BytesIO(content["segdiff.zip"])) as file:
        assert len(file.namelist()) == 7 and file.testzip() is None


def test_alternatives_objects_and_pictures_are_a_key_or_a_click_away(page):
    send(page, ("a.png", png(picture(size=(200, 220)))), ("b.png", png(picture(9))))
    wait_for(page, 2)
    names = set()
    for _ in range(2):
        names.add(page.locator("#sd-pictures tr.sd-shown td").first.text_content())
        page.keyboard.press("n")
        page.wait_for_timeout(400)
    assert names == {"a.png", "b.png"}
    page.locator("#sd-pictures tr[data-key]", has_text="a.png").click()
    page.wait_for_selector("#sd-pictures tr.sd-shown:has-text('a.png')")
    page.locator("#sd-objects tr[data-key='2']").click()
    page.wait_for_selector(".sd-view.sd-part .sd-badge:has-text('around object 2')")
    page.wait_for_selector("#sd-objects tr.sd-shown[data-key='2']")
    assert page.locator(".sd-view").get_attribute("style") == "--w: 96; --h: 96"
    page.keyboard.press("w")
    page.wait_for_selector(".sd-view:not(.sd-part)")
    page.keyboard.press("a")
    page.wait_for_selector(".sd-strip")
    page.wait_for_selector(".sd-badge:has-text('alternative 1 of 3')")
    assert page.locator(".sd-strip img").count() == 3
    blue = (pixels(page, ".sd-outlines") == (*TINT, 255)).all(axis=-1)
    assert blue[4:16, 5].all() and not blue[6:14, 6:14].any()
    page.locator(".sd-strip button").nth(2).click()
    page.wait_for_selector(".sd-badge:has-text('alternative 3 of 3')")
    page.locator("#sd-pictures [data-remove]").first.click()
    wait_for(page, 1)


def test_what_fails_is_a_line_and_a_script_in_a_name_is_text(page):
    name = "<img src=x onerror=document.title='hacked'>.png"
    send(page, (name, png(picture())), ("bomb.zip", b"PK\3\4" + bytes(500)), ("b.png", b""))
    wait_for(page, 1)
    assert page.locator("#sd-pictures td").first.text_content() == name
    lines = page.locator(".sd-problems li").all_text_contents()
    assert [line.partition(":")[0] for line in lines] == ["bomb.zip", "b.png"]
    assert "PNG, JPEG, TIFF" in lines[0] and "empty" in lines[1]
    assert page.title() == "segdiff"
    assert (
        page.evaluate("document.querySelectorAll('#sd-pictures img, .sd-summary img').length") == 0
    )


def test_a_page_that_is_left_leaves_nothing(browser, address):
    _, handlers = address
    context = browser.new_context()
    page = context.new_page()
    page.goto(address[0])
    page.wait_for_selector(".sd-drop")
    send(page, ("a.png", png(picture())))
    wait_for(page, 1)
    before = len(handlers.sessions)
    context.close()
    for _ in range(100):
        if len(handlers.sessions) < before:
            break
        time.sleep(0.1)
    assert len(handlers.sessions) < before
    assert handlers.sessions.store.bytes == 0


@pytest.mark.parametrize("width", [1300, 400])
def test_nothing_is_cut_off_at_any_width(browser, address, width):
    context = browser.new_context(viewport={"width": width, "height": 800})
    page = context.new_page()
    page.goto(address[0])
    page.wait_for_selector(".sd-drop")
    send(page, ("a.png", png(picture())))
    wait_for(page, 1)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for part in page.locator("button, #sd-layers label, .sd-files a, .sd-view").all():
        box = part.bounding_box()
        assert box is None or (box["x"] >= 0 and box["x"] + box["width"] <= width)
    assert min(box.bounding_box()["width"] for box in page.locator("#sd-layers label").all()) > 60
    context.close()
