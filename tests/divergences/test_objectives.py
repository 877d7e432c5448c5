"""Objectives: their optimum is the target where the model can be it; known misfits cover or drop."""

import math

import pytest
import torch

from codelength.divergences import Gaussian, GaussianKernel, Grid, gaussians, objectives, planar_data
from codelength.divergences.experiment import METHODS, GaussianModel, fit, judge
from codelength.divergences.frechet import frechet_blindness
from codelength.divergences.planar import isotropic_mixture, planar_density, three_modes
from codelength.errors import UsageError

TARGET = Gaussian(
    torch.tensor([0.5, -0.3], dtype=torch.float64), torch.tensor([[0.9, 0.3], [0.3, 0.7]], dtype=torch.float64)
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def model_at(mean, covariance):
    model = GaussianModel(mean, 1.0)
    factor = torch.linalg.cholesky(covariance)
    with torch.no_grad():
        model.log_scale.copy_(factor.diagonal().log())
        model.shear.copy_(factor[1, 0])
    return model


class SmallTarget:
    """The interface of a planar density, of a Gaussian that the model can be."""

    log_prob, sample, score = TARGET.log_prob, TARGET.sample, TARGET.score


GAUSSIAN_METHODS = [m for m in METHODS if m.model == "gaussian" and m.name != "operator"]


@pytest.mark.parametrize("method", GAUSSIAN_METHODS, ids=lambda m: m.name)
def test_gradient_is_0_at_the_target_and_not_elsewhere(method):
    def gradient(model, repeats=12):
        rows = []
        for seed in range(repeats):
            loss = method.loss(model, SmallTarget, TARGET.sample(250, generator(seed)), generator(50 + seed))
            rows.append(torch.cat([g.flatten() for g in torch.autograd.grad(loss, list(model.parameters()))]))
        rows = torch.stack(rows)
        return rows.mean(0), rows.std(0) / math.sqrt(repeats)

    mean, error = gradient(model_at(TARGET.mean, TARGET.covariance))
    assert bool((mean.abs() < 6 * error + 1e-9).all())
    mean, error = gradient(model_at(TARGET.mean + 0.5, 1.5 * TARGET.covariance))
    assert bool((mean.abs() > 6 * error).any())


def test_stein_operator_has_mean_0_under_the_target_and_not_elsewhere():
    weights = torch.randn(2, 2, generator=generator(1), dtype=torch.float64)
    objective = objectives.LangevinStein(lambda y: torch.tanh(y @ weights + 0.3), TARGET.score)
    values = objective.operator(TARGET.sample(20_000, generator(2))).detach()
    assert abs(float(values.mean())) < 4 * float(values.std()) / math.sqrt(20_000)
    other = objective.operator(TARGET.sample(20_000, generator(2)) + 0.5).detach()
    assert abs(float(other.mean())) > 10 * float(other.std()) / math.sqrt(20_000)


def test_best_test_function_of_the_operator_is_the_difference_of_scores():
    other = Gaussian(TARGET.mean + 0.4, 1.3 * TARGET.covariance)
    y = other.sample(20_000, generator(3))
    best = objectives.LangevinStein(lambda t: TARGET.score(t) - other.score(t), TARGET.score)
    doubled = objectives.LangevinStein(lambda t: 2 * (TARGET.score(t) - other.score(t)), TARGET.score)
    low, high = float(best.loss_of_test_function(y).detach()), float(doubled.loss_of_test_function(y).detach())
    assert low == pytest.approx(-float(gaussians.fisher(other, TARGET)), rel=0.1)
    assert low < high


def test_losses_are_the_divergences_up_to_their_constants():
    q = model_at(TARGET.mean + 0.3, 1.2 * TARGET.covariance)
    twin = Gaussian(TARGET.mean + 0.3, 1.2 * TARGET.covariance)
    x = TARGET.sample(20_000, generator(4))
    with torch.no_grad():
        found = {
            "forward": objectives.forward_kl(q.log_prob, x) - TARGET.entropy(),
            "reverse": objectives.reverse_kl(q, TARGET.log_prob, 20_000, generator(5)),
            "chi": objectives.chi_squared(q.log_prob, TARGET.log_prob, x),
            "renyi": objectives.renyi(q, TARGET.log_prob, 0.5, 20_000, generator(5)),
            "js": objectives.jensen_shannon(q, TARGET.log_prob, x, generator(5)),
            "bregman": objectives.bregman_squared(q, x, generator(5)),
        }
    wanted = {
        "forward": gaussians.kl(TARGET, twin),
        "reverse": gaussians.kl(twin, TARGET),
        "chi": gaussians.renyi(TARGET, twin, 2.0),
        "renyi": gaussians.renyi(twin, TARGET, 0.5),
        "js": gaussians.jensen_shannon(TARGET, twin),
        "bregman": gaussians.bregman_squared(TARGET, twin) - gaussians.bregman_squared(TARGET, _far()),
    }
    for name, value in found.items():
        assert float(value) == pytest.approx(float(wanted[name]), abs=0.02), name
    with pytest.raises(UsageError, match="reverse_kl"):
        objectives.renyi(q, TARGET.log_prob, 1.0, 4, generator())


def _far():
    """So far that ∫ (p − far)² = ∫ p² + ∫ far², with ∫ far² negligible: what the objective leaves out."""
    return Gaussian(TARGET.mean + 100, 1e8 * TARGET.covariance)


def test_forward_kl_covers_and_reverse_kl_drops():
    target, grid = three_modes(), Grid(reach=12.0, size=161)
    p = grid.density(target.log_prob)
    methods = {m.name: m for m in METHODS}
    forward, reverse = (fit(methods[name], target, steps=200) for name in ("forward_kl", "reverse_kl"))
    of_forward, covered = judge(forward, target, grid, p)
    of_reverse, dropped = judge(reverse, target, grid, p)
    assert covered == 1.0
    assert dropped == pytest.approx(1 / 3)
    assert of_forward["forward_kl"] < of_reverse["forward_kl"]
    assert of_reverse["reverse_kl"] < of_forward["reverse_kl"]
    assert of_reverse["reverse_kl"] == pytest.approx(math.log(2), abs=0.02)  # one of three modes, of weight 1/2


def test_frechet_distance_is_0_between_distributions_that_differ():
    grid = Grid(reach=12.0, size=161)
    twins = frechet_blindness(three_modes(), grid)
    assert twins.frechet_squared < 1e-6
    assert twins.total_variation > 0.5
    assert twins.forward_kl > 1
    assert twins.mmd_squared > 0.1
    moved = isotropic_mixture(three_modes().means + 1.0, 0.6, three_modes().weights)
    p, q = grid.density(three_modes().log_prob), grid.density(moved.log_prob)
    assert grid.divergences(p, q)["frechet_squared"] == pytest.approx(2.0, rel=1e-3)


def test_grid_agrees_with_closed_forms():
    grid = Grid(reach=7.0, size=161)
    other = Gaussian(torch.tensor([0.0, 0.4], dtype=torch.float64), 1.1 * torch.eye(2, dtype=torch.float64))
    found = grid.divergences(grid.density(TARGET.log_prob), grid.density(other.log_prob))
    kernel = GaussianKernel(1.0)
    wanted = {
        "forward_kl": gaussians.kl(TARGET, other),
        "reverse_kl": gaussians.kl(other, TARGET),
        "jensen_shannon": gaussians.jensen_shannon(TARGET, other),
        "chi_squared": gaussians.chi_squared(TARGET, other),
        "renyi_half": gaussians.renyi(TARGET, other, 0.5),
        "amari_half": gaussians.amari(TARGET, other, 0.5),
        "bregman_squared": gaussians.bregman_squared(TARGET, other),
        "fisher": gaussians.fisher(TARGET, other),
        "ksd_squared": gaussians.ksd_squared(other, TARGET, kernel),
        "mmd_squared": gaussians.mmd_squared(TARGET, other, kernel),
        "frechet_squared": gaussians.frechet_squared(TARGET, other),
    }
    for name, value in wanted.items():
        assert found[name] == pytest.approx(float(value), rel=1e-5), name
    with pytest.raises(UsageError, match="another grid"):
        Grid(reach=1.0, size=41).density(TARGET.log_prob)


@pytest.mark.parametrize("name", ["eight_gaussians", "two_moons", "checkerboard", "pinwheel", "three_modes"])
def test_planar_densities_integrate_to_1_and_their_samples_have_their_entropy(name):
    density = planar_density(name)
    t = torch.linspace(-6, 6, 241, dtype=torch.float64)
    t = (t[1:] + t[:-1]) / 2  # centres: the border of a square belongs to one cell
    points = torch.cartesian_prod(t, t)
    logs = density.log_prob(points)
    mass = logs.exp() * (12 / 240) ** 2
    assert float(mass.sum()) == pytest.approx(1.0, abs=1e-4)
    entropy = float(-torch.where(mass > 0, mass * logs, 0.0).sum())
    x = density.sample(4000, generator(6))
    costs = -density.log_prob(x)
    assert float(costs.mean()) == pytest.approx(entropy, abs=5 * float(costs.std()) / math.sqrt(4000) + 1e-4)
    assert float(x.mean(0).sub(mass @ points).abs().max()) < 5 * float(x.std()) / math.sqrt(4000)


def test_unknown_planar_density_is_refused():
    with pytest.raises(UsageError, match="did you mean 'pinwheel'"):
        planar_density("pinwheels")


def test_planar_data_sets_are_real_and_a_function_of_the_seed():
    from codelength.training.batches import is_real

    data = planar_data("two_moons", (300, 40, 50), seed=1)
    assert [len(data.split(name)) for name in ("train", "validation", "test")] == [300, 40, 50]
    assert is_real(data.split("train"))
    assert data.split("train").fingerprint() == planar_data("two_moons", (300, 40, 50), 1).split("train").fingerprint()
    assert data.split("train").x[0].tolist() != planar_data("two_moons", (300, 40, 50), 2).split("train").x[0].tolist()
