"""WaveNet: dilated causal convolutions over samples of sound.

    P(x) = Π_t P(x_t | x_<t),     z = tanh(W_f * h) ⊙ σ(W_g * h),     h ← h + W_r z,     skip sum s = Σ_layers W_s z

Layer l looks at its input now and 2^(l mod L) samples ago, so that a stack of L layers sees 2^L samples and costs L. The output is a
categorical over 256 mu-law levels, as in the paper, or a mixture of discretized logistics over all 65,536 levels of 16-bit sound, as in
Parallel WaveNet: lossless.

For 16 bits a network would have to hit sample values to a few parts in 65,536. With `predictor` = K a linear predictor of K taps does that, and the mixture is
laid around it on the scale of its recent errors:

    p_t = Σ_k a_k x_{t−k},    e_t = x_t − p_t,    v_t² = 1 + mean of e² over the last `window` samples,
    means p_t + v_t m,    scales v_t s,    inputs of the network x_{t−1}, e_{t−1} / v_{t−1} and log v_t.

The taps adapt to what was heard: at every `block` samples they are fitted anew to the last `memory` samples by weighted least squares, recent samples weighing more
(`functional.linear_prediction`). All of it is a function of earlier samples alone, so that the mass stays exact and nothing is sent. `predictor` = 0 is the plain network.

Recordings of 8 bits stored with 16 have only every 256th level. With `common_step` = N the model sees the power of two that the last N samples are multiples of
(`functional.common_step`), and lays a second mixture on its multiples (`pixels.stepped_mixture`).

References: WaveNet, arXiv:1609.03499, sections 2.1-2.4; Parallel WaveNet, arXiv:1711.10433, section 2.1 (16 bits). Departures: the linear predictor; one residual and
one skip projection each without bias sharing; kernels of width 2 as one matrix over both taps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codelength.errors import UsageError
from codelength.functional import MixtureLayout
from codelength.functional.common_step import common_bits, most_bits, trailing_zeros
from codelength.functional.linear_prediction import fit_taps, predict
from codelength.models.autoregressive.base import AutoregressiveModel
from codelength.models.base import Positions
from codelength.nn.level_scale import LevelScale
from codelength.pixels import PixelDistribution, SteppedMixture, make_likelihood
from codelength.space import Space

BITS_SCALE = 4
ESCAPE = -4.0
"""Logit, at the start, of leaving the common step: about one sample in 55."""


@dataclass
class WaveNetState:
    """What the steps keep: the last samples and errors, and each layer's last inputs as rings."""

    samples: Tensor  # (n, memory + taps), levels about their middle, oldest first, float64
    taps: Tensor  # (n, taps), oldest first, float64
    errors: Tensor  # (n, window)
    scaled: Tensor  # (n,), the last sample on the network's scale
    prediction: Tensor  # (n,)
    scale: Tensor  # (n,)
    rings: list[Tensor]  # (dilation, n, channels)
    bits: Tensor  # (n, common_step), trailing zero bits of the last samples other than 0
    seen: Tensor  # (n,), how many there were
    time: int = 0


class WaveNet(AutoregressiveModel):
    """WaveNet.

    Args:
        space: Audio of one channel, (1, T).
        layers: Layers of a stack, dilations 1, 2, ..., 2^(layers − 1).
        stacks: Stacks.
        channels: Features of the residual stream and of the gates.
        skip: Features of the skip sum.
        pixels: "categorical" (up to 256 levels) or "logistic_mixture".
        components: Components of the mixture.
        predictor: Taps of the linear predictor under a mixture; 0 for none.
        memory: Samples it is fitted to.
        block: Samples from one fit to the next.
        window: Samples over which its errors are averaged.
        common_step: Samples from which the step of quantization is read; 0 for none. It needs a predictor.

    Raises:
        UsageError: Not a space of one-channel audio, or sizes that do not fit.
    """

    endless = True
    context = None
    """No windows: the state carries everything the model sees, however long it runs."""

    def __init__(
        self,
        space: Space,
        *,
        layers: int = 10,
        stacks: int = 1,
        channels: int = 64,
        skip: int = 128,
        pixels: str = "logistic_mixture",
        components: int = 10,
        predictor: int = 0,
        memory: int = 512,
        block: int = 64,
        window: int = 32,
        common_step: int = 0,
    ) -> None:
        super().__init__(space)
        if space.kind != "audio" or space.shape[0] != 1:
            raise UsageError(
                f"wavenet speaks of audio of one channel, not of {space.kind} {space.shape}; choose WAV data"
            )
        if common_step < 0 or (common_step and not predictor):
            raise UsageError(
                f"wavenet: common_step={common_step} with predictor={predictor}; wanted 0, or both above 0"
            )
        if min(layers, stacks, channels, skip, window, memory, block) < 1 or predictor < 0:
            raise UsageError(
                "wavenet: layers, stacks, channels, skip, window, memory and block must be 1 or more, predictor 0 or more"
            )
        if predictor and pixels != "logistic_mixture":
            raise UsageError(
                f"wavenet: predictor={predictor} moves the means of pixels=logistic_mixture, not {pixels!r}"
            )
        options = {"components": components} if pixels == "logistic_mixture" else {}
        self.likelihood = make_likelihood(pixels, space, **options)
        self.components, self.taps, self.window = components, predictor, window
        self.memory, self.block = memory, block
        self.common_step, self.most_bits = common_step, most_bits(space.levels)
        self.dilations = [2**layer for _ in range(stacks) for layer in range(layers)]
        self.scale = LevelScale(space.levels)
        self.enter = nn.Linear((4 if predictor else 2) + (common_step > 0), channels)
        self.gates = nn.ModuleList(nn.Linear(2 * channels, 2 * channels) for _ in self.dilations)
        # What the last layer would pass on, nobody reads.
        self.residuals = nn.ModuleList(nn.Linear(channels, channels) for _ in self.dilations[1:])
        self.skips = nn.ModuleList(nn.Linear(channels, skip, bias=False) for _ in self.dilations)
        self.head, self.out = nn.Linear(skip, skip), nn.Linear(skip, self.likelihood.num_parameters + (common_step > 0))
        with torch.no_grad():
            self.out.weight.mul_(0.1)
            self.out.bias[: self.likelihood.num_parameters] = self.likelihood.initial()
            if common_step:
                self.out.bias[-1] = ESCAPE
            if predictor:
                # Equal weights, means on ±1 error, scales about half of it: errors are nearly logistic.
                means = torch.linspace(-1, 1, components) if components > 1 else torch.zeros(1)
                values = torch.stack([means, torch.full((components,), -0.7)], dim=1)
                self.out.bias[: 3 * components] = torch.cat([torch.zeros(components), values.flatten()])

    @torch.no_grad()
    def initialize(self, x: Tensor, generator: torch.Generator, **conditions: Tensor) -> None:
        """Take the inputs' scale from training data."""
        self.scale.fit(x - self.space.offset)

    def _centred(self, levels: Tensor) -> Tensor:
        """Levels about the middle of the range, float64."""
        return levels.double() - (self.space.levels // 2)

    # --- the parallel pass ---------------------------------------------------------------------------------------------

    def conditionals(self, x: Tensor, **conditions: Tensor) -> PixelDistribution:
        """Distribution of every sample given those before it; x is (B, 1, T)."""
        self.check_conditions(conditions, len(x))
        levels = (x - self.space.offset)[:, 0]
        inputs, prediction, scale, bits = self._inputs(levels)
        h, total = self.enter(inputs), None
        for i, dilation in enumerate(self.dilations):
            before = F.pad(h, (0, 0, dilation, 0))[:, : h.shape[1]]  # (B, T, channels)
            h, skip = self._layer(i, before, h)
            total = skip if total is None else total + skip
        return self._distribution(total, prediction, scale, bits)

    def _inputs(self, levels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
        """What is known before each sample: inputs (B, T, F), predictions and error scales in levels, bits of the step, (B, T)."""
        with torch.autocast(levels.device.type, enabled=False):  # half precision knows no 65,536 levels
            scaled = F.pad(self.scale(levels, self.dtype)[:, :-1], (1, 0))
            there = torch.ones_like(scaled)
            there[:, 0] = 0
            if not self.taps:
                return torch.stack([scaled, there], dim=2), scaled, scaled, None
            centred = self._centred(levels)
            prediction = predict(centred, self.taps, self.memory, self.block)
            errors = (centred - prediction).to(self.dtype)
            prediction = prediction.to(self.dtype)
            scale = (1 + F.pad(errors, (self.window, 0)).square().unfold(1, self.window, 1)[:, :-1].mean(2)).sqrt()
            last = F.pad((errors / scale)[:, :-1], (1, 0))
            features, bits = [scaled, there, torch.asinh(last), scale.log() / 4], None
            if self.common_step:
                bits = common_bits(levels.long() - self.space.levels // 2, self.common_step, self.most_bits)
                features.append(bits / BITS_SCALE)
            return torch.stack(features, dim=2), prediction, scale, bits

    def _layer(self, i: int, before: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        filtered, gate = self.gates[i](torch.cat([before, h], dim=-1)).chunk(2, dim=-1)
        z = filtered.tanh() * gate.sigmoid()
        return h + self.residuals[i](z) if i < len(self.residuals) else h, self.skips[i](z)

    def _distribution(self, total: Any, prediction: Tensor, scale: Tensor, bits: Tensor | None) -> PixelDistribution:
        """Skip sums (B, T, skip) to the distribution of (B, 1, T)."""
        outputs = self.out(F.relu(self.head(F.relu(total)))).transpose(1, 2)  # (B, parameters, T)
        if not self.taps:
            return self.likelihood(outputs, self.scale.span) if self.likelihood.spans else self.likelihood(outputs)
        with torch.autocast(outputs.device.type, enabled=False):
            outputs = outputs.to(self.dtype)
            logits, rest = (
                outputs[:, : self.components],
                outputs[:, self.components : 3 * self.components].unflatten(1, (-1, 2)),
            )
            half_range = (self.space.levels - 1) / 2
            centre = self.space.levels // 2 - half_range
            means = (prediction.unsqueeze(1) + centre + scale.unsqueeze(1) * rest[:, :, 0]) / half_range
            log_scales = rest[:, :, 1] + (scale / half_range).log().unsqueeze(1)
            around = torch.stack([means, log_scales], dim=2).flatten(1, 2)
            mixture = torch.cat([logits, around], dim=1)
            if bits is None:
                return self.likelihood(mixture)
            layout = MixtureLayout(1, self.components, self.space.levels, coupled=False)
            return SteppedMixture(mixture, layout, 2**bits, outputs[:, -1])

    # --- steps ---------------------------------------------------------------------------------------------------------

    @property
    def schedule(self) -> list[Positions]:
        """One sample a step."""
        return [Positions(torch.tensor([0]), torch.tensor([t])) for t in range(self.space.num_dims)]

    @property
    def state_numbers(self) -> int:
        """Numbers that the state holds for one sequence."""
        return (
            sum(self.dilations) * self.enter.out_features
            + 2 * (self.taps + self.memory)
            + self.window
            + 2 * self.common_step
        )

    def init_state(self, n: int, **conditions: Tensor) -> WaveNetState:
        self.check_conditions(conditions, n)
        like = self.enter.weight.detach()
        rings = [like.new_zeros(d, n, self.enter.out_features) for d in self.dilations]
        samples = torch.zeros(n, self.memory + self.taps, dtype=torch.float64, device=like.device)
        errors, taps = like.new_zeros(n, self.window), samples[:, : self.taps].clone()
        bits = torch.zeros(n, self.common_step, dtype=torch.long, device=like.device)
        zero, one, seen = like.new_zeros(n), like.new_ones(n), bits.new_zeros(n)
        return WaveNetState(samples, taps, errors, zero, zero.clone(), one, rings, bits, seen)

    def step(self, state: WaveNetState, values: Tensor | None) -> tuple[PixelDistribution, WaveNetState]:
        """The distribution of the next sample; steps may go on beyond the length of a datum."""
        features = [state.scaled, torch.zeros_like(state.scaled)]
        last = torch.zeros_like(state.scaled)
        if values is not None:
            levels = values[:, 0, 0].to(self.device)
            features = [self.scale(levels, self.dtype), torch.ones_like(state.scaled)]
            if self.taps:
                centred = self._centred(levels)
                error = (centred - (state.samples[:, -self.taps :] * state.taps).sum(1)).to(self.dtype)
                last = error / state.scale
                state.samples = torch.cat([state.samples[:, 1:], centred.unsqueeze(1)], dim=1)
                state.errors = torch.cat([state.errors[:, 1:], error.unsqueeze(1)], dim=1)
        if self.taps:
            if state.time % self.block == 0:
                state.taps = fit_taps(state.samples, self.taps)
            state.prediction = (state.samples[:, -self.taps :] * state.taps).sum(1).to(self.dtype)
            state.scale = (1 + state.errors.square().mean(1)).sqrt()
            features += [torch.asinh(last), state.scale.log() / 4]
        bits = None
        if self.common_step:
            if values is not None:
                self._count_bits(state, levels.long() - self.space.levels // 2)
            bits = state.bits.min(1).values.clamp(max=self.most_bits) * (state.seen >= self.common_step)
            features.append((bits / BITS_SCALE).to(self.dtype))
        h, total = self.enter(torch.stack(features, dim=1)), None
        for i, ring in enumerate(state.rings):
            slot = state.time % self.dilations[i]
            before = ring[slot].clone()
            ring[slot] = h
            h, skip = self._layer(i, before, h)
            total = skip if total is None else total + skip
        state.time += 1
        assert total is not None
        bits = None if bits is None else bits.unsqueeze(1)
        return self._distribution(total.unsqueeze(1), state.prediction[:, None], state.scale[:, None], bits), state

    def _count_bits(self, state: WaveNetState, centred: Tensor) -> None:
        """Keep the trailing zero bits of a sample that is not 0."""
        longer = torch.cat([state.bits[:, 1:], trailing_zeros(centred).unsqueeze(1)], dim=1)
        state.bits = torch.where((centred == 0).unsqueeze(1), state.bits, longer)
        state.seen = state.seen + (centred != 0)
