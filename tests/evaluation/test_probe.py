"""Linear probes, and texts given sources measured target by target."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from codelength.data.dataset import Split
from codelength.errors import UsageError
from codelength.evaluation.probe import layer_features, linear_probe
from codelength.evaluation.targets import exact_matches, paired_difference
from codelength.models.registry import build_model
from codelength.space import Space

CHANCE = 5 * 0.5 / 200**0.5
"""Five standard errors of the accuracy of a coin on 200 data."""


def test_a_probe_tells_what_is_there_linearly_and_nothing_else():
    random = np.random.default_rng(0)
    x = random.normal(size=(600, 5))
    labels = (x @ [1, -2, 0, 0, 1] > 0).astype(int)
    assert linear_probe(x[:400], labels[:400], x[400:], labels[400:]) > 0.95
    # The controls: labels without meaning, and a parity that is there, but not linearly.
    shuffled = random.permutation(labels)
    assert abs(linear_probe(x[:400], shuffled[:400], x[400:], shuffled[400:]) - 0.5) < CHANCE
    parity = ((x[:, 0] > 0) ^ (x[:, 1] > 0)).astype(int)
    assert abs(linear_probe(x[:400], parity[:400], x[400:], parity[400:]) - 0.5) < CHANCE


def test_features_are_what_the_layer_is_given_averaged():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model("gpt2", Space("sequence", (6,), 5), layers=1, width=8, heads=2).eval()
    x = torch.randint(5, (7, 6), generator=torch.Generator().manual_seed(0))
    found = layer_features(model, x, "norm", batch_size=3)
    with torch.no_grad():
        before = model.blocks[0](model._embed(x[:, :-1]) + model.positions[:6])
    np.testing.assert_allclose(found, before.mean(1).numpy(), atol=1e-6)
    assert not model.norm._forward_pre_hooks
    with pytest.raises(UsageError, match="unknown layer"):
        layer_features(model, x, "nrom")


def test_features_of_images_are_averaged_over_sites():
    space = Space.image(1, 4, 4, 3)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model("gated_pixelcnn", space, filters=6, layers=2, first_kernel=3, pixels="categorical").eval()
    x = torch.randint(3, (5, 1, 4, 4), generator=torch.Generator().manual_seed(0))
    found = layer_features(model, x, "out")
    assert found.shape == (5, 6)
    assert np.abs(found - found[:1]).max() > 1e-4


def test_exact_matches_are_greedy_texts_that_are_the_target():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(
            "prefix_lm", Space("sequence", (4,), 6), layers=1, width=8, heads=2, source=2, source_levels=5
        ).eval()
    told = torch.randint(4, (9, 2), generator=torch.Generator().manual_seed(0))
    likely = model.sample(9, torch.Generator(), 0.0, source=told)
    target = likely.clone()
    target[::2, 0] = (target[::2, 0] + 1) % 5
    split = Split(target.numpy(), conditions={"source": told.numpy()})
    assert exact_matches(model, split).tolist() == [i % 2 == 1 for i in range(9)]


def test_a_paired_difference_sees_what_unpaired_means_do_not():
    random = np.random.default_rng(0)
    hard = 10 * random.normal(size=200)
    a, b = hard + 0.5 + 0.1 * random.normal(size=200), hard
    assert paired_difference(a, b).excludes_zero
    assert paired_difference(a, b).mean == pytest.approx(0.5, abs=0.05)
    assert not paired_difference(a, random.permutation(b)).excludes_zero
    # Equal data in clusters of ten are twenty data, not two hundred.
    repeated = np.repeat(random.normal(size=20), 10)
    apart = paired_difference(repeated, 0 * repeated)
    together = paired_difference(repeated, 0 * repeated, np.repeat(np.arange(20), 10))
    assert together.standard_error > 2.5 * apart.standard_error
