"""Faults of augmentation, batches, crops, data sets, image files and metrics."""

from mutation import listed

AUGMENT, BATCHES = "data/test_augment.py", "data/test_batches.py"
METRICS = "test_metrics.py"

AUGMENTATION = [
    (
        "the mask is not mirrored",
        "mask = jnp.where(coins[axis], jnp.flip(mask, axis), mask)",
        "mask = mask",
        AUGMENT,
    ),
    (
        "rotation is to one side",
        "minval=-degrees, maxval=degrees",
        "minval=0, maxval=degrees",
        AUGMENT,
    ),
    (
        "angle and scale share a key",
        "uniform(scale_key, minval=low",
        "uniform(angle_key, minval=low",
        AUGMENT,
    ),
    (
        "the mask is turned the other way",
        "nearest = at(mask, jnp.floor(from_y), jnp.floor(from_x))",
        "nearest = at(mask, jnp.floor(from_x), jnp.floor(from_y))",
        AUGMENT,
    ),
    (
        "what comes from outside is foreground",
        "jnp.where(inside, nearest, 0)",
        "jnp.where(inside, nearest, 1)",
        AUGMENT,
    ),
    ("brightness may be negative", "max(0.0, 1.0 - strength)", "1.0 - strength", AUGMENT),
    (
        "the order of changes is fixed",
        "order = jax.random.permutation(order_key, jnp.array(kinds, jnp.int32))",
        "order = jnp.array(kinds, jnp.int32)",
        AUGMENT,
    ),
    (
        "all images are inverted or none",
        "jax.random.bernoulli(key, probability)",
        "probability > 0.2",
        AUGMENT,
    ),
    (
        "pieces of a chain share a key",
        "each(jax.random.fold_in(key, i), image, mask)",
        "each(key, image, mask)",
        AUGMENT,
    ),
]
BATCH = [
    (
        "every epoch has the order of the first",
        "_permutation(seed, int(epoch), n)",
        "_permutation(seed, 0, n)",
        BATCHES,
    ),
    (
        "crops are those of the first batch",
        "images[row], masks[row] = crop(generator(seed, position), visited)",
        "images[row], masks[row] = crop(generator(seed, row), visited)",
        BATCHES,
    ),
    (
        "a process reads the rows of another",
        "mine = slice(min(index * share, batch_size)",
        "mine = slice(min(0 * share, batch_size)",
        BATCHES,
    ),
    (
        "annotators are drawn, not visited in turn",
        "divmod(position // n, count)",
        "divmod(0 * position // n, count)",
        BATCHES,
    ),
]
EXAMPLE = [
    (
        "the image is not centred",
        "(image - jnp.asarray(mean, jnp.float32))",
        "image",
        "data/test_example.py",
    ),
    (
        "a tie of annotators is background",
        "(2 * annotations.sum(axis=0, dtype=np.int64) >= len(annotations))",
        "(2 * annotations.sum(axis=0, dtype=np.int64) > len(annotations))",
        "data/test_example.py",
    ),
    (
        "a mask is 0 and 1 inside the diffusion",
        "return 2.0 * to_bits(mask, channels) - 1.0",
        "return to_bits(mask, channels)",
        "data/test_example.py",
    ),
]
CHANNELS = [
    (
        "the interior is the whole object",
        "inside = distance > max(DEPTH * largest, LEAST)",
        "inside = distance > 0",
        "data/test_channels.py",
    ),
]
CROPS = [
    (
        "the last row is never cropped",
        "(height - size + 1, width - size + 1)",
        "(height - size, width - size + 1)",
        "data/test_crops.py",
    ),
    (
        "small images are padded with zeros",
        'mode="reflect")',
        'mode="constant")',
        "data/test_crops.py",
    ),
]
RESIZE = [
    (
        "corners are aligned",
        "(np.arange(wanted) + 0.5) * n / wanted - 0.5",
        "np.arange(wanted) * n / wanted",
        "data/test_resize.py",
    ),
    (
        "nearest is that of centres",
        "np.arange(to) * n // to",
        "(2 * np.arange(to) + 1) * n // (2 * to)",
        "data/test_resize.py",
    ),
]
OBJECT_CROPS = [
    (
        "expansions stop short of the highest",
        "int(drawn * (high - low + 1))",
        "int(drawn * (high - low))",
        "data/test_object_crops.py",
    ),
    (
        "an expansion is drawn once",
        "generator.random() if redraw else",
        "generator.random() if not redraw else",
        "data/test_object_crops.py",
    ),
    (
        "a window moves by the whole percentage",
        "Fraction(200 * edge + by, 200)",
        "Fraction(100 * edge + by, 100)",
        "data/test_object_crops.py",
    ),
]
FACTORY = [
    (
        "a data set's augmentation does not flip vertically",
        "augment.flip(c.horizontal_flip, c.vertical_flip)",
        "augment.flip(c.horizontal_flip, False)",
        "factory/test_augmentation.py",
    ),
    ("no colour jitter", "augment.color_jitter(*c.jitter),", "", "factory/test_augmentation.py"),
    (
        "no rotation and scale",
        "augment.affine(c.rotate, tuple(c.scale)),",
        "",
        "factory/test_augmentation.py",
    ),
    (
        "a subset is of all splits",
        "if training else loaded",
        "if True else loaded",
        "factory/test_augmentation.py",
    ),
]
MONUSEG = [
    ("holes are filled", "return mask & ~holes", "return mask", "data/datasets/test_aperio_xml.py"),
]
VAIHINGEN = [
    (
        "a pixel needs more than half of its four",
        "(means >= 0.5)",
        "(means > 0.5)",
        "data/datasets/test_vaihingen.py",
    ),
    (
        "images are averaged in the authors' set",
        "return resize.nearest(image, SIZE), (means",
        "return np.rint(resize.bilinear(image, SIZE)).astype(np.uint8), (means",
        "data/datasets/test_vaihingen.py",
    ),
]
VALUES = [
    (
        "12 bits in 16 are divided by 65535",
        "for bottom, top in _usual(values.dtype):",
        "for bottom, top in [_whole(values.dtype)]:",
        "data/image_io/test_value_range.py",
    ),
    (
        "values are cut, not rounded",
        "np.rint(np.clip((rows - chosen.low) * factor, 0, 255))",
        "np.floor(np.clip((rows - chosen.low) * factor, 0, 255))",
        "data/image_io/test_value_range.py data/image_io/test_reading.py",
    ),
    (
        "white is black where the file says so",
        "part = 255 - part if pixels.inverted else part",
        "part = part",
        "data/image_io/test_value_range.py data/image_io/test_reading.py",
    ),
]
SCORES = [
    (
        "the Dice without its factor",
        "return 2 * _area(pred & true) / areas if areas else 0.0",
        "return _area(pred & true) / areas if areas else 0.0",
        METRICS,
    ),
    (
        "the IoU of the sum of areas",
        "union = _area(pred | true)",
        "union = _area(pred) + _area(true)",
        METRICS,
    ),
    (
        "a probability of 1/2 is foreground",
        "pred = probability > 0.5",
        "pred = probability >= 0.5",
        METRICS,
    ),
    (
        "a tolerance excludes its own distance",
        "np.sum(to_true <= radius), np.sum(to_pred <= radius)",
        "np.sum(to_true < radius), np.sum(to_pred < radius)",
        METRICS,
    ),
    ("a boundary has no lower-right neighbour", " | (here ^ inside[1:, 1:])", "", METRICS),
    (
        "bins weigh as many pixels as they have",
        "np.mean(((probability - positives) / count) ** 2)",
        "np.average(((probability - positives) / count) ** 2, weights=count)",
        METRICS,
    ),
    (
        "regions count alike",
        "np.average(best[1:], weights=true_area[1:])",
        "np.average(best[1:])",
        METRICS,
    ),
    ("the spread divides by n", "np.std(known, ddof=1)", "np.std(known, ddof=0)", METRICS),
    (
        "the area ratio is inverted",
        "return small / large if large",
        "return large / max(small, 1) if large",
        METRICS,
    ),
]

MUTATIONS = listed(
    {
        "data/augment": AUGMENTATION,
        "data/batches": BATCH,
        "data/example": EXAMPLE,
        "data/channels": CHANNELS,
        "data/crops": CROPS,
        "data/resize": RESIZE,
        "data/object_crops": OBJECT_CROPS,
        "factory/datasets": FACTORY,
        "data/datasets/aperio_xml": MONUSEG,
        "data/datasets/vaihingen": VAIHINGEN,
        "data/image_io/value_range": VALUES,
        "metrics": SCORES,
    }
)
