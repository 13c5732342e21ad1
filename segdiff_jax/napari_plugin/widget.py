"""The widget "Segment with segdiff": asks for an image layer and a model, and adds three layers.

Loading, compiling and predicting run in a thread of napari's; errors are one line in the widget and
a notification. The threshold of what was predicted moves without another pass.
"""

# pyright: reportMissingImports=false
# napari is an extra, and in no environment of the checks
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from magicgui.widgets import ComboBox, Container, FileEdit, FloatSlider, Label, PushButton
from napari.layers import Image, Layer
from napari.qt.threading import create_worker
from napari.utils.notifications import show_error
from napari.utils.transforms import Affine
from napari.viewer import Viewer

from segdiff_jax import api
from segdiff_jax.certainty.prediction import Prediction
from segdiff_jax.checkpoint import places
from segdiff_jax.config.allowed import BUDGETS
from segdiff_jax.errors import UserError, one_line
from segdiff_jax.napari_plugin import layers

AS_TRAINED = "as trained"
OF_IMAGE = ("scale", "rotate", "shear", "affine", "units")  # what results have as the image has it


class Shown(NamedTuple):
    """What was predicted last.

    Attributes:
      of: the layer of the image.
      index: of the picture along the leading axes of a stack.
      found: the prediction, at the threshold of the labels.
      maps: the layers of the uncertainty and the probability.
      labels: the layer of the labels.
      objects: the labels as they were made; napari paints into the array of the layer.
    """

    of: Layer
    index: tuple[int, ...]
    found: Prediction
    maps: list[Layer]
    labels: Any
    objects: np.ndarray

    def is_edited(self) -> bool:
        """Returns whether a person has changed the labels."""
        return not np.array_equal(self.labels.data, self.objects)


class Segment(Container):
    """Segments the picture that a layer of images shows.

    Attributes:
      image: the layer; of a stack, the picture at the place of the sliders is segmented.
      model: a network of the package, unless
      folder: names a run, or an exported model.
      budget: see `segdiff predict --budget`.
      threshold: of the probability.
      run: the button.
      said: what was found, or what was wrong.
    """

    def __init__(self, viewer: Viewer) -> None:
        """Builds the widget of a viewer."""
        self.viewer = viewer
        self._model: tuple[tuple[str | Path, str], api.Model] | None = None
        self._shown: Shown | None = None
        self.image = ComboBox(choices=lambda _: self._images(), label="image")
        self.model = ComboBox(choices=places.shipped(), label="model")
        self.folder = FileEdit(mode="d", label="or a run's folder", value="")
        self.budget = ComboBox(choices=(AS_TRAINED, *BUDGETS), label="budget")
        # napari's style leaves no room for the number beside a slider: the label has it
        limits = {"min": 0.01, "max": 0.99, "step": 0.01}
        self.threshold = FloatSlider(value=0.5, **limits, readout=False, label="threshold 0.50")
        self.run = PushButton(text="Segment")
        self.said = Label(value="")
        super().__init__(
            widgets=[
                *(self.image, self.model, self.folder, self.budget, self.threshold),
                *(self.run, self.said),
            ]
        )
        self.said.native.setWordWrap(True)
        self.threshold.tracking = False  # one change when the slider is let go
        for event in (viewer.layers.events.inserted, viewer.layers.events.removed):
            event.connect(lambda _: self.image.reset_choices())
        self.run.changed.connect(lambda: self.segment())
        self.threshold.changed.connect(lambda: self.relabel())

    def _images(self) -> list[Layer]:
        """Returns the image layers of the viewer."""
        return [layer for layer in self.viewer.layers if isinstance(layer, Image)]

    def segment(self) -> None:
        """Predicts the chosen picture in a thread, and adds or replaces its layers."""
        try:
            work, show = self._work()
        except Exception as error:
            self.fail(error)
            return
        self.run.enabled, self.said.value = False, "predicting; the first time compiles"
        worker = create_worker(
            work,
            _start_thread=False,
            _progress={"desc": "segdiff"},
            _ignore_errors=True,  # `fail` says them
        )
        worker.returned.connect(show)
        worker.errored.connect(self.fail)
        worker.finished.connect(lambda: setattr(self.run, "enabled", True))
        worker.start()

    def _work(self) -> tuple[Callable[[], Prediction], Callable[[Prediction], None]]:
        """Returns what the thread does with what is chosen now, and how its result is shown."""
        layer = self.image.value
        if layer is None:
            raise UserError("no image layer is chosen: open a picture, or drop one on the viewer")
        data, rgb = layer.data[0] if layer.multiscale else layer.data, layer.rgb
        index = self._index(layer, len(data.shape) - (3 if rgb else 2), data.shape)
        budget = "" if self.budget.value == AS_TRAINED else self.budget.value
        folder, threshold = str(self.folder.value), self.threshold.value
        chosen = (Path(folder) if folder not in ("", ".") else self.model.value), budget

        def work() -> Prediction:
            pixels = layers.plane(data, rgb, index)
            found = layers.at_threshold(layers.predict(pixels, self._loaded(*chosen)), threshold)
            layers.summary(found)  # finds the objects and the rest here, which the prediction keeps
            return found

        return work, partial(self.show, layer, index)

    def _index(self, layer: Layer, leading: int, shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the entry of the leading axes of a stack that the sliders of the viewer show."""
        point = layer.world_to_data(self.viewer.dims.point)[-layer.ndim :]
        of = zip(point[:leading], shape[:leading], strict=True)
        return tuple(int(np.clip(round(float(x)), 0, n - 1)) for x, n in of)

    def _loaded(self, name: str | Path, budget: str) -> api.Model:
        """Returns a model, the last one without loading it again."""
        if self._model is None or self._model[0] != (name, budget):
            self._model = (name, budget), api.load(name, budget=budget or None)
        return self._model[1]

    def show(self, layer: Layer, index: tuple[int, ...], found: Prediction) -> None:
        """Shows a prediction of a layer, in place of what was shown of it before."""
        if (shown := self._shown) is not None and shown.of is layer:
            for old in (*shown.maps, *(() if shown.is_edited() else [shown.labels])):
                if old in self.viewer.layers:
                    self.viewer.layers.remove(old)
        *maps, labels = [self._add(one) for one in self._layers(layer, index, found)]
        self._shown = Shown(layer, index, found, maps, labels, labels.data.copy())
        self.said.value = layers.summary(found)

    def _layers(
        self, layer: Layer, index: tuple[int, ...], found: Prediction
    ) -> list[layers.LayerData]:
        return layers.layers(found, layer.name, len(index), place(layer, index))

    def _add(self, one: layers.LayerData) -> Any:
        return self.viewer.add_layer(Layer.create(*one))

    def relabel(self) -> None:
        """Moves the threshold of what was predicted last; labels edited by hand stay beside it."""
        self.threshold.label = f"threshold {self.threshold.value:.2f}"
        shown = self._shown
        if shown is None or shown.labels not in self.viewer.layers:
            return
        found, labels = layers.at_threshold(shown.found, self.threshold.value), shown.labels
        *_, (data, keywords, _) = made = self._layers(shown.of, shown.index, found)
        if shown.is_edited():
            labels = self._add(made[-1])
        else:
            labels.data, labels.features = data, keywords["features"]
        self._shown = shown._replace(found=found, labels=labels, objects=data.copy())
        self.said.value = layers.summary(found)

    def fail(self, error: Exception) -> None:
        """Says an error in one line."""
        self.said.value = one_line(error)
        show_error(self.said.value)


def place(layer: Layer, index: tuple[int, ...]) -> dict[str, Any]:
    """Returns where the picture at an entry of the leading axes of a layer lies, as keywords."""
    found = {name: getattr(layer, name) for name in OF_IMAGE if hasattr(layer, name)}
    linear = Affine(scale=layer.scale, rotate=layer.rotate, shear=layer.shear).linear_matrix
    return found | {"translate": layer.translate + linear @ (*index, 0, 0)}
