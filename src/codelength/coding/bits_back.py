"""The codecs of latent-variable models: bits-back with a stack, in BB-ANS's order and in Bit-Swap's.

An item costs −log P(x | z) − log p(z) + log q(z | x) bits, whose mean is the negative ELBO: the encoder's choice of z is popped from the
stack under q, so it is paid by bits that are there already and that the decoder, who knows x by then, puts back.

    bits_back/1     z1, z2, ... popped under q(z | x) in the posterior's own order;  x pushed under P(x | z);  z pushed under p(z)
    bit_swap/1      zL popped under q(zL | x);  x pushed under P(x | zL);  z(L−1) popped under q( . | zL);  zL pushed under p( . | z(L−1)); ...

The second is for chains inferred from the bottom up. It needs bits for one layer at a time, the first for all.

Latents lie on one fixed grid, for prior and posterior alike: 4,096 cells of width 1/64 around 0, each as likely as its share of the
Gaussian, the two at the ends with all that is beyond. A latent is the middle of its cell.

The first item is coded *plainly* (`chain`): its latents are the cells of the posterior's means, and nothing is popped.

References: Townsend et al., arXiv:1901.04866 (BB-ANS); Kingma et al., arXiv:1905.06845 (Bit-Swap). Departures: a fixed grid instead of
equal masses of the prior, as priors of lower layers depend on the layers above; the first items supply the initial bits.
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from codelength.coding.autoregressive import flat_cdf, flat_table, uses_cdf
from codelength.coding.chain import decode_chain, encode_chain, one_by_one
from codelength.coding.entropy import CDF
from codelength.coding.registry import Codec
from codelength.coding.stack import Stack
from codelength.models.base import LikelihoodModel
from codelength.models.latent.base import Gaussian, LatentModel
from codelength.models.latent.hierarchical_vae import HierarchicalVAE
from codelength.pixels import PixelDistribution

CELLS_A_UNIT = 64
CELLS = 4096


def middles(cells: np.ndarray, gaussian: Gaussian) -> Tensor:
    """Latents, of the Gaussian's shape and type, in flat cells."""
    middle = (cells - CELLS // 2 + 0.5) / CELLS_A_UNIT
    return torch.from_numpy(middle).to(gaussian.mean.dtype).reshape(gaussian.mean.shape)


def mean_cells(gaussian: Gaussian) -> np.ndarray:
    """The cells of the means, flat."""
    mean = gaussian.mean.double().reshape(-1).numpy()
    return np.clip(np.floor(mean * CELLS_A_UNIT) + CELLS // 2, 0, CELLS - 1).astype(np.int64)


def pop_cells(stack: Stack, gaussian: Gaussian) -> np.ndarray:
    """Cells, flat, popped under the Gaussian."""
    return stack.pop_by_cdf(gaussian.mean.numel(), _cdf(gaussian), CELLS)


def push_cells(stack: Stack, cells: np.ndarray, gaussian: Gaussian) -> None:
    """Push flat cells under the Gaussian."""
    stack.push_by_cdf(cells, _cdf(gaussian), CELLS)


def _cdf(gaussian: Gaussian) -> CDF:
    mean = gaussian.mean.double().reshape(-1)
    scale = torch.exp(-gaussian.log_std.double().expand_as(gaussian.mean).reshape(-1))

    def cdf(cells: np.ndarray) -> np.ndarray:
        edge = torch.from_numpy((cells + 1 - CELLS // 2) / CELLS_A_UNIT)  # the cell's upper one
        return torch.special.ndtr((edge - mean) * scale).numpy()

    return cdf


def push_pixels(stack: Stack, distribution: PixelDistribution, levels: Tensor) -> None:
    """Push levels from 0, (n, C, *S), the last channel first."""
    for c in reversed(range(levels.shape[1])):
        channel = distribution.channel(c, levels[:, :c])
        symbols = levels[:, c].reshape(-1).numpy()
        if uses_cdf(channel):
            stack.push_by_cdf(symbols, flat_cdf(channel, levels[:, c].shape), channel.levels)
        else:
            stack.push(symbols, flat_table(channel))


def pop_pixels(stack: Stack, distribution: PixelDistribution) -> Tensor:
    """Pop levels from 0, (n, C, *S), the first channel first."""
    levels = torch.zeros((*distribution.batch_shape, *distribution.event_shape), dtype=torch.long)
    for c in range(levels.shape[1]):
        channel = distribution.channel(c, levels[:, :c])
        shape = levels[:, c].shape
        if uses_cdf(channel):
            symbols = stack.pop_by_cdf(shape.numel(), flat_cdf(channel, shape), channel.levels)
        else:
            symbols = stack.pop(flat_table(channel))
        levels[:, c] = torch.from_numpy(symbols).reshape(shape)
    return levels


class BitsBack:
    """BB-ANS: all latents are popped before anything is pushed."""

    def __init__(self, model: LatentModel) -> None:
        self.model = model

    def encode(self, stack: Stack, x: Tensor, plain: bool, **conditions: Tensor) -> None:
        """Push one batch of items, (n, C, H, W); plainly, or with its latents popped."""
        cells: dict[str, np.ndarray] = {}

        def choose(layer: str, posterior: Gaussian) -> Tensor:
            cells[layer] = mean_cells(posterior) if plain else pop_cells(stack, posterior)
            return middles(cells[layer], posterior)

        self.model.choose_posterior(x, choose)
        priors: dict[str, Gaussian] = {}

        def follow(layer: str, prior: Gaussian) -> Tensor:
            priors[layer] = prior
            return middles(cells[layer], prior)

        distribution = self.model.generate(len(x), follow)
        push_pixels(stack, distribution, x - self.model.space.offset)
        for layer in reversed(priors):
            push_cells(stack, cells[layer], priors[layer])

    def decode(self, stack: Stack, n: int, plain: bool, **conditions: Tensor) -> Tensor:
        """Pop one batch of n items, (n, C, H, W), and push what `encode` had popped."""
        cells: dict[str, np.ndarray] = {}

        def choose(layer: str, prior: Gaussian) -> Tensor:
            cells[layer] = pop_cells(stack, prior)
            return middles(cells[layer], prior)

        x = pop_pixels(stack, self.model.generate(n, choose)) + self.model.space.offset
        if not plain:
            posteriors: dict[str, Gaussian] = {}

            def follow(layer: str, posterior: Gaussian) -> Tensor:
                posteriors[layer] = posterior
                return middles(cells[layer], posterior)

            self.model.choose_posterior(x, follow)
            for layer in reversed(posteriors):
                push_cells(stack, cells[layer], posteriors[layer])
        return x


class BitSwap:
    """Bit-Swap: each layer is popped when the one below is about to be pushed."""

    def __init__(self, model: HierarchicalVAE) -> None:
        self.model = model
        self.depth = len(model.layers)

    def encode(self, stack: Stack, x: Tensor, plain: bool, **conditions: Tensor) -> None:
        """As `BitsBack.encode`."""
        levels = x - self.model.space.offset
        below, cells, z = self.model.scaled(levels), np.zeros(0, dtype=np.int64), torch.zeros(0)
        for index in reversed(range(self.depth)):
            posterior = self.model.posterior_from_below(index, below)
            above = mean_cells(posterior) if plain else pop_cells(stack, posterior)
            value = middles(above, posterior)
            if index == self.depth - 1:
                push_pixels(stack, self.model.decode(value), levels)
            else:
                push_cells(stack, cells, self.model.prior(index + 1, len(x), value))
            below, cells, z = value, above, value
        push_cells(stack, cells, self.model.prior(0, len(z), None))

    def decode(self, stack: Stack, n: int, plain: bool, **conditions: Tensor) -> Tensor:
        """As `BitsBack.decode`."""
        prior = self.model.prior(0, n, None)
        cells = pop_cells(stack, prior)
        z = middles(cells, prior)
        for index in range(1, self.depth):
            prior = self.model.prior(index, n, z)
            below = pop_cells(stack, prior)
            value = middles(below, prior)
            if not plain:
                push_cells(stack, cells, self.model.posterior_from_below(index - 1, value))
            cells, z = below, value
        levels = pop_pixels(stack, self.model.decode(z))
        if not plain:
            posterior = self.model.posterior_from_below(self.depth - 1, self.model.scaled(levels))
            push_cells(stack, cells, posterior)
        return levels + self.model.space.offset


def _gaussian(model: LikelihoodModel) -> bool:
    return isinstance(model, LatentModel) and model.posterior_is_gaussian and not model.conditioning


def _chain(model: LikelihoodModel) -> bool:
    return isinstance(model, HierarchicalVAE) and model.inference == "bottom_up"


BITS_BACK_CODEC = Codec(partial(encode_chain, BitsBack), partial(decode_chain, BitsBack), one_by_one, _gaussian)
BIT_SWAP_CODEC = Codec(partial(encode_chain, BitSwap), partial(decode_chain, BitSwap), one_by_one, _chain)
