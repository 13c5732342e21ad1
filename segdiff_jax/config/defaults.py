"""Every knob, explained once; `configs/*.py` hold only what differs."""

from typing import Any

from ml_collections import ConfigDict


def default() -> ConfigDict:
    """Returns the settings of the authors' code where it has them, for 256x256 input."""
    c = ConfigDict()
    c.seed = 0  # of weights, batch order, augmentation, noise; evaluation uses it too

    c.data = ConfigDict()
    c.data.name = "synthetic"  # a key of data.sources.BUILDERS
    c.data.dir = ""  # the official files, for data sets that are downloaded by hand
    c.data.prepared_dir = "~/.cache/segdiff_jax/data"  # where prepared sets are kept
    c.data.train_split = "train"  # splits may be joined: "train+validation"
    c.data.train_images = 0  # of train_split, the first so many of an order by seed; 0: all
    c.data.validation_split = ""  # chooses the best checkpoint; "": none, the last weights count
    c.data.test_split = "test"  # scored once, at the end; never chooses anything
    c.data.mean = (127.5, 127.5, 127.5)  # of the RGB channels, in 0..255; (): of train_split
    c.data.std = (127.5, 127.5, 127.5)  # (): likewise

    c.reading = ConfigDict()  # of image files, in folders and for prediction
    c.reading.max_pixels = 64_000_000  # larger images are refused before they are decoded
    c.reading.page = -1  # of TIFF files with several, from 0; -1: such files are refused
    c.reading.float_range = ()  # (low, high) that become 0 and 255; (): float images are refused

    c.vaihingen = ConfigDict()
    c.vaihingen.resize = "authors"  # 512 -> 256: "authors" (image nearest) | "area" (both averaged)

    c.cityscapes = ConfigDict()
    c.cityscapes.classes = ("bus",)  # of objects: person, rider, car, truck, bus, train, ...
    c.cityscapes.size = 128  # side that the crop of an object is resized to, pixels
    c.cityscapes.train_expansion = (10, 20)  # of the object's box, percent, uniform
    c.cityscapes.redraw = True  # at every visit; False: once per object (code)
    c.cityscapes.test_expansion = 15  # percent; 0: the tight protocol

    c.folder = ConfigDict()  # shares count only where there is no folder of that name
    c.folder.mask_suffix = ""  # what the name of a mask has after that of its image: "_mask"
    c.folder.validation_share = 0.1  # of the images, chosen by name and seed
    c.folder.test_share = 0.2
    c.folder.seed = 0

    c.augment = ConfigDict()  # training only, on device; image and mask move together
    c.augment.crop = 0  # side of a random square crop, pixels, made on the host; 0: none
    c.augment.horizontal_flip = False  # with probability 1/2
    c.augment.vertical_flip = False
    c.augment.rotate = 0.0  # uniform in -rotate..+rotate degrees
    c.augment.scale = (1.0, 1.0)  # uniform; above 1 enlarges
    c.augment.jitter = (0.0, 0.0, 0.0, 0.0)  # brightness, contrast, saturation, hue

    c.model = ConfigDict()
    # "diffusion" | "twin": G and U-Net give the mask in one pass | "unet": the U-Net alone does
    c.model.kind = "diffusion"
    # how x_t meets the image (paper, Table 4): "sum" F(x_t) + G(I), the method | "concat" variant 1
    # | "stack" 3: I beside x_t, no G | "inject1", "inject3", "inject5" 4-6: G(I) after the k-th
    # downsampling
    c.model.conditioning = "sum"
    c.model.encoder = "rrdb"  # G: "rrdb" | "hardnet": FC-HarDNet-70, variant 2
    c.model.channels = 128  # C, the width of level 0
    c.model.multipliers = (1, 1, 1, 2, 2, 4, 4)  # width of level l is multipliers[l] * C
    c.model.blocks_per_level = 3  # residual blocks a level on the way down; one more on the way up
    c.model.attention_factors = (16, 32)  # attend where the map is this many times smaller
    c.model.heads = 4  # of every attention
    c.model.norm_groups = 32  # of every GroupNorm; a group of one channel erases t, see docs
    c.model.dropout = 0.0
    c.model.time_embedding = (
        "sinusoidal"  # "sinusoidal" (code) | "table" (paper: a learned look-up)
    )
    c.model.rrdb_blocks = 12  # of the image encoder G, if it is "rrdb"
    c.model.rrdb_features = 64  # width of G's trunk
    c.model.rrdb_growth = 32  # width each dense layer of G adds
    # how dense blocks are computed: "concat" | "parts" | "spread", equal but for rounding; "auto":
    # what is fastest on the device, as far as is known
    c.model.rrdb_form = "auto"
    # less memory, more time: the backward pass computes anew, from what enters it, each RRDB
    # ("rrdb"), each level of the U-Net ("unet"), or both ("all"); "none": it keeps all maps
    c.model.remat = "none"
    c.model.dtype = "float32"  # of activations: "float32" | "bfloat16"; parameters stay float32

    c.diffusion = ConfigDict()
    c.diffusion.T = 100  # steps of the forward process
    c.diffusion.schedule = (
        "linear"  # "linear" (code: x 1000/T) | "linear_unscaled" (paper) | "cosine"
    )
    c.diffusion.prediction = "eps"  # what the network's output is: "eps" (paper) | "x0" | "v"
    c.diffusion.clip_x0 = False  # clip estimates of x0 to [-1, 1] when sampling

    c.sampling = ConfigDict()
    c.sampling.sampler = "ddpm"  # "ddpm" | "ddim"
    c.sampling.steps = 0  # reverse steps; 0: all T; fewer: evenly respaced
    c.sampling.variance = "beta"  # ddpm: "beta" (code) | "posterior" (paper)
    c.sampling.eta = 0.0  # ddim: 0 deterministic .. 1 as much noise as ddpm's posterior
    c.sampling.generations = 9  # averaged; 9 in the code, 30 in the paper; 1 if not diffusion
    c.sampling.rows_at_once = 0  # (tile, generation) pairs a device denoises together, which takes
    # memory; 0: 1 on a CPU, where no answer then depends on its company to the last bit, else 16
    c.sampling.tile = 256  # images larger than this are cut into tiles of this side; 0: never
    c.sampling.stride = 256  # from tile to tile; smaller than tile: overlaps are blended

    c.train = ConfigDict()
    c.train.steps = 300_000  # updates
    c.train.batch_size = 8  # images, over all devices
    c.train.noise_draws_per_image = 1  # (t, noise) pairs that share one G(I); 1: the authors' loss
    c.train.draws_at_once = 0  # of them are denoised together, which takes memory; 0: 1 on a CPU,
    # where it is fastest, else all
    c.train.loss = "sum"  # of the error over the pixels of an image: "sum" (code) | "mean"
    c.train.learning_rate = 1e-4
    c.train.warmup_steps = 0  # linear, from 0
    c.train.decay = "constant"  # of the learning rate after the warm-up: "constant" | "cosine" to 0
    c.train.weight_decay = 0.0  # AdamW's
    c.train.clip_norm = 0.0  # of the global gradient; 0: off
    c.train.ema_decay = 0.9999  # of the weights that are evaluated
    c.train.ema_warmup = False  # decay = min(ema_decay, (1 + n) / (10 + n)) after n updates
    c.train.skip_nonfinite = 0  # updates in a row that may have no effect, their loss or gradient
    # not being finite; 0: the first one ends the run
    c.train.max_seconds = 0.0  # after which the run saves and ends as by SIGTERM; 0: no limit
    c.train.map = "shard_map"  # over devices: "shard_map" | "pmap" (one process only)
    c.train.log_every = 100  # updates between lines of metrics.jsonl
    c.train.checkpoint_every = 1000  # updates between checkpoints; the last is always written
    c.train.evaluate_every = 0  # updates between scores of validation_split; 0: never
    c.train.result = "last"  # weights that are scored on test_split: "last" | "best" on validation

    c.job = _job()
    return c


def _job() -> ConfigDict:
    """Of one process or several; nothing of it changes what is learned but for rounding."""
    c = ConfigDict()
    c.hang_seconds = 1800.0  # without a finished update or image: stacks, exit 142; 0: never
    c.heartbeat_seconds = 100  # without a sign of life: a process counts as lost
    c.join_seconds = 300  # that processes wait for all others to be started
    # to make of a CPU, each with a share of the batch and of the generations and a copy of the
    # state; 0: up to 4, at most the cores, such that they divide the batch; 1 if several processes
    c.cpu_devices = 0
    return c


def flatten(config: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Returns the knobs of a config as {"train.steps": value, ...}."""
    knobs: dict[str, Any] = {}
    for name, value in config.items():
        if isinstance(value, ConfigDict):
            knobs |= flatten(value, f"{prefix}{name}.")
        else:
            knobs[prefix + name] = value
    return knobs
