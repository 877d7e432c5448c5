"""codelength: likelihood models, measured on one protocol and proved by compressing.

The public names are loaded when first used, so that `import codelength` is quick.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_PUBLIC: dict[str, str] = {
    "Space": "codelength.space",
    "bits": "codelength.units",
    "bits_per_dim": "codelength.units",
    "perplexity": "codelength.units",
    "LikelihoodModel": "codelength.models.base",
    "LogWeights": "codelength.models.base",
    "build_model": "codelength.models.registry",
    "make_likelihood": "codelength.pixels",
    "AutoregressiveModel": "codelength.models.autoregressive.base",
    "MADE": "codelength.models.autoregressive.made",
    "OrderingEnsemble": "codelength.models.autoregressive.made_ensemble",
    "ImageTransformer": "codelength.models.autoregressive.image_transformer",
    "SparseTransformer": "codelength.models.autoregressive.sparse_transformer",
    "PixelCNNPP": "codelength.models.autoregressive.pixelcnn_pp",
    "MeanField": "codelength.models.baselines.mean_field",
    "Uniform": "codelength.models.baselines.uniform",
    "GPT2": "codelength.models.sequence.gpt2",
    "WaveNet": "codelength.models.sequence.wavenet",
    "Regression": "codelength.models.conditional.regression",
    "PrefixLM": "codelength.models.conditional.prefix_lm",
    "RealNVP": "codelength.models.flows.realnvp",
    "Glow": "codelength.models.flows.glow",
    "FlowPP": "codelength.models.flows.flow_pp",
    "NICE": "codelength.models.flows.nice",
    "MAF": "codelength.models.flows.maf",
    "IDF": "codelength.models.discrete_flows.idf",
    "DiscreteFlow": "codelength.models.discrete_flows.discrete_flow",
    "VAE": "codelength.models.latent.vae",
    "HierarchicalVAE": "codelength.models.latent.hierarchical_vae",
    "IAFVAE": "codelength.models.latent.iaf_vae",
    "DRAW": "codelength.models.latent.draw",
    "Dequantized": "codelength.transforms",
    "Discretized": "codelength.transforms",
    "UniformDequantization": "codelength.transforms",
    "VariationalDequantization": "codelength.transforms",
    "load_data": "codelength.data",
    "load_recipe": "codelength.recipe",
    "load_run": "codelength.run",
    "train": "codelength.training",
    "evaluate": "codelength.evaluation",
    "evaluate_run": "codelength.evaluation",
    "per_example_nats": "codelength.evaluation",
    "compare": "codelength.evaluation",
    "Evaluation": "codelength.evaluation",
    "EvaluationRecord": "codelength.evaluation",
    "compress": "codelength.coding",
    "Archive": "codelength.coding",
    "codec_baselines": "codelength.coding",
    "write_report": "codelength.report",
}
__all__ = sorted([*_PUBLIC, "__version__"])


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'codelength' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
