"""Names of the systems and where they live; a system is imported when it is built."""

from __future__ import annotations

import importlib
import inspect
from typing import Any

from codelength.errors import UsageError, unknown_name
from codelength.models.base import LikelihoodModel
from codelength.space import Space

# system -> (family, "module:builder"); a builder takes (space, **options) and returns a LikelihoodModel.
SYSTEMS: dict[str, tuple[str, str]] = {
    "uniform": ("baselines", "codelength.models.baselines.uniform:Uniform"),
    "mean_field": ("baselines", "codelength.models.baselines.mean_field:MeanField"),
    "histogram": ("baselines", "codelength.models.baselines.histogram:Histogram"),
    "gaussian": ("baselines", "codelength.models.baselines.gaussian:dequantized_gaussian"),
    "context_table": ("baselines", "codelength.models.baselines.context_table:ContextTable"),
    "made": ("autoregressive", "codelength.models.autoregressive.made:MADE"),
    "made_ensemble": ("autoregressive", "codelength.models.autoregressive.made_ensemble:OrderingEnsemble"),
    "causal_window": ("autoregressive", "codelength.models.autoregressive.causal_window:CausalWindow"),
    "causal_lattice": ("autoregressive", "codelength.models.autoregressive.causal_lattice:CausalLattice"),
    "pixelrnn": ("autoregressive", "codelength.models.autoregressive.pixelrnn:PixelRNN"),
    "pixelcnn": ("autoregressive", "codelength.models.autoregressive.pixelcnn:PixelCNN"),
    "gated_pixelcnn": ("autoregressive", "codelength.models.autoregressive.gated_pixelcnn:GatedPixelCNN"),
    "pixelcnn_pp": ("autoregressive", "codelength.models.autoregressive.pixelcnn_pp:PixelCNNPP"),
    "image_transformer": (
        "autoregressive",
        "codelength.models.autoregressive.image_transformer:ImageTransformer",
    ),
    "sparse_transformer": (
        "autoregressive",
        "codelength.models.autoregressive.sparse_transformer:SparseTransformer",
    ),
    "quantized": ("autoregressive", "codelength.models.quantized.builder:quantized"),
    "gpt2": ("sequence", "codelength.models.sequence.gpt2:GPT2"),
    "wavenet": ("sequence", "codelength.models.sequence.wavenet:WaveNet"),
    "regression": ("conditional", "codelength.models.conditional.regression:Regression"),
    "prefix_lm": ("conditional", "codelength.models.conditional.prefix_lm:PrefixLM"),
    "realnvp": ("flows", "codelength.models.flows.realnvp:dequantized_realnvp"),
    "glow": ("flows", "codelength.models.flows.glow:dequantized_glow"),
    "flow_pp": ("flows", "codelength.models.flows.flow_pp:flow_pp"),
    "nice": ("flows", "codelength.models.flows.nice:dequantized_nice"),
    "maf": ("flows", "codelength.models.flows.maf:dequantized_maf"),
    "discrete_flow": ("discrete_flows", "codelength.models.discrete_flows.discrete_flow:DiscreteFlow"),
    "idf": ("discrete_flows", "codelength.models.discrete_flows.idf:IDF"),
    "vae": ("latent", "codelength.models.latent.vae:VAE"),
    "iaf_vae": ("latent", "codelength.models.latent.iaf_vae:IAFVAE"),
    "draw": ("latent", "codelength.models.latent.draw:DRAW"),
    "hierarchical_vae": ("latent", "codelength.models.latent.hierarchical_vae:HierarchicalVAE"),
    "iwae": ("latent", "codelength.models.latent.vae:iwae"),
}


def family_of(system: str) -> str:
    """Family of a system: "autoregressive", "flows", ..."""
    if system not in SYSTEMS:
        raise unknown_name("model system", system, SYSTEMS)
    return SYSTEMS[system][0]


def build_model(system: str, space: Space, **options: Any) -> LikelihoodModel:
    """Build the model `system` for data of `space`.

    Args:
        system: A key of SYSTEMS.
        space: What the data are.
        options: Keyword arguments of the system's builder.

    Raises:
        UsageError: Unknown system or option; the nearest known name is given.
    """
    if system not in SYSTEMS:
        raise unknown_name("model system", system, SYSTEMS)
    module, builder_name = SYSTEMS[system][1].split(":")
    builder = getattr(importlib.import_module(module), builder_name)
    known = [name for name in inspect.signature(builder).parameters if name != "space"]
    for option in options:
        if option not in known:
            raise unknown_name(f"option of model system {system!r}:", option, known)
    try:
        model: LikelihoodModel = builder(space, **options)
    except (TypeError, ValueError) as error:
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"model system {system!r} cannot be built with {options}: {error}") from error
    return model
