"""Computes the figures in the documents that take minutes at most, and compares.

    python -m benchmarks.documents

Each entry names the sentence of a document whose numbers it computes again. Figures of trainings
are not among them: the documents give their commands. Exit code 1: a figure differs.
"""

import re
import sys
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import reduced, shapes
from configs import monuseg, synthetic
from segdiff_jax.data.datasets import ambiguous
from segdiff_jax.evaluation.baselines import baseline_rows
from segdiff_jax.factory import datasets, networks

ROOT = Path(__file__).resolve().parents[1]
NUMBER = r"([\d,]*\.?\d+)"
ANNOTATORS = 256  # drawn of each picture


class Figure(NamedTuple):
    """Numbers of a sentence.

    Attributes:
        document: its path in the repository.
        sentence: a regular expression with one group for each number.
        compute: returns these numbers.
        within: share by which they may differ: half of their last digit, or the error of a draw.
    """

    document: str
    sentence: str
    compute: Callable[[], tuple[float, ...]]
    within: float = 0.0


def parameters(**model: str) -> tuple[float, ...]:
    """Returns the number of parameters of MoNuSeg's network with other values of model.*."""
    config = monuseg.get_config()
    config.model.update(model)
    side = networks.multiple(config)
    image, x_t = jnp.zeros((1, side, side, 3)), jnp.zeros((1, side, side, 1))
    made = jax.eval_shape(
        networks.model(config).init, jax.random.key(0), image, x_t, jnp.ones(1, int)
    )
    return (sum(leaf.size for leaf in jax.tree.leaves(made["params"])),)


def nuclei_thresholds() -> tuple[float, ...]:
    """Returns the Dice of the best thresholds of the training and test images of made-up nuclei."""
    config = synthetic.get_config()
    splits = config.data.train_split, config.data.test_split
    rows = baseline_rows(*(datasets.scored_examples(config, split) for split in splits))
    fair, best = list(rows.values())[1:]
    return fair["dice"], best["dice"]


def spread_of_area() -> tuple[float, ...]:
    """Returns the deviation of the areas of exact masks, mean over the ambiguous test pictures."""
    spreads = []
    for index in range(ambiguous.COUNTS["test"]):
        masks = ambiguous.annotations("test", index, ANNOTATORS, first=ambiguous.ANNOTATORS)
        spreads.append(np.std(np.count_nonzero(masks, axis=(1, 2)), ddof=1))
    return (float(np.mean(spreads)),)


@cache
def of_shapes() -> dict[str, float]:
    """Returns what `benchmarks.run --only=shapes` prints, by the name of its row."""
    return {row.name: row.sample.median for row in shapes.rows()}


def images_that_fit(name: str) -> tuple[float, ...]:
    """Returns the batches of a configuration by model.remat, and by memory."""
    fits = "{}: batch in {} GB, remat {}".format
    return tuple(of_shapes()[fits(name, gb, r)] for r in shapes.REMAT for gb in shapes.MEMORIES)


def links(name: str) -> tuple[float, ...]:
    """Returns the MB of the gradients, those that a chip sends, and the efficiencies, percent."""
    rows = of_shapes()
    sent = [rows[f"{name}: sent by a chip, {cores} cores"] for cores in shapes.CORES]
    kept = [rows[f"{name}: efficiency on paper, {cores} cores"] for cores in shapes.CORES]
    return 4 * rows[f"{name}: parameters"], *sent, *kept


def products_of_gpu() -> tuple[float, ...]:
    """Returns the GFLOP of configs/monuseg.py:gpu, of G and of a pass of the U-Net."""
    one = shapes.forward(monuseg.get_config("gpu"))
    return one.encode / 1e9, one.denoise / 1e9


def products_of_reduced() -> tuple[float, ...]:
    """Returns the GFLOP of the reduced configuration, of G and of all."""
    one = shapes.forward(reduced.get_config())
    return one.encode / 1e9, (one.encode + one.denoise) / 1e9


VARIANTS = {
    "SegDiff: F(x_t) + G(I)": {},
    "variant one: F(x_t) beside G(I)": {"conditioning": "concat"},
    "variant two: FC-HarDNet-70 for G": {"encoder": "hardnet"},
    "variant six: after the fifth": {"conditioning": "inject5"},
    "deterministic twin: G and the U-Net in one pass": {"kind": "twin"},
    "plain U-Net of the image in one pass": {"kind": "unet"},
}
SPEED = "docs/performance.md"
FITS = r" \| ".join([", ".join([NUMBER] * len(shapes.MEMORIES))] * len(shapes.REMAT))
LINKS = r" \| ".join([f"{NUMBER} MB"] * 4 + [f"{NUMBER} %"] * 3)
FIGURES = [
    *(
        Figure(
            "docs/variants.md",
            re.escape(f"| {name} | ") + rf"[^|]*\| {NUMBER} \|",
            partial(parameters, **model),
        )
        for name, model in VARIANTS.items()
    ),
    Figure(
        "docs/results.md",
        rf"made-up nuclei.*of the training images {NUMBER}, of the test images themselves {NUMBER}",
        nuclei_thresholds,
        0.0008,
    ),
    *(
        Figure(SPEED, rf"\| {name} \| {FITS} \|", partial(images_that_fit, name))
        for name in shapes.CONFIGS
    ),
    *(
        Figure(SPEED, rf"\| {name} \| {LINKS} \|", partial(links, name), 8e-4)
        for name in shapes.CONFIGS
    ),
    Figure(SPEED, rf"{NUMBER} GFLOP of G and {NUMBER} of a pass", products_of_gpu, 0.004),
    Figure(SPEED, rf"{NUMBER} of {NUMBER} GFLOP of a forward pass", products_of_reduced, 0.002),
    Figure("docs/predict.md", rf"their areas spread by {NUMBER} pixels", spread_of_area, 0.02),
    Figure("docs/answers.md", rf"is 159 of {NUMBER} ", spread_of_area, 0.02),
]


def stated(figure: Figure) -> tuple[float, ...]:
    """Returns the numbers of a sentence; raises ValueError if the document does not have it."""
    text = (ROOT / figure.document).read_text()
    found = re.search(figure.sentence.replace("\\ ", " ").replace(" ", r"\s+"), text)
    if found is None:
        raise ValueError(f"{figure.document} has no sentence like {figure.sentence!r}")
    return tuple(float(number.replace(",", "")) for number in found.groups())


def agrees(there: tuple[float, ...], now: tuple[float, ...], within: float) -> bool:
    """Returns whether numbers differ by at most a share of them."""
    return len(there) == len(now) and all(
        abs(a - b) <= within * abs(a) for a, b in zip(there, now, strict=True)
    )


def main() -> int:
    """Prints the table and returns the exit code."""
    print("| document | stated | now | |\n|---|---|---|---|")
    failed = 0
    for figure in FIGURES:
        there, now = stated(figure), figure.compute()
        fine = agrees(there, now, figure.within)
        failed += not fine
        cells = (", ".join(f"{value:.12g}" for value in values) for values in (there, now))
        print(
            f"| {figure.document} | {' | '.join(cells)} | {'' if fine else 'DIFFERS'} |", flush=True
        )
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
