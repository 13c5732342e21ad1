"""Lists what other programs call a config field, for the hint of an unknown name."""

# what other programs call a field
USUAL_NAMES = {
    **dict.fromkeys(("lr", "base_lr", "learningrate"), ("train.learning_rate",)),
    **dict.fromkeys(("bs", "batch", "batchsize", "train_batch_size"), ("train.batch_size",)),
    **dict.fromkeys(("iterations", "iters", "max_steps", "num_steps"), ("train.steps",)),
    **dict.fromkeys(("epochs", "num_epochs", "updates", "total_steps"), ("train.steps",)),
    **dict.fromkeys(("wd", "l2", "decay_weight"), ("train.weight_decay",)),
    **dict.fromkeys(("warmup", "warm_up", "warmup_iters"), ("train.warmup_steps",)),
    **dict.fromkeys(("ema", "ema_rate", "ema_momentum"), ("train.ema_decay",)),
    **dict.fromkeys(("clip", "grad_clip", "gradient_clip", "max_norm"), ("train.clip_norm",)),
    **dict.fromkeys(("save_every", "save_interval"), ("train.checkpoint_every",)),
    **dict.fromkeys(("eval_every", "eval_interval"), ("train.evaluate_every",)),
    **dict.fromkeys(("timesteps", "num_timesteps", "diffusion_steps"), ("diffusion.T",)),
    **dict.fromkeys(("crop_size", "patch_size", "image_size"), ("augment.crop", "sampling.tile")),
    **dict.fromkeys(("hflip", "flip"), ("augment.horizontal_flip", "augment.vertical_flip")),
    **dict.fromkeys(("vflip",), ("augment.vertical_flip",)),
    **dict.fromkeys(("rotation",), ("augment.rotate",)),
    **dict.fromkeys(("width", "base_channels", "num_channels"), ("model.channels",)),
    **dict.fromkeys(("channel_mult", "dim_mults"), ("model.multipliers",)),
    **dict.fromkeys(("data_dir", "root", "path", "dataset_dir"), ("data.dir",)),
    **dict.fromkeys(("dataset",), ("data.name",)),
    **dict.fromkeys(("pretrained", "init_from", "finetune", "weights"), ("train.start_from",)),
    **dict.fromkeys(("random_seed",), ("seed",)),
    **dict.fromkeys(("bf16", "fp16"), ("model.dtype",)),
    **dict.fromkeys(("ensemble", "num_samples"), ("sampling.generations", "sampling.samples")),
}
