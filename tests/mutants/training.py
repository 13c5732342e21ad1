"""Faults of the loss, the step, the optimizer, the average of the weights and their schedules."""

from mutation import listed

STEP, DRAWS = "training/test_step.py", "training/test_draws.py"
SEVERAL = f"{STEP}::test_several_draws_an_image_are_the_mean_of_single_draws"
DEVICES = f"{STEP}::test_eight_devices_take_the_steps_of_one"
AVERAGE = f"{STEP}::test_the_average_of_the_weights_follows_its_formula"
WARM_UP = f"{STEP}::test_the_warm_up_of_the_average_starts_at_two_elevenths_and_ends_at_the_decay"
ZERO = f"{STEP}::test_a_network_that_predicts_zero_has_the_loss_of_its_target"
PARTS, ONE_PASS = "training/test_any_batch.py", "training/test_one_pass.py"
SCHEDULES = "training/test_schedules.py"

LOSS = [
    (
        "the loss is a mean over pixels",
        'pixels = masks[0].size if self.reduction == "sum" else 1',
        "pixels = 1",
        ZERO,
    ),
    ("t = T is never drawn", "(), 1, self.schedule.T + 1)", "(), 1, self.schedule.T)", SEVERAL),
    ("t = 0 is drawn", "(), 1, self.schedule.T + 1)", "(), 0, self.schedule.T + 1)", SEVERAL),
    ("a stratified t may be 0", "t = 1 + jnp.minimum(", "t = jnp.minimum(", DRAWS),
    (
        "the first draw is at T - 1",
        "jnp.full((1, len(keys)), T,",
        "jnp.full((1, len(keys)), T - 1,",
        DRAWS,
    ),
    (
        "the others of an image share one t",
        "jnp.arange(others)[:, None] / max(others, 1)",
        "jnp.zeros(others)[:, None]",
        DRAWS,
    ),
    ("recycled at any t", "chosen &= t <= self.recycled_until", "chosen &= t <= t", DRAWS),
    (
        "a gradient through the recycled estimate",
        "jax.lax.stop_gradient(estimate)",
        "estimate",
        DRAWS,
    ),
    (
        "augmentation and noise share a key",
        "batch.image, batch.mask, augment_keys)",
        "batch.image, batch.mask, keys)",
        "training/test_randomness.py::test_augmentation_and_loss_draw_from_keys_of_their_own",
    ),
    (
        "no dropout in training",
        '"denoise", params, read, t, features, dropout_keys)',
        '"denoise", params, read, t, features, None)',
        "training/test_randomness.py",
    ),
    (
        "no dropout in a one-pass network",
        "params, None, None, features, keys)",
        "params, None, None, features, None)",
        "training/test_randomness.py",
    ),
    (
        "the cross-entropy of the wrong class",
        "softplus(-target * z)",
        "softplus(target * z)",
        DRAWS,
    ),
    ("the mse of a logit in -1..1", "(estimate - target) / 2)", "estimate - target)", DRAWS),
    (
        "the loss of padding counts",
        "values.reshape(-1, len(weights)) * weights",
        "values.reshape(-1, len(weights))",
        PARTS,
    ),
    (
        "gradients are summed in bfloat16",
        "jnp.zeros(leaf.shape, jnp.float32)",
        "jnp.zeros(leaf.shape, leaf.dtype)",
        "training/test_accumulation.py",
    ),
    (
        "the sum of accumulated gradients, not their mean",
        "(sums / n).astype(leaf.dtype)",
        "sums.astype(leaf.dtype)",
        "training/test_accumulation.py",
    ),
    (
        "the sum of accumulated losses",
        "return (value / n, auxiliary)",
        "return (value, auxiliary)",
        "training/test_accumulation.py",
    ),
    (
        "noise is added to the recycled mask of t = T",
        "source = jnp.where(chosen[:, None, None, None], first, x0)",
        "source = first",
        DRAWS,
    ),
    (
        "image and mask are augmented apart",
        "self.augment(key, jnp.asarray(image, jnp.float32), jnp.asarray(mask))",
        "self.augment(key, jnp.asarray(image, jnp.float32), jnp.asarray(mask))[0], mask",
        SEVERAL,
    ),
]
STEPS = [
    (
        "noise, t and augmentation of every step are those of the first",
        "step_key = jax.random.fold_in(key, step)",
        "step_key = key",
        "training/test_randomness.py",
    ),
    (
        "the same noise for every row",
        "(None, 0))(step_key, first + jnp.arange(rows))",
        "(None, 0))(step_key, first + 0 * jnp.arange(rows))",
        "training/test_randomness.py",
    ),
    (
        "every device has the noise of the first",
        "(step_key, first + jnp.arange(rows))",
        "(step_key, jnp.arange(rows))",
        DEVICES,
    ),
    (
        "the warm-up of the average one step late",
        "self.ema_decay(step)",
        "self.ema_decay(state.step)",
        SCHEDULES,
    ),
    (
        "the average lags one step behind",
        "incremental_update(params, state.ema_params",
        "incremental_update(state.params, state.ema_params",
        AVERAGE,
    ),
    (
        "the weight of the average is that of the new",
        "state.ema_params, 1 - decay)",
        "state.ema_params, decay)",
        AVERAGE,
    ),
    (
        "one update too many has the draw at T alone",
        "state.step < self.first_steps",
        "state.step <= self.first_steps",
        PARTS,
    ),
    ("rows weigh less beside padding", "slots / self.batch_size, 0.0)", "1.0, 0.0)", PARTS),
    (
        "a row of padding counts",
        "jnp.arange(count) < self.batch_size",
        "jnp.arange(count) <= self.batch_size",
        PARTS,
    ),
    (
        "devices do not share gradients",
        "loss, mse, grads, finite = jax.lax.pmean((loss, mse, grads, finite), self.axis)",
        "loss, mse, finite = jax.lax.pmean((loss, mse, finite), self.axis)",
        DEVICES,
    ),
    (
        "an infinite gradient is taken",
        '& jnp.isfinite(metrics["grad_norm"])',
        "",
        "training/test_learner.py",
    ),
    (
        "a step that is not finite is taken",
        "partial(jnp.where, finite)",
        "partial(jnp.where, True)",
        "training/test_nonfinite.py",
    ),
    (
        "a skipped step is not counted",
        "skipped = replace(state, step=updated.step)",
        "skipped = state",
        "training/test_nonfinite.py",
    ),
    (
        "strata are those of one device",
        "return (first + jnp.arange(len(keys)) + inside) / count",
        "return (jnp.arange(len(keys)) + inside) / count",
        DRAWS,
    ),
    (
        "parts share the noise of the first",
        "first + rows * jnp.arange(self.parts)",
        "first + 0 * jnp.arange(self.parts)",
        PARTS,
    ),
    (
        "the gradient norm is that of the update",
        "optax.tree.norm(grads)}",
        "optax.tree.norm(updates)}",
        "training/test_learner.py",
    ),
    (
        "a checkpoint holds the last weights in place of the average",
        "return state.ema_params, rest",
        "return state.params, rest",
        "test_train.py",
    ),
]
FACTORY = [
    ("the warm-up of the average ends later", "(1 + n) / (10 + n)", "(1 + n) / (11 + n)", WARM_UP),
    ("the average does not warm up", ") if warmup else jnp", ") if not warmup else jnp", WARM_UP),
    (
        "the learning rate does not warm up",
        "linear_schedule(0.0, c.learning_rate",
        "linear_schedule(c.learning_rate, c.learning_rate",
        SCHEDULES,
    ),
    (
        "the learning rate falls too slowly",
        "max(c.steps - c.warmup_steps, 1)",
        "c.steps",
        SCHEDULES,
    ),
    ("no gradient is clipped", "if c.clip_norm else []", "if False else []", SCHEDULES),
    ("weights do not decay", "weight_decay=c.weight_decay", "weight_decay=0.0", SCHEDULES),
    ("the first updates have all draws", "draws = 1 if at_T else", "draws = 2 if at_T else", PARTS),
    (
        "the loss ignores train.loss",
        '"reduction": config.train.loss',
        '"reduction": "sum"',
        SCHEDULES,
    ),
    (
        "the share of updates at T is of 1000",
        "round(c.share_at_T * c.steps)",
        "round(c.share_at_T * 1000)",
        SCHEDULES,
    ),
    (
        "a resumed run begins again with the first batch",
        "order = examples, rows.batch_size, config.seed, first",
        "order = examples, rows.batch_size, config.seed, 0",
        "test_train.py",
    ),
]
NETWORK = "factory/test_networks.py"
NETWORKS = [
    ("the network has no dropout", "dropout=c.dropout", "dropout=0.0", NETWORK),
    ("the time is embedded up to 1000", "T=config.diffusion.T", "T=1000", NETWORK),
    ("the width of G's trunk is the schema's", "        c.rrdb_features,", "        64,", NETWORK),
    (
        "the U-Net keeps all activations",
        'remat=c.remat in ("unet", "all")',
        "remat=False",
        NETWORK,
    ),
    ("masks are read at one scale", "scales=tuple(c.mask_scales)", "scales=(1,)", NETWORK),
    ("products are of the default precision", "c.precision, ", '"default", ', NETWORK),
]

MUTATIONS = listed(
    {
        "training/loss": LOSS,
        "training/step": STEPS,
        "factory/training": FACTORY,
        "factory/networks": NETWORKS,
    }
)
