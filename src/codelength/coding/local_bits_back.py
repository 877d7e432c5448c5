"""The codec of flows: local bits-back coding, with conversions of uniform digits for its noise.

A flow gives a density of reals, log p(y) = log p(z) + log|det dz/dy|. Its code of the integers x:

1. Dequantize. Numbers live on a grid of cells, [m, m + 1) δ, δ = 2^−14. After the preprocessing g (rescaling, histogram, logit) the cell m of
   each number is popped under the image of the uniform distribution on [x, x + 1), and x is pushed given m: it costs nothing but where
   a cell of z lies across the border of two levels.
2. Each layer maps cells to cells. Shifts are rounded to whole cells, a bijection for free. A scale s = a / 2^12 takes a digit r, popped
   uniform on 0 .. a − 1, and gives back one of 12 bits, ρ:

       a m + r = 2^12 m' + ρ,        net cost 12 − log2 a = −log2 s bits: its share of −log|det|.

   The decoder divides where the encoder multiplied. Both take s and the shift from the same network of the same unchanged half.
3. Push the latents under the prior, a cell of width δ each.

Together −log2 of p(y) over cells, less the bits popped in step 1: the one-sample bound of uniform dequantization, up to the rounding of
scales and shifts. The bits popped are the auxiliary bits; the first items supply them, coded plainly (`chain`): levels, whitened by a
fixed mask, since what is popped must look random.

References: Ho et al., arXiv:1905.08500 (local bits-back coding; sections 3.3, 3.4 on couplings and compositions). Departure: the paper's local
noise is Gaussian, with some 20 bits popped a number and layer and an error of second order in its width. Uniform digits (as in iFlow,
arXiv:2111.00965) pop log2 a bits, and affine layers are exact.
"""

from __future__ import annotations

import copy
import math
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codelength.coding.chain import Unfit, decode_chain, encode_chain, one_by_one
from codelength.coding.registry import Codec
from codelength.coding.stack import MAX_UNIFORM, Stack
from codelength.errors import CodecError
from codelength.models.base import LikelihoodModel
from codelength.models.flows.base import Flow
from codelength.randomness import derive_seed
from codelength.transforms import (
    ActNorm,
    Additive,
    AdditiveCoupling,
    Affine,
    AffineCoupling,
    Checkerboard,
    ClassAffine,
    Compose,
    Flatten,
    InvertibleConv,
    Logit,
    MarginalLogit,
    MultiScale,
    Rescale,
    SplitCoupling,
    Squeeze,
    Transform,
)
from codelength.transforms.dequantization import Dequantized, UniformDequantization

CELLS_A_UNIT = 2**14  # 1 / δ
DIGIT = 2**12
PREPROCESSED = 2**19
"""Cells that preprocessed data may lie in: (−16, 16)."""
COARSE = 2**6
"""Cells of one step of the prior's CDF; inside a step they are uniform."""
STEPS = 2**15
"""Steps of the prior: latents in (−64, 64)."""
PREPROCESSING = (Rescale, Logit, MarginalLogit)
REARRANGEMENTS = (Squeeze, Checkerboard, Flatten)
Cells = np.ndarray  # int64, (n, *shape)


def scaled(stack: Stack, cells: Cells, scale: Tensor, shift_first: Tensor | None = None) -> Cells:
    """Cells m' of (m + shift) · s: step 2 of the encoder; `scale` broadcasts to the cells' shape."""
    if shift_first is not None:
        cells = cells + whole(shift_first)
    a = np.broadcast_to(numerators(scale), cells.shape)
    digits = stack.pop_uniform(a.reshape(-1)).reshape(cells.shape)
    out, rest = np.divmod(a * cells + digits, DIGIT)
    stack.push_uniform(rest.reshape(-1), np.full(rest.size, DIGIT))
    return out


def unscaled(stack: Stack, cells: Cells, scale: Tensor, shift_first: Tensor | None = None) -> Cells:
    """Cells m of what `scaled` gave: the decoder's step."""
    a = np.broadcast_to(numerators(scale), cells.shape)
    rest = stack.pop_uniform(np.full(cells.size, DIGIT)).reshape(cells.shape)
    out, digits = np.divmod(cells * DIGIT + rest, a)
    stack.push_uniform(digits.reshape(-1), a.reshape(-1))
    return out if shift_first is None else out - whole(shift_first)


def numerators(scale: Tensor) -> np.ndarray:
    """a of s ≈ a / 2^12, int64, at least 1 and at most 2^20."""
    return np.clip(np.rint(_numbers(scale) * DIGIT), 1, MAX_UNIFORM).astype(np.int64)


def whole(shift: Tensor) -> np.ndarray:
    """A shift in whole cells, int64."""
    return np.clip(np.rint(_numbers(shift) * CELLS_A_UNIT), -(2**40), 2**40).astype(np.int64)


def _numbers(x: Tensor) -> np.ndarray:
    found = x.detach().double().numpy()
    if np.isnan(found).any():
        raise CodecError(
            "a scale or shift of the flow is NaN: the model is broken (`codelength audit` says where), or the file is damaged"
        )
    return found


def values(cells: Cells, dtype: torch.dtype) -> Tensor:
    """The middles of cells."""
    return torch.from_numpy((cells + 0.5) / CELLS_A_UNIT).to(dtype)


class LocalBitsBack:
    """The coder of one flow under uniform dequantization."""

    def __init__(self, model: Dequantized) -> None:
        density = model.density
        assert isinstance(density, Flow)
        assert isinstance(density.flow, Compose)
        self.space, self.dtype, self.prior = model.space, model.dtype, density.prior
        steps = list(density.flow.transforms)
        front = [step for step in steps if isinstance(step, PREPROCESSING)]
        self.layers = steps[len(front) :]
        # In double precision: cells are much finer than float32 near 256.
        self.front = copy.deepcopy(Compose([step for step in front if isinstance(step, Transform)])).double()

    # --- an item -----------------------------------------------------------------------------------------------------

    def encode(self, stack: Stack, x: Tensor, plain: bool, **conditions: Tensor) -> None:
        """Push items, (n, *sizes).

        Raises:
            Unfit: A latent lies beyond (−64, 64).
        """
        if plain:
            levels = (x - self.space.offset).reshape(-1).numpy()
            stack.push_uniform((levels + self._mask(levels.size)) % self.space.levels, self._sizes(levels.size))
            return
        cells = self._dequantize(stack, x)
        for layer in self.layers:
            cells = forward(layer, stack, cells, self.dtype, conditions)
        coarse, fine = np.divmod(cells.reshape(-1) + STEPS // 2 * COARSE, COARSE)
        if coarse.min() < 0 or coarse.max() >= STEPS:
            raise Unfit
        stack.push_uniform(fine, np.full(fine.size, COARSE))
        stack.push_by_cdf(coarse, self._prior_cdf, STEPS)

    def decode(self, stack: Stack, n: int, plain: bool, **conditions: Tensor) -> Tensor:
        """Pop n items, (n, *sizes), and push what `encode` popped."""
        shape = (n, *self.space.sizes)
        size = math.prod(shape)
        if plain:
            levels = (stack.pop_uniform(self._sizes(size)) - self._mask(size)) % self.space.levels
            return torch.from_numpy(levels).reshape(shape) + self.space.offset
        coarse = stack.pop_by_cdf(size, self._prior_cdf, STEPS)
        fine = stack.pop_uniform(np.full(size, COARSE))
        flat = (coarse - STEPS // 2) * COARSE + fine
        latent_shape: tuple[int, ...] = self.space.sizes
        for layer in self.layers:
            assert isinstance(layer, Transform)
            latent_shape = layer.output_shape(latent_shape)
        cells = flat.reshape(n, *latent_shape)
        for layer in reversed(self.layers):
            cells = backward(layer, stack, cells, self.dtype, conditions)
        return self._requantize(stack, cells)

    def _mask(self, size: int) -> np.ndarray:
        generator = np.random.Generator(np.random.Philox(key=derive_seed("local bits-back", "plain")))
        return generator.integers(0, self.space.levels, size)

    def _sizes(self, size: int) -> np.ndarray:
        return np.full(size, self.space.levels)

    @property
    def _prior_cdf(self) -> Any:
        def cdf(coarse: np.ndarray) -> np.ndarray:
            edge = torch.from_numpy((coarse + 1 - STEPS // 2) * (COARSE / CELLS_A_UNIT))
            out = torch.sigmoid(edge) if self.prior == "logistic" else torch.special.ndtr(edge)
            return out.numpy()

        return cdf

    # --- dequantization ----------------------------------------------------------------------------------------------

    def _edges(self, cells: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        """y, flat, in levels from 0, at the lower edges of cells of preprocessed data."""
        z = torch.from_numpy((cells - PREPROCESSED // 2) / CELLS_A_UNIT).reshape(shape)
        y: Tensor = self.front.inverse(z)[0]
        return y.reshape(-1).numpy() - self.space.offset

    def _dequantize(self, stack: Stack, x: Tensor) -> Cells:
        levels = (x - self.space.offset).reshape(-1).numpy()
        shape = tuple(x.shape)

        def cdf(cells: np.ndarray) -> np.ndarray:
            return np.clip(self._edges(cells + 1, shape) - levels, 0.0, 1.0)

        cells = stack.pop_by_cdf(levels.size, cdf, PREPROCESSED)
        stack.push_by_cdf(levels, self._level_cdf(cells, shape), self.space.levels)
        return cells.reshape(shape) - PREPROCESSED // 2

    def _requantize(self, stack: Stack, cells: Cells) -> Tensor:
        shape, flat = cells.shape, cells.reshape(-1) + PREPROCESSED // 2
        levels = stack.pop_by_cdf(flat.size, self._level_cdf(flat, shape), self.space.levels)

        def cdf(cells: np.ndarray) -> np.ndarray:
            return np.clip(self._edges(cells + 1, shape) - levels, 0.0, 1.0)

        stack.push_by_cdf(flat, cdf, PREPROCESSED)
        return torch.from_numpy(levels).reshape(shape) + self.space.offset

    def _level_cdf(self, cells: np.ndarray, shape: tuple[int, ...]) -> Any:
        """Of the level given the cell: the share of the cell below."""
        low, high = self._edges(cells, shape), self._edges(cells + 1, shape)
        width = np.maximum(high - low, np.finfo(np.float64).tiny)
        return lambda level: np.clip((level + 1 - low) / width, 0.0, 1.0)


# --- layers ----------------------------------------------------------------------------------------------------------


def forward(layer: Any, stack: Stack, cells: Cells, dtype: torch.dtype, conditions: dict[str, Tensor]) -> Cells:
    """Cells of z of a layer's cells of x."""
    if isinstance(layer, Compose):
        for part in layer.transforms:
            cells = forward(part, stack, cells, dtype, conditions)
        return cells
    if isinstance(layer, MultiScale):
        flat = []
        for stage in layer.stages[:-1]:
            cells, leaving = np.split(forward(stage, stack, cells, dtype, conditions), 2, axis=1)
            flat.append(leaving.reshape(len(leaving), -1))
        last = forward(layer.stages[-1], stack, cells, dtype, conditions)
        return np.concatenate([*flat, last.reshape(len(last), -1)], axis=1)
    if isinstance(layer, REARRANGEMENTS):
        return layer(torch.from_numpy(cells).double())[0].long().numpy()
    if isinstance(layer, ActNorm):
        bias, log_scale = _per_channel(layer, cells)
        return scaled(stack, cells, log_scale.double().exp(), shift_first=bias)
    if isinstance(layer, ClassAffine):
        mean, scale = _of_class(layer, cells, dtype, conditions)
        return scaled(stack, cells, scale, shift_first=-mean)
    if isinstance(layer, AdditiveCoupling):
        return cells + _masked_shift(layer, cells, dtype, conditions)
    if isinstance(layer, AffineCoupling):
        free, log_scale, shift = _masked_affine(layer, cells, dtype, conditions)
        out = cells.copy()
        out[free] = scaled(stack, cells[free], log_scale.double().exp()) + whole(shift)
        return out
    if isinstance(layer, SplitCoupling):
        condition, changed = _halves(layer, cells)
        return _joined(layer, condition, _coupled(layer, stack, condition, changed, dtype, conditions, scaled, 1))
    assert isinstance(layer, InvertibleConv)
    lower, upper, sign = _triangles(layer)
    channels = range(cells.shape[1])
    out = scaled(stack, cells, torch.from_numpy(np.abs(upper.diagonal()).copy()).reshape(1, -1, *_ones(cells)))
    for c in channels:
        if sign[c] < 0:
            out[:, c] = ~out[:, c]  # [m, m + 1) mirrored at 0
        out[:, c] += _mixed(upper[c, c + 1 :], cells[:, c + 1 :])
    for c in reversed(channels):
        out[:, c] += _mixed(lower[c, :c], out[:, :c])
    return out[:, layer.permutation.numpy()]


def backward(layer: Any, stack: Stack, cells: Cells, dtype: torch.dtype, conditions: dict[str, Tensor]) -> Cells:
    """Cells of x of a layer's cells of z: `forward` undone, digit by digit."""
    if isinstance(layer, Compose):
        for part in reversed(layer.transforms):
            cells = backward(part, stack, cells, dtype, conditions)
        return cells
    if isinstance(layer, MultiScale):
        *leaving, last = np.split(cells, np.cumsum(layer.latent_sizes)[:-1], axis=1)
        cells = last.reshape(len(last), *layer.stage_shapes[-1])
        for i in reversed(range(len(layer.stages))):
            if i < len(leaving):
                half = (layer.stage_shapes[i][0] // 2, *layer.stage_shapes[i][1:])
                cells = np.concatenate([cells, leaving[i].reshape(len(cells), *half)], axis=1)
            cells = backward(layer.stages[i], stack, cells, dtype, conditions)
        return cells
    if isinstance(layer, REARRANGEMENTS):
        return layer.inverse(torch.from_numpy(cells).double())[0].long().numpy()
    if isinstance(layer, ActNorm):
        bias, log_scale = _per_channel(layer, cells)
        return unscaled(stack, cells, log_scale.double().exp(), shift_first=bias)
    if isinstance(layer, ClassAffine):
        mean, scale = _of_class(layer, cells, dtype, conditions)
        return unscaled(stack, cells, scale, shift_first=-mean)
    if isinstance(layer, AdditiveCoupling):
        return cells - _masked_shift(layer, cells, dtype, conditions)
    if isinstance(layer, AffineCoupling):
        free, log_scale, shift = _masked_affine(layer, cells, dtype, conditions)
        out = cells.copy()
        out[free] = unscaled(stack, cells[free] - whole(shift), log_scale.double().exp())
        return out
    if isinstance(layer, SplitCoupling):
        condition, changed = _halves(layer, cells)
        return _joined(layer, condition, _coupled(layer, stack, condition, changed, dtype, conditions, unscaled, -1))
    assert isinstance(layer, InvertibleConv)
    lower, upper, sign = _triangles(layer)
    channels = range(cells.shape[1])
    out = cells[:, layer.permutation.argsort().numpy()]
    for c in channels:
        out[:, c] -= _mixed(lower[c, :c], out[:, :c])
    scale = torch.from_numpy(np.abs(upper.diagonal()).copy()).reshape(1, -1, *_ones(cells))
    a = np.broadcast_to(numerators(scale), out.shape)
    rest = stack.pop_uniform(np.full(out.size, DIGIT)).reshape(out.shape)
    digits = np.zeros_like(out)
    for c in reversed(channels):  # the rows above need the numbers below
        turned = out[:, c] - _mixed(upper[c, c + 1 :], out[:, c + 1 :])
        turned = ~turned if sign[c] < 0 else turned
        out[:, c], digits[:, c] = np.divmod(turned * DIGIT + rest[:, c], a[:, c])
    stack.push_uniform(digits.reshape(-1), a.reshape(-1))
    return out


def _ones(cells: Cells) -> tuple[int, ...]:
    return (1,) * (cells.ndim - 2)


def _per_channel(layer: ActNorm, cells: Cells) -> tuple[Tensor, Tensor]:
    shape = (1, -1, *_ones(cells))
    return layer.bias.reshape(shape), layer.log_scale.reshape(shape)


def _of_class(
    layer: ClassAffine, cells: Cells, dtype: torch.dtype, conditions: dict[str, Tensor]
) -> tuple[Tensor, Tensor]:
    mean, log_scale, _ = layer._of(conditions["label"], values(cells, dtype))
    return mean, torch.exp(-log_scale.double())


def _masked_shift(
    layer: AdditiveCoupling, cells: Cells, dtype: torch.dtype, conditions: dict[str, Tensor]
) -> np.ndarray:
    shift: Tensor = layer.free * layer.network(layer.mask * values(cells, dtype), **conditions)
    return whole(shift)


def _masked_affine(
    layer: AffineCoupling, cells: Cells, dtype: torch.dtype, conditions: dict[str, Tensor]
) -> tuple[np.ndarray, Tensor, Tensor]:
    """Where numbers are free, (n, *shape) bool, and their log scales and shifts, flat."""
    log_scale, shift = layer._scale_and_shift(layer.mask * values(cells, dtype), **conditions)
    free = (layer.free > 0).expand(len(cells), *layer.free.shape)
    return free.numpy(), log_scale[free], shift[free]


def _halves(layer: SplitCoupling, cells: Cells) -> tuple[Cells, Cells]:
    condition, changed = layer._split(torch.from_numpy(cells))
    return condition.numpy(), changed.numpy()


def _joined(layer: SplitCoupling, condition: Cells, changed: Cells) -> Cells:
    return np.concatenate([changed, condition] if layer.swap else [condition, changed], axis=1)


def _coupled(
    layer: SplitCoupling,
    stack: Stack,
    condition: Cells,
    changed: Cells,
    dtype: torch.dtype,
    conditions: dict[str, Tensor],
    apply: Any,
    sign: int,
) -> Cells:
    """The changed half under `scaled` (sign 1) or `unscaled` (−1)."""
    like = values(changed, dtype)
    parameters = layer._parameters_of(values(condition, dtype), like, **conditions)
    if isinstance(layer.kind, Additive):
        return changed + sign * whole(parameters[:, 0])
    assert isinstance(layer.kind, Affine)
    scale = layer.kind._log_scale(parameters[:, 0]).double().exp()
    out: Cells = apply(stack, changed, scale, shift_first=parameters[:, 1])
    return out


def _triangles(layer: InvertibleConv) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    lower, upper = layer._triangular()
    return lower.double().numpy(), upper.double().numpy(), layer.sign.numpy()


def _mixed(row: np.ndarray, cells: Cells) -> np.ndarray:
    """Σ_j row_j x_j in whole cells, (n, *sites); added in the order of j, so that both sides get the same number."""
    total = np.zeros((len(cells), *cells.shape[2:]))
    for weight, channel in zip(row, np.moveaxis(cells, 1, 0), strict=True):
        total = total + weight * (channel + 0.5)
    return np.rint(total).astype(np.int64)


def _codable(layer: Any) -> bool:
    if isinstance(layer, Compose):
        return all(map(_codable, layer.transforms))
    if isinstance(layer, MultiScale):
        return all(map(_codable, layer.stages))
    if isinstance(layer, SplitCoupling):
        return isinstance(layer.kind, Additive | Affine)
    known = (*REARRANGEMENTS, ActNorm, ClassAffine, AdditiveCoupling, AffineCoupling, InvertibleConv)
    return isinstance(layer, known)


def accepts(model: LikelihoodModel) -> bool:
    """Whether the model is a flow of affine layers under uniform dequantization."""
    if not (isinstance(model, Dequantized) and isinstance(model.dequantizer, UniformDequantization)):
        return False
    if not (isinstance(model.density, Flow) and isinstance(model.density.flow, Compose)):
        return False
    steps = list(model.density.flow.transforms)
    front = [isinstance(step, PREPROCESSING) for step in steps]
    count = sum(front)
    return all(front[:count]) and all(map(_codable, steps[count:]))


LOCAL_BITS_BACK_CODEC = Codec(
    partial(encode_chain, LocalBitsBack), partial(decode_chain, LocalBitsBack), one_by_one, accepts
)
