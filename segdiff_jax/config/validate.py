"""Checks a whole config: every field by itself, then the relations between fields.

Needs neither jax nor the data, so that a mistake is reported within a second of the command.
"""

from collections.abc import Iterator

from ml_collections import ConfigDict

from segdiff_jax.config.allowed import are_overlapping
from segdiff_jax.config.schema import check_fields, flatten
from segdiff_jax.errors import UserError

Violations = Iterator[tuple[str, str]]  # (field, what it must be instead)


def check(config: ConfigDict) -> None:
    """Raises UserError at the first field, or relation between fields, that is not allowed."""
    check_fields(flatten(config))
    check_relations(config)


def check_relations(config: ConfigDict) -> None:
    """Raises UserError at the first relation that does not hold; every field alone is allowed."""
    values = flatten(config)
    for violations in (_data, _widths, _variants, _sizes, _sampling, _training):
        for key, demand in violations(config):
            raise UserError(f"config.{key}={values[key]!r}: {demand}")


def _data(c: ConfigDict) -> Violations:
    order = "must be the lower, then the higher"
    if c.reading.float_range and c.reading.float_range[0] >= c.reading.float_range[1]:
        yield "reading.float_range", order
    if c.cityscapes.train_expansion[0] > c.cityscapes.train_expansion[1]:
        yield "cityscapes.train_expansion", order
    if bool(c.data.mean) != bool(c.data.std):
        yield "data.std", "must be given if data.mean is, and computed, (), if it is not"
    if _repeats(c.cityscapes.classes):
        yield "cityscapes.classes", "names a class twice"
    count = len(c.data.channels.split(",")) if c.data.channels else 3
    if c.data.channels and c.data.name != "folder":
        yield "data.channels", f"must be '' with data.name={c.data.name!r}"
    if c.data.channels and c.reading.channels:
        yield "reading.channels", "must be () with data.channels, which takes all that there are"
    for name in ("mean", "std"):
        if len(c.data[name]) not in (0, count):
            yield f"data.{name}", f"must have a value of each of the {count} channels; or ()"
    if c.folder.classes and c.data.name != "folder":
        yield "folder.classes", f"must be '' with data.name={c.data.name!r}"
    if are_overlapping(c.folder.classes):
        what = f"with folder.classes={c.folder.classes!r}, classes that overlap"
        if c.folder.mask_suffix:
            yield "folder.mask_suffix", f"must be '' {what}: these say where the masks are"
        if c.model.objects != "none":
            yield "model.objects", f"must be 'none' {what}: objects of two may lie in one another"
    if c.cityscapes.exclusive and c.data.name != "cityscapes":
        yield "cityscapes.exclusive", f"must be False with data.name={c.data.name!r}"
    if c.folder.test_share + c.folder.validation_share >= 1:
        yield "folder.test_share", "must leave images to train on, with folder.validation_share"


def _widths(c: ConfigDict) -> Violations:
    multipliers, factors = c.model.multipliers, c.model.attention_factors
    levels = len(multipliers)
    if multipliers[0] != 1:
        yield "model.multipliers", "the first must be 1: image and mask enter with model.channels"
    if _repeats(factors) or max(factors, default=1) >= 2**levels:
        largest = f"must differ and be at most {2 ** (levels - 1)}"
        yield "model.attention_factors", f"{largest}, as model.multipliers has {levels} levels"
    for level, multiplier in enumerate(multipliers):
        width = multiplier * c.model.channels
        where = f"level {level} is {width} wide"
        if width % c.model.norm_groups:
            yield "model.norm_groups", f"must divide the width of every level; {where}"
        attends = 2**level in factors or level == levels - 1  # the bottleneck always does
        if attends and width % c.model.heads:
            yield "model.heads", f"must divide the width of every level that attends; {where}"


def _variants(c: ConfigDict) -> Violations:
    kind, conditioning, levels = c.model.kind, c.model.conditioning, len(c.model.multipliers)
    if conditioning.startswith("inject"):
        after = int(conditioning.removeprefix("inject"))
        if levels <= after:
            wanted = f"needs at least {after + 1} levels in model.multipliers, which has {levels}"
            yield "model.conditioning", f"{wanted}, as G(I) joins after downsampling {after}"
    if c.model.encoder != "rrdb" and (kind == "unet" or conditioning == "stack"):
        without = "model.kind='unet' or model.conditioning='stack', which have no encoder"
        yield "model.encoder", f"must stay 'rrdb' with {without}"
    if kind != "diffusion":
        if conditioning != "sum":
            demand = f"must stay 'sum' with model.kind={kind!r}, which has no noisy mask as input"
            yield "model.conditioning", demand
        demand = f"must be 1 with model.kind={kind!r}, which draws no noise"
        if c.sampling.generations != 1:
            yield "sampling.generations", demand
        if c.sampling.samples:
            demand = f"must be 0 with model.kind={kind!r}, which has no reverse process"
            yield "sampling.samples", demand
        if c.train.noise_draws_per_image != 1:
            yield "train.noise_draws_per_image", demand


def _sizes(c: ConfigDict) -> Violations:
    halvings = len(c.model.multipliers) - 1
    unit, why = 2**halvings, f"the network halves it {halvings} times"
    if c.model.encoder == "hardnet" and unit < 4:
        unit, why = 4, "model.encoder='hardnet' works at a quarter of it"
    sizes = {"augment.crop": c.augment.crop, "sampling.tile": c.sampling.tile}
    if "size" in (group := c.get(c.data.name, {})):  # a data set that resizes its examples
        sizes[f"{c.data.name}.size"] = group.size
    for key, size in sizes.items():
        if size % unit:
            yield key, f"must be 0 or a multiple of {unit}: {why}"
    tile, (low, high) = c.sampling.tile, c.augment.scale
    if tile and not 1 <= c.sampling.stride <= tile:
        yield "sampling.stride", f"must be at least 1, at most sampling.tile={tile}, or gaps stay"
    if low > high:
        yield "augment.scale", "must be the lowest, then the highest"
    if c.augment.jitter[3] > 0.5:
        yield "augment.jitter", "the fourth, hue, must be at most 0.5"


def _sampling(c: ConfigDict) -> Violations:
    T = c.diffusion.T
    if c.diffusion.schedule == "linear" and T <= 20:
        why = "whose last beta, 20/T, must stay below 1; 'cosine' works with any T"
        yield "diffusion.T", f"must be at least 21 with diffusion.schedule='linear', {why}"
    if c.diffusion.bayes_skip and c.diffusion.prediction != "logit":
        yield "diffusion.bayes_skip", "must be False unless diffusion.prediction is 'logit'"
    diffuses, budget = c.model.kind == "diffusion", c.sampling.budget
    if budget != "paper" and diffuses and c.diffusion.prediction == "eps":
        which = "as a network that predicts eps cannot tell x0 at t=T"
        yield "sampling.budget", f"must be paper with diffusion.prediction='eps', {which}"
    if c.sampling.fusion != "mean" and (budget != "paper" or not diffuses):
        needs = "unless sampling.budget is 'paper', and model.kind 'diffusion'"
        yield "sampling.fusion", f"must be mean {needs}: there are no generations to fuse"
    if c.sampling.tolerance and not c.sampling.samples:
        yield (
            "sampling.tolerance",
            "must be 0 unless sampling.samples sets how many are drawn",
        )
    if c.sampling.steps > T:
        yield "sampling.steps", f"must be at most diffusion.T={T}; 0 for all"


def _training(c: ConfigDict) -> Violations:
    validation, test = c.data.validation_split, c.data.test_split
    draws = c.train.noise_draws_per_image
    if c.train.draws_at_once and draws % c.train.draws_at_once:
        yield "train.draws_at_once", f"must be 0 or divide train.noise_draws_per_image={draws}"
    if c.train.draws != "uniform" and draws < 2 and c.model.kind == "diffusion":
        yield "train.draws", "needs train.noise_draws_per_image of at least 2: the first is at T"
    if c.train.share_at_T and c.train.draws == "uniform" and c.model.kind == "diffusion":
        yield "train.share_at_T", "must be 0 with train.draws='uniform', which does not begin at T"
    if c.train.draws == "T+recycled" and c.diffusion.prediction not in ("x0", "logit"):
        yield "train.draws", "needs diffusion.prediction 'x0' or 'logit', which estimate x0 at T"
    if c.train.evaluate_every and not validation:
        yield "train.evaluate_every", "must be 0 unless data.validation_split names a split"
    if c.train.result != "last" and not c.train.evaluate_every:
        yield "train.result", "must be last unless train.evaluate_every scores the validation split"
    for name in ("train_split", "validation_split", "test_split"):
        if _repeats(c.data[name].split("+")):
            yield f"data.{name}", "names a split twice"
    if _shared(validation, test):
        demand = f"must share nothing with data.test_split={test!r}, as it selects the checkpoint"
        yield "data.validation_split", demand


def _repeats(values: tuple | list) -> bool:
    return len(set(values)) < len(values)


def _shared(a: str, b: str) -> set[str]:
    """Returns the splits that both name."""
    return set(a.split("+")) & set(b.split("+")) - {""}


def warnings_for(config: ConfigDict) -> list[str]:
    """Returns a line for each allowed setting of a checked config that is rarely intended."""
    return [f"config.{line}" for line in _warnings(config)]


def _warnings(c: ConfigDict) -> Iterator[str]:
    kind, groups = c.model.kind, c.model.norm_groups
    widths = [multiplier * c.model.channels for multiplier in c.model.multipliers]
    # with one channel a group, the mean that a norm subtracts is the added time vector
    if groups in widths and kind == "diffusion":
        levels = ", ".join(str(level) for level, width in enumerate(widths) if width == groups)
        blind = f"one channel a group at level {levels}, whose blocks are therefore blind to t"
        yield f"model.norm_groups={groups}: {blind}; at most {groups // 2} is better"
    for name in ("validation_split", "test_split"):
        if both := "+".join(sorted(_shared(c.data.train_split, c.data[name]))):
            meaning = "its scores do not measure how well new images are segmented"
            yield f"data.{name}={c.data[name]!r}: {both} is trained on as well, so {meaning}"
    if (warmup := c.train.warmup_steps) >= (steps := c.train.steps):
        reached = f"the learning rate does not reach its value within train.steps={steps}"
        yield f"train.warmup_steps={warmup}: {reached}"
    if c.sampling.steps and kind != "diffusion":
        yield f"sampling.steps={c.sampling.steps}: model.kind={kind!r} has no reverse steps"
    if c.sampling.eta and c.sampling.sampler != "ddim":
        yield f"sampling.eta={c.sampling.eta}: only the sampler ddim uses it"
