"""Learning rate, optimizer and weight average."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from codelength import distributed
from codelength.errors import CheckpointError, UsageError
from codelength.recipe import TrainingConfig
from codelength.training import tensor_lists
from codelength.training.tensor_lists import ListAdamW


def learning_rate(config: TrainingConfig, step: int) -> float:
    """Learning rate of step 1, 2, ..., `config.steps`.

    It rises linearly over the warm-up to its peak at step `warmup_steps` (at step 1 without warm-up), then decays with
    the progress t in [0, 1] to `final_learning_rate` at the last step: (1 + cos πt)/2 of the way, linearly, or by a
    constant factor a step.
    """
    peak, final = config.learning_rate, config.final_learning_rate
    if step < config.warmup_steps:
        return peak * step / config.warmup_steps
    start = max(config.warmup_steps, 1)
    t = min((step - start) / max(config.steps - start, 1), 1.0)
    if config.decay == "cosine":
        return final + (peak - final) * (1 + math.cos(math.pi * t)) / 2
    if config.decay == "linear":
        return peak + (final - peak) * t
    if config.decay == "exponential":
        return float(peak * (final / peak) ** t)
    return peak


CLIP_EPSILON = 1e-6
"""What PyTorch adds to the norm that it divides by."""
MUON_SIZE = 64
"""Smallest side of a matrix that Muon takes: heads with fewer outputs and inputs of few features stay with AdamW."""


class Optimizer:
    """AdamW, Adamax or Muon, all with decoupled weight decay of the tensors that have two dims or more.

    Biases, gains and other vectors are not decayed. Torch's Adamax adds the decay to the gradient; here the weights
    shrink by learning rate * weight_decay before the step instead, as in AdamW (arXiv:1711.05101), so that the recipe's
    key means one thing. AdamW runs fused, Adamax over lists of tensors.

    "muon" orthogonalizes the momentum of every matrix of at least 64 rows and columns (Jordan et al., "Muon", 2024;
    arXiv:2502.16982) and leaves all other parameters to AdamW. Its rate, `muon_learning_rate`, follows the same schedule.

    Raises:
        UsageError: The recipe asks for Muon and this torch has none, or parameters are sharded.
    """

    def __init__(self, model: nn.Module, config: TrainingConfig, *, sharded: bool = False) -> None:
        if sharded and config.optimizer == "muon":
            raise UsageError(
                "training.optimizer muon orthogonalizes whole matrices, of which --shard fsdp leaves each process a part; "
                "use --shard ddp, or adamw"
            )
        self.config = config
        self.names = {name: p for name, p in model.named_parameters() if p.requires_grad}
        parameters = list(self.names.values())
        self._decayed: list[Tensor] = [p for p in parameters if p.ndim >= 2]
        self._adamax = config.optimizer == "adamax"
        self._layout: list[tuple[torch.Size, tuple[int, ...], torch.dtype, type]] | None = None
        self._gradients: tensor_lists.Pieces | None = None
        # Each with its share of the schedule's rate.
        self._parts: list[tuple[torch.optim.Optimizer, float]] = []
        if config.optimizer == "muon":
            matrices = [p for p in parameters if p.ndim == 2 and min(p.shape) >= MUON_SIZE]
            parameters = [p for p in parameters if not any(p is m for m in matrices)]
            if matrices:
                self._parts.append((_muon(matrices, config), config.muon_learning_rate / config.learning_rate))
        decay = 0.0 if self._adamax else config.weight_decay
        groups = [
            {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": decay},
            {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
        ]
        groups = [group for group in groups if group["params"]]
        if groups:
            adam: torch.optim.Optimizer = (
                torch.optim.Adamax(groups, lr=config.learning_rate, betas=config.betas, foreach=True)
                if self._adamax
                else ListAdamW(groups, lr=config.learning_rate, betas=config.betas, fused=True)
            )
            self._parts.append((adam, 1.0))

    def clip(self) -> Tensor:
        """Norm of the gradient, a scalar tensor, before it is clipped to `clip_norm`."""
        gradients = [p.grad for p in self.names.values() if p.grad is not None]
        pieces = self._pieces_of(gradients)
        if pieces is not None:
            length = pieces.norm()
            if self.config.clip_norm is not None and not length <= self.config.clip_norm - CLIP_EPSILON:
                torch._foreach_mul_(gradients, min(1.0, self.config.clip_norm / (length + CLIP_EPSILON)))
            return torch.tensor(length)
        norm = nn.utils.get_total_norm(gradients, foreach=True)
        norm = distributed.whole(norm)
        if self.config.clip_norm is not None:
            nn.utils.clip_grads_with_norm_(self.names.values(), self.config.clip_norm, norm, foreach=True)
        return norm

    def _pieces_of(self, gradients: list[Tensor]) -> tensor_lists.Pieces | None:
        """Gradients for kernels; None where they do not fit. Where they lie changes every step, seldom how."""
        layout = [(g.shape, g.stride(), g.dtype, type(g)) for g in gradients]
        if layout != self._layout:
            fits = tensor_lists.fits(gradients)
            self._layout, self._gradients = layout, tensor_lists.Pieces(**{"from": gradients}) if fits else None
        elif self._gradients is not None:
            self._gradients.place("from", gradients)
        return self._gradients

    @torch.no_grad()
    def step(self, rate: float) -> None:
        """One step at the learning rate `rate`; gradients are freed."""
        for part, share in self._parts:
            for group in part.param_groups:
                group["lr"] = rate * share
        if self._adamax and self.config.weight_decay and self._decayed:
            torch._foreach_mul_(self._decayed, 1 - rate * self.config.weight_decay)
        for part, _ in self._parts:
            part.step()
            part.zero_grad(set_to_none=True)

    def tensors(self) -> dict[str, Tensor]:
        """The state as flat tensors, "PARAMETER/moment" -> tensor."""
        return {
            f"{name}/{key}": value.clone() if key == "step" else value  # kernels count all steps in one tensor
            for name, p in self.names.items()
            for part, _ in self._parts
            for key, value in part.state.get(p, {}).items()
        }

    def _part_of(self, parameter: Tensor) -> torch.optim.Optimizer:
        return next(
            part for part, _ in self._parts for group in part.param_groups for p in group["params"] if p is parameter
        )

    def load(self, tensors: dict[str, Tensor]) -> None:
        """Restore what `tensors` gave.

        Raises:
            CheckpointError: A tensor is of no parameter, or of another shape than its parameter.
        """
        for flat, value in tensors.items():
            name, _, key = flat.rpartition("/")
            if name not in self.names or (key != "step" and value.shape != self.names[name].shape):
                raise CheckpointError(
                    f"the optimizer's state has {flat} of shape {tuple(value.shape)}, which fits no parameter of the model: "
                    "it is a checkpoint of another architecture; use it with the recipe it was trained with"
                )
            p = self.names[name]
            # The fused step walks over raw memory: moments must have the parameter's own memory format.
            self._part_of(p).state[p][key] = (
                value.clone() if key == "step" else torch.zeros_like(p).detach().copy_(distributed.placed(p, value))
            )

    def moment(self, flat: str, whole: Tensor) -> Tensor:
        """Zeros of the shape of `whole`, placed like the parameter that "PARAMETER/moment" belongs to."""
        name, _, key = flat.rpartition("/")
        if key == "step" or name not in self.names:
            return torch.zeros(whole.shape, dtype=whole.dtype)
        return torch.zeros_like(self.names[name]).detach()


def _muon(matrices: Sequence[Tensor], config: TrainingConfig) -> torch.optim.Optimizer:
    muon = getattr(torch.optim, "Muon", None)
    if muon is None:
        raise UsageError(
            f"training.optimizer: torch {torch.__version__} has no Muon; upgrade to torch 2.9 or use adamw"
        )
    optimizer: torch.optim.Optimizer = muon(
        matrices, lr=config.muon_learning_rate, weight_decay=config.weight_decay, adjust_lr_fn="original"
    )
    return optimizer


class WeightAverage:
    """Exponential moving average of parameters and floating-point buffers.

    average += (1 − d) (weights − average), d = min(decay, (1 + step) / (10 + step)): the ramp lets short runs forget
    their initialization; from step 10 decay / (1 − decay) on it is the plain average of the papers.

    Args:
        average: Model that holds the average; it starts as a copy of `model`.
        model: Model in training.
        decay: Share of the average that a step keeps.
    """

    def __init__(self, average: nn.Module, model: nn.Module, decay: float) -> None:
        self.average, self.model, self.decay = average, model, decay
        theirs = dict(model.named_parameters())  # each once, even where modules share it
        pairs = [
            (distributed.local(ours), distributed.local(theirs[name])) for name, ours in average.named_parameters()
        ]
        self._ours, self._theirs = [ours for ours, _ in pairs], [weights for _, weights in pairs]
        places = _buffer_places(average)
        sources = _buffer_places(model)
        self._buffers, self._sources = list(places.values()), [sources[name] for name in places]
        fits = tensor_lists.fits(self._ours, self._theirs)
        self._pieces = tensor_lists.Pieces(to=self._ours, **{"from": self._theirs}) if fits else None

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Move towards the weights after step 1, 2, ..."""
        share = 1 - min(self.decay, (1 + step) / (10 + step))
        if self._pieces is None:
            torch._foreach_lerp_(self._ours, self._theirs, share)
        else:
            self._pieces.place("to", self._ours)
            self._pieces.place("from", self._theirs)
            self._pieces.run("lerp", share=share)
        for (holder, key), (source, other) in zip(self._buffers, self._sources, strict=True):
            ours, theirs = holder._buffers[key], source._buffers[other]  # anew: a module may have replaced its buffer
            if ours is None or theirs is None:
                continue
            if ours.is_floating_point():
                ours.lerp_(theirs, share)
            else:
                ours.copy_(theirs)


Place = tuple[nn.Module, str]
"""A module and the name of a buffer of its own."""


def _buffer_places(model: nn.Module) -> dict[str, Place]:
    """Where the buffers lie, by name; each once, even where modules share it."""
    modules = dict(model.named_modules())
    return {name: (modules[name.rpartition(".")[0]], name.rpartition(".")[2]) for name, _ in model.named_buffers()}
