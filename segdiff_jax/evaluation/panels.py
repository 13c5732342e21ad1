"""One picture per image: what went in, what came out, where it is wrong and where it is unsure.

The panel is a grid of five columns. Above: image, truth, mean probability, disagreement, errors.
Below: up to four single generations, then the key to the colours. A network that draws nothing has
no generations to show or to disagree: uncertainty stands there, see `averaging.uncertainty`.
"""

from collections.abc import Mapping

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from segdiff_jax.inference.averaging import uncertainty
from segdiff_jax.metrics import LABELS

# Light grey for right leaves the eye to the errors; orange and blue differ in any colour vision.
HIT, FALSE_ALARM, MISS = (232, 232, 232), (235, 97, 0), (0, 150, 255)


COLUMNS = 5


SMALLEST, LARGEST = 200, 320  # of the longer side of a cell, pixels


GAP, TITLE, HEADER = 12, 24, 60  # around cells, above a cell, above the grid, pixels


KEY_HEIGHT = 190  # of the key to the colours, which flat images would cut


def panel(
    image: np.ndarray,
    truth: np.ndarray,
    generations: np.ndarray,
    probability: np.ndarray,
    name: str,
    scores: Mapping[str, float],
    random: bool = True,
) -> Image.Image:
    """Draws the panel of one image; every cell has the shape of the truth.

    Args:
      image: [H, W, 3] uint8.
      truth: [h, w] in {0, 1}.
      generations: [S, h', w'] in 0..1; the first four are shown, all count in the disagreement.
      probability: [h, w] in 0..1, the mean over generations; foreground is above 0.5.
      name: of the image, for the heading.
      scores: by key of `metrics.LABELS`, for the heading; nan is written "undefined".
      random: whether the generations are drawn; if not, there is one, and it is not shown again.
    """
    soft = np.clip(generations, 0, 1)
    doubt, single = ("disagreement", soft[:4]) if random else ("uncertainty", soft[:0])
    above = {
        "image": image,
        "truth": _colour(truth > 0, "gray"),
        "mean probability" if random else "probability": _colour(probability, "jet"),
        # Numbers in 0..1 have a standard deviation of at most one half.
        doubt: _colour(2 * uncertainty(soft, random), "inferno"),
        "errors": error_map(image, truth, probability),
    }
    below = {f"generation {i + 1}": _colour(map_, "jet") for i, map_ in enumerate(single)}
    height, width = cell_size(truth.shape)
    column, row = max(width, SMALLEST) + GAP, height + TITLE + GAP
    size = COLUMNS * column + GAP, HEADER + row + max(row, KEY_HEIGHT)
    sheet = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((GAP, 8), name, "black", _font(20))
    draw.text((GAP, 36), "    ".join(_written(*item) for item in scores.items()), "#444", _font(15))
    for y, cells in ((HEADER, above), (HEADER + row, below)):
        for i, (title, picture) in enumerate(cells.items()):
            x = GAP + i * column
            draw.text((x, y), title, "black", _font(15))
            sheet.paste(_fit(picture, (height, width)), (x, y + TITLE))
    _draw_key(sheet, GAP + (COLUMNS - 1) * column, HEADER + row, f"{doubt} (std)")
    return sheet


def cell_size(shape: tuple[int, ...]) -> tuple[int, int]:
    """(height, width) at which a map of this shape is shown: small ones a whole number of times."""
    longest = max(shape)
    factor = max(1, round(SMALLEST / longest)) if longest <= LARGEST else LARGEST / longest
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def error_map(image: np.ndarray, truth: np.ndarray, probability: np.ndarray) -> np.ndarray:
    """Hits, false alarms and misses in colour over the darkened image; [h, w, 3] uint8."""
    true, pred = truth > 0, probability > 0.5
    height, width = true.shape
    dark = Image.fromarray(image).convert("L").resize((width, height), Image.Resampling.BILINEAR)
    colours = np.repeat(np.asarray(dark)[..., None] * 0.4, 3, axis=-1)
    colours[true & pred] = HIT
    colours[~true & pred] = FALSE_ALARM
    colours[true & ~pred] = MISS
    return colours.astype(np.uint8)


def _colour(values: np.ndarray, scale: str) -> np.ndarray:
    """Values [h, w], 0..1 -> uint8 [h, w, 3] on a colour scale of matplotlib."""
    from matplotlib import colormaps  # slow to import, and only reports need it

    return colormaps[scale](np.asarray(values, np.float32), bytes=True)[..., :3]


def _fit(picture: np.ndarray, size: tuple[int, int]) -> Image.Image:
    """Enlarges by nearest neighbour, so that pixels stay visible; reduces by averaging."""
    smaller = size[0] < picture.shape[0] or size[1] < picture.shape[1]
    how = Image.Resampling.BOX if smaller else Image.Resampling.NEAREST
    return Image.fromarray(picture).resize((size[1], size[0]), how)


def _draw_key(sheet: Image.Image, x: int, y: int, doubt: str) -> None:
    """The meaning of the colours, in a cell without a picture."""
    draw = ImageDraw.Draw(sheet)
    for title, scale, (low, middle, high) in (
        ("probability", "jet", ("0", "0.5", "1")),
        (doubt, "inferno", ("0", "0.25", "0.5")),
    ):
        draw.text((x, y), title, "black", _font(15))
        bar = _colour(np.tile(np.linspace(0, 1, SMALLEST - 20), (12, 1)), scale)
        sheet.paste(Image.fromarray(bar), (x, y + 20))
        for at, text, anchor in ((0, low, "la"), (0.5, middle, "ma"), (1, high, "ra")):
            draw.text((x + at * bar.shape[1], y + 34), text, "#444", _font(13), anchor)
        y += 56
    for colour, meaning in (
        (HIT, "foreground, found"),
        (MISS, "foreground, missed"),
        (FALSE_ALARM, "background, marked"),
    ):
        draw.rectangle((x, y + 3, x + 13, y + 16), colour, "#888")
        draw.text((x + 20, y), meaning, "black", _font(15))
        y += 22


def _written(key: str, value: float) -> str:
    return f"{LABELS.get(key, key)} {f'{value:.3f}' if np.isfinite(value) else 'undefined'}"


def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
