"""Names what a cell of the grid "certainty" holds. Needs no jax.

A result has "halves", the scores of random halves of the pictures by name, each with a fit on the
other half; "test", those of the test split with a fit on validation; and "seconds".
"""

HALVES = 20  # random ones of the pictures
EVIDENCE = "evidence.npz"  # predictions of a cell, beside its result
# scores of a half by name: where `scores.scores` has them
PATHS = {
    "band ece": ("pixels", "band", "ece"),
    "band auroc": ("pixels", "band", "auroc"),
    "removed at 5 %": ("pixels", "image", "removed5"),
    "removed at 12 %": ("pixels", "image", "removed12"),
    "spearman": ("quality", "spearman"),
    "error of dice": ("quality", "mean_error"),
    "gap closed": ("quality", "closed"),
    "dice interval holds": ("quality", "coverage"),
    "objects": ("objects", "confidence"),
    "objects, mean p": ("objects", "mean probability"),
    "objects, passes": ("objects", "passes"),
    "objects, samples": ("objects", "samples"),
    **{f"{q} holds": ("intervals", q, "0.8", "coverage") for q in ("area", "count")},
    **{f"{q} score": ("intervals", q, "0.8", "score") for q in ("area", "count")},
    "outer misses": ("risk", "0.1", "missed"),
    "inner is wrong": ("risk", "0.1", "false"),
}
