"""The grid "recipe": training settings that decide what the map and the samples are worth.

Every variant is trained under several seeds and its test images are scored as a probability map and
as samples of a joint distribution (`joint_measurement`). Needs no jax.
"""

from collections.abc import Sequence
from typing import Any

GRID = "recipe"
CERTAINTY = "certainty"  # the grid of the same trainings, measured by `certainty_measurement`
LOGIT: dict[str, Any] = {
    "model.kind": "diffusion",
    "model.mask_scales": (1,),
    "diffusion.prediction": "logit",
    "diffusion.bayes_skip": False,
    "diffusion.signal_scale": 1.0,
    "diffusion.zero_x_T": False,
    "train.draws": "T+uniform",
    "train.noise_draws_per_image": 2,
    "train.share_at_T": 0.0,
    "sampling.samples": 16,
}
ONE_PASS: dict[str, Any] = {
    "model.kind": "twin",
    "train.draws": "uniform",
    "train.noise_draws_per_image": 1,
    "diffusion.bayes_skip": False,
    "train.share_at_T": 0.0,
    "sampling.generations": 1,
    "sampling.samples": 0,
}
VARIANTS: dict[str, dict[str, Any]] = {
    "twin": ONE_PASS,
    "x0-uniform": LOGIT | {"diffusion.prediction": "x0", "train.draws": "uniform"},
    "logit-uniform": LOGIT | {"train.draws": "uniform"},
    "logit-T": LOGIT,
    "logit-T-b0.3": LOGIT | {"diffusion.signal_scale": 0.3},
    "logit-T-b0.3-zero": LOGIT | {"diffusion.signal_scale": 0.3, "diffusion.zero_x_T": True},
    "logit-T-first": LOGIT
    | {"diffusion.signal_scale": 0.3, "diffusion.zero_x_T": True, "train.share_at_T": 0.6},
    "logit-T-b0.1": LOGIT | {"diffusion.signal_scale": 0.1},
    "logit-recycled-b0.3": LOGIT | {"diffusion.signal_scale": 0.3, "train.draws": "T+recycled"},
    "logit-T-scales": LOGIT | {"model.mask_scales": (1, 3, 7, 15)},
    "logit-T-skip": LOGIT | {"diffusion.bayes_skip": True},
    "logit-T-skip-scales": LOGIT
    | {"diffusion.bayes_skip": True, "model.mask_scales": (1, 3, 7, 15)},
}
# updates with as many passes of G and U-Net as one of the twin, which has one of each
OF_TWIN = {"twin": 1.0, "logit-T-first": 2 / 2.4}


def cells(seeds: Sequence[int], variants: Sequence[str], twin_steps: int) -> dict[str, dict]:
    """Returns the overrides of the cells, by name VARIANT-sSEED.

    Args:
      seeds: of training and noise.
      variants: some of `VARIANTS`.
      twin_steps: updates of the twin, and of `OF_TWIN` as many as cost the same; 0: as the others.
    """
    found = {}
    for name in variants:
        steps = round(twin_steps * OF_TWIN.get(name, 0))
        more = {"train.steps": steps} if steps else {}
        found |= {f"{name}-s{seed}": VARIANTS[name] | more | {"seed": seed} for seed in seeds}
    return found
