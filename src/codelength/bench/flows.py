"""Autoregressive flows beside zuko and nflows: training steps from the same weights.

Both libraries give hidden unit j the degree 1 + j mod (D − 1); ours are sorted. With hidden layers of a multiple of D − 1 units
that is a permutation of the units, and their weights are ours.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from codelength.bench.checks import audited, is_passed
from codelength.bench.measure import Contest, timed
from codelength.bench.peers import PEERS, PeerProcess
from codelength.bench.training_steps import OurSteps
from codelength.data.dataset import DataSet, Split
from codelength.space import Space
from codelength.transforms import ActNorm, Elementwise, MaskedAutoregressive

if TYPE_CHECKING:
    from codelength.bench.tasks import Options

SIZES: dict[str, Any] = {"dims": 43, "layers": 5, "hidden": [504, 504]}
"""Dims of MINIBOONE, on which both papers train flows of this size."""
SMALL: dict[str, Any] = {"dims": 6, "layers": 2, "hidden": [10, 10]}
LARGEST_NATS = 1e-4
"""Of the difference between the two log densities of a vector, nats a dim."""

Layers = tuple[tuple[Tensor, Tensor], ...]
"""Weight and bias of the layers of one transform's network."""


class SoftlyBounded(Elementwise):
    """zuko's map of a number: z = exp(s) x + t with s = raw / (1 + |raw / ln 1000|), parameters (t, raw)."""

    num_parameters = 2

    def _log_scale(self, raw: Tensor) -> Tensor:
        return raw / (1 + (raw / math.log(1000)).abs())

    def forward(self, x: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_scale = self._log_scale(parameters[:, 1])
        return torch.exp(log_scale) * x + parameters[:, 0], log_scale

    def inverse(self, z: Tensor, parameters: Tensor) -> tuple[Tensor, Tensor]:
        log_scale = self._log_scale(parameters[:, 1])
        return (z - parameters[:, 0]) * torch.exp(-log_scale), -log_scale


def copy_network(ours: MaskedAutoregressive, layers: Layers, *, flip: bool) -> None:
    """Take the weights of a network whose outputs lie site by site.

    Args:
        ours: Of three layers; its order of coding is theirs, or with `flip` theirs of the vector turned around.
        layers: Theirs.
        flip: Whether theirs sees the vector turned around.
    """
    network, dims = ours.network, ours.network.sites
    (first, first_bias), (middle, middle_bias), (last, last_bias) = layers
    units = (torch.arange(len(first)) % (dims - 1)).argsort(stable=True)
    last, last_bias = (t.unflatten(0, (dims, -1)).transpose(0, 1) for t in (last, last_bias))  # (P, D, ...)
    if flip:
        first, last, last_bias = first.flip(1), last.flip(1), last_bias.flip(1)
    with torch.no_grad():
        network.input.weight.copy_(first[units])
        network.input.bias.copy_(first_bias[units])
        network.hidden_layer(0).weight.copy_(middle[units][:, units])
        network.hidden_layer(0).bias.copy_(middle_bias[units])
        network.output.weight.copy_(last[:, :, units].flatten(0, 1))
        network.output.bias.copy_(last_bias.flatten())


def _zuko(transforms: list[MaskedAutoregressive], weights: Mapping[str, Tensor]) -> None:
    for i, ours in enumerate(transforms):
        ours.kind = SoftlyBounded()
        names = [f"transform.transforms.{i}.hyper.{j}" for j in (0, 2, 4)]
        copy_network(ours, tuple((weights[f"{n}.weight"], weights[f"{n}.bias"]) for n in names), flip=False)


def _nflows(transforms: list[MaskedAutoregressive], weights: Mapping[str, Tensor]) -> None:
    for i, ours in enumerate(transforms):
        stem = f"_transform._transforms.{2 * i}.autoregressive_net"
        names = [f"{stem}.{layer}" for layer in ("initial_layer", "blocks.0.linear", "final_layer")]
        layers = tuple((weights[f"{n}.weight"], weights[f"{n}.bias"]) for n in names)
        copy_network(ours, layers, flip=i % 2 == 1)
        slopes = 2 * ours.network.sites * ((ours.kind.num_parameters + 1) // 3)
        with torch.no_grad():  # ours add softplus⁻¹(1 − 0.001) to what the network says of the slopes
            ours.network.output.bias[slopes:] -= math.log(math.expm1(1 - 1e-3))


def _contest(
    options: Options, peer: str, map: str, take: Callable[[list[MaskedAutoregressive], Mapping[str, Tensor]], None]
) -> Contest:
    sizes, batch, steps = (SMALL, 8, 1) if options.small else (SIZES, 128, 2)
    dims, generator = sizes["dims"], np.random.default_rng(0)
    x = generator.integers(0, 256, (1024, dims)).astype(np.uint8)
    y = (x[:64] + generator.random((64, dims))).astype(np.float32)
    data = DataSet(
        "random-bytes", Space("vector", (dims,), 256), {"train": Split(x[256:]), "validation": Split(x[:256])}
    )
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "flow.npz"
        np.savez(file, x=x, y=y)
        process = PeerProcess(
            PEERS[peer],
            options.pip_arguments,
            **sizes,
            batch=batch,
            steps=steps,
            threads=options.threads,
            file=str(file),
        )
        with np.load(file) as stored:
            weights = {name: torch.from_numpy(stored[name]) for name in stored.files}
    chosen = {"layers": sizes["layers"], "hidden": sizes["hidden"], "map": map, "preprocessing": "rescale"}
    ours = OurSteps("maf", chosen, data, batch, ema_decay=None)
    model: Any = ours.loop.model
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, ActNorm):  # they have none: ours are the identity
                layer.bias.zero_()
                layer.log_scale.zero_()
        take([layer for layer in model.modules() if isinstance(layer, MaskedAutoregressive)], weights)
        scores = model.eval().density.log_prob(torch.from_numpy(y)) + dims * math.log(256)
    gap = float((scores - weights["scores"]).abs().max()) / dims
    audit = audited(model, data, options.audit_seconds)
    model.train()

    def close() -> None:
        ours.close()
        process.close()

    return Contest(
        what=f"{steps} training steps of an autoregressive flow {chosen}, batch {batch} of {dims} numbers, float32",
        ours=lambda: timed(lambda: ours.run(steps)),
        theirs=process.run,
        theirs_name=process.peer.label,
        parity={"largest_gap_nats_per_dim": gap, "audit": audit},
        passed=gap < LARGEST_NATS and is_passed(audit),
        wanted=1.0,
        close=close,
    )


def maf(options: Options) -> Contest:
    """Affine maps, zuko's."""
    return _contest(options, "zuko", "affine", _zuko)


def spline(options: Options) -> Contest:
    """Rational-quadratic splines of 8 bins."""
    return _contest(options, "nflows", "spline", _nflows)


PREPARE = {"maf-step": maf, "spline-flow-step": spline}
