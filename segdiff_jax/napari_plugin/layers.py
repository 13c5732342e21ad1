"""Makes layers of napari out of a picture: labels, probability and uncertainty. Needs no napari."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from segdiff_jax.api import Model
from segdiff_jax.certainty.answers import STRANGER
from segdiff_jax.certainty.prediction import Prediction
from segdiff_jax.data.image_io.reading import read_image
from segdiff_jax.errors import BAD_DATA, UserError

LayerData = tuple[np.ndarray, dict[str, Any], str]  # data, keywords and type of a layer
SAMPLES = Path(__file__).resolve().parents[1] / "samples"


def plane(data: Any, rgb: bool, index: Sequence[int] = ()) -> np.ndarray:
    """Returns the picture that a layer of images shows.

    Args:
      data: [..., H, W], or [..., H, W, 3 or 4] if rgb; what NumPy makes an array of, also lazily.
      rgb: whether the last axis are colours, the fourth of which is opacity.
      index: of the picture along each of the leading axes, such as time and depth.

    Returns:
      [H, W], or [H, W, 3].

    Raises:
      UserError: there is no such picture, or it is transparent.
    """
    leading = len(data.shape) - (3 if rgb else 2)
    if leading < 0 or 0 in data.shape:
        raise UserError(f"the image has the shape {tuple(data.shape)}: no picture", BAD_DATA)
    values = np.asarray(data[tuple(index[:leading])])
    if not rgb or values.shape[-1] != 4:
        return values
    opaque = np.iinfo(values.dtype).max if values.dtype.kind == "u" else 1
    if (values[..., 3] != opaque).any():
        raise UserError("the image is transparent: put it on a background first", BAD_DATA)
    return values[..., :3]


def predict(pixels: np.ndarray, model: Model) -> Prediction:
    """Predicts a picture [H, W] or [H, W, 3] of the types of `Model.predict`.

    Raises:
      UserError: it is of another type, or larger than `reading.max_pixels` of the model.
    """
    count, most = pixels.shape[0] * pixels.shape[1], model.config.reading.max_pixels
    if count > most:
        hint = "crop it, or use segdiff predict --max_pixels"
        raise UserError(f"the image has {count} pixels, more than {most}: {hint}", BAD_DATA)
    try:
        return model.predict(pixels)
    except ValueError as error:  # which says what came and what is allowed
        raise UserError(str(error), BAD_DATA) from error


def at_threshold(found: Prediction, threshold: float) -> Prediction:
    """Returns a prediction with the mask of another threshold in 0..1; takes no new pass."""
    return found.at(threshold)


def labels(found: Prediction) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Returns the objects of the mask.

    Returns:
      [H, W] int32, 0 is background, and what is known of each object by name: napari shows it of
      the object under the pointer. The first value is that of the background, as napari expects.
      Where classes overlap the object of the last one lies above the others.
    """
    listed = found.objects
    known = {"area": listed.area, "probability": listed.probability}
    if np.isfinite(listed.confidence).all():
        known["confidence"] = listed.confidence
    rows = {name: np.concatenate([[np.nan], np.asarray(x, float)]) for name, x in known.items()}
    shown = listed.labels.reshape(-1, *found.mask.shape).max(axis=0)
    return shown.astype(np.int32), {"index": np.arange(len(listed.area) + 1), **rows}


def layers(
    found: Prediction, name: str, leading: int = 0, place: Mapping[str, Any] | None = None
) -> list[LayerData]:
    """Returns the layers of a prediction, the last on top: uncertainty, probability, labels.

    Args:
      found: the prediction.
      name: of the layer of the image, with which theirs begin.
      leading: axes before [H, W] that the layer of the image has; theirs have one entry there.
      place: keywords that say where the layer lies: scale, translate and the like.
    """
    objects, features = labels(found)
    of_objects = {"features": features, "opacity": 0.5}
    unsure = {"colormap": "magenta", "contrast_limits": (0.0, 0.5)}
    probable = {"colormap": "viridis", "contrast_limits": (0.0, 1.0)}
    hidden = {"visible": False, "blending": "additive"}

    def layer(data: np.ndarray, what: str, more: dict[str, Any], kind: str = "image") -> LayerData:
        shaped = data.reshape((1,) * leading + data.shape)
        return shaped, {"name": f"{name} {what}", **(place or {}), **more}, kind

    return [
        layer(found.uncertainty, "uncertainty", unsure | hidden),
        layer(found.probability, "probability", probable | hidden),
        layer(objects, "labels", of_objects, "labels"),
    ]


def segment(
    image: Any,
    model: Model,
    *,
    rgb: bool = False,
    threshold: float | None = None,
    name: str = "image",
) -> list[LayerData]:
    """Segments a picture: an image and a model give the layers to show.

    Args:
      image: [H, W], or [H, W, 3 or 4] if rgb; see `Model.predict` for the types.
      model: of `segdiff_jax.load`.
      rgb: whether the last axis are colours.
      threshold: of the probability; None: that of the model.
      name: of the image, with which those of the layers begin.

    Raises:
      UserError: the image is of another shape or type, transparent, or too large.
    """
    found = predict(plane(image, rgb), model)
    return layers(found if threshold is None else at_threshold(found, threshold), name)


def summary(found: Prediction) -> str:
    """Returns what is known of a prediction in a line: its objects, and the Dice it expects."""
    count, answer = len(found.objects.area), found.answer
    said, quality = [f"{count} object{'' if count == 1 else 's'}"], answer.quality
    if np.isfinite(quality.dice):
        expected, low, high = f"expected Dice {quality.dice:.2f}", quality.low, quality.high
        said.append(f"{expected} ({low:.2f} to {high:.2f})" if np.isfinite(low) else expected)
    if answer.unlike:
        said.append(f"{STRANGER}: {', '.join(answer.unlike)}")
    return "; ".join(said)


def fluorescence() -> list[LayerData]:
    """Returns the layer of a sample picture: nuclei, fluorescence."""
    return [_sample("nuclei_fluorescence")]


def stained() -> list[LayerData]:
    """Returns the layer of a sample picture: nuclei, stained."""
    return [_sample("nuclei_stained")]


def _sample(name: str) -> LayerData:
    return read_image(SAMPLES / f"{name}.png"), {"name": name, "rgb": True}, "image"
