"""Every field has a default and a rule, all configs pass, contradictions are refused."""

import pytest
from tiny_config import ROOT

from segdiff_jax.cli import options
from segdiff_jax.config import default, flatten, schema, validate
from segdiff_jax.errors import UserError

CONFIGS = (
    *("configs/monuseg.py", "configs/monuseg.py:small", "configs/monuseg.py:gpu"),
    *("configs/synthetic.py", "configs/ambiguous.py", "configs/discs.py"),
    "configs/cityscapes.py:classes",
    *("configs/vaihingen.py", "configs/vaihingen.py:small"),
    *("configs/cityscapes.py:bus", "configs/cityscapes.py:all,tight", "configs/cityscapes.py:car"),
)
ELSEWHERE = {ROOT / "configs" / "folder.py"}  # needs a folder: see test_folder


def set_field(config, key, value):
    *groups, name = key.split(".")
    for group in groups:
        config = config[group]
    with config.ignore_type():
        config[name] = value


def load(source):
    name, _, argument = source.partition(":")
    return options.load_config(f"{ROOT / name}:{argument}" if argument else str(ROOT / name))


def test_the_default_has_every_field_of_the_table():
    assert set(flatten(default())) == set(schema.FIELDS)


@pytest.mark.parametrize("source", CONFIGS)
def test_a_config_of_the_project_passes_without_a_warning(source):
    config = load(source)
    validate.check(config)
    assert validate.warnings_for(config) == []


def test_every_file_in_configs_is_tested_here():
    tested = {ROOT / source.partition(":")[0] for source in CONFIGS}
    assert {p for p in (ROOT / "configs").glob("*.py") if p.stem != "__init__"} == (
        tested | ELSEWHERE
    )


def test_the_default_passes():
    validate.check(default())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.multipliers": (2, 1)}, "config.model.multipliers=(2, 1): the first must be 1"),
        ({"model.multipliers": ()}, "one or more values"),
        ({"model.multipliers": 3}, "one or more values"),
        ({"model.multipliers": (1, True)}, "each an integer, at least 1"),
        ({"model.attention_factors": (128,)}, "at most 64, as model.multipliers has 7 levels"),
        ({"model.attention_factors": (16, 16)}, "must differ"),
        ({"model.attention_factors": (12,)}, "powers of two"),
        ({"model.norm_groups": 48}, "config.model.norm_groups=48: must divide the width"),
        ({"model.heads": 3}, "level 4 is 256 wide"),
        ({"model.channels": 96, "model.heads": 24}, None),
        (
            {"model.kind": "difusion"},
            "must be one of diffusion, twin, unet; did you mean diffusion?",
        ),
        ({"model.conditioning": "inject2"}, "inject1, inject3, inject5; did you mean"),
        ({"model.conditioning": "inject5"}, None),
        (
            {
                "model.conditioning": "inject5",
                "model.multipliers": (1, 1, 2, 4, 4),
                "model.attention_factors": (16,),
            },
            "needs at least 6 levels in model.multipliers, which has 5",
        ),
        ({"model.conditioning": "inject5", "model.multipliers": (1, 1, 2, 2, 4, 4)}, None),
        ({"model.encoder": "hardnet"}, None),
        ({"model.encoder": "hardnet", "model.conditioning": "stack"}, "which have no encoder"),
        (
            {
                "augment.crop": 18,
                "model.encoder": "hardnet",
                "model.multipliers": (1, 2),
                "model.attention_factors": (2,),
            },
            "multiple of 4: model.encoder='hardnet' works at a quarter of it",
        ),
        ({"sampling.generations": 9, "model.kind": "twin"}, "must be 1 with model.kind='twin'"),
        (
            {"train.draws_at_once": 4, "train.noise_draws_per_image": 6},
            "must be 0 or divide train.noise_draws_per_image=6",
        ),
        (
            {"train.noise_draws_per_image": 2, "sampling.generations": 1, "model.kind": "unet"},
            "must be 1 with model.kind='unet', which draws no noise",
        ),
        (
            {"model.conditioning": "concat", "model.kind": "twin", "sampling.generations": 1},
            "must stay 'sum' with model.kind='twin'",
        ),
        (
            {"model.encoder": "hardnet", "model.kind": "unet", "sampling.generations": 1},
            "must stay 'rrdb'",
        ),
        (
            {"model.encoder": "hardnet", "model.kind": "twin", "sampling.generations": 1},
            None,
        ),
        ({"augment.crop": 200}, "must be 0 or a multiple of 64"),
        ({"sampling.tile": 250}, "must be 0 or a multiple of 64"),
        ({"sampling.stride": 300}, "at most sampling.tile=256"),
        ({"sampling.stride": 0}, "at least 1"),
        ({"sampling.tile": 0, "sampling.stride": 0}, None),
        ({"augment.scale": (1.5, 0.5)}, "the lowest, then the highest"),
        ({"augment.scale": (1, 2)}, None),
        ({"augment.jitter": (0.0, 0.0, 0.0, 0.6)}, "hue, must be at most 0.5"),
        ({"diffusion.T": 20}, "must be at least 21"),
        ({"diffusion.T": 21}, None),
        ({"diffusion.T": 4, "diffusion.schedule": "cosine"}, None),
        ({"sampling.steps": 101}, "at most diffusion.T=100"),
        ({"sampling.budget": "fast"}, "must be paper with diffusion.prediction='eps'"),
        ({"sampling.budget": "fast", "diffusion.prediction": "x0"}, None),
        ({"sampling.budget": "fast", "model.kind": "twin", "sampling.generations": 1}, None),
        ({"sampling.samples": 4}, None),
        (
            {"sampling.samples": 4, "model.kind": "twin", "sampling.generations": 1},
            "must be 0 with model.kind='twin', which has no reverse process",
        ),
        ({"sampling.tolerance": 0.1}, "must be 0 unless sampling.samples sets how many"),
        ({"sampling.tolerance": 0.1, "sampling.samples": 4}, None),
        ({"sampling.fusion": "staple"}, None),
        (
            {"sampling.fusion": "staple", "sampling.budget": "fast", "diffusion.prediction": "x0"},
            "must be mean unless sampling.budget is 'paper'",
        ),
        (
            {"sampling.fusion": "median", "model.kind": "unet", "sampling.generations": 1},
            "must be mean unless sampling.budget is 'paper', and model.kind 'diffusion'",
        ),
        ({"train.evaluate_every": 5}, "data.validation_split names a split"),
        ({"train.evaluate_every": 5, "data.validation_split": "validation"}, None),
        ({"train.result": "best"}, "unless train.evaluate_every"),
        ({"data.validation_split": "test"}, "must share nothing with data.test_split='test'"),
        ({"data.train_split": "train+train"}, "names a split twice"),
        ({"data.train_split": ""}, "train, validation, test"),
        ({"train.learning_rate": float("inf")}, "config.train.learning_rate=inf: must be a number"),
        ({"train.ema_decay": 1.0}, "at least 0, below 1"),
        ({"train.batch_size": 8.0}, "an integer, at least 1"),
        ({"train.ema_warmup": 1}, "true or false"),
        ({"data.std": (1.0, 0.0, 1.0)}, "one or more values in brackets, each a number, above 0"),
        ({"seed": 2**32}, "at most 4294967295"),
        ({"data.std": ()}, "must be given if data.mean is"),
        ({"data.std": (), "data.mean": ()}, None),
        ({"reading.float_range": (2.0, 1.0)}, "must be the lower, then the higher"),
        ({"reading.float_range": (1.0, 1.0)}, "must be the lower, then the higher"),
        ({"cityscapes.train_expansion": (20, 10)}, "must be the lower, then the higher"),
        ({"cityscapes.train_expansion": (10, 10)}, None),
        ({"cityscapes.classes": ("bus", "bus")}, "names a class twice"),
        ({"data.channels": "a,a"}, "up to 16 different names joined by commas"),
        ({"data.channels": "a,b"}, "must be '' with data.name='synthetic'"),
        ({"folder.classes": "a=1,b=1"}, "each name and each value once"),
        ({"folder.classes": "a=1,b=2"}, "must be '' with data.name='synthetic'"),
        ({"cityscapes.exclusive": True}, "must be False with data.name='synthetic'"),
        ({"folder.test_share": 0.75, "folder.validation_share": 0.25}, "images to train on"),
        ({"folder.test_share": 0.75, "folder.validation_share": 0.2}, None),
        ({"cityscapes.size": 100}, None),
        ({"cityscapes.size": 100, "data.name": "cityscapes"}, "must be 0 or a multiple of 64"),
    ],
)
def test_a_contradiction_is_refused_and_explained(changes, message):
    config = default()
    for key, value in changes.items():
        set_field(config, key, value)
    if message is None:
        validate.check(config)
        return
    with pytest.raises(UserError) as caught:
        validate.check(config)
    assert message in str(caught.value)
    assert str(caught.value).startswith(f"config.{next(iter(changes))}")


def test_a_config_file_that_misspells_a_field_is_refused():
    config = default()
    config.train.learning_rat = 1e-3
    with pytest.raises(
        UserError, match=r"config\.train\.learning_rat: .* config\.train\.learning_rate\?"
    ):
        validate.check(config)


def test_a_missing_field_is_named():
    config = default()
    del config.train.steps
    with pytest.raises(UserError, match=r"config\.train\.steps is missing: must be an integer"):
        validate.check(config)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model.channels": 32}, "one channel a group at level 0, 1, 2, whose blocks are"),
        ({"data.test_split": "train"}, "train is trained on as well"),
        ({"train.warmup_steps": 300_000}, "does not reach its value within train.steps=300000"),
        ({"sampling.eta": 0.5}, "only the sampler ddim uses it"),
        (
            {"model.kind": "twin", "sampling.generations": 1, "sampling.steps": 5},
            "model.kind='twin' has no reverse steps",
        ),
    ],
)
def test_what_is_rarely_intended_is_warned_of(changes, message):
    config = default()
    for key, value in changes.items():
        set_field(config, key, value)
    validate.check(config)
    (line,) = validate.warnings_for(config)
    assert message in line


def test_the_known_data_sets_are_those_that_can_be_built():
    from segdiff_jax.data.datasets.registry import BUILDERS

    assert set(schema.FIELDS["data.name"].allowed.choices) == set(BUILDERS)


NUMBERS = [
    key
    for key, field in schema.FIELDS.items()
    if isinstance(field.default, int | float) and not isinstance(field.default, bool)
]
HUGE = [10**12 + 1, 2**63, 10**30, 1e31, 1e308, float("inf"), float("nan")]


@pytest.mark.parametrize("value", HUGE)
def test_every_number_has_a_bound_that_the_system_can_hold(value):
    """Timers take less than 10^10 s, counters are int32, and floats are those of float32."""
    for key in NUMBERS:
        if isinstance(value, float) or key != "train.clip_norm":
            assert not schema.FIELDS[key].allowed.accepts(value), key
    for key, field in schema.FIELDS.items():
        assert field.allowed.accepts(field.default), key
        if isinstance(field.default, tuple) and field.default and key != "cityscapes.classes":
            assert not field.allowed.accepts((value,) * len(field.default)), key
            assert not field.allowed.accepts(tuple(field.default) * 1000), key
