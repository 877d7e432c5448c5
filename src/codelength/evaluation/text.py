"""The likelihood of text: total nats of every token once, and from them bits a byte and perplexities.

A model sees windows of at most `context` tokens (`models.sequence.windows`); each token is scored in one of them, given the tokens
before it there. Total nats come first; everything else divides them:

    bits/byte  = nats / (ln 2 · bytes of the original text),     perplexity per unit = exp(nats / units),

the units being tokens, words (runs without white space) and bytes. Ends of text are tokens that are scored but stand for no bytes: they
pay for where documents end. In the record an example is a token, and its cluster the document, or where there is one document the
block of 1,024 tokens, so that standard errors and comparisons respect how text hangs together.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from codelength.data.dataset import Split
from codelength.data.text import Text
from codelength.errors import EvaluationError, UsageError
from codelength.evaluation.estimate import PerExample, evaluation_mode
from codelength.models.base import LikelihoodModel, can
from codelength.models.sequence.windows import Window, windows
from codelength.units import bits, perplexity

BLOCK = 1024
WINDOW_NUMBERS = 2**24
"""Most probabilities of a batch of windows: 64 MiB of float32."""


def token_nats(
    model: LikelihoodModel,
    tokens: np.ndarray,
    *,
    context: int,
    stride: int,
    batch_size: int = 32,
    progress: Callable[[int, int], None] | None = None,
) -> np.ndarray:
    """Code length of every token given those before it in its window, nats, (N,) float64.

    Args:
        model: Its `conditionals` take tokens (B, T) for any T up to `context`.
        tokens: The text, (N,).
        context: Longest window, in tokens.
        stride: Tokens from one window to the next.
        batch_size: Windows a batch; changes nothing but round-off.
        progress: Called with (tokens done, tokens in all).

    Raises:
        UsageError: The stride would leave tokens out.
        EvaluationError: A token's code length is NaN or infinite.
    """
    scorer: Any = model
    x = torch.from_numpy(tokens.astype(np.int64))
    batch_size = max(1, min(batch_size, WINDOW_NUMBERS // (context * model.space.levels)))
    alike: dict[tuple[int, int], list[Window]] = {}
    for window in windows(len(x), context, stride):
        alike.setdefault((window.end - window.begin, window.scored - window.begin), []).append(window)
    nats, done = np.full(len(x), np.nan), 0
    with evaluation_mode(model), torch.inference_mode():
        for (length, first), group in alike.items():
            for start in range(0, len(group), batch_size):
                part = group[start : start + batch_size]
                batch = torch.stack([x[w.begin : w.begin + length] for w in part]).to(model.device)
                log_prob = scorer.conditionals(batch).log_prob_per_dim((batch - model.space.offset).unsqueeze(1))[:, 0]
                scored = -log_prob[:, first:].double().cpu().numpy()  # (B, length − first)
                for window, row in zip(part, scored, strict=True):
                    nats[window.scored : window.end] = row
                done += scored.size
                if progress is not None:
                    progress(done, len(x))
    bad = np.flatnonzero(~np.isfinite(nats))
    if len(bad):
        raise EvaluationError(
            f"the code length of {len(bad)} of {len(x)} tokens is {nats[bad[0]]}, the first at {bad[0]}; such a token can "
            "neither be scored nor left out: look at the model's outputs there"
        )
    return nats


def window_sizes(model: LikelihoodModel, context: int | None, stride: int | None) -> tuple[int, int]:
    """Context and stride: the model's own where they are not given.

    Raises:
        UsageError: The context is longer than the model's, or the stride not in 1 .. context.
    """
    own = getattr(model, "context", None)
    if context is None:
        context = own if own is not None else model.space.num_dims
    if context < 1 or (own is not None and context > own):
        raise UsageError(f"--context {context}; the model sees at most {own} tokens")
    if stride is None:
        stride = min(getattr(model, "stride", context), context)
    windows(1, context, stride)
    return context, stride


def is_text_model(model: Any) -> bool:
    """Whether it gives the distribution of every token of a window."""
    return can(model, "conditionals") and model.measure == "mass" and not model.conditioning


def score_text(
    model: LikelihoodModel, text: Text, *, context: int, stride: int, batch_size: int, progress: Any = None
) -> tuple[Split, PerExample, dict[str, Any]]:
    """Score a text.

    Returns:
        Its tokens as a split of single-token data with their clusters, their code lengths, and the record's fields of text.
    """
    nats = token_nats(model, text.tokens, context=context, stride=stride, batch_size=batch_size, progress=progress)
    return as_data(text), PerExample(nats, "exact"), text_fields(model, text, float(nats.sum()), context, stride)


def as_data(text: Text) -> Split:
    """Its tokens as data of one dim, in clusters: documents, or 1,024 tokens each where there is one only."""
    several = int(text.documents[-1]) > 0
    clusters = text.documents if several else np.arange(len(text.tokens)) // BLOCK
    return Split(x=text.tokens[:, None], clusters=clusters.astype(np.int64))


def text_fields(model: LikelihoodModel, text: Text, nats: float, context: int, stride: int) -> dict[str, Any]:
    """The fields of a record that are of text: `nats` is the code length of all of it."""
    num_bytes, num_words = len(text.content), text.num_words
    return {
        "total_nats": nats,
        "bits_per_byte": bits(nats) / num_bytes if num_bytes else None,
        "perplexity_per_token": perplexity(nats, len(text.tokens)),
        "perplexity_per_word": _perplexity(nats, num_words),
        "perplexity_per_byte": _perplexity(nats, num_bytes),
        "tokens": len(text.tokens),
        "words": num_words,
        "bytes": num_bytes,
        "documents": int(text.documents[-1]) + 1,
        "context": context,
        "stride": stride,
        "min_context": context - stride,
        "bos": bool(getattr(model, "bos", True)),
        "adapts_on_test": False,
    }


def _perplexity(nats: float, count: int) -> float | None:
    """Perplexity of `count` units; None where there are none, or where it is no float64."""
    return perplexity(nats, count) if count and nats / count < 700 else None
