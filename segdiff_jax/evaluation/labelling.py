"""Labels the objects of a mask: its connected components, divided where seeds tell them apart.

Objects that touch are one component. A second map that is high inside each object and low where
two meet (`data.channels.interior`) tells them apart: its summits are seeds, and each pixel of a
component of the mask belongs to the seed that a flood from the seeds reaches it from (seeded
watershed; Vincent and Soille, IEEE TPAMI 13(6), 1991). A summit counts if it rises by a little
above every pass to a higher one, whatever the height of the pass: a network that was trained for a
short time sees the seam of two objects, but not that it is no interior. A component with one seed,
or none, is one object: the map divides objects and never adds or removes one. Without such a map
the distance to the background can take its place, for objects that are about convex.

With classes and without such a map an object is of one class: a component of the mask is divided
into its regions of equal class. What is nowhere 3 pixels wide is no object there but the rim of
one, and belongs to the region beside it.
"""

import warnings
from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from segdiff_jax.evaluation.overlaps import sequential
from segdiff_jax.metrics import regions

SMALLEST = 4  # pixels of a component that counts as an object
SEED = 0.5  # value of the second map above which a summit is a seed
RISE = 0.1  # of a summit of the second map above every pass to a higher one
DEPTH = 1.0  # pixels, likewise of the distance
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)  # 4-connected, as all objects are
STRIP = 2**20  # pixels that are relabelled together


def label(
    mask: np.ndarray,
    interior: np.ndarray | None = None,
    by_distance: bool = False,
    classes: np.ndarray | None = None,
) -> np.ndarray:
    """Labels the objects of `SMALLEST` pixels or more of a mask [H, W] by 1..N, int64.

    Args:
      mask: [H, W], foreground is what is not 0.
      interior: [H, W], high inside each object and low between two: floats in 0..1, or unsigned
        integers whose largest is 1; None: there is none.
      by_distance: whether, without it, objects are divided by their distance to the background.
      classes: [H, W], the class map of the mask, which divides objects if nothing else does; None:
        it has none.
    """
    if classes is not None and interior is None and not by_distance:
        return _large(of_one_class(classes))
    labels = _large(regions(np.asarray(mask, bool)))
    if (interior is None and not by_distance) or not labels.size:
        return labels
    count = 0
    # new numbers are negative until all old ones are gone: no second array of labels
    for number, place in enumerate(ndimage.find_objects(labels), 1):
        of_place = labels[place]
        own = of_place == number
        if interior is None:
            height = ndimage.distance_transform_edt(np.pad(own, 1))[1:-1, 1:-1]  # type: ignore[index]
            seeds = own & _summits(height, DEPTH, 0)
        else:
            height = _unit(interior[place])
            seeds = own & _summits(np.where(own, height, 0), RISE, SEED)
        pieces = divide(own, seeds, height)
        of_place[own] = -(pieces[own] + count)
        count += int(pieces.max())
    return np.negative(labels, out=labels)


def numbered(planes: Sequence[np.ndarray]) -> np.ndarray:
    """Returns labels [H, W] of 1..N, several times, as one [C, H, W] whose numbers go on."""
    found, count = np.stack(planes), 0
    for plane in found:
        plane[plane > 0] += count
        count = max(count, int(plane.max(initial=0)))
    return found


def label_each(masks: np.ndarray, by_distance: bool = False) -> np.ndarray:
    """Labels the objects of each of several masks [C, H, W] that may overlap, see `numbered`."""
    return numbered([label(mask, by_distance=by_distance) for mask in masks])


def of_truth(
    mask: np.ndarray, objects: np.ndarray | None = None, classes: np.ndarray | None = None
) -> np.ndarray:
    """Returns the true objects of a mask [H, W] by 1..N: those that are known, else `label`'s.

    Args:
      mask: [H, W], foreground is what is not 0.
      objects: [H, W] integers, their labels, 0 is background; None: they are not known.
      classes: [H, W], the class map of the mask; None: it has none.
    """
    return label(mask, classes=classes) if objects is None else sequential(objects)


def of_one_class(classes: np.ndarray) -> np.ndarray:
    """Labels the regions of equal class of a class map [H, W], 0 is background, by 1..N, int64."""
    from skimage.measure import label as equal_regions  # slow to import
    from skimage.segmentation import watershed

    labels = np.asarray(equal_regions(classes, background=0, connectivity=1), np.int64)
    count = int(labels.max(initial=0))
    wide = np.zeros(count + 1, bool)
    wide[labels[_inside(labels)]] = True
    wide[0] = False
    foreground = labels > 0
    rim = foreground & ~wide[labels]
    if not rim.any():
        return labels
    markers = np.where(rim, 0, labels)
    alone = regions(foreground)  # a component that is nowhere wide is one object
    has_wide = np.zeros(int(alone.max(initial=0)) + 1, bool)
    has_wide[alone[markers > 0]] = True
    whole = foreground & ~has_wide[alone]
    markers[whole] = count + alone[whole]
    return np.asarray(
        watershed(np.zeros(labels.shape, np.uint8), markers, mask=foreground), np.int64
    )


def _inside(labels: np.ndarray) -> np.ndarray:
    """Marks the pixels of labels [H, W] whose eight neighbours have their label, or are outside."""
    padded = np.pad(labels, 1, mode="edge")
    low = ndimage.minimum_filter(padded, 3)[1:-1, 1:-1]
    high = ndimage.maximum_filter(padded, 3)[1:-1, 1:-1]
    return low == high


def divide(own: np.ndarray, seeds: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Divides one component [h, w] among its seeds by a watershed; 1..N, int64, 0 outside.

    A piece of fewer than `SMALLEST` pixels is no object: its seed does not count.

    Args:
      own: the component's pixels, bool.
      seeds: [h, w] bool, within it.
      height: [h, w], from whose summits the flood comes down.
    """
    whole = own.astype(np.int64)
    markers = regions(seeds)
    while markers.max(initial=0) > 1:
        from skimage.segmentation import watershed  # slow to import

        pieces = watershed(-height, markers, mask=own).astype(np.int64)
        small = np.flatnonzero(np.bincount(pieces.ravel())[1:] < SMALLEST) + 1
        if not small.size:
            return pieces
        markers = regions(seeds & ~np.isin(markers, small))
        seeds = markers > 0
    return whole


def _unit(values: np.ndarray) -> np.ndarray:
    """Returns values in 0..1: floats as they are, integers as shares of the largest of the type."""
    if values.dtype.kind != "u":
        return values
    return values.astype(np.float32) / np.iinfo(values.dtype).max


def _summits(height: np.ndarray, rise: float, least: float) -> np.ndarray:
    """Marks the summits of heights that are above `least` and rise enough above every pass.

    They are the regional maxima of the heights [h, w], at least 0, after those that rise by less
    than `rise` are filled (h-maxima transform; Soille, Morphological Image Analysis, 2004, 6.3.4).
    """
    from skimage.morphology import local_maxima, reconstruction  # slow to import

    height = height.astype(np.float64)
    with warnings.catch_warnings():  # scikit-image 0.26 sets the shape of an array
        warnings.simplefilter("ignore", DeprecationWarning)
        filled = reconstruction(np.maximum(height - rise, 0), height, footprint=CROSS)
    found = regions(np.asarray(local_maxima(filled, connectivity=1)))
    tops = np.zeros(int(found.max(initial=0)) + 1)
    np.maximum.at(tops, found.ravel(), height.ravel())
    return (found > 0) & (tops > least)[found]


def _large(labels: np.ndarray) -> np.ndarray:
    """Renumbers labels [H, W] without those of fewer than `SMALLEST` pixels, in place."""
    large = np.bincount(labels.ravel()) >= SMALLEST
    large[:1] = False
    new = np.cumsum(large) * large
    step = max(1, STRIP // max(labels.shape[1], 1))
    for top in range(0, len(labels), step):  # a whole copy would double the memory
        labels[top : top + step] = new[labels[top : top + step]]
    return labels
