"""Decides how many times as large each picture is predicted: as asked for, or by its pixels.

A network knows objects at the magnification of its training. Where both the pictures to train on
and a new one say how large their pixels are, `auto` brings the new one to the pixels of those.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from absl import logging

from segdiff_jax.data.image_io import pixel_size
from segdiff_jax.errors import UserError, bad_data
from segdiff_jax.prediction.inputs import Input

AUTO = "auto"  # value of --scale
LEAST, MOST = 0.05, 20.0  # of any scale
SAME = 1.02  # pixels up to this many times as large, or as small, are the same
FAR = 1.25  # beyond it a picture without a scale gets a line; training usually varies by as much


@dataclass
class Scales:
    """The scale of each picture.

    Attributes:
      fixed: of all pictures; None: by the size of their pixels.
      trained: side of a pixel of the training, micrometres; 0: it is not known.
      page: of the files, whose pixel size is read.
      given: whether the user asked for a scale, so that nothing is said of other pixels.
      chosen: what `choose` returned, by number of the picture.
    """

    fixed: float | None = 1.0
    trained: float = 0.0
    page: int = 0
    given: bool = False
    chosen: dict[int, float] = field(default_factory=dict)

    def __call__(self, number: int) -> float:
        """Returns the scale of a picture that was chosen before, by its number."""
        return self.chosen.get(number, self.fixed or 1.0)

    def choose(self, input: Input) -> float:
        """Chooses the scale of a picture by its file, and says what a user should know of it.

        Raises:
          UserError: its pixels are too far from those of the training.
        """
        scale = 1.0 if self.fixed is None else self.fixed
        if self.trained and not self.given:
            scale = self._by_pixels(input, scale)
        self.chosen[input.number] = scale
        return scale

    def _by_pixels(self, input: Input, scale: float) -> float:
        size = pixel_size.micrometres(pixel_size.read(input.path, self.page))
        if size is None:
            if self.fixed is None:
                said = "does not say how large its pixels are: it is predicted as it is"
                logging.warning("%s: %s", input.name, said)
            return scale
        factor = size / self.trained
        apart = max(factor, 1 / factor)
        found = f"its pixels measure {size:.4g} um, those of the training {self.trained:.4g}"
        if self.fixed is not None:
            if apart > FAR:
                logging.warning("%s: %s: try --scale=auto", input.name, found)
            return scale
        if apart <= SAME:
            return scale
        if not LEAST <= factor <= MOST:
            allowed = f"allowed is a scale of {LEAST:g} to {MOST:g}, not {factor:.3g}"
            raise bad_data(input.path, f"{found}; {allowed}")
        logging.info("%s: %s: it is predicted %.3g times as large", input.name, found, factor)
        return factor


def of_command(
    values: Mapping[str, object], trained: tuple[float, float], page: int, run: object
) -> Scales:
    """Returns the scales of a command line.

    Args:
      values: of its flags.
      trained: of the training: diameter of the objects, pixels, and side of a pixel, micrometres;
        0 where it is not known.
      page: of the files.
      run: what errors name.

    Raises:
      UserError: it asks for what the run does not know.
    """
    diameter, pixel = trained
    if "object_size" in values:
        size = float(values["object_size"])  # type: ignore[arg-type]
        if not diameter:
            what = f"--object_size={size:g}: {run} does not know the size of the objects it was"
            raise UserError(f"{what} trained on; allowed is --scale=F")
        return Scales(diameter / size, given=True)
    if (scale := values.get("scale", 1.0)) != AUTO:
        return Scales(float(scale), pixel, page, given="scale" in values)  # type: ignore[arg-type]
    if not pixel:
        what = f"--scale=auto: {run} does not know how large the pixels are that it was trained on"
        raise UserError(f"{what}; allowed is --scale=F, or --object_size=PIXELS")
    return Scales(None, pixel, page)
