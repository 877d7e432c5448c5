"""zuko, nflows, normflows, torch and scikit-learn: trained briefly, then evaluated, audited and compared like our own."""

from __future__ import annotations

import builtins
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from codelength import LikelihoodModel, Space, build_model
from codelength.adapters import (
    adapt,
    from_distribution,
    from_estimator,
    from_module,
    from_nflows,
    from_normflows,
    from_zuko,
)
from codelength.adapters.density import Center, make_preprocessing
from codelength.adapters.extras import require
from codelength.audit import audit
from codelength.data.dataset import DataSet, Split
from codelength.errors import UsageError
from codelength.evaluation import compare, evaluate
from codelength.models.base import can, estimate_kind
from codelength.transforms import Dequantized, Rescale

SPACE = Space.image(1, 2, 2, 8)
D = 4


def blobs(n: int, seed: int) -> np.ndarray:
    """Two blobs of correlated levels: a table of single dims cannot describe them."""
    rng = np.random.default_rng(seed)
    centre = np.where(rng.random((n, 1)) < 0.5, 2.0, 5.5) + rng.normal(0, 0.5, (n, 1))
    return np.clip(np.rint(centre + rng.normal(0, 0.5, (n, D))), 0, 7).astype(np.int64).reshape(n, 1, 2, 2)


DATA = DataSet("blobs", SPACE, {name: Split(blobs(300, i)) for i, name in enumerate(("train", "validation", "test"))})


def zuko_flow() -> LikelihoodModel:
    import zuko

    return from_zuko(zuko.flows.NSF(D, transforms=2, hidden_features=(16,)), SPACE)


def nflows_flow() -> LikelihoodModel:
    from nflows.distributions.normal import StandardNormal
    from nflows.flows.base import Flow
    from nflows.transforms.autoregressive import MaskedAffineAutoregressiveTransform
    from nflows.transforms.base import CompositeTransform
    from nflows.transforms.permutations import ReversePermutation

    layers = []
    for _ in range(3):
        layers += [ReversePermutation(D), MaskedAffineAutoregressiveTransform(D, 16)]
    return from_nflows(Flow(CompositeTransform(layers), StandardNormal([D])), SPACE, preprocessing="logit")


def normflows_flow() -> LikelihoodModel:
    import normflows

    layers = []
    for _ in range(4):
        layers += [normflows.flows.AffineCouplingBlock(normflows.nets.MLP([2, 16, D])), normflows.flows.Permute(D)]
    return from_normflows(normflows.NormalizingFlow(normflows.distributions.DiagGaussian(D), layers), SPACE)


class LearnedGaussian(nn.Module):
    """Any torch module with log_prob: a full Gaussian."""

    def __init__(self) -> None:
        super().__init__()
        self.loc, self.root = nn.Parameter(torch.zeros(D)), nn.Parameter(torch.eye(D))

    def normal(self) -> torch.distributions.MultivariateNormal:
        return torch.distributions.MultivariateNormal(
            self.loc, scale_tril=self.root.tril(-1) + self.root.diagonal().exp().diag()
        )

    def log_prob(self, z: Tensor) -> Tensor:
        return self.normal().log_prob(z)

    def sample(self, n: int) -> Tensor:
        return self.normal().sample((n,))


class LearnedTable(nn.Module):
    """Any torch module with log_prob of integers."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.zeros(D, 8))

    def log_prob(self, x: Tensor) -> Tensor:
        return torch.log_softmax(self.logits, -1)[torch.arange(D), x.flatten(1)].sum(1)


def train(model: LikelihoodModel, steps: int = 80) -> LikelihoodModel:
    """A brief descent on the model's bound or probability."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        generator, x = torch.Generator().manual_seed(0), DATA.split("train").batch(slice(None))
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        member: Any = model
        for _ in range(steps):
            batch = x[torch.randint(len(x), (128,), generator=generator)]
            exact = can(model, "log_prob")
            value = member.log_prob(batch) if exact else member.log_weights(batch, 1, generator).total[0]
            optimizer.zero_grad()
            (-value.mean()).backward()
            optimizer.step()
    return model.eval()


def fitted(estimator: Any) -> LikelihoodModel:
    model = from_estimator(estimator, SPACE)
    model.fit(DATA.split("train").batch(slice(None)))
    return model


def mixture() -> LikelihoodModel:
    from sklearn.mixture import GaussianMixture

    return fitted(GaussianMixture(2, random_state=0))


def kernels() -> LikelihoodModel:
    from sklearn.neighbors import KernelDensity

    return fitted(KernelDensity(bandwidth=0.06))


def distribution() -> LikelihoodModel:
    x = torch.from_numpy(DATA.split("train").x).flatten(1).float() + 0.5
    return from_distribution(torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T)), SPACE)


def discrete() -> LikelihoodModel:
    x = torch.from_numpy(DATA.split("train").x).flatten(1)
    counts = torch.nn.functional.one_hot(x, 8).sum(0) + 0.5
    return from_distribution(torch.distributions.Categorical(probs=counts.reshape(1, 2, 2, 8)), SPACE)


MODELS: dict[str, Callable[[], LikelihoodModel]] = {
    "zuko": lambda: train(zuko_flow()),
    "nflows": lambda: train(nflows_flow()),
    "normflows": lambda: train(normflows_flow()),
    "module, density": lambda: train(from_module(LearnedGaussian(), SPACE, measure="density")),
    "module, mass": lambda: train(from_module(LearnedTable(), SPACE, measure="mass")),
    "GaussianMixture": mixture,
    "KernelDensity": kernels,
    "continuous distribution": distribution,
    "discrete distribution": discrete,
}


@pytest.mark.parametrize("name", MODELS)
def test_evaluate_audit_compare(name: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = MODELS[name]()
    exact = name in ("module, mass", "discrete distribution")
    assert estimate_kind(model) == ("exact" if exact else "bound")
    own = evaluate(model, DATA, "validation", model_name=name, family="foreign", samples=4)
    uniform = evaluate(build_model("uniform", SPACE), DATA, "validation", model_name="uniform", family="baselines")
    assert own.record.bits_per_dim < uniform.record.bits_per_dim == pytest.approx(3.0)
    comparison = compare([own, uniform])
    assert comparison is not None
    verdicts = audit(model, DATA, budget=0.5)
    assert not [v for v in verdicts if v.status == "fail"], verdicts
    assert {v.probe: v.status for v in verdicts}["P1"] == "pass"


@pytest.mark.parametrize("name", ["zuko", "nflows", "normflows", "GaussianMixture", "KernelDensity"])
def test_samples_are_data_of_the_space_and_seeded(name: str) -> None:
    make = {
        "zuko": zuko_flow,
        "nflows": nflows_flow,
        "normflows": normflows_flow,
        "GaussianMixture": mixture,
        "KernelDensity": kernels,
    }
    model: Any = make[name]().eval()
    draws = [model.sample(40, torch.Generator().manual_seed(seed)) for seed in (3, 3, 4)]
    assert torch.equal(SPACE.validate(draws[0]), draws[1])
    assert not torch.equal(draws[0], draws[2])


@pytest.mark.parametrize("library", ["zuko", "nflows", "normflows"])
def test_missing_extra_names_its_installation(library: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] == library:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    import importlib

    monkeypatch.setattr(importlib, "import_module", without)
    with pytest.raises(UsageError, match=rf"pip install codelength\[{library}\]"):
        require(f"{library}.flows")
    function = {"zuko": from_zuko, "nflows": from_nflows, "normflows": from_normflows}[library]
    with pytest.raises(UsageError, match=rf"pip install codelength\[{library}\]"):
        function(object(), SPACE)


def test_wrong_objects_are_refused() -> None:
    for function in (from_zuko, from_nflows, from_normflows):
        with pytest.raises(UsageError, match="got a object; wanted"):
            function(object(), SPACE)
    with pytest.raises(UsageError, match="no score_samples"):
        from_estimator(object(), SPACE)
    with pytest.raises(UsageError, match="has no log_prob"):
        from_module(nn.Linear(1, 1), SPACE, measure="mass")
    with pytest.raises(UsageError, match="wanted 4 numbers"):
        from_distribution(torch.distributions.Normal(torch.zeros(3), torch.ones(3)), SPACE)
    with pytest.raises(UsageError, match="unknown preprocessing"):
        make_preprocessing("centre", SPACE)  # type: ignore[arg-type]


def test_a_module_without_sample_says_so() -> None:
    class Silent(nn.Module):
        def log_prob(self, z: Tensor) -> Tensor:
            return z.sum(1)

    model: Any = from_module(Silent(), SPACE, measure="density")
    with pytest.raises(UsageError, match="Silent has no sample"):
        model.sample(2, torch.Generator())


def test_center_is_a_bijection_with_its_jacobian() -> None:
    x = torch.rand(3, 1, 2, 2, dtype=torch.float64)
    z, log_det = Center()(x)
    back, inverse = Center().inverse(z)
    torch.testing.assert_close(back, x)
    torch.testing.assert_close(log_det + inverse, torch.zeros(3, dtype=torch.float64))
    assert float(log_det[0]) == pytest.approx(4 * np.log(2))
    rescale = Rescale(8)
    assert make_preprocessing(rescale, SPACE) is rescale


def test_adapt_finds_the_library() -> None:
    import zuko
    from sklearn.mixture import GaussianMixture

    flow = zuko.flows.NSF(D, transforms=1, hidden_features=(4,))
    assert isinstance(adapt(flow, SPACE), Dequantized)
    assert isinstance(adapt(GaussianMixture(1), SPACE), Dequantized)
    assert isinstance(adapt(torch.distributions.Normal(torch.zeros(D), torch.ones(D)), SPACE), Dequantized)
    with pytest.raises(UsageError, match="declares no shape"):
        adapt(flow)
