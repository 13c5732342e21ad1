"""Faults of scores of samples, calibration, intervals, objects, ratings, checkpoints, outputs."""

from mutation import listed

SAMPLES, PIXELS = "evaluation/test_sample_scores.py", "evaluation/test_pixel_scores.py"
RANKING, CALIBRATION = "evaluation/test_ranking_scores.py", "certainty/test_calibration.py"
ANNOTATORS, RISK = "evaluation/test_annotator_scores.py", "certainty/test_risk.py"
CONFORMAL, MANAGER = "certainty/test_conformal.py", "checkpoint/test_manager.py"

SAMPLE_SCORES = [
    (
        "the crps of few samples is biased",
        "/ (n * (n - 1)) if n > 1",
        "/ (n * n) if n > 1",
        SAMPLES,
    ),
    (
        "the Brier score of few samples is biased",
        "soft.var(axis=0, ddof=1) / len(soft)",
        "0 * soft.var(axis=0, ddof=1)",
        SAMPLES,
    ),
    (
        "variance between samples is biased",
        "np.mean(soft.var(axis=0, ddof=1))",
        "np.mean(soft.var(axis=0))",
        SAMPLES,
    ),
    (
        "two empty masks have a Dice of 0",
        "part / np.maximum(whole, 1), 1.0)",
        "part / np.maximum(whole, 1), 0.0)",
        SAMPLES,
    ),
    ("specks are objects", ">= SMALLEST))", ">= 1))", SAMPLES),
    (
        "the expected Dice lacks its factor",
        "float(2 * p[m].sum(dtype=np.float64) / total)",
        "float(p[m].sum(dtype=np.float64) / total)",
        SAMPLES,
    ),
]
ANNOTATOR_SCORES = [
    (
        "the energy distance counts one distance once",
        "2 * between - within",
        "between - within",
        ANNOTATORS,
    ),
    (
        "the matching is the worst",
        "linear_sum_assignment(repeated, maximize=True)",
        "linear_sum_assignment(repeated)",
        ANNOTATORS,
    ),
    ("D_max is over annotators", ".max(axis=0).mean())", ".max(axis=1).mean())", ANNOTATORS),
]
PIXEL_SCORES = [
    ("the band is of 2 pixels", "BAND = 3.0", "BAND = 2.0", PIXELS),
    (
        "bins of the calibration error weigh alike",
        "float(np.abs(apart).sum() / both.sum())",
        "float(np.abs(apart / np.maximum(np.bincount(place, both, BINS), 1)).mean())",
        PIXELS,
    ),
    (
        "the confidence of a class is that of the other",
        "np.where(p > 0.5, counts, counts[::-1])",
        "np.where(p < 0.5, counts, counts[::-1])",
        PIXELS,
    ),
]
RANKING_SCORES = [
    (
        "equal scores do not count half",
        "values, place = np.unique(-np.asarray(score, np.float64), return_inverse=True)\n    sums",
        "apart = -np.asarray(score, np.float64) + 1e-9 * np.arange(len(score))\n"
        "    values, place = np.unique(apart, return_inverse=True)\n    sums",
        RANKING,
    ),
    (
        "the perfect order is the worst",
        "curve(-np.asarray(risk), risk).mean()",
        "curve(np.asarray(risk), risk).mean()",
        RANKING,
    ),
]
INTERVALS = [
    (
        "a miss costs half",
        "2 / (1 - level) * outside",
        "1 / (1 - level) * outside",
        "evaluation/test_interval_scores.py",
    ),
]
CONFORMAL_ = [
    (
        "the quantile forgets the new picture",
        "math.ceil((len(errors) + 1) * level - _TINY)",
        "math.ceil(len(errors) * level - _TINY)",
        CONFORMAL,
    ),
    (
        "too few pictures give an interval",
        "if rank <= len(errors) else math.inf",
        "if rank <= len(errors) else float(np.max(errors))",
        CONFORMAL,
    ),
]
QUALITY = [
    (
        "errors are those of pictures of the fit",
        "line = ridge({name: of[~out] for name, of in features.items()}, target[~out])",
        "line = ridge(features, target)",
        "certainty/test_quality.py",
    ),
    (
        "the interval is upside down",
        "_dice(value + width), _dice(value - width)",
        "_dice(value - width), _dice(value + width)",
        CALIBRATION,
    ),
]
RISKS = [
    (
        "the new picture has no risk",
        "(self.n * np.array(loss) + 1) / (self.n + 1) <= alpha",
        "np.array(loss) <= alpha",
        RISK,
    ),
    (
        "the outer mask is the inner one",
        "thresholds()[kept[-1]]) if",
        "thresholds()[kept[0]]) if",
        RISK,
    ),
]
PIXELS_ = [
    (
        "the calibration has no offset",
        "z = self.slope * np.log(p / (1 - p)) + self.offset",
        "z = self.slope * np.log(p / (1 - p))",
        "certainty/test_pixels.py",
    ),
    (
        "the threshold is the worst",
        "np.lexsort((near, -np.round(dice, 9)))",
        "np.lexsort((near, np.round(dice, 9)))",
        "certainty/test_pixels.py",
    ),
]
OBJECTS = [
    (
        "an object is held from an IoU of 0.7 on",
        "HELD = 0.5",
        "HELD = 0.7",
        CALIBRATION + " prediction/test_object_outputs.py",
    ),
    (
        "the probability of an object is a sum",
        "found.probability.ravel(), count + 1)[1:] / area",
        "found.probability.ravel(), count + 1)[1:]",
        CALIBRATION,
    ),
]
OVERLAPS = [
    (
        "the union forgets what is shared",
        "(first_area[one] + second_area[other] - shared)",
        "(first_area[one] + second_area[other])",
        "evaluation/test_overlaps.py",
    ),
]
LABELS = [
    (
        "every summit is a seed, however little it rises",
        "np.maximum(height - rise, 0)",
        "np.maximum(height - 0 * rise, 0)",
        "evaluation/test_labelling.py",
    ),
    (
        "specks are pieces",
        "if not small.size:",
        "if True:",
        "evaluation/test_labelling.py",
    ),
]
OBJECT_SCORES = [
    (
        "precision forgets the objects that were missed",
        "errors = of.true + of.found - of.hits",
        "errors = of.found - 0 * of.hits",
        "evaluation/test_object_scores.py",
    ),
    (
        "AJI forgets predicted objects that no true one took",
        "return both, paired + int(alone) + int(left)",
        "return both, paired + int(alone)",
        "evaluation/test_object_scores.py",
    ),
    (
        "split and merged are swapped",
        "return int(np.sum(holds > 1)), int(np.sum(held > 1)), missed, added",
        "return int(np.sum(held > 1)), int(np.sum(holds > 1)), missed, added",
        "evaluation/test_object_scores.py",
    ),
]
QUANTITIES = [
    (
        "intervals of a picture ignore its doubt",
        "value + width * scale, 0, measured.largest",
        "value + width, 0, measured.largest",
        CALIBRATION,
    ),
    (
        "intervals are one-sided",
        "np.clip(value - width * scale, 0, measured.largest)",
        "value",
        CALIBRATION,
    ),
]
STRANGERS = [
    (
        "no picture is a stranger",
        "if not low - margin <=",
        "if False and not low - margin <=",
        CALIBRATION + " review/test_review.py",
    ),
]
RATING = [
    (
        "surprise has the wrong sign",
        'values["between"] - values["samples"]',
        'values["samples"] - values["between"]',
        CALIBRATION + " review/test_review.py",
    ),
]
CHECKPOINTS = [
    ("the best is the worst", "reverse=False", "reverse=True", MANAGER),
    ("one checkpoint is kept", "policies.LatestN(2)", "policies.LatestN(1)", MANAGER),
    (
        "nothing is verified",
        "if bad := checksums.differing(sums[name], tree):",
        "if bad := ():",
        MANAGER,
    ),
    (
        "weights that are not finite are saved",
        "checksums.compute(part, finite=True)",
        "checksums.compute(part, finite=False)",
        MANAGER + " training/test_nonfinite.py",
    ),
    (
        "the oldest checkpoint is restored",
        "for step in sorted(self.manager.all_steps(), reverse=True):",
        "for step in sorted(self.manager.all_steps()):",
        MANAGER,
    ),
    ("'best' is the last", 'if which == "last":', "if True:", MANAGER),
]
MAPS = [
    (
        "the threshold is always 1/2",
        "probability > self._threshold",
        "probability > 0.5",
        "prediction/test_output_maps.py test_predict.py",
    ),
    (
        "the uncertainty is half as large",
        "_integer(2 * deviation)",
        "_integer(deviation)",
        "prediction/test_output_maps.py",
    ),
    (
        "a probability of 1/2 is written above it",
        "np.ceil(values * UINT16_MAX - np.float32(0.5))",
        "np.ceil(values * UINT16_MAX)",
        "prediction/test_output_maps.py",
    ),
]
OUTLINES = [
    (
        "rings are placed by column and row",
        "np.array([box[1].start, box[0].start])",
        "np.array([box[0].start, box[1].start])",
        "prediction/test_outlines.py",
    ),
    (
        "corners are not cut",
        "(lengths - 1)).sum())",
        "lengths).sum())",
        "prediction/test_outlines.py",
    ),
]

MUTATIONS = listed(
    {
        "evaluation/sample_scores": SAMPLE_SCORES,
        "evaluation/annotator_scores": ANNOTATOR_SCORES,
        "evaluation/pixel_scores": PIXEL_SCORES,
        "evaluation/ranking_scores": RANKING_SCORES,
        "evaluation/interval_scores": INTERVALS,
        "certainty/conformal": CONFORMAL_,
        "certainty/quality": QUALITY,
        "certainty/risk": RISKS,
        "certainty/pixels": PIXELS_,
        "certainty/objects": OBJECTS,
        "evaluation/overlaps": OVERLAPS,
        "evaluation/labelling": LABELS,
        "evaluation/object_scores": OBJECT_SCORES,
        "certainty/quantities": QUANTITIES,
        "certainty/strangers": STRANGERS,
        "certainty/rating": RATING,
        "checkpoint/manager": CHECKPOINTS,
        "prediction/output_maps": MAPS,
        "prediction/outlines": OUTLINES,
    }
)
