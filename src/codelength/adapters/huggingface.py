"""Causal language models of Hugging Face `transformers`, from a local folder.

The folder is what `save_pretrained` writes: config.json, model.safetensors, and tokenizer.json where the vocabulary is to be used with
other text. Nothing is fetched and no code of the folder is run.

    P(x) = Π_t P(x_t | start, x_<t)

The start token is the configuration's `bos_token_id`. Without one, or with `bos=False`, nothing precedes the first token of a window, and
the model gives it no distribution: it is charged as one of `levels` equally likely tokens, so that every token is paid for.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from codelength.data.dataset import DataSet
from codelength.errors import CheckpointError, DataError, UsageError
from codelength.models.base import LikelihoodModel
from codelength.pixels.categorical import Categorical
from codelength.space import Space

LENGTHS = ("n_positions", "max_position_embeddings", "n_ctx", "max_seq_len")


class CausalLanguageModel(LikelihoodModel):
    """A causal language model as a likelihood model of token windows.

    Args:
        network: Called with token ids (B, T), it returns an object with `logits`, (B, T, V); or the logits themselves.
        space: Sequences of tokens. Its levels are the V tokens the network has an output for.
        start: Token before the first one of a window; None for none.
        context: Longest window in tokens.
    """

    def __init__(self, network: nn.Module, space: Space, *, start: int | None, context: int) -> None:
        super().__init__(space)
        self.network, self.start, self.context, self.stride = network, start, context, max(1, context // 2)

    @property
    def bos(self) -> bool:
        """Whether a window begins with a start token."""
        return self.start is not None

    def conditionals(self, x: Tensor) -> Categorical:
        """Distribution of every token of windows (B, T <= context) given those before it in its window."""
        if x.shape[1] > self.context:
            raise UsageError(f"a window of {x.shape[1]} tokens; the model sees at most {self.context}")
        if self.start is not None:
            before = torch.full_like(x[:, :1], self.start)
            logits = self._logits(torch.cat([before, x[:, :-1]], dim=1))
        else:
            later = self._logits(x)[:, :-1]
            logits = torch.cat([later.new_zeros(len(x), 1, self.space.levels), later], dim=1)
        return Categorical(logits.transpose(1, 2).unsqueeze(1))  # (B, 1, levels, T)

    def log_prob(self, x: Tensor) -> Tensor:
        """Exact log P of windows, nats, (B,)."""
        x = self.space.validate(x).to(self.device)
        return self.conditionals(x).log_prob(x.unsqueeze(1))

    def _logits(self, tokens: Tensor) -> Tensor:
        out: Any = self.network(tokens)
        logits: Tensor = getattr(out, "logits", out)
        if logits.shape != (*tokens.shape, self.space.levels):
            raise UsageError(
                f"the network returned logits of shape {tuple(logits.shape)} for tokens {tuple(tokens.shape)}; wanted "
                f"{(*tokens.shape, self.space.levels)}"
            )
        return logits


def is_hugging_face_folder(path: str | Path) -> bool:
    """Whether the folder is one that `save_pretrained` wrote."""
    return (Path(path) / "config.json").is_file() and not (Path(path) / "recipe.yaml").is_file()


def load_hugging_face(path: str | Path, *, context: int | None = None, bos: bool | None = None) -> CausalLanguageModel:
    """The causal language model of a local folder.

    Args:
        path: The folder.
        context: Longest window; what the configuration allows by default.
        bos: Whether windows begin with the configuration's start token; by default where it has one.

    Raises:
        UsageError: `transformers` is missing, the folder holds no causal language model, or there is no start token.
        CheckpointError: Weights are missing or of another architecture.
    """
    path = Path(path)
    try:
        from transformers import AutoModelForCausalLM
    except ImportError as error:
        raise UsageError(
            f"{path} is a Hugging Face model: it needs the package transformers: pip install 'codelength[transformers]'"
        ) from error
    loader: Any = AutoModelForCausalLM
    try:
        network, info = loader.from_pretrained(
            path, local_files_only=True, trust_remote_code=False, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UsageError(f"{path}: {' '.join(str(error).split())[:300]}") from error
    missing = sorted(info["missing_keys"]) + sorted(map(str, info["mismatched_keys"]))
    if missing:
        raise CheckpointError(f"{path}: {len(missing)} tensors are missing or of another shape, such as {missing[0]}")
    config = network.config
    longest = next((int(getattr(config, name)) for name in LENGTHS if getattr(config, name, None)), None)
    if context is None and longest is None:
        raise UsageError(f"{path}: config.json does not say how many tokens the model sees; give --context")
    if context is not None and longest is not None and context > longest:
        raise UsageError(f"--context {context}; {path} sees at most {longest} tokens")
    start = config.bos_token_id
    if bos and start is None:
        raise UsageError(f"{path}: its config.json names no start token (bos_token_id); leave out --bos")
    sees = context or longest or 0
    space = Space("sequence", (sees,), int(config.vocab_size))
    return CausalLanguageModel(network.eval(), space, start=None if bos is False else start, context=sees)


def load_with_text(
    path: str | Path, data_name: str, *, context: int | None = None, bos: bool | None = None
) -> tuple[CausalLanguageModel, DataSet]:
    """The model of a folder and the text `data_name` in the tokens of its tokenizer.json, in windows of the same context.

    Raises:
        DataError: There is no tokenizer.json, or it has tokens that the model has no output for.
        UsageError, CheckpointError: See `load_hugging_face`.
    """
    from codelength.data import load_data

    tokenizer = Path(path) / "tokenizer.json"
    if not tokenizer.is_file():
        raise DataError(f"{path} holds no tokenizer.json; save the model's tokenizer into it with save_pretrained")
    model = load_hugging_face(path, context=context, bos=bos)
    data = load_data(data_name, vocabulary=str(tokenizer), context=model.context)
    if data.space.levels > model.space.levels:
        raise DataError(f"{tokenizer} has {data.space.levels} tokens; {path} has outputs for {model.space.levels}")
    return model, replace(data, name=data_name, space=model.space)
