"""The table of constructors: every registered system at a tiny size, on spaces small enough to sum over.

A row buys a system every test of `test_interface.py`; a registered system without a row fails one of them. Tests ask for
a row by the name of its argument:

    row            any system
    mass_row       exact models of integers: they have `log_prob`
    step_row       models of images coded step by step
    sequence_row   models of sequences coded step by step

and build the model with `make(row)`: float64, evaluation mode, parameters drawn at random (or fitted to random data).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import torch
from torch import Tensor

from codelength import LikelihoodModel, Space, build_model
from codelength.models.base import can

GREY = Space.image(1, 2, 2, 3)
COLOUR = Space.image(3, 2, 2, 2)
TWO_CHANNELS = Space.image(2, 2, 2, 3)
BINARY = Space.image(1, 2, 2, 2)
DYNAMIC = BINARY.with_binarization("dynamic")
SIGNED = Space.image(1, 2, 2, 3, offset=-1)
WIDE = Space.image(1, 2, 4, 3, offset=-1)
WIDE_COLOUR = Space.image(3, 2, 4, 4)
TOKENS = Space("sequence", (4,), 3)
SIGNED_TOKENS = Space("sequence", (5,), 2, offset=-1)
LABELLED = Space.image(1, 2, 2, 3, conditions={"label": 2})


@dataclass(frozen=True)
class Row:
    """One system, one space, one set of options."""

    system: str
    space: Space
    options: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = ",".join(f"{name}={value}" for name, value in self.options.items())
        return f"{self.system}-{'x'.join(map(str, self.space.shape))}x{self.space.levels}-{options}".replace(" ", "")


NET = {"filters": 4, "blocks": 1, "stages": 2}
STACK = {"filters": 6, "layers": 2, "first_kernel": 3, "head_filters": 6}
PLUS_NOISE = {"noise_couplings": 2, "noise_blocks": 1}
PLUS = {"couplings": [2, 1, 1], "filters": 4, "blocks": 1, "components": 2, "heads": 2, **PLUS_NOISE}
PLUS_UNIFORM = {**PLUS, "dequantization": "uniform", "preprocessing": "marginal", "fold": 2, "heads": 0}
RNN = {"units": 5, "layers": 2, "first_kernel": 3, "head_filters": 6}
WINDOW = {"rows": 2, "reach": 2, "width": 8, "layers": 2, "head_width": 6, "components": 2}
LATTICE = {**WINDOW, "message_width": 3, "crop": 2}
PLAIN_WINDOW = {"rows": 2, "reach": 2, "width": 6, "layers": 1, "pixels": "categorical"}
IMAGE = {"layers": 2, "width": 8, "heads": 2, "feed_forward": 12}
GRID = {"block": "2d", "query": [2, 1], "memory": [1, 1]}
GATED = {"filters": 4, "layers": 3, "first_kernel": 3}
PRE_IMAGE = {**IMAGE, "query": 4, "memory": 2, "norm": "pre", "pixels": "categorical"}
SPARSE = {"layers": 2, "width": 8, "heads": 2, "feed_forward": 12}
SOUND = Space("audio", (1, 5), 3, offset=-1)
WIDE_SOUND = Space("audio", (1, 5), 9, offset=-4)
WAVE = {"layers": 2, "channels": 4, "skip": 5, "components": 2, "window": 2}
TARGET = Space("vector", (1,), 6, offset=-2)
GPT = {"layers": 2, "width": 8, "heads": 2}
MIXED = {"pixels": "logistic_mixture", "components": 2}
INTEGER = {"scales": 1, "growth": 4, "layers": 1, "components": 2}
ROWS = [
    *(Row("uniform", space) for space in (GREY, COLOUR, SIGNED)),
    Row("mean_field", GREY, {"components": 2}),
    Row("mean_field", GREY, {"pixels": "categorical"}),
    Row("mean_field", COLOUR, {"pixels": "logistic_mixture", "components": 3}),
    Row("mean_field", COLOUR),
    Row("mean_field", DYNAMIC, {"pixels": "emission"}),
    *(Row("histogram", space) for space in (GREY, TWO_CHANNELS)),
    Row("histogram", SIGNED, {"scope": "global", "smoothing": "add_one"}),
    *(Row("context_table", space) for space in (GREY, COLOUR)),
    *(Row("gaussian", space) for space in (GREY, COLOUR)),
    Row("made", GREY, {"hidden": [12], "components": 2}),
    Row("made", TWO_CHANNELS, {"hidden": [9, 9], "residual": True, "ordering": "random", "components": 2}),
    Row("made", COLOUR, {"hidden": [8, 6], "pixels": "logistic_mixture", "components": 2}),
    Row("made", SIGNED, {"hidden": [2], "one_hot": True, "pixels": "categorical"}),
    Row("made", BINARY, {"hidden": [8, 8]}),
    Row("made", LABELLED, {"hidden": [8, 8], "residual": True, "components": 2, "class_conditional": True}),
    Row("made_ensemble", GREY, {"hidden": [8], "orderings": 3, "components": 2}),
    Row("made_ensemble", SIGNED, {"hidden": [8], "orderings": 2, "pixels": "categorical", "one_hot": True}),
    Row("causal_window", GREY, {**WINDOW, "components": 2}),
    Row("causal_window", COLOUR, {**WINDOW, "pixels": "logistic_mixture"}),
    Row("causal_window", TWO_CHANNELS, {"rows": 2, "reach": 2, "width": 6, "layers": 1, "pixels": "categorical"}),
    Row("causal_window", LABELLED, {**WINDOW, "class_conditional": True}),
    Row("causal_window", SIGNED, {**WINDOW, "components": 1}),
    Row("causal_lattice", GREY, LATTICE),
    Row("causal_lattice", COLOUR, {**LATTICE, "pixels": "logistic_mixture"}),
    Row("causal_lattice", TWO_CHANNELS, {**PLAIN_WINDOW, "layers": 3, "message_width": 3, "crop": 2}),
    Row("causal_lattice", LABELLED, {**LATTICE, "class_conditional": True}),
    Row("causal_lattice", WIDE, LATTICE),
    Row("quantized", GREY, {"base": "causal_window", "options": WINDOW}),
    Row("quantized", COLOUR, {"base": "causal_window", "options": {**WINDOW, "pixels": "logistic_mixture"}}),
    Row("quantized", TWO_CHANNELS, {"base": "causal_window", "options": PLAIN_WINDOW, "activations": 8}),
    Row(
        "quantized", GREY, {"base": "image_transformer", "options": {**IMAGE, "query": 2, "memory": 1, "components": 2}}
    ),
    Row("quantized", TWO_CHANNELS, {"base": "image_transformer", "options": PRE_IMAGE}),
    Row("quantized", LABELLED, {"base": "gated_pixelcnn", "options": {**GATED, "class_conditional": True}}),
    Row("pixelrnn", GREY, {**RNN, "pixels": "categorical"}),
    Row("pixelrnn", COLOUR, {**RNN}),
    Row("pixelrnn", COLOUR, {**RNN, "pixels": "logistic_mixture", "components": 3}),
    Row("pixelrnn", GREY, {**RNN, "kind": "row_lstm", "components": 3}),
    Row("pixelrnn", TWO_CHANNELS, {**RNN, "kind": "row_lstm", "pixels": "categorical", "kernel": 5}),
    Row("pixelrnn", LABELLED, {**RNN, "class_conditional": True, "components": 2}),
    Row("pixelrnn", LABELLED, {**RNN, "class_conditional": True, "kind": "row_lstm"}),
    Row("pixelcnn", GREY, {**STACK, "components": 3}),
    Row("pixelcnn", COLOUR, {**STACK, "kernel": 5}),
    Row("pixelcnn", TWO_CHANNELS, {**STACK, "components": 2}),
    Row("pixelcnn", TWO_CHANNELS, {**STACK, "pixels": "categorical", "filters": 5}),
    Row("pixelcnn", SIGNED, {**STACK, "pixels": "categorical"}),
    Row("pixelcnn", LABELLED, {**STACK, "class_conditional": True, "components": 2}),
    Row("gated_pixelcnn", GREY, {**STACK, "pixels": "categorical"}),
    Row("gated_pixelcnn", COLOUR, {**STACK, "kernel": 5}),
    Row("gated_pixelcnn", TWO_CHANNELS, {**STACK, "components": 2}),
    Row("gated_pixelcnn", TWO_CHANNELS, {**STACK, "pixels": "categorical", "filters": 5}),
    Row("gated_pixelcnn", TWO_CHANNELS, {**STACK, "components": 2, "channel_masks": True}),
    Row("gated_pixelcnn", SIGNED, {**STACK, "components": 1}),
    Row("gated_pixelcnn", LABELLED, {**STACK, "class_conditional": True, "components": 2}),
    Row("pixelcnn_pp", GREY, {**NET, "components": 2}),
    Row("pixelcnn_pp", GREY, {"filters": 3, "blocks": 2, "stages": 1, "pixels": "categorical"}),
    Row("pixelcnn_pp", COLOUR, {**NET, "pixels": "logistic_mixture", "components": 3}),
    Row("pixelcnn_pp", SIGNED, {**NET, "components": 1}),
    Row("pixelcnn_pp", LABELLED, {**NET, "class_conditional": True, "components": 2}),
    Row("image_transformer", GREY, {**IMAGE, "query": 2, "memory": 1, "components": 2}),
    Row("image_transformer", COLOUR, {**IMAGE, "query": 4, "memory": 3, "norm": "pre", "attention_width": 4}),
    Row("image_transformer", TWO_CHANNELS, {**IMAGE, **GRID, "pixels": "categorical", "positions": "learned"}),
    Row("image_transformer", TWO_CHANNELS, {**IMAGE, **GRID, "components": 2}),
    Row("image_transformer", SIGNED, {**IMAGE, **GRID, "pixels": "categorical"}),
    Row("image_transformer", LABELLED, {**IMAGE, "class_conditional": True, "components": 2}),
    Row("sparse_transformer", GREY, SPARSE),
    Row("sparse_transformer", COLOUR, {**SPARSE, "pattern": "fixed", "summary": 2, "key_width": 4}),
    Row("sparse_transformer", TWO_CHANNELS, {**SPARSE, **MIXED, "stride": 3}),
    Row("sparse_transformer", TWO_CHANNELS, {**SPARSE, **MIXED, "channel_positions": True, "mixing": "heads"}),
    Row(
        "sparse_transformer",
        SIGNED,
        {**SPARSE, "pattern": "fixed", "mixing": "heads", "summary": 1, "checkpoint": True},
    ),
    Row("sparse_transformer", LABELLED, {**SPARSE, "class_conditional": True}),
    Row("gpt2", TOKENS, GPT),
    Row("gpt2", TOKENS, {**GPT, "positions": "rotary", "context": 2, "stride": 2}),
    Row("gpt2", SIGNED_TOKENS, {**GPT, "context": 3, "stride": 1, "hidden": 5}),
    Row("prefix_lm", TOKENS, {**GPT, "source": 3, "source_levels": 3}),
    Row("prefix_lm", TOKENS, {**GPT, "source": 2, "source_levels": 4, "hidden": 5}),
    Row("prefix_lm", TOKENS, {**GPT, "source": 2, "features": 6}),
    Row("prefix_lm", TOKENS, {**GPT, "source": 2, "source_levels": 3, "blind": True}),
    Row("wavenet", SOUND, WAVE),
    Row("wavenet", SOUND, {**WAVE, "predictor": 2, "memory": 3, "block": 2}),
    Row("wavenet", WIDE_SOUND, {**WAVE, "predictor": 2, "memory": 3, "block": 2, "common_step": 1}),
    Row("wavenet", SOUND, {"layers": 1, "stacks": 2, "channels": 3, "skip": 4, "pixels": "categorical"}),
    *(Row("regression", TARGET, {"features": 2, "hidden": [3], "scale": scale}) for scale in ("fixed", "predicted")),
    Row("regression", TARGET, {"features": 2, "scale": "learned"}),
    Row("regression", TARGET, {"features": 2, "hidden": [4], "likelihood": "categorical"}),
    *(Row("realnvp", space, {"scales": 1, "filters": 4, "blocks": 1}) for space in (GREY, COLOUR)),
    Row("realnvp", SIGNED, {"scales": 2, "filters": 4, "blocks": 1, "fold": 2, "preprocessing": "marginal"}),
    Row("glow", GREY, {"scales": 1, "depth": 2, "filters": 4}),
    Row("glow", COLOUR, {"scales": 1, "depth": 2, "filters": [4], "coupling": "additive"}),
    Row("glow", SIGNED, {"scales": 1, "depth": 2, "filters": 4, "preprocessing": "marginal"}),
    Row("glow", LABELLED, {"scales": 1, "depth": 2, "filters": 4, "class_conditional": True}),
    Row("flow_pp", WIDE, {**PLUS, "noise_features": 2}),
    Row("flow_pp", WIDE_COLOUR, PLUS_UNIFORM),
    Row("nice", GREY, {"couplings": 2, "hidden": 5, "layers": 1}),
    Row("nice", COLOUR, {"couplings": 2, "hidden": 5, "preprocessing": "logit", "prior": "normal"}),
    Row("maf", GREY, {"layers": 2, "hidden": [6]}),
    Row("maf", SIGNED, {"layers": 2, "hidden": [6], "map": "spline", "preprocessing": "marginal"}),
    Row("idf", GREY, INTEGER),
    Row("idf", COLOUR, {**INTEGER, "factoring": "half", "pattern": "random", "translation_scale": 0.7}),
    Row("idf", WIDE, {**INTEGER, "pattern": "restore", "activation": "swish", "group_norm": True}),
    Row("idf", SIGNED, {**INTEGER, "background": True, "rezero": True}),
    Row("quantized", SIGNED, {"base": "idf", "options": INTEGER}),
    Row("quantized", COLOUR, {"base": "idf", "options": {**INTEGER, "factoring": "half"}, "activations": 8}),
    Row("discrete_flow", GREY, {"hidden": [6]}),
    Row("discrete_flow", COLOUR, {"hidden": [6], "flow": "autoregressive", "base": "autoregressive"}),
    Row("discrete_flow", SIGNED, {"hidden": [5, 5], "network": "sequence", "kernel": 3, "scales": False}),
    Row("discrete_flow", BINARY, {"hidden": [5], "network": "sequence", "flow": "autoregressive", "layers": 3}),
    Row("vae", GREY, {"latents": 2, "network": "dense", "filters": 4, "components": 2}),
    Row("vae", BINARY, {"latents": 2, "network": "dense", "filters": 4}),
    Row("vae", COLOUR, {"latents": 2, "filters": 4, "downsamplings": 1, "spatial": True}),
    Row("vae", SIGNED, {"latents": 1, "filters": 4, "downsamplings": 1, "pixels": "categorical"}),
    Row("iaf_vae", GREY, {"latents": 2, "filters": 4, "resolutions": 1, "components": 2}),
    Row("iaf_vae", WIDE_COLOUR, {"latents": 1, "filters": 4, "resolutions": 1, "blocks": 1, "iaf": 2, "components": 2}),
    Row("iaf_vae", BINARY, {"latents": 2, "filters": 4, "resolutions": 1, "iaf": 0, "free_bits": 0.1}),
    Row("draw", GREY, {"steps": 2, "latents": 1, "hidden": 5, "write": 2, "components": 2}),
    Row("draw", COLOUR, {"steps": 1, "latents": 2, "hidden": 4, "read": 3, "write": 2, "pixels": "bernoulli"}),
    Row("draw", WIDE_COLOUR, {"steps": 2, "latents": 1, "hidden": 4, "write": 3, "components": 2}),
    Row("draw", SIGNED, {"steps": 2, "latents": 1, "hidden": 4, "read": 0, "write": 0, "pixels": "categorical"}),
    Row("hierarchical_vae", GREY, {"latents": [1, 2], "hidden": 4, "components": 2}),
    Row("hierarchical_vae", COLOUR, {"latents": [2], "hidden": 4, "depth": 1, "pixels": "bernoulli"}),
    Row("hierarchical_vae", SIGNED, {"latents": [1, 2, 2], "hidden": 4, "inference": "bottom_up", "components": 2}),
    Row("iwae", GREY, {"latents": 2, "filters": 4, "samples": 3, "components": 2}),
    Row("iwae", BINARY, {"latents": 2, "filters": 4, "blocks": 1, "samples": 3, "doubly_reparametrized": True}),
]


def build(row: Row, seed: int = 0, dtype: torch.dtype = torch.float64) -> LikelihoodModel:
    """The row's model with parameters of a seed."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = build_model(row.system, row.space, **row.options).to(dtype)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.3 * torch.randn_like(parameter))
    generator = torch.Generator().manual_seed(seed)
    data = torch.randint(row.space.levels, (64, *row.space.sizes), generator=generator) + row.space.offset
    if can(model, "initialize"):
        model.initialize(data, generator, **conditions_for(model, len(data), seed))
    if can(model, "fit"):
        model.fit(data, **conditions_for(model, len(data), seed))
    return model.eval()


def conditions_for(model: LikelihoodModel, n: int, seed: int = 0) -> dict[str, Tensor]:
    """Conditions of n data for a model, of a seed."""
    generator = torch.Generator().manual_seed(seed)
    if model.conditioning == ("source",):
        return {"source": torch.randint(model.source_levels, (n, model.source), generator=generator)}
    if model.conditioning == ("features",):
        return {"features": torch.randn(n, model.features, generator=generator)}
    return {name: torch.randint(model.space.conditions[name], (n,), generator=generator) for name in model.conditioning}


def is_mass(row: Row) -> bool:
    model = build_model(row.system, row.space, **row.options)
    return model.measure == "mass" and can(model, "log_prob")


def is_stepwise(row: Row) -> bool:
    return can(build_model(row.system, row.space, **row.options), "step")


SELECTIONS: dict[str, Callable[[Row], bool]] = {
    "row": lambda row: True,
    "mass_row": is_mass,
    "step_row": lambda row: row.space.kind == "image" and is_stepwise(row),
    "sequence_row": lambda row: row.space.kind in ("sequence", "audio") and is_stepwise(row),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    for name, selects in SELECTIONS.items():
        if name in metafunc.fixturenames:
            metafunc.parametrize(name, [row for row in ROWS if selects(row)], ids=str)


@pytest.fixture
def rows() -> list[Row]:
    return ROWS


@pytest.fixture
def make() -> Callable[..., LikelihoodModel]:
    """make(row, seed=0, dtype=torch.float64): the model of a row."""
    return build


@pytest.fixture
def make_conditions() -> Callable[..., dict[str, Tensor]]:
    """make_conditions(model, n, seed=0): conditions of n data."""
    return conditions_for


@pytest.fixture
def enumerate_space() -> Callable[[Space], Tensor]:
    """enumerate_space(space): all its data, (levels^num_dims, *shape)."""

    def all_data(space: Space) -> Tensor:
        values = range(space.offset, space.offset + space.levels)
        return torch.tensor(list(itertools.product(values, repeat=space.num_dims))).view(-1, *space.sizes)

    return all_data


@pytest.fixture
def random_data() -> Callable[..., Tensor]:
    """random_data(space, n, seed=0): uniform data, (n, *shape) int64."""

    def draw(space: Space, n: int, seed: int = 0) -> Tensor:
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(space.levels, (n, *space.sizes), generator=generator) + space.offset

    return draw
