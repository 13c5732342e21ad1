"""Orders the examples into batches, as a pure function of (seed, step).

No state of an iterator is saved: a run resumed at step k starts at batch k. Every process computes
the same order and keeps its own contiguous slice of the global batch.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np

from segdiff_jax.data.crops import CropFn, full_image
from segdiff_jax.data.example import Batch, Example
from segdiff_jax.errors import BAD_DATA, UserError

CROPS, ANNOTATORS = 1, 2  # separate these random numbers from those of the order


def rows(seed: int, step: int, batch_size: int, n: int) -> np.ndarray:
    """Returns the indices of the examples in the global batch of one step.

    The stream of examples is the concatenation of one permutation of 0..n-1 for each epoch; step k
    takes stream[k * batch_size : (k + 1) * batch_size]. A batch may span epochs, even several, and
    each epoch holds each example exactly once.

    Args:
        seed: of the order; not negative.
        step: counted from 0.
        batch_size: of the global batch.
        n: number of examples.

    Returns:
        [batch_size] int64 in 0..n-1.
    """
    stream = np.arange(step * batch_size, (step + 1) * batch_size)
    epochs, positions = np.divmod(stream, n)
    out = np.empty(batch_size, np.int64)
    for epoch in np.unique(epochs):
        here = epochs == epoch
        out[here] = _permutation(seed, int(epoch), n)[positions[here]]
    return out


@lru_cache(maxsize=2)  # steps of one epoch share it; sorting 20,000 numbers takes milliseconds
def _permutation(seed: int, epoch: int, n: int) -> np.ndarray:
    # The raw bits of PCG64 are stable across versions of numpy; Generator.permutation is not.
    bits = np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(epoch,)))
    permutation = np.argsort(bits.random_raw(n), kind="stable")
    permutation.flags.writeable = False
    return permutation


def generator(seed: int, position: int) -> np.random.Generator:
    """Returns the random generator for the crop of one row, a function of seed and position."""
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, position, CROPS))))


def annotator(seed: int, position: int, index: int, n: int, count: int) -> int:
    """Returns which of `count` annotators of example `index` a row shows, from 0.

    Of every `count` visits in a row each shows another annotator, in random order.

    Args:
        seed: of the order.
        position: of the row in the stream of examples, see `rows`.
        index: of the example, in 0..n-1.
        n: number of examples.
        count: of annotators of this example.
    """
    cycle, visit = divmod(position // n, count)
    words = np.random.SeedSequence((seed, cycle, index, ANNOTATORS))
    return int(np.argsort(np.random.PCG64(words).random_raw(count), kind="stable")[visit])


def batches(
    examples: Sequence[Example],
    batch_size: int,
    seed: int,
    start: int = 0,
    process: tuple[int, int] = (0, 1),
    crop: CropFn = full_image,
    slots: int = 0,
    channels: int = 1,
    bands: int = 3,
) -> Iterator[Batch]:
    """Returns an endless iterator over this process's part of the batches from step `start` on.

    Args:
        examples: their masks are as large as their images. Of several annotators a row shows one,
            see `annotator`.
        batch_size: over all processes.
        seed: of the order, the crops and the annotators.
        start: the first step.
        process: (index of this process, number of processes).
        crop: returns the part of an example to train on; of one size for all examples.
        slots: rows of a batch with padding, see `BatchLayout`; 0: batch_size, no padding.
        channels: of the masks, which hold them as bits, see `data.channels`.
        bands: channels of the images.

    Returns:
        Batches of numpy arrays, slots / number of processes rows, padding is zeros; uint8, but
        masks of more than 8 channels uint16.

    Raises:
        UserError: raised by the call, if the batch cannot be split or an example does not fit.
    """
    (index, count), slots = process, slots or batch_size
    if batch_size < 1 or slots % count:
        demand = f"must be a positive multiple of the {count} processes"
        raise UserError(f"train.batch_size = {batch_size}: {demand}")
    _check(examples, crop, channels, bands)
    share = slots // count
    mine = slice(min(index * share, batch_size), min((index + 1) * share, batch_size))
    return _stack(examples, batch_size, seed, start, mine, crop, share)


def _stack(
    examples: Sequence[Example],
    batch_size: int,
    seed: int,
    step: int,
    mine: slice,
    crop: CropFn,
    share: int,
) -> Iterator[Batch]:
    """Yields the rows `mine` of each batch, followed by zeros up to `share` rows."""
    image, mask = crop(generator(seed, 0), examples[0])
    while True:
        indices = rows(seed, step, batch_size, len(examples))[mine]
        positions = range(step * batch_size + mine.start, step * batch_size + mine.stop)
        images = np.zeros((share, *image.shape), np.uint8)
        masks = np.zeros((share, *mask.shape), mask.dtype)
        for row, (position, i) in enumerate(zip(positions, indices, strict=True)):
            visited = _visit(examples, seed, position, int(i))
            images[row], masks[row] = crop(generator(seed, position), visited)
        yield Batch(image=images, mask=masks)
        step += 1


def _visit(examples: Sequence[Example], seed: int, position: int, index: int) -> Example:
    """Returns an example with the mask of the annotator whom this row shows."""
    example = examples[index]
    if example.annotations is None:
        return example
    shown = annotator(seed, position, index, len(examples), len(example.annotations))
    return example._replace(mask=example.annotations[shown])


def _check(examples: Sequence[Example], crop: CropFn, channels: int, bands: int) -> None:
    if not examples:
        raise UserError("no training examples: at least one is needed", BAD_DATA)
    first = examples[0]
    for example in examples:
        image, mask = example.image, example.mask
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != bands:
            problem = (
                f"image is {image.dtype} {image.shape}, must be uint8 (height, width, {bands})"
            )
        elif mask.dtype != (np.uint8 if channels <= 8 else np.uint16) or (
            mask.max(initial=0) >= 2**channels
        ):
            allowed = "0 or 1" if channels == 1 else f"{channels} bits"
            found = f"mask is {mask.dtype} up to {mask.max(initial=0)}"
            problem = f"{found}, must be uint8 {allowed}"
        elif mask.shape != image.shape[:2]:
            problem = f"mask is {mask.shape}, must be as large as its image, {image.shape[:2]}"
        elif (misfit := _misfit(example)) is not None:
            problem = misfit
        elif crop is full_image and image.shape != first.image.shape:
            problem = (
                f"image is {image.shape}, must be {first.image.shape} as {first.name} is, "
                "unless augment.crop makes them one size"
            )
        else:
            continue
        raise UserError(f"{example.name}: {problem}", BAD_DATA)


def _misfit(example: Example) -> str | None:
    """Returns why the masks of several annotators do not fit; None if they do."""
    masks, shape = example.annotations, example.mask.shape
    if masks is None or (masks.shape[1:] == shape and masks.dtype == np.uint8 and masks.max() <= 1):
        return None
    return (
        f"annotations are {masks.dtype} {masks.shape}, must be uint8 0 or 1, (annotators, *{shape})"
    )
