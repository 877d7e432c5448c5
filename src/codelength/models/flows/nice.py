"""NICE: additive couplings of the even and the odd numbers of a datum, then one scale for each latent.

Idea. Adding to one half a function of the other half is undone by subtracting it: any network will do, and no volume
changes. Couplings alternate halves; a last diagonal scaling lets the model stretch what varies and squeeze what does not.

    y -> preprocessing -> (additive coupling) x couplings -> ActNorm of each number -> z, standard logistic

Departures from the paper. The diagonal scaling also has a shift and is set from the first batch (ActNorm), and the
networks' last layers start at zero. The paper whitens some of its data sets first; here the preprocessing is a choice.

Paper: Dinh et al., "NICE: Non-linear Independent Components Estimation", arXiv:1410.8516.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from codelength.models.flows.base import Flow, preprocess
from codelength.space import Space
from codelength.transforms import ActNorm, AdditiveCoupling, Compose, Flatten, Transform
from codelength.transforms.dequantization import uniformly_dequantized


class HalfMLP(nn.Module):
    """A perceptron from the numbers where a mask is 1 to those where it is 0; zeros elsewhere.

    Args:
        mask: (D,), of ones and zeros.
        hidden: Size of the hidden layers.
        layers: Hidden layers.
    """

    condition: Tensor
    free: Tensor

    def __init__(self, mask: Tensor, hidden: int, layers: int) -> None:
        super().__init__()
        indices = torch.arange(len(mask), device=mask.device)
        self.register_buffer("condition", indices[mask == 1], persistent=False)
        self.register_buffer("free", indices[mask == 0], persistent=False)
        sizes = [len(self.condition), *[hidden] * layers]
        self.hidden = nn.ModuleList(nn.Linear(a, b) for a, b in itertools.pairwise(sizes))
        self.out = nn.Linear(hidden, len(self.free))
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, **context: Any) -> Tensor:
        """(B, D) to (B, D), of x's precision."""
        h = x[:, self.condition]
        for layer in self.hidden:
            h = torch.relu(layer(h))
        return torch.zeros_like(x).index_copy(1, self.free, self.out(h).to(x.dtype))


class NICE(Flow):
    """A density over images or vectors of fixed size.

    Args:
        space: What the data are, of at least two numbers.
        couplings: Additive couplings.
        hidden: Size of the hidden layers of their networks.
        layers: Hidden layers of each network.
        preprocessing: "rescale" as in the paper, "logit" or "marginal"; see `flows.base.preprocess`.
        alpha: α of "logit".
        prior: "logistic" as in the paper for images, or "normal".

    Raises:
        UsageError: An option is unknown.
        ValueError: The data have one number only.
    """

    def __init__(
        self,
        space: Space,
        *,
        couplings: int = 4,
        hidden: int = 128,
        layers: int = 2,
        preprocessing: str = "rescale",
        alpha: float = 0.05,
        prior: str = "logistic",
    ) -> None:
        dims = math.prod(space.sizes)
        if dims < 2:
            raise ValueError(f"NICE: data of {dims} number; wanted at least two, one for each half")
        first, support = preprocess(space, preprocessing, alpha)
        steps: list[Transform] = [Flatten(space.sizes)]
        for i in range(couplings):
            mask = ((torch.arange(dims, device="cpu") + i) % 2).float()
            steps.append(AdditiveCoupling(mask, HalfMLP(mask, hidden, layers)))
        super().__init__(space, Compose([*first, *steps, ActNorm(dims)]), support, prior=prior)


dequantized_nice = uniformly_dequantized(NICE)
