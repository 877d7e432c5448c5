"""`codelength latents`: views of what latents do, and the numbers of their use."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from codelength.cli.latents import command
from codelength.data import load_data
from codelength.errors import UsageError
from codelength.evaluation import evaluate_run
from codelength.evaluation.latents import use_of_layers
from codelength.models.latent.vae import VAE
from codelength.models.registry import build_model
from codelength.recipe import parse_recipe
from codelength.report import write_report
from codelength.report.latents import interventions
from codelength.run import create_run, load_run, save_run_weights
from codelength.space import Space

OPTIONS = {
    "vae": {"latents": 3, "network": "dense", "filters": 8},
    "draw": {"steps": 3, "latents": 2, "hidden": 6, "write": 3},
    "uniform": {},
}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("runs")
    space = load_data("digits-static").space
    for system, options in OPTIONS.items():
        recipe = {"name": system, "data": {"name": "digits-static"}, "model": {"system": system, "options": options}}
        create_run(folder / system, parse_recipe(recipe), space)
        torch.manual_seed(0)
        save_run_weights(folder / system, build_model(system, space, **options).state_dict(), "raw", 1)
    return {system: folder / system for system in OPTIONS}


def invoke(*arguments: object) -> str:
    result = CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize(
    ("system", "view", "columns", "rows"),
    [("vae", "reconstruct", 8, 1), ("vae", "interpolate", 8, 2), ("vae", "do", 3, 4), ("draw", "steps", 4, 4)],
)
def test_views_are_pictures(
    runs: dict[str, Path], tmp_path: Path, system: str, view: str, columns: int, rows: int
) -> None:
    path = tmp_path / "out.png"
    extra = ["--latent", "z[1]", "--values", "-2,0,2"] if view == "do" else []
    assert invoke(runs[system], view, "-o", path, "-n", 4, "--scale", 1, *extra).strip() == str(path)
    with Image.open(path) as image:
        assert image.size == (columns * 10 + 2, rows * 10 + 2)


def test_use_is_a_table(runs: dict[str, Path]) -> None:
    lines = invoke(runs["draw"], "use").splitlines()
    assert len(lines) == 4
    assert lines[1].startswith("z1\t")


@pytest.mark.parametrize(
    ("system", "arguments", "message"),
    [
        ("uniform", ["reconstruct", "-o", "a.png"], "no latents"),
        ("vae", ["steps", "-o", "a.png"], "no canvas"),
        ("vae", ["do", "-o", "a.png"], "wants --latent"),
        ("vae", ["do", "-o", "a.png", "--latent", "z", "--values", "x"], "wanted numbers"),
        ("vae", ["reconstruct", "-o", "a.jpg"], "png"),
    ],
)
def test_what_cannot_be_shown_is_refused(
    runs: dict[str, Path], system: str, arguments: list[str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        invoke(runs[system], *arguments)


def test_only_what_depends_on_the_latent_changes_along_a_row(runs: dict[str, Path]) -> None:
    model = load_run(runs["vae"]).load_model()
    assert isinstance(model, VAE)
    with torch.no_grad():
        model.decoder[0][1].weight[:, 0] = 0  # z[0] does nothing
        model.decoder[0][-1].weight.mul_(30)
        still, moving = (interventions(model, f"z[{i}]", [-4.0, 0.0, 4.0], rows=2) for i in (0, 1))
    assert torch.equal(still[0], still[2])
    assert not torch.equal(moving[0], moving[2])
    assert not torch.equal(still[0], still[3]), "rows differ"
    assert interventions(model, "z", [0.0, 1.0], rows=1).shape == (2, 1, 8, 8)


def test_unused_units_are_seen() -> None:
    """Unit 0 is the data, unit 1 is always the prior: one active, one with an aggregate posterior of N(0, 1)."""
    torch.manual_seed(0)
    model = VAE(Space.image(1, 1, 1, 256), latents=2, network="dense", filters=1, blocks=0)
    with torch.no_grad():
        last = model.encoder[-1]
        last.weight.copy_(torch.tensor([[2.0], [0.0], [0.0], [0.0]]))
        last.bias.copy_(torch.tensor([0.5, 0.0, -2.0, 0.0]))
    x = torch.arange(256).view(-1, 1, 1, 1)
    (use,) = use_of_layers(model, x)
    assert (use.units, use.active, use.collapsed) == (2, 1, False)
    exact = (torch.arange(256) * 4 / 255).double().var()
    assert abs(use.activity[0] - exact) < 0.02
    assert abs(use.activity[1]) < 0.01
    np.testing.assert_allclose([use.noise_mean[1], use.noise_std[1]], [0, 1], atol=0.1)
    np.testing.assert_allclose([use.noise_mean[0], use.noise_std[0] ** 2], [0.5, exact + np.exp(-4)], atol=0.02)
    with torch.no_grad():
        last.weight.zero_()
        last.bias.zero_()
    assert use_of_layers(model, x)[0].collapsed


def test_the_report_has_a_table_of_layers(runs: dict[str, Path], tmp_path: Path) -> None:
    evaluate_run(load_run(runs["vae"]), split="validation", samples=2)
    page = write_report([load_run(runs["vae"])], tmp_path / "r.html").read_text()
    assert "Latents of vae" in page
    assert "active units" in page
