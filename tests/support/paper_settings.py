"""The settings that a config starts from, each with the source of its value.

"code" is the authors' released code, "README" the commands of its README, "paper" arXiv 2112.00390;
"ours" is a choice that neither makes, or that changes no number.
"""

from tiny_config import ROOT

from segdiff_jax.cli import options
from segdiff_jax.config import flatten

# fields of these groups decide no number of a training or of its scores
ASIDE = ("job.", "reading.", "folder.", "data.dir", "data.prepared_dir", "data.fingerprint")
ASIDE = (*ASIDE, "data.allow_change", "data.name", "data.objects")
DEFAULTS = {
    "seed": (0, "ours: the authors' is the rank of the process"),
    "data.train_split": ("train", "ours"),
    "data.train_images": (0, "all: code"),
    "data.validation_split": ("", "the authors hold nothing back: code"),
    "data.test_split": ("test", "code: its 'val' set"),
    "data.channels": ("", "code: RGB"),
    "data.mean": ((127.5, 127.5, 127.5), "ours: each data set has its own"),
    "data.std": ((127.5, 127.5, 127.5), "ours: each data set has its own"),
    "augment.crop": (0, "code: MoNuSeg alone is cropped"),
    "augment.horizontal_flip": (False, "ours: each data set has its own"),
    "augment.vertical_flip": (False, "code: Cityscapes is not flipped vertically"),
    "augment.rotate": (0.0, "ours: each data set has its own"),
    "augment.scale": ((1.0, 1.0), "ours: each data set has its own"),
    "augment.jitter": ((0.0, 0.0, 0.0, 0.0), "code: Cityscapes has none"),
    "augment.invert": (0.0, "ours: the authors' code has none"),
    "cityscapes.classes": (("bus",), "ours: one class a run, code"),
    "cityscapes.size": (128, "paper, code"),
    "cityscapes.train_expansion": ((10, 20), "paper, code"),
    "cityscapes.redraw": (True, "ours: the code draws once an instance"),
    "cityscapes.test_expansion": (15, "paper, code"),
    "cityscapes.exclusive": (False, "code: a network does not tell classes apart"),
    "vaihingen.resize": ("authors", "code: image nearest, mask linear with a threshold"),
    "model.kind": ("diffusion", "paper"),
    "model.conditioning": ("sum", "paper, eq. 17"),
    "model.encoder": ("rrdb", "paper"),
    "model.mask_scales": ((1,), "paper: F sees x_t alone"),
    "model.objects": ("none", "paper: the mask is all that is learnt"),
    "model.channels": (128, "paper"),
    "model.multipliers": ((1, 1, 1, 2, 2, 4, 4), "paper, code: 256 pixels"),
    "model.blocks_per_level": (3, "code"),
    "model.attention_factors": ((16, 32), "paper: maps of 16 and 8 of 256 pixels"),
    "model.heads": (4, "code"),
    "model.norm_groups": (32, "code"),
    "model.dropout": (0.0, "README"),
    "model.time_embedding": ("sinusoidal", "code; the paper has a learned table"),
    "model.rrdb_blocks": (12, "paper, README: MoNuSeg"),
    "model.rrdb_features": (64, "code"),
    "model.rrdb_growth": (32, "code"),
    "model.rrdb_form": ("auto", "ours: all forms are equal"),
    "model.remat": ("none", "ours: changes no number"),
    "model.dtype": ("float32", "code: float32 in its sampling scripts"),
    "model.precision": ("default", "ours"),
    "diffusion.T": (100, "paper"),
    "diffusion.schedule": ("linear", "code: the paper's, times 1000 / T"),
    "diffusion.signal_scale": (1.0, "paper: masks are -1 and +1"),
    "diffusion.prediction": ("eps", "paper, eq. 18"),
    "diffusion.bayes_skip": (False, "paper has none"),
    "diffusion.zero_x_T": (False, "paper has none"),
    "diffusion.clip_x0": (False, "code"),
    "sampling.sampler": ("ddpm", "paper, Alg. 1"),
    "sampling.budget": ("paper", "paper: generations averaged"),
    "sampling.orientations": (8, "ours: of another budget"),
    "sampling.steps": (0, "all T: paper"),
    "sampling.spacing": ("even", "all T: paper"),
    "sampling.x0": ("soft", "paper, code"),
    "sampling.variance": ("beta", "code; the paper has the posterior's"),
    "sampling.eta": (0.0, "ours: of another sampler"),
    "sampling.generations": (9, "code; the paper has 30"),
    "sampling.fusion": ("mean", "code"),
    "sampling.samples": (0, "ours: the paper's generations are averaged only"),
    "sampling.masks": ("coupled", "ours: of samples"),
    "sampling.tolerance": (0.0, "ours: of samples"),
    "sampling.separate": ("auto", "ours: of objects"),
    "sampling.tile": (256, "paper, code: windows of 256"),
    "sampling.stride": (256, "paper, code"),
    "sampling.rows_at_once": (0, "ours: changes no number that matters"),
    "train.steps": (300_000, "code: 299,999 updates"),
    "train.batch_size": (8, "paper, README: Vaihingen and MoNuSeg"),
    "train.accumulate": (1, "ours: changes no number that matters"),
    "train.draws": ("uniform", "paper, Alg. 2"),
    "train.share_at_T": (0.0, "paper has none"),
    "train.recycled": (0.5, "ours: of other draws"),
    "train.recycled_until": (0, "ours: of other draws"),
    "train.noise_draws_per_image": (1, "paper, Alg. 2"),
    "train.draws_at_once": (0, "ours: changes no number that matters"),
    "train.loss": ("sum", "code: over pixels"),
    "train.learning_rate": (1e-4, "README"),
    "train.decay": ("constant", "code"),
    "train.warmup_steps": (0, "code"),
    "train.weight_decay": (0.0, "code"),
    "train.clip_norm": (0.0, "code"),
    "train.ema_decay": (0.9999, "code"),
    "train.ema_warmup": (False, "code"),
    "train.skip_nonfinite": (0, "ours"),
    "train.evaluate_every": (0, "ours: the authors choose on the test images"),
    "train.result": ("last", "ours: the authors choose on the test images"),
    "train.checkpoint_every": (1000, "ours"),
    "train.log_every": (100, "ours: 200 in the code"),
    "train.map": ("shard_map", "ours: changes no number"),
    "train.max_seconds": (0.0, "ours"),
    "train.start_from": ("", "ours: the authors begin with random weights"),
}


def file_of(source):
    return ROOT / "configs" / f"{source.partition(':')[0]}.py"


def settings(source):
    argument = source.partition(":")[2]
    path = str(file_of(source))
    config = flatten(options.load_config(f"{path}:{argument}" if argument else path))
    return {key: value for key, value in config.items() if not key.startswith(ASIDE)}
