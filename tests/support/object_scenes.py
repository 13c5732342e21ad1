"""Label images of touching, split, merged, missed and added objects, made of a small recurrence."""

import numpy as np

SIZE = 60, 80


def numbers(seed, count, limit):
    """Returns whole numbers below a limit, the same with every version of NumPy."""
    found = []
    for _ in range(count):
        seed = seed * 48271 % (2**31 - 1)  # the minimal standard generator
        found.append(seed % limit)
    return found


def scene(seed):
    """Returns labels of predicted and true objects, [H, W] int32 each; 0 is background."""
    true, found = np.zeros((2, *SIZE), np.int32)
    for i in range(20):
        row, column = divmod(i, 5)
        y, x, h, w, dy, dx, kind = numbers(seed * 100 + i + 1, 7, 10**6)
        top, left = 15 * row + y % 3, 16 * column + x % 3
        box = top, left, 8 + h % 5, 8 + w % 7
        moved = top + dy % 3, left + dx % 3, *box[2:]
        if kind % 8 != 0:
            fill(true, box, i + 1)
        if kind % 8 != 1:
            fill(found, moved, i + 1)
        if kind % 8 == 2:
            fill(found, (*moved[:3], box[3] // 2), 50 + i)  # split
        if kind % 8 == 3:
            fill(true, (top, left, box[2] // 2, box[3]), 50 + i)  # merged
    return found, true


def fill(labels, box, value):
    top, left, height, width = box
    labels[top : top + height, left : left + width] = value
