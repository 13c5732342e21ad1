"""Faults of schedules, samplers, tiles, averaging, fusion and coupling."""

from mutation import listed

DIFFUSION, LOGIT = "diffusion/test_diffusion.py", "diffusion/test_logit.py"
BUDGETS, SEGMENTER = "inference/test_budgets.py", "inference/test_segmentation.py"

SCHEDULE = [
    (
        "the linear schedule is not scaled by 1000 / T",
        "1000 / T if scaled",
        "1.0 if scaled",
        DIFFUSION,
    ),
    ("the cosine schedule has no offset", "+ 0.008) / 1.008", "+ 0.0) / 1.0", DIFFUSION),
    ("beta is capped at 0.99", "0.999))", "0.99))", DIFFUSION),
    ("the signal scale is not normalised", "(b**2 * a + (1 - a))", "1.0", LOGIT),
    (
        "x_t has the noise of variance alpha_bar",
        "pixels(schedule.noise(t)) * eps",
        "pixels(schedule.signal(t)) * eps",
        DIFFUSION,
    ),
]
REVERSE = [
    ("noise after the last step", "* (times[1:] > 0)", "", DIFFUSION),
    (
        "the mean of ddpm with alpha_bar_t",
        "a = beta * np.sqrt(as_) / (1 - at)",
        "a = beta * np.sqrt(at) / (1 - at)",
        DIFFUSION,
    ),
    (
        "the variances are swapped",
        '{"beta": beta, "posterior": posterior}',
        '{"beta": posterior, "posterior": beta}',
        DIFFUSION,
    ),
    (
        "ddim keeps all noise beside what it adds",
        "np.maximum(1 - as_ - sigma**2, 0.0)",
        "np.maximum(1 - as_, 0.0)",
        DIFFUSION,
    ),
    ("eta does nothing", "sigma = eta * np.sqrt(", "sigma = 0 * np.sqrt(", DIFFUSION),
    (
        "times are rounded down",
        "np.rint(np.linspace(T, 0, steps + 1))",
        "np.floor(np.linspace(T, 0, steps + 1))",
        DIFFUSION,
    ),
    (
        "the noise of a step is that of the one before",
        "lambda i: noise(i + 1))\n\n\ndef estimates",
        "lambda i: noise(i))\n\n\ndef estimates",
        DIFFUSION,
    ),
    (
        "times by snr end at 2",
        "np.arange(steps, 0, -1))  # and",
        "np.arange(steps, 0, -1) + 1)  # and",
        LOGIT,
    ),
]
PARAMETERIZATION = [
    ("zeros are never read", "pixels(t) < schedule.T, x_t", "pixels(t) <= schedule.T, x_t", LOGIT),
    ("half the evidence of a pixel", "evidence = 2 * schedule", "evidence = schedule", LOGIT),
    (
        "v has the wrong sign",
        "* eps - pixels(schedule.noise(t)) * x0",
        "* eps + pixels(schedule.noise(t)) * x0",
        DIFFUSION,
    ),
    (
        "eps is kept when x0 is clipped",
        "return self.given(schedule, x_t, t, jnp.clip(estimate.x0, -1.0, 1.0))",
        "return Estimate(jnp.clip(estimate.x0, -1.0, 1.0), estimate.eps)",
        DIFFUSION,
    ),
    (
        "a logit is read as tanh(z)",
        "self.logit(schedule, x_t, t, output) / 2",
        "self.logit(schedule, x_t, t, output)",
        LOGIT,
    ),
]
NOISE = [
    (
        "blocks of a row have the same noise",
        "jax.random.fold_in(jax.random.fold_in(key, row), column)",
        "jax.random.fold_in(key, row)",
        DIFFUSION,
    ),
    ("a window begins at its block", "(inside[0], inside[1]), size)", "(0, 0), size)", DIFFUSION),
    (
        "every step has the same noise",
        "blocks(jax.random.fold_in(key, i), rows, columns)",
        "blocks(jax.random.fold_in(key, 0), rows, columns)",
        DIFFUSION,
    ),
]
SAMPLER = [
    (
        "the map is read at T - 1",
        "(0), jnp.int32(self.schedule.T)",
        "(0), jnp.int32(self.schedule.T - 1)",
        BUDGETS,
    ),
    (
        "a drawn pixel has the other class",
        "2 * u - 1 < estimate.x0",
        "2 * u - 1 > estimate.x0",
        BUDGETS,
    ),
    (
        "all images have one noise",
        "jax.random.fold_in(jax.random.fold_in(key, image), generation)",
        "jax.random.fold_in(key, generation)",
        SEGMENTER,
    ),
    (
        "all generations have one noise",
        "jax.random.fold_in(jax.random.fold_in(key, image), generation)",
        "jax.random.fold_in(key, image)",
        SEGMENTER,
    ),
    (
        "features are those of another tile",
        "sampler.sample(params, features[tile],",
        "sampler.sample(params, features[0],",
        SEGMENTER,
    ),
]
SEGMENTATION = [
    ("an orientation is not undone", "out[:, g] = restored(out[:, g], g % turns)", "pass", BUDGETS),
    (
        "all orientations are the first",
        "tile * turns + generation % turns",
        "tile * turns",
        BUDGETS,
    ),
    (
        "rows come back in the order of the devices",
        "out = out[row_slots]",
        "out = out[: n * S]",
        SEGMENTER,
    ),
    (
        "a tile's noise does not know its corner",
        "_scatter(corners[tile], row_slots, plan.rows)",
        "_scatter(0 * corners[tile], row_slots, plan.rows)",
        SEGMENTER,
    ),
    (
        "columns are mirrored twice",
        "return masks[..., ::-1] if orientation & 1 else masks",
        "return masks",
        BUDGETS,
    ),
]
TILES = [
    (
        "the blending window is linear",
        "np.minimum(inside / shared, 1.0) ** 2",
        "np.minimum(inside / shared, 1.0)",
        "data/test_tiling.py",
    ),
    (
        "the last tile ends beyond the image",
        "return [*range(0, last, stride), last]",
        "return [*range(0, last + stride, stride)]",
        "data/test_tiling.py",
    ),
    ("overlaps are summed", "/ self._weight[:rows])", "/ 1)", "data/test_tiling.py"),
    ("a tile is not weighted", "+= tile * window", "+= tile", "data/test_tiling.py"),
    (
        "rows are final too early",
        "corners[self._added][0]) - self._top",
        "corners[self._added][0] + 1) - self._top",
        "data/test_tiling.py",
    ),
]
AVERAGE = [
    (
        "generations are not clipped",
        "np.clip(bilinear(one, size), 0, 1)",
        "bilinear(one, size)",
        "test_metrics.py",
    ),
    (
        "generations are clipped before the resize",
        "np.clip(bilinear(one, size), 0, 1)",
        "bilinear(np.clip(one, 0, 1), size)",
        "test_metrics.py",
    ),
    (
        "the uncertainty is a variance",
        "return np.sqrt(p * (1 - p))",
        "return p * (1 - p)",
        "training/test_one_pass.py prediction/test_output_maps.py",
    ),
    (
        "the spread of generations is that of the first two",
        "return soft.std(axis=0)",
        "return soft[:2].std(axis=0)",
        "prediction/test_output_maps.py",
    ),
]
FUSION = [
    ("the medoid is the worst", ".argmax())", ".argmin())", "inference/test_fusion.py"),
    (
        "STAPLE without a prior",
        "1 / (1 + (1 / prior - 1) * np.exp(-evidence))",
        "1 / (1 + np.exp(-evidence))",
        "inference/test_fusion.py",
    ),
    (
        "the specificity of STAPLE is its complement",
        "_log_odds(sensitivity, 1 - specificity, votes)",
        "_log_odds(sensitivity, specificity, votes)",
        "inference/test_fusion.py",
    ),
]
COUPLING = [
    (
        "a pixel is foreground with probability 1 - p",
        ">= 1 - probability)",
        ">= probability)",
        "inference/test_coupling.py",
    ),
    (
        "decisions do not come first",
        "key = hard * len(hard) + within[:, region]",
        "key = 0 * hard + within[:, region]",
        "inference/test_coupling.py",
    ),
    (
        "each pixel has its own uniform numbers",
        "levels[region, rank]",
        "rng.random(rank.shape)",
        "inference/test_coupling.py",
    ),
]
PREDICTOR = [
    (
        "the area is known too early",
        "areas.std(ddof=1) / np.sqrt(len(areas))",
        "areas.std(ddof=1) / len(areas)",
        "inference/test_predictor.py",
    ),
    (
        "samples of two runs have one noise",
        "begin = start + (place - start) % len(chains)",
        "begin = start",
        "inference/test_predictor.py",
    ),
    (
        "the probability of runs is their maximum",
        "np.mean(fused, axis=0)",
        "np.max(fused, axis=0)",
        "inference/test_predictor.py",
    ),
    (
        "samples are coupled when they should not be",
        "elif self.coupled and rng is not None:",
        "elif rng is not None:",
        "inference/test_predictor.py",
    ),
]
FACTORY = [
    (
        "'balanced' has one orientation",
        '"balanced": (c.orientations,) * 2',
        '"balanced": (1, 1)',
        "factory/test_samplers.py",
    ),
    (
        "the steps are always even",
        '"snr": lambda: diffusion.respaced_by_snr(forward, steps)',
        '"snr": lambda: diffusion.respaced(forward.T, steps)',
        "factory/test_samplers.py",
    ),
    (
        "the signal scale does not reach the schedule",
        "diffusion.with_signal_scale(forward, c.signal_scale)",
        "forward",
        "factory/test_samplers.py",
    ),
    (
        "the statistics of the images do not reach the sampler",
        "tuple(config.data.mean), tuple(config.data.std)",
        "(0.0,) * 3, tuple(config.data.std)",
        "factory/test_samplers.py",
    ),
    (
        "x0 is never drawn",
        'drawn=config.sampling.x0 == "drawn"',
        "drawn=False",
        "factory/test_samplers.py",
    ),
    (
        "each run draws all samples",
        "share = -(-first.samples // count)",
        "share = first.samples",
        "factory/test_samplers.py",
    ),
    (
        "samples are drawn to the end",
        "tolerance=first.tolerance",
        "tolerance=0.0",
        "factory/test_samplers.py",
    ),
    (
        "a call may have too many rows",
        "mesh.size * max(rows, ROWS) // generations",
        "mesh.size * max(rows, ROWS)",
        "factory/test_samplers.py",
    ),
]

MUTATIONS = listed(
    {
        "diffusion/schedule": SCHEDULE,
        "diffusion/reverse_process": REVERSE,
        "diffusion/parameterization": PARAMETERIZATION,
        "diffusion/noise": NOISE,
        "inference/sampler": SAMPLER,
        "inference/segmentation": SEGMENTATION,
        "data/tiling": TILES,
        "inference/averaging": AVERAGE,
        "inference/fusion": FUSION,
        "inference/coupling": COUPLING,
        "inference/predictor": PREDICTOR,
        "factory/samplers": FACTORY,
    }
)
