"""The set of touching discs: classes, objects, and that the mean of a disc tells no class."""

import numpy as np
from scipy import ndimage

from segdiff_jax.data.datasets import discs
from segdiff_jax.data.datasets.registry import Source

SCENES = [discs.draw("train", i) for i in range(12)]


def test_a_picture_has_three_pairs_of_discs_of_both_classes_that_touch_and_keep_apart():
    for scene in SCENES:
        components, count = ndimage.label(scene.objects, np.ones((3, 3)))
        assert count == 3 and len(np.unique(scene.objects)) == 7
        for number in (1, 2, 3):
            inside = components == number
            assert len(np.unique(scene.objects[inside])) == 2
            assert set(np.unique(scene.classes[inside])) == {discs.PLAIN, discs.STRIPED}
        for number in range(1, 7):
            assert len(np.unique(scene.classes[scene.objects == number])) == 1


def test_the_classes_are_as_bright_as_one_another_and_differ_in_their_spread():
    means, spreads = {}, {}
    for kind in (discs.PLAIN, discs.STRIPED):
        values = np.concatenate([s.image[s.classes == kind].mean(axis=-1) for s in SCENES])
        means[kind], spreads[kind] = values.mean(), values.std()
    assert abs(means[1] - means[2]) < 8 and spreads[2] > 1.5 * spreads[1]


def test_the_prepared_set_holds_classes_and_objects(tmp_path):
    found = Source("discs", "", str(tmp_path)).load("validation")
    assert len(found) == 16
    drawn = discs.draw("validation", 3)
    np.testing.assert_array_equal(found[3].classes, drawn.classes)
    np.testing.assert_array_equal(found[3].objects, drawn.objects)
    np.testing.assert_array_equal(found[3].mask, drawn.classes > 0)
