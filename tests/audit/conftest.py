"""Honest models of many families with random weights: none of them may raise an alarm."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from codelength import LikelihoodModel, Space, build_model
from codelength.data.dataset import DataSet, Split
from codelength.models.base import can

NET = {"filters": 4, "blocks": 1, "stages": 1}
PIXEL = {"layers": 2, "first_kernel": 3, "head_filters": 6}
WINDOW = {"rows": 2, "reach": 2, "width": 8, "layers": 2, "head_width": 6, "components": 2}
TRANSFORMER = {"layers": 2, "width": 8, "heads": 2, "feed_forward": 12}
# system -> options of its tiny versions
TINY: dict[str, list[dict[str, Any]]] = {
    "uniform": [{}],
    "mean_field": [{"components": 2}, {"pixels": "categorical"}],
    "histogram": [{}, {"scope": "global"}],
    "gaussian": [{}],
    "context_table": [{}],
    "made": [
        {"hidden": [12], "components": 2},
        {"hidden": [8, 8], "residual": True, "ordering": "random", "components": 2},
    ],
    "made_ensemble": [{"hidden": [8], "orderings": 3, "components": 2}],
    "causal_window": [WINDOW],
    "causal_lattice": [{**WINDOW, "message_width": 3}],
    "pixelrnn": [{**PIXEL, "units": 4}, {**PIXEL, "units": 4, "kind": "row_lstm", "pixels": "categorical"}],
    "pixelcnn": [{**PIXEL, "filters": 4, "components": 2}, {**PIXEL, "filters": 4, "pixels": "categorical"}],
    "gated_pixelcnn": [{**PIXEL, "filters": 4, "components": 2}, {**PIXEL, "filters": 4, "pixels": "categorical"}],
    "pixelcnn_pp": [{**NET, "components": 2}, {**NET, "pixels": "categorical"}],
    "image_transformer": [
        {**TRANSFORMER, "query": 3, "memory": 2, "pixels": "categorical"},
        {**TRANSFORMER, "block": "2d", "query": [1, 2], "memory": [1, 1], "components": 2},
    ],
    "sparse_transformer": [
        {**TRANSFORMER, "pixels": "categorical"},
        {**TRANSFORMER, "pattern": "fixed", "summary": 1, "stride": 2, "pixels": "logistic_mixture", "components": 2},
    ],
    "quantized": [{"base": "causal_window", "options": WINDOW}],
    "realnvp": [{"scales": 1, "filters": 4, "blocks": 1}],
    "glow": [{"scales": 1, "depth": 2, "filters": 4}],
    "flow_pp": [
        {
            "couplings": [2, 1, 1],
            "filters": 4,
            "blocks": 1,
            "components": 2,
            "heads": 2,
            "noise_couplings": 2,
            "noise_blocks": 1,
        }
    ],
    "nice": [{"couplings": 2, "hidden": 5, "layers": 1}],
    "maf": [{"layers": 2, "hidden": [6]}],
    "vae": [{"latents": 2, "network": "dense", "filters": 4, "components": 2}],
    "iaf_vae": [{"latents": 1, "filters": 3, "resolutions": 1, "blocks": 2, "components": 2}],
    "draw": [{"steps": 2, "latents": 1, "hidden": 4, "write": 2, "components": 2}],
    "hierarchical_vae": [{"latents": [1, 2], "hidden": 4, "components": 2}],
    "iwae": [{"latents": 2, "filters": 4, "samples": 3, "components": 2}],
}
ELSEWHERE: dict[str, tuple[Space, dict[str, Any]]] = {
    "gpt2": (Space("sequence", (6,), 4), {"layers": 1, "width": 8, "heads": 2}),
    "prefix_lm": (
        Space("sequence", (6,), 4),
        {"layers": 1, "width": 8, "heads": 2, "source": 3, "source_levels": 5},
    ),
    "wavenet": (
        Space("audio", (1, 6), 4, offset=-2),
        {"layers": 2, "channels": 4, "skip": 5, "components": 2, "window": 2},
    ),
    "regression": (Space("vector", (1,), 6, offset=-2), {"features": 2, "hidden": [3]}),
    "discrete_flow": (Space.image(1, 3, 4, 8), {"hidden": [6]}),
    "idf": (Space.image(1, 2, 4, 8), {"scales": 1, "growth": 4, "layers": 1, "components": 2}),
}
"""Systems that want a space of their own, with it and their options."""
SPACES = [Space.image(1, 4, 4, 4), Space.image(3, 2, 2, 6), Space.image(1, 2, 2, 3), Space.image(1, 4, 4, 256)]


def random_system(system: str, space: Space, options: dict[str, Any], seed: int) -> LikelihoodModel:
    """A shipped system with random parameters, initialized or fitted where it needs to be."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build_model(system, space, **options)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    generator = torch.Generator().manual_seed(seed)
    x = torch.randint(space.levels, (64, *space.sizes), generator=generator) + space.offset
    if can(model, "initialize"):
        model.initialize(x, generator)  # type: ignore[operator]
    if can(model, "fit"):
        model.fit(x)  # type: ignore[operator]
    return model.eval()


class Foreign:
    """Base of the foreign objects below: numbers from a seed."""

    levels: int
    shape: tuple[int, ...]

    def __init__(self, seed: int) -> None:
        self.generator = torch.Generator().manual_seed(seed)
        self.sharpness = math.exp(-1 + 2 * self.uniform())

    def uniform(self) -> float:
        return float(torch.rand((), generator=self.generator))

    def normal(self, *size: int) -> Tensor:
        return torch.randn(size, generator=self.generator, dtype=torch.float64)


class Chain(Foreign):
    """A Markov chain with conditionals."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.levels = [2, 5, 16][seed % 3]
        self.shape = [(20,), (1, 3, 4), (3, 2, 2)][seed // 3 % 3]
        self.table = torch.softmax(self.sharpness * self.normal(self.levels + 1, self.levels), -1)

    def conditionals(self, x: Tensor) -> Tensor:
        flat = x.flatten(1)
        return self.table[torch.cat([torch.full_like(flat[:, :1], self.levels), flat[:, :-1]], 1)]

    def log_prob(self, x: Tensor) -> Tensor:
        return self.conditionals(x).gather(-1, x.flatten(1).unsqueeze(-1)).squeeze(-1).log().sum(1)

    def evaluate(self, batches: list[Tensor]) -> float:
        nats = torch.cat([-self.log_prob(x) for x in batches])
        return float(nats.mean()) / math.prod(self.shape) / math.log(2)


class Mixture(Foreign):
    """A mixture of products of categoricals, log_prob and sample only; components of unlike sharpness."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.levels, self.shape = [2, 4, 16, 256][seed % 4], (1, 4, 5)
        sharpness = torch.exp(self.normal(1 + seed % 5, 1, 1))
        self.log_p = torch.log_softmax(sharpness * self.normal(1 + seed % 5, 20, self.levels), -1)
        self.weights = torch.log_softmax(self.normal(1 + seed % 5), 0)

    def log_prob(self, x: Tensor) -> Tensor:
        dims = torch.arange(20)
        parts = torch.stack([log_p[dims, x.flatten(1)].sum(1) for log_p in self.log_p])
        return torch.logsumexp(parts + self.weights.unsqueeze(1), 0)

    def sample(self, n: int) -> Tensor:
        which = torch.multinomial(self.weights.exp(), n, replacement=True)
        return torch.distributions.Categorical(logits=self.log_p[which]).sample().reshape(n, *self.shape)


class Hidden(Foreign):
    """A hidden Markov model, log_prob only."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.levels, self.shape = [3, 8, 27][seed % 3], (24,)
        self.step = torch.log_softmax(self.sharpness * self.normal(5, 5), -1)
        self.emit = torch.log_softmax(self.sharpness * self.normal(5, self.levels), -1)

    def log_prob(self, x: Tensor) -> Tensor:
        state = torch.full((len(x), 5), -math.log(5), dtype=torch.float64)
        for t in range(24):
            state = torch.logsumexp(state.unsqueeze(2) + self.step, 1) + self.emit[:, x[:, t]].T
        return torch.logsumexp(state, 1)


class Network(nn.Module):
    """A causal convolution with layer normalization over channels, float32, over bytes."""

    shape, levels = (16,), 256

    def __init__(self, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.embed = nn.Parameter(torch.randn(257, 8, generator=generator))
        self.kernel = nn.Parameter(torch.randn(8, 8, 3, generator=generator) * 0.5)
        self.out = nn.Parameter(torch.randn(8, 256, generator=generator))
        self.eval()

    def conditionals(self, x: Tensor) -> Tensor:
        shifted = torch.cat([torch.full_like(x[:, :1], 256), x[:, :-1]], 1)
        h = functional.pad(self.embed[shifted].transpose(1, 2), (2, 0))
        h = functional.conv1d(h, self.kernel).transpose(1, 2)
        return torch.softmax(functional.layer_norm(h, (8,)) @ self.out, -1)


class Recurrent(nn.Module):
    """A GRU over pixels in raster order, float32; a torch distribution as conditionals."""

    shape, levels = (1, 5, 4), 2

    def __init__(self, seed: int) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.cell, self.out = nn.GRU(1, 6, batch_first=True), nn.Linear(6, 1)
        self.eval()

    def conditionals(self, x: Tensor) -> Any:
        flat = x.flatten(1).to(self.out.weight.dtype)
        inputs = torch.cat([torch.zeros_like(flat[:, :1]), flat[:, :-1]], 1)
        return torch.distributions.Bernoulli(logits=3 * self.out(self.cell(inputs.unsqueeze(-1))[0]).squeeze(-1))


class Coupling(nn.Module):
    """An affine coupling flow on logits of y / levels, as a density of reals."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.levels, self.shape = [4, 16, 256][seed % 3], (1, 2, 4)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.nets = nn.ModuleList(nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 8)) for _ in range(3))
        self.eval()

    def density_log_prob(self, y: Tensor) -> Tensor:
        p = 0.05 + 0.9 * y.flatten(1) / self.levels
        log_det = 8 * math.log(0.9 / self.levels) - (p.log() + torch.log1p(-p)).sum(1)
        a, b = torch.logit(p).chunk(2, 1)
        for net in self.nets:
            scale, shift = net(a).chunk(2, 1)
            b, log_det = b * scale.exp() + shift, log_det + scale.sum(1)
            a, b = b, a
        z = torch.cat([a, b], 1)
        return log_det - 0.5 * (z**2 + math.log(2 * math.pi)).sum(1)


class Blobs(Foreign):
    """A mixture of Gaussians with unlike widths over the reals, and its bound by uniform noise."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.levels, self.shape = [8, 64][seed % 2], (1, 3, 3)
        self.mean = torch.rand(4, 9, generator=self.generator, dtype=torch.float64) * self.levels
        self.scale = 0.6 * torch.exp(0.8 * self.normal(4, 9)) + self.levels / 30

    def density_log_prob(self, y: Tensor) -> Tensor:
        parts = torch.distributions.Normal(self.mean, self.scale).log_prob(y.flatten(1).double().unsqueeze(1)).sum(-1)
        return torch.logsumexp(parts, 1) - math.log(4)

    def bound(self, x: Tensor, k: int, generator: torch.Generator) -> Tensor:
        y = x + torch.rand(k, *x.shape, generator=generator, dtype=torch.float64)
        return torch.logsumexp(self.density_log_prob(y.flatten(0, 1)).reshape(k, -1), 0) - math.log(k)


class Latent(nn.Module):
    """A linear latent model of bits: importance-weighted, averaged, or with noise shared by the batch."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.kind, self.levels, self.shape = seed % 3, 2, [(1, 3, 3), (1, 4, 5)][seed % 2]
        dims = math.prod(self.shape)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.mean, self.log_scale, self.decode = nn.Linear(dims, 2), nn.Linear(dims, 2), nn.Linear(2, dims)
        self.eval()

    def bound(self, x: Tensor, k: int, generator: torch.Generator) -> Tensor:
        flat = x.flatten(1).to(self.decode.weight.dtype)
        size = (k, 1, 2) if self.kind == 2 else (k, len(x), 2)
        noise = torch.randn(size, generator=generator, dtype=flat.dtype)
        log_scale = 0.3 * self.log_scale(flat)
        z = self.mean(flat) + log_scale.exp() * noise
        weights = -functional.softplus((1 - 2 * flat) * 3 * self.decode(z)).sum(-1)
        weights = weights - 0.5 * (z**2).sum(-1) + (0.5 * noise**2 + log_scale).sum(-1)
        return weights.mean(0) if self.kind == 1 else torch.logsumexp(weights, 0) - math.log(k)


FOREIGN: list[Callable[[int], Any]] = [Chain, Mixture, Hidden, Network, Recurrent, Coupling, Blobs, Latent]


def honest(i: int) -> Any:
    """The i-th honest model: shipped systems and foreign families in turn."""
    rows = [(system, options) for system, variants in TINY.items() for options in variants]
    families = len(rows) + len(FOREIGN)
    kind, seed = i % families, i // families + 17 * (i % families)
    if kind >= len(rows):
        return FOREIGN[kind - len(rows)](seed)
    system, options = rows[kind]
    space = SPACES[(i // families + kind) % len(SPACES)]
    if space.levels > 16 and "categorical" in options.values() and "pixel" in system:
        space = SPACES[0]
    space = SPACES[0] if system == "flow_pp" else space
    if system == "made" and options.get("ordering") == "random" and space.sizes[0] > 1:
        space = SPACES[0]
    return random_system(system, space, options, seed)


def dataset(x: Tensor, space: Space, name: str = "own-samples") -> DataSet:
    """A data set of x, split in three."""
    parts = np.array_split(x.numpy(), 3)
    return DataSet(name, space, dict(zip(("train", "validation", "test"), map(Split, parts), strict=True)))


@pytest.fixture
def honest_model() -> Callable[[int], Any]:
    return honest


@pytest.fixture
def make_dataset() -> Callable[..., DataSet]:
    return dataset


@pytest.fixture
def tiny_system() -> Callable[..., LikelihoodModel]:
    return random_system


@pytest.fixture
def tiny_options() -> dict[str, list[dict[str, Any]]]:
    return TINY | {system: [options] for system, (_, options) in ELSEWHERE.items()}


@pytest.fixture
def own_spaces() -> dict[str, Space]:
    return {system: space for system, (space, _) in ELSEWHERE.items()}
