"""The figures of the guide show what the text says, and the committed numbers are those of the committed code."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from codelength.cli.main import main
from codelength.errors import UsageError
from codelength.tutorial import FIGURES, make_figures
from codelength.tutorial.binarization import binarize, noise_bits
from codelength.tutorial.dequantization import bin_mass
from codelength.tutorial.logistic import closed_masses, masses, scaled
from codelength.tutorial.mixture import Mixture, digit_histogram, entropy_bits, fit, quadrature

ROOT = Path(__file__).resolve().parents[2]
COMMITTED = json.loads((ROOT / "docs/figures/figures.json").read_text())["figures"]
QUICK = ["binarized.png", "logistic-edges.svg", "gradients.svg"]


@pytest.mark.parametrize("name", QUICK)
def test_made_again(name, tmp_path):
    made = make_figures(tmp_path, [name])[name]
    assert made == pytest.approx(COMMITTED[name], rel=1e-5)
    assert (tmp_path / name).stat().st_size > 5_000


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(set(FIGURES) - {*QUICK, "modes.png"}))  # modes: tests/divergences
def test_the_others_made_again(name, tmp_path):
    assert make_figures(tmp_path, [name])[name] == pytest.approx(COMMITTED[name], rel=1e-3)


def test_all_are_committed():
    files = {path.name for path in (ROOT / "docs/figures").iterdir()} - {"figures.json"}
    assert set(FIGURES) <= set(COMMITTED)
    assert set(COMMITTED) <= files
    pages = "".join(path.read_text() for path in (ROOT / "docs").rglob("*.md"))
    assert all(name in pages for name in FIGURES)


def test_binarization():
    grey = np.full((200, 200), 0.3)
    coins = binarize(grey, "a")
    assert set(np.unique(coins)) == {0.0, 1.0}
    assert coins.mean() == pytest.approx(0.3, abs=5 * math.sqrt(0.21 / 40_000))
    assert (coins != binarize(grey, "b")).any()
    assert noise_bits(np.array([0.25])) == pytest.approx(0.811278, abs=1e-6)
    assert (
        COMMITTED["binarized.png"]["photograph_noise_bits_per_dim"]
        > 10 * COMMITTED["binarized.png"]["digit_noise_bits_per_dim"]
    )


def test_a_density_on_integers_has_no_least_loss_and_one_with_noise_has():
    frequencies = digit_histogram()
    floor = entropy_bits(frequencies)
    integers = torch.arange(256, dtype=torch.float64)
    bare, noisy = Mixture(10, frequencies, 2.0), Mixture(10, frequencies, 2.0)
    falls = fit(bare, lambda m: -(frequencies * m.log_density(integers)).sum(), 200, free_means=False)
    holds = fit(noisy, lambda m: -(frequencies * m.log_density(quadrature()).mean(1)).sum(), 200)
    assert falls[-1] < floor < holds[-1]
    assert falls[-1] < falls[-20] < falls[-40]  # and goes on falling
    with torch.no_grad():
        mass = bin_mass(noisy)
        exact = float(-(frequencies * mass.log()).sum()) / math.log(2)
    assert mass.sum() <= 1 + 1e-12
    assert floor <= exact <= holds[-1]  # entropy <= exact mass of the density <= its bound


def test_the_density_is_one():
    mixture = Mixture(3, digit_histogram())
    fine = torch.linspace(-2000, 2300, 400_001, dtype=torch.float64)
    with torch.no_grad():
        total = torch.trapezoid(mixture.log_density(fine).exp(), fine)
        assert float(total) == pytest.approx(1, abs=1e-4)
        assert float(mixture.log_mass().exp().sum()) == pytest.approx(1, abs=1e-9)


def test_preprocessing_terms_add_up():
    numbers = COMMITTED["preprocessing.svg"]
    on_unit = numbers["bits_on_the_reals"] + numbers["logit_term_bits"]
    assert on_unit == pytest.approx(numbers["bits_on_the_unit_interval"])
    assert on_unit + 8 == pytest.approx(numbers["bits_on_0_to_256"])
    assert numbers["exact_mass_bits"] <= numbers["bits_on_0_to_256"]


def test_forward_kl_covers_and_reverse_kl_drops():
    fits = {fit["fitted_by"]: fit for fit in COMMITTED["modes.png"]["fits"]}
    assert fits["forward_kl"]["modes"] == 1
    assert fits["reverse_kl"]["modes"] < 0.5


@pytest.mark.parametrize("centre", [127, 1, 254])
def test_open_edges_hold_all_the_mass(centre):
    log_scale = torch.tensor(math.log(8 / 255), dtype=torch.float64)
    assert float(masses(scaled(centre), log_scale).sum()) == pytest.approx(1, abs=1e-12)
    closed = float(closed_masses(scaled(centre), log_scale).sum())
    assert (closed > 1 - 1e-9) == (centre == 127)


def test_command(tmp_path, capsys):
    assert main(["figures", "--list"]) == 0
    assert capsys.readouterr().out.split() == list(FIGURES)
    assert main(["figures", "logistic-edges.svg", "-o", str(tmp_path)]) == 0
    assert "sum_at_127" in json.loads(capsys.readouterr().out)["logistic-edges.svg"]
    with pytest.raises(UsageError, match=r"logistic-edges\.svg"):
        make_figures(tmp_path, ["logistic-edge.svg"])
