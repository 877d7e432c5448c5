"""GPT-2: a transformer decoder that gives every token its distribution given the tokens before it.

    P(x) = Π_t P(x_t | x_<t),      h⁰_t = E[x_{t−1}] + W_p[t],      h^l = block(h^{l−1}),      P(x_t | x_<t) = softmax(E norm(h^L_t))

A block adds attention and a two-layer network to the stream, each after a normalization; input and output embeddings E are one
matrix. The first token follows a start token with an embedding of its own, so that P(x) is complete: nothing is free.

A sequence longer than the context is covered by sliding windows (`windows.py`), in the parallel pass and in the steps alike; each
window opens with the start token.

Initialization: N(0, 0.02²) for weights, the two projections into the stream scaled by 1/sqrt(2 L), positions N(0, 0.01²), biases 0.

Reference: Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, and its released code; 124 M parameters are
layers=12, width=768, heads=12, context=1024 and 50,257 tokens. Departures: the start token is no member of the vocabulary;
positions="rotary" (arXiv:2104.09864) takes the place of W_p; dropout is rounded to a multiple of 1/256.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codelength.errors import CheckpointError, UsageError
from codelength.models.autoregressive.base import AutoregressiveModel
from codelength.models.base import Positions
from codelength.models.sequence.windows import windows
from codelength.nn.activations import byte_dropout
from codelength.nn.sequence_attention import KeyValues, SequenceAttention
from codelength.pixels.categorical import Categorical
from codelength.run import load_weights
from codelength.space import Space

INIT = 0.02
POSITION_INIT = 0.01


class GPT2Block(nn.Module):
    """x + drop(attention(norm x)), then x + drop(W_2 gelu(W_1 norm x))."""

    def __init__(self, width: int, heads: int, hidden: int, dropout: float, attention_dropout: float, rotary: bool):
        super().__init__()
        self.dropout = dropout
        self.norm_attention, self.norm_network = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = SequenceAttention(width, heads, rotary=rotary, dropout=attention_dropout)
        self.widen, self.narrow = nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor, cache: KeyValues | None = None, mask: Tensor | None = None) -> Tensor:
        """(B, T, width) to (B, T, width); `mask` as of the attention."""
        x = x + byte_dropout(self.attention(self.norm_attention(x), cache, mask), self.dropout, self.training)
        network = self.narrow(F.gelu(self.widen(self.norm_network(x)), approximate="tanh"))
        return x + byte_dropout(network, self.dropout, self.training)


@dataclass
class GPT2State:
    """What the steps keep: the caches of the current window, and the tokens that the next one may need."""

    caches: list[KeyValues]
    recent: list[Tensor] = field(default_factory=list)
    steps: int = 0


class GPT2(AutoregressiveModel):
    """GPT-2.

    Args:
        space: Sequences of tokens; the levels are the vocabulary.
        layers: Blocks.
        width: Width of the stream.
        heads: Heads of the attention.
        hidden: Units of a block's network; 4 width by default.
        context: Longest window, in tokens; the length of a datum by default.
        stride: Step from one window to the next where a sequence is longer than the context; half the context by default.
        dropout: Of the embeddings and of both branches of a block.
        attention_dropout: Of the attention's weights.
        positions: "learned" or "rotary".

    Raises:
        UsageError: Not a space of sequences, or sizes that do not fit.
    """

    endless = True
    """Steps may go on beyond the length of a datum: long texts are coded in one go."""

    def __init__(
        self,
        space: Space,
        *,
        layers: int = 12,
        width: int = 768,
        heads: int = 12,
        hidden: int | None = None,
        context: int | None = None,
        stride: int | None = None,
        dropout: float = 0.1,
        attention_dropout: float = 0.0,
        positions: Literal["learned", "rotary"] = "learned",
    ) -> None:
        super().__init__(space)
        if space.kind != "sequence":
            raise UsageError(f"gpt2 speaks of sequences, not of data of kind {space.kind!r}; choose text data")
        if positions not in ("learned", "rotary"):
            raise UsageError(f"positions={positions!r}; wanted learned or rotary")
        self.context = space.num_dims if context is None else context
        self.stride = max(1, self.context // 2) if stride is None else stride
        windows(1, self.context, self.stride)  # refuses a stride that leaves tokens out
        self.dropout, hidden = dropout, 4 * width if hidden is None else hidden
        self.embedding, self.start = nn.Embedding(space.levels, width), nn.Parameter(torch.zeros(width))
        rotary = positions == "rotary"
        self.positions = None if rotary else nn.Parameter(torch.empty(self.context, width))
        self.blocks = nn.ModuleList(
            GPT2Block(width, heads, hidden, dropout, attention_dropout, rotary) for _ in range(layers)
        )
        self.norm = nn.LayerNorm(width)
        self._initialize_weights()

    def _initialize_weights(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                into_stream = name.endswith(("attention.out.weight", "narrow.weight"))
                scale = (2 * len(self.blocks)) ** -0.5 if into_stream else 1.0
                nn.init.normal_(parameter, std=POSITION_INIT if name == "positions" else INIT * scale)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        nn.init.normal_(self.start, std=INIT)

    # --- the network -------------------------------------------------------------------------------------------------

    def _embed(self, tokens: Tensor) -> Tensor:
        """Inputs of a window, the start token and then `tokens`: (B, T) to (B, 1 + T, width)."""
        start = self.start.expand(len(tokens), 1, -1)
        return torch.cat([start, self.embedding(tokens)], dim=1)

    def _features(self, x: Tensor, first: int, caches: list[KeyValues] | None = None) -> Tensor:
        """Inputs at positions `first`, `first` + 1, ... to features of the tokens they predict, (B, T, width)."""
        if self.positions is not None:
            x = x + self.positions[first : first + x.shape[1]]
        x = byte_dropout(x, self.dropout, self.training)
        for i, block in enumerate(self.blocks):
            x = block(x, None if caches is None else caches[i])
        out: Tensor = self.norm(x)
        return out

    def _logits(self, features: Tensor) -> Tensor:
        return F.linear(features, self.embedding.weight)  # (B, T, levels)

    def features(self, x: Tensor) -> Tensor:
        """Last layer's features of every position given the tokens before it: tokens (B, T <= context) to (B, T, width)."""
        return self._features(self._embed(x[:, :-1]), 0)

    # --- the interface -----------------------------------------------------------------------------------------------

    def conditionals(self, x: Tensor, **conditions: Tensor) -> Categorical:
        """Distribution of every token given those before it in its window; x is (B, T), T of any size."""
        self.check_conditions(conditions, len(x))
        levels = x - self.space.offset
        parts = [
            self._logits(self.features(levels[:, w.begin : w.end])[:, w.scored - w.begin :])
            for w in windows(x.shape[1], self.context, self.stride)
        ]
        logits = parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)
        return Categorical(logits.transpose(1, 2).unsqueeze(1))  # (B, 1, levels, T)

    @property
    def schedule(self) -> list[Positions]:
        """One token a step."""
        return [Positions(torch.tensor([0]), torch.tensor([t])) for t in range(self.space.num_dims)]

    @property
    def state_numbers(self) -> int:
        """Numbers that the caches hold for one sequence."""
        return 2 * len(self.blocks) * self.context * self.embedding.embedding_dim

    def load_hugging_face(self, tensors: dict[str, Tensor]) -> None:
        """Take the weights of `transformers`' GPT2LMHeadModel, names as in its state dict; the start token keeps its own.

        Raises:
            CheckpointError: A tensor is missing or of another shape.
        """
        width, names = self.embedding.embedding_dim, {"embedding.weight": "wte.weight", "positions": "wpe.weight"}
        own: dict[str, Tensor] = {"start": self.start.detach()}
        theirs = {name.removeprefix("transformer."): tensor for name, tensor in tensors.items()}
        try:
            for i in range(len(self.blocks)):
                there, here = f"h.{i}.", f"blocks.{i}."
                # Their Conv1D keeps matrices as (inputs, outputs), queries, keys and values side by side.
                for kind in ("weight", "bias"):
                    joined = (
                        theirs[f"{there}attn.c_attn.{kind}"].mT
                        if kind == "weight"
                        else theirs[there + "attn.c_attn.bias"]
                    )
                    for layer, part in zip(("query", "key", "value"), joined.split(width), strict=True):
                        own[f"{here}attention.{layer}.{kind}"] = part
                for ours, name in (("attention.out", "attn.c_proj"), ("widen", "mlp.c_fc"), ("narrow", "mlp.c_proj")):
                    own[f"{here}{ours}.weight"] = theirs[f"{there}{name}.weight"].mT
                    own[f"{here}{ours}.bias"] = theirs[f"{there}{name}.bias"]
                for kind in ("weight", "bias"):
                    names[f"{here}norm_attention.{kind}"] = f"{there}ln_1.{kind}"
                    names[f"{here}norm_network.{kind}"] = f"{there}ln_2.{kind}"
            names |= {f"norm.{kind}": f"ln_f.{kind}" for kind in ("weight", "bias")}
            own |= {ours: theirs[name] for ours, name in names.items()}
        except (KeyError, ValueError) as error:
            raise CheckpointError(
                f"the weights are not those of a GPT-2 of {len(self.blocks)} blocks: {error}"
            ) from error
        load_weights(self, own, "GPT2LMHeadModel")

    def init_state(self, n: int, **conditions: Tensor) -> GPT2State:
        self.check_conditions(conditions, n)
        return GPT2State(self._caches(n))

    def _caches(self, n: int) -> list[KeyValues]:
        like = self.embedding.weight.detach()
        attentions = [block.attention for block in self.blocks if isinstance(block, GPT2Block)]
        return [KeyValues(n, a.heads, a.size, self.context, like) for a in attentions]

    def step(self, state: GPT2State, values: Tensor | None) -> tuple[Categorical, GPT2State]:
        """The distribution of the next token; steps may go on beyond the length of a datum."""
        n = state.caches[0].keys.shape[0]
        if values is not None:
            state.recent.append(values[:, 0, 0].to(self.device))
        t = state.steps
        state.steps += 1
        if t >= self.context and (t - self.context) % self.stride == 0:  # a new window
            state.recent = state.recent[len(state.recent) - (self.context - self.stride) :]
            for cache in state.caches:
                cache.filled = 0
            before = torch.stack(state.recent, dim=1) if state.recent else torch.zeros((n, 0), dtype=torch.long)
            x, first = self._embed(before.to(self.device)), 0
        elif values is None:
            x, first = self._embed(torch.zeros((n, 0), dtype=torch.long, device=self.device)), 0
        else:
            x, first = self.embedding(state.recent[-1]).unsqueeze(1), state.caches[0].filled
        logits = self._logits(self._features(x, first, state.caches)[:, -1])  # (n, levels)
        return Categorical(logits[:, None, :, None]), state
