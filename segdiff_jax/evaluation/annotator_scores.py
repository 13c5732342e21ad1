"""Scores predictions against the masks of several annotators, one image at a time; NumPy, SciPy.

Masks that mark nothing agree: the IoU and the Dice of two empty masks are 1 here, as in the
literature of these scores, where `metrics` has 0 as in the authors' evaluation of single masks.
"""

import numpy as np

from segdiff_jax.evaluation.sample_scores import dice_matrix, iou_matrix, pairwise_dice

LABELS = {
    "annotator_dice": "Dice with each annotator",
    "mutual_dice": "Dice between annotators",
    "ncc": "NCC",
    "ged_squared": "GED squared",
    "hm_iou": "HM-IoU",
    "d_max": "D_max",
}


def scores(
    probability: np.ndarray, annotations: np.ndarray, samples: np.ndarray | None = None
) -> dict[str, float]:
    """Computes the scores of one image by LABELS; the last three only if there are samples.

    Args:
      probability: [H, W] in 0..1; the predicted mask is `probability > 0.5`.
      annotations: [A, H, W] masks.
      samples: [S, H, W] masks.
    """
    found = {
        "annotator_dice": float(dice_matrix((probability > 0.5)[None], annotations).mean()),
        "mutual_dice": pairwise_dice(annotations) if len(annotations) > 1 else float("nan"),
        "ncc": ncc(probability, annotations),
    }
    if samples is None:
        return found
    return found | {
        "ged_squared": ged_squared(samples, annotations),
        "hm_iou": hm_iou(samples, annotations),
        "d_max": d_max(samples, annotations),
    }


def ged_squared(samples: np.ndarray, annotations: np.ndarray) -> float:
    """Computes the squared generalised energy distance with d = 1 - IoU; at least 0, 0 is best.

    2 E d(s, y) - E d(s, s') - E d(y, y') (Kohl et al., 2018, "A probabilistic U-Net"), each mean
    over all pairs, those of a mask with itself too: the usual estimator, which is larger than the
    distance of the distributions by about E d(s, s') / S + E d(y, y') / A.

    Args:
      samples: [S, H, W] masks.
      annotations: [A, H, W] masks.
    """
    between, within, observers = (
        1 - iou_matrix(a, b).mean()
        for a, b in ((samples, annotations), (samples, samples), (annotations, annotations))
    )
    return float(2 * between - within - observers)


def hm_iou(samples: np.ndarray, annotations: np.ndarray) -> float:
    """Computes the mean IoU of the best one-to-one matching of samples [S, H, W] and [A, H, W].

    Both sets are repeated to the least common multiple of their sizes (Kohl et al., 2019, "A
    hierarchical probabilistic U-Net", Hungarian-matched IoU). In 0..1, 1 is best.
    """
    iou = iou_matrix(samples, annotations)
    size = np.lcm(*iou.shape)
    repeated = np.tile(iou, (size // iou.shape[0], size // iou.shape[1]))
    from scipy.optimize import linear_sum_assignment  # slow to import; only reports need it

    return float(repeated[linear_sum_assignment(repeated, maximize=True)].mean())


def d_max(samples: np.ndarray, annotations: np.ndarray) -> float:
    """Computes the Dice of each annotator's mask with the nearest sample, averaged (D_max).

    "Maximum Dice matching" of Rahman et al., 2023 (CIMD). Samples are [S, H, W], annotations
    [A, H, W]; in 0..1, 1 is best. It grows with the number of samples, whatever these are.
    """
    return float(dice_matrix(samples, annotations).max(axis=0).mean())


def ncc(probability: np.ndarray, annotations: np.ndarray) -> float:
    """Computes the normalised cross-correlation of two maps of variance; in -1..1, 1 is best.

    Both are p (1 - p): of the probability [H, W], and of the share of annotators [A, H, W] who mark
    a pixel (as Kahl et al., 2024, "ValUES"). nan where one of them is constant.
    """
    shares = np.asarray(annotations, np.float64).mean(axis=0)
    maps = [(p * (1 - p)).ravel() for p in (np.asarray(probability, np.float64), shares)]
    a, b = (values - values.mean() for values in maps)
    norm = np.sqrt((a @ a) * (b @ b))
    return float(a @ b / norm) if norm > 0 else float("nan")
