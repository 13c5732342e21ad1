"""The order of examples: pure, complete, the same after a restart and over processes."""

from itertools import islice

import numpy as np
import pytest

from segdiff_jax.data.batches import annotator, batches, generator, rows
from segdiff_jax.data.crops import random_crop
from segdiff_jax.data.example import Example
from segdiff_jax.errors import BAD_DATA, USAGE, UserError


def example(number: int, height: int = 4, width: int = 6) -> Example:
    image = np.full((height, width, 3), number, np.uint8)
    return Example(image, np.full((height, width), number % 2, np.uint8), f"image_{number}")


EXAMPLES = [example(number) for number in range(7)]


def stream(seed: int, batch_size: int, n: int, epochs: int) -> np.ndarray:
    steps = -(-n * epochs // batch_size)
    return np.concatenate([rows(seed, step, batch_size, n) for step in range(steps)])[: n * epochs]


@pytest.mark.parametrize(("batch_size", "n"), [(4, 7), (7, 7), (1, 5), (5, 3), (20, 3), (2, 1)])
def test_each_epoch_sees_each_example_once(batch_size: int, n: int):
    for epoch in stream(0, batch_size, n, epochs=6).reshape(6, n):
        assert sorted(epoch) == list(range(n))


def test_the_stream_does_not_depend_on_the_batch_size():
    truth = stream(3, 1, 7, epochs=5)
    for batch_size in (2, 4, 7, 16):
        np.testing.assert_array_equal(stream(3, batch_size, 7, epochs=5), truth)


def test_epochs_and_seeds_have_orders_of_their_own():
    orders = [tuple(epoch) for seed in range(5) for epoch in stream(seed, 4, 30, 4).reshape(4, 30)]
    assert len(set(orders)) == 20


def test_all_orders_of_three_are_as_frequent():
    orders = stream(0, 3, 3, epochs=3000).reshape(-1, 3)
    _, counts = np.unique(orders, axis=0, return_counts=True)
    assert len(counts) == 6 and abs(counts - 500).max() < 100  # five standard deviations


def test_the_order_never_changes_silently():
    assert rows(0, 0, 10, 10).tolist() == [6, 3, 8, 1, 4, 5, 9, 2, 7, 0]
    assert rows(1234567890123, 100, 8, 30).tolist() == [0, 16, 28, 22, 13, 25, 11, 18]


def test_rows_are_the_same_whatever_was_asked_before():
    late = rows(0, 900, 4, 7)
    stream(1, 4, 7, epochs=9)
    late[:] = 0  # the caller may write into its rows
    np.testing.assert_array_equal(rows(0, 900, 4, 7), stream(0, 4, 7, epochs=600)[3600:3604])


def test_batch_k_is_the_same_after_restart():
    straight = islice(batches(EXAMPLES, 4, seed=5), 3, 12)
    resumed = islice(batches(EXAMPLES, 4, seed=5, start=3), 9)
    for one, other in zip(straight, resumed, strict=True):
        np.testing.assert_array_equal(one.image, other.image)
        np.testing.assert_array_equal(one.mask, other.mask)


def test_a_batch_holds_the_examples_that_rows_names():
    for step, batch in enumerate(islice(batches(EXAMPLES, 4, seed=2), 5)):
        chosen = rows(2, step, 4, 7)
        assert batch.image.shape == (4, 4, 6, 3) and batch.mask.shape == (4, 4, 6)
        assert batch.image.dtype == batch.mask.dtype == np.uint8
        np.testing.assert_array_equal(batch.image[:, 0, 0, 0], chosen)
        np.testing.assert_array_equal(batch.mask[:, 0, 0], chosen % 2)


def test_processes_partition_the_batch_in_order():
    whole = batches(EXAMPLES, 6, seed=1)
    parts = [batches(EXAMPLES, 6, seed=1, process=(index, 3)) for index in range(3)]
    for _ in range(5):
        together = np.concatenate([next(part).image for part in parts])
        np.testing.assert_array_equal(together, next(whole).image)


@pytest.mark.parametrize(("batch_size", "count"), [(4, 3), (0, 1), (-2, 2)])
def test_a_batch_that_cannot_be_split_is_refused_at_once(batch_size: int, count: int):
    with pytest.raises(UserError, match=f"train.batch_size = {batch_size}.*{count}") as error:
        batches(EXAMPLES, batch_size, seed=0, process=(0, count))
    assert error.value.code == USAGE


IMAGE, MASK = np.zeros((4, 6, 3), np.uint8), np.zeros((4, 6), np.uint8)


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        (IMAGE, np.zeros((8, 12), np.uint8)),
        (IMAGE, np.full((4, 6), 255, np.uint8)),
        (IMAGE, MASK.astype(bool)),
        (IMAGE.astype(np.float32), MASK),
        (np.zeros((4, 6, 4), np.uint8), MASK),
        (np.zeros((4, 6), np.uint8), MASK),
        (np.zeros((6, 4, 3), np.uint8), np.zeros((6, 4), np.uint8)),
    ],
)
def test_an_example_that_does_not_fit_is_named_at_once(image: np.ndarray, mask: np.ndarray):
    with pytest.raises(UserError, match="^odd.png: ") as error:
        batches([*EXAMPLES, Example(image, mask, "odd.png")], 4, seed=0)
    assert error.value.code == BAD_DATA


def test_no_examples_are_refused():
    with pytest.raises(UserError, match="no training examples") as error:
        batches([], 4, seed=0)
    assert error.value.code == BAD_DATA


def annotated(number: int, annotators: int) -> Example:
    plain = example(number, 8, 8)
    noise = np.random.default_rng(number).integers(0, 2, (annotators, 8, 8)).astype(np.uint8)
    return plain._replace(annotations=noise)


def shown(batch, chosen, examples) -> list[int]:
    """Returns which annotator each row shows."""
    found = [
        np.flatnonzero((examples[i].annotations == mask).all((1, 2)))
        for mask, i in zip(batch.mask, chosen, strict=True)
    ]
    assert all(len(one) == 1 for one in found)
    return [int(one[0]) for one in found]


def test_as_many_visits_as_annotators_show_each_of_them_once():
    examples = [annotated(number, 3 if number % 2 else 4) for number in range(5)]
    visits = {number: [] for number in range(5)}
    for step, batch in enumerate(islice(batches(examples, 5, seed=3), 240)):
        chosen = rows(3, step, 5, 5)
        np.testing.assert_array_equal(batch.image[:, 0, 0, 0], chosen)
        for number, who in zip(chosen, shown(batch, chosen, examples), strict=True):
            visits[number].append(who)
    for number, seen in visits.items():
        count = len(examples[number].annotations)
        cycles = np.array(seen).reshape(-1, count)
        np.testing.assert_array_equal(np.sort(cycles), np.tile(np.arange(count), (len(cycles), 1)))
        assert len({tuple(cycle) for cycle in cycles}) > count  # in random order
    assert visits[0] != visits[2] and visits[1] != visits[3]


def test_the_annotators_never_change_silently():
    assert [annotator(0, position, 3, 10, 4) for position in range(0, 80, 10)] == [
        1,
        3,
        0,
        2,
        0,
        3,
        2,
        1,
    ]
    assert annotator(2**40, 10**9, 7, 8, 2) == 0


def test_annotators_are_the_same_after_restart_and_over_processes():
    examples = [annotated(number, 4) for number in range(7)]
    straight = [batch.mask for batch in islice(batches(examples, 6, seed=5), 12)]
    resumed = [batch.mask for batch in islice(batches(examples, 6, seed=5, start=4), 8)]
    np.testing.assert_array_equal(straight[4:], resumed)
    parts = [batches(examples, 6, seed=5, process=(index, 3)) for index in range(3)]
    for whole in straight:
        together = np.concatenate([next(part).mask for part in parts])
        np.testing.assert_array_equal(together, whole)


def test_annotators_move_neither_order_nor_crops():
    plain = [annotated(number, 2)._replace(annotations=None) for number in range(7)]
    several = [annotated(number, 2) for number in range(7)]
    crop = random_crop(5)
    for one, other in zip(
        islice(batches(plain, 4, 1, crop=crop), 6), batches(several, 4, 1, crop=crop), strict=False
    ):
        np.testing.assert_array_equal(one.image, other.image)


@pytest.mark.parametrize(
    "annotations", [np.zeros((2, 8, 12), np.uint8), np.full((2, 4, 6), 2, np.uint8), MASK]
)
def test_annotations_that_do_not_fit_are_named(annotations: np.ndarray):
    with pytest.raises(UserError, match="^odd.png: annotations"):
        batches([*EXAMPLES, Example(IMAGE, MASK, "odd.png", annotations=annotations)], 4, seed=0)


@pytest.mark.parametrize(("batch_size", "processes", "slots"), [(7, 2, 8), (3, 4, 8), (5, 1, 6)])
def test_padding_follows_the_rows_and_takes_no_example(batch_size, processes, slots):
    whole = batches(EXAMPLES, batch_size, seed=1)
    parts = [
        batches(EXAMPLES, batch_size, seed=1, process=(index, processes), slots=slots)
        for index in range(processes)
    ]
    for _ in range(9):
        rows_of = [next(part) for part in parts]
        assert {len(part.mask) for part in rows_of} == {slots // processes}
        together = np.concatenate([part.image for part in rows_of])
        np.testing.assert_array_equal(together[:batch_size], next(whole).image)
        assert not together[batch_size:].any()


def test_every_row_of_every_batch_is_cropped_by_its_own_place_in_the_stream():
    example = Example(np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint8), "one")

    def crop(random, shown):
        return np.full((2, 2, 3), int(random.random() * 256), np.uint8), shown.mask[:2, :2]

    stream = batches([example], 3, seed=5, crop=crop)
    found = [int(image[0, 0, 0]) for _ in range(4) for image in next(stream).image]
    assert found == [int(generator(5, place).random() * 256) for place in range(12)]
