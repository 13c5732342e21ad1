"""The widget in a viewer that is drawn nowhere; only where napari is installed."""

import os
import time
import warnings
from importlib.util import find_spec

import numpy as np
import pytest
from bright_model import SCENE, Brightness

from segdiff_jax.errors import UserError

HERE = all(find_spec(name) for name in ("napari", "qtpy", "magicgui"))
pytestmark = [
    pytest.mark.skipif(
        not HERE, reason="napari is not installed: pip install 'segdiff_jax[napari]' 'napari[all]'"
    ),
    pytest.mark.filterwarnings("ignore"),  # of napari, Qt and what they import
    pytest.mark.slow,
]


class Screen:
    """A viewer with the widget, and what a person does."""

    def __init__(self, viewer, widget):
        self.viewer, self.widget = viewer, widget

    def press(self):
        """Presses the button and waits for the end; returns the line that is shown then."""
        self.widget.run.changed.emit(True)
        return self.wait()

    def wait(self):
        from qtpy.QtWidgets import QApplication

        end = time.monotonic() + 60
        while not self.widget.run.enabled or self.widget.said.value.startswith("predicting"):
            assert time.monotonic() < end, self.widget.said.value
            QApplication.processEvents()
            time.sleep(0.01)
        return self.widget.said.value

    def names(self):
        return [layer.name for layer in self.viewer.layers]


@pytest.fixture
def model(monkeypatch):
    from segdiff_jax.napari_plugin import widget

    made = Brightness()
    made.asked = []

    def load(name, budget):
        made.asked.append((name, budget))
        if str(name).startswith("/no"):
            raise UserError(f"{name} holds no run:\nit has no config.json")
        return made

    monkeypatch.setattr(widget.api, "load", load)
    return made


@pytest.fixture
def screen(monkeypatch):
    """The widget with a viewer that has no canvas: that would need OpenGL."""
    monkeypatch.setenv("QT_QPA_PLATFORM", os.environ.get("QT_QPA_PLATFORM", "offscreen"))
    with warnings.catch_warnings(action="ignore"):
        from napari.components import ViewerModel
        from qtpy.QtWidgets import QApplication

        from segdiff_jax.napari_plugin.widget import Segment

        application = QApplication.instance() or QApplication([])
        viewer = ViewerModel()
        yield Screen(viewer, Segment(viewer))
        application.processEvents()


def test_a_picture_gets_three_layers_where_it_lies(screen, model):
    screen.viewer.add_image(SCENE, name="cells", scale=(0.5, 0.25), translate=(3, 4))
    assert screen.press() == "3 objects"
    assert screen.names() == ["cells", "cells uncertainty", "cells probability", "cells labels"]
    for layer in screen.viewer.layers:
        np.testing.assert_array_equal(layer.scale, (0.5, 0.25))
        np.testing.assert_array_equal(layer.translate, (3, 4))
    labels = screen.viewer.layers["cells labels"]
    np.testing.assert_array_equal(labels.data > 0, SCENE > 127)
    assert model.asked == [("nuclei", None)] and model.passes == 1
    assert "area: 36" in labels.get_status((3 + 0.5 * 4, 4 + 0.25 * 5), world=True)["value"]


def test_the_threshold_moves_without_a_pass_and_a_second_press_replaces_the_layers(screen, model):
    screen.viewer.add_image(SCENE, name="cells")
    screen.press()
    screen.widget.threshold.value = 0.8
    labels = screen.viewer.layers["cells labels"]
    assert labels.data.max() == 2 and screen.widget.said.value == "2 objects"
    assert model.passes == 1
    screen.widget.budget.value = "fast"
    assert screen.press() == "2 objects" and len(screen.names()) == 4
    assert model.asked[-1] == ("nuclei", "fast") and model.passes == 2
    assert screen.press() == "2 objects" and len(model.asked) == 2  # it is loaded


def test_labels_that_were_edited_are_kept(screen, model):
    screen.viewer.add_image(SCENE, name="cells")
    screen.press()
    labels = screen.viewer.layers["cells labels"]
    labels.data[25:28, 1:9] = 7  # as the brush does
    edited = labels.data.copy()
    screen.widget.threshold.value = 0.8
    screen.press()
    np.testing.assert_array_equal(labels.data, edited)
    assert labels in screen.viewer.layers
    assert sum(name.startswith("cells labels") for name in screen.names()) == 2


def test_of_a_stack_the_picture_that_is_shown_is_segmented(screen, model):
    stack = np.stack([np.zeros_like(SCENE), SCENE[::-1], SCENE])
    screen.viewer.add_image(stack, name="stack", scale=(2, 1, 1), translate=(10, 0, 0))
    screen.viewer.dims.set_point(0, 12)  # the second
    assert screen.press() == "3 objects"
    labels = screen.viewer.layers["stack labels"]
    np.testing.assert_array_equal(labels.data[0] > 0, SCENE[::-1] > 127)
    np.testing.assert_array_equal(labels.translate, (12, 0, 0))


def test_colours_and_pyramids_are_pictures(screen, model):
    colours = np.stack([SCENE] * 3, axis=-1)
    screen.viewer.add_image(colours, rgb=True, name="colours")
    assert screen.press() == "3 objects"
    screen.viewer.layers.clear()
    large = np.kron(SCENE, np.ones((2, 2), np.uint8))
    screen.viewer.add_image([large, SCENE], multiscale=True, name="pyramid")
    assert screen.press() == "3 objects"
    assert screen.viewer.layers["pyramid labels"].data.shape == large.shape


@pytest.mark.parametrize(
    "image, folder, line",
    [
        (None, "", "no image layer is chosen: open a picture, or drop one on the viewer"),
        (SCENE.astype(np.int32), "", "the image is int32 from 0 to 255; allowed are "),
        (SCENE, "/no/run", "/no/run holds no run: it has no config.json"),
    ],
)
def test_errors_are_one_line_and_the_button_works_again(screen, model, image, folder, line):
    if image is not None:
        screen.viewer.add_image(image)
    screen.widget.folder.value = folder
    said = screen.press()
    assert said.startswith(line) and "\n" not in said
    assert screen.widget.run.enabled
    screen.viewer.layers.clear()
    screen.viewer.add_image(SCENE)
    screen.widget.folder.value = ""
    assert screen.press() == "3 objects"


def test_the_menu_opens_it_beside_a_viewer_and_sample_pictures_in_it(screen):
    import napari

    viewer = napari.Viewer(show=False)
    _, widget = viewer.window.add_plugin_dock_widget("segdiff_jax", "Segment with segdiff")
    assert type(widget) is type(screen.widget) and widget.viewer.title == viewer.title
    viewer.close()
    for key in ("fluorescence", "stained"):
        screen.viewer.open_sample("segdiff_jax", key)
    assert screen.names() == ["nuclei_fluorescence", "nuclei_stained"]


def test_the_manifest_is_valid():
    from npe2 import PluginManifest

    manifest = PluginManifest.from_distribution("segdiff_jax")
    manifest.validate_imports()
    assert manifest.display_name == "SegDiff"
