"""What a report says of the network, of what makes its probability, and of its samples."""

import pytest
from tiny_config import tiny

from segdiff_jax.factory import networks

STEPS = {"reverse steps": "3 of 100, ddpm, variance beta"}


@pytest.mark.parametrize(
    ("sampling", "said"),
    [
        ({}, {"generations averaged": 2, **STEPS}),
        ({"fusion": "staple"}, {"generations averaged": 2, "fusion": "staple", **STEPS}),
        ({"budget": "fast"}, {"probability": "1 pass at t=T"}),
        (
            {"budget": "balanced", "orientations": 4},
            {"probability": "mean of 4 orientations, each 1 pass at t=T"},
        ),
        (
            {"budget": "fast", "samples": 8},
            {"probability": "1 pass at t=T", "samples": "8, coupled", **STEPS},
        ),
        (
            {"samples": 8, "masks": "soft", "tolerance": 0.05},
            {
                "generations averaged": 2,
                **STEPS,
                "samples": "8, soft, until their mean area is known to 0.05",
            },
        ),
    ],
)
def test_the_budget_and_the_samples_are_described(sampling, said):
    config = tiny()
    config.sampling.update(sampling)
    found = networks.describe(config)
    network = {"network": "conditioning sum, encoder rrdb", "network predicts": "x0"}
    assert found == network | said


def test_a_twin_in_several_orientations_says_so():
    config = tiny()
    config.model.kind, config.sampling.budget = "twin", "balanced"
    found = networks.describe(config)
    assert found["probability"] == "mean of 8 orientations, each 1 pass"
    config.sampling.budget = "fast"
    assert "probability" not in networks.describe(config)
