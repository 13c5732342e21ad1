"""Labels the objects of a mask: its connected components, divided where seeds tell them apart.

Objects that touch are one component. A second map that is high inside each object and low where
two meet (`data.channels.interior`) tells them apart: its summits are seeds, and each pixel of a
component of the mask belongs to the seed that a flood from the seeds reaches it from (seeded
watershed; Vincent and Soille, IEEE TPAMI 13(6), 1991). A summit counts if it rises by a little
above every pass to a higher one, whatever the height of the pass: a network that was trained for a
short time sees the seam of two objects, but not that it is no interior. A component with one seed,
or none, is one object: the map divides objects and never adds or removes one. Without such a map
the distance to the background can take its place, for objects that are about convex.
"""

import warnings

import numpy as np
from scipy import ndimage

from segdiff_jax.metrics import regions

SMALLEST = 4  # pixels of a component that counts as an object
SEED = 0.5  # value of the second map above which a summit is a seed
RISE = 0.1  # of a summit of the second map above every pass to a higher one
DEPTH = 1.0  # pixels, likewise of the distance
CROSS = np.array([[0, 1, 0], [1, 1, 1], [0, 1, 0]], bool)  # 4-connected, as all objects are
STRIP = 2**20  # pixels that are relabelled together


def label(
    mask: np.ndarray, interior: np.ndarray | None = None, by_distance: bool = False
) -> np.ndarray:
    """Labels the objects of `SMALLEST` pixels or more of a mask [H, W] by 1..N, int64.

    Args:
      mask: [H, W], foreground is what is not 0.
      interior: [H, W], high inside each object and low between two: floats in 0..1, or unsigned
        integers whose largest is 1; None: there is none.
      by_distance: whether, without it, objects are divided by their distance to the background.
    """
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
