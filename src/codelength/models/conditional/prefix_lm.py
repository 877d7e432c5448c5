"""A language model of a target given a source: translation, captions.

    P(y | x) = Π_t P(y_t | y_<t, x),     one transformer over  x_1 .. x_S, start, y_1 .. y_{T−1}

The source is a prefix: its positions see all of the source, those of the target see the source and the target so far. It is a text (tokens), or real
features, such as the patches of an image, each prefix position a linear map of its share of them.

A target is a text of at most T tokens; what is left of its T places is filled with the end token, the last level. After the first end there is nothing left to say,
so P(end | ...) = 1 there up to e^−30 for each other token: the filling costs nothing, and P(y | x) sums to 1 over all fillings of the T places.

With `blind` the source is not looked at: P(y), trained and measured as the same thing, is what a source is worth.

References: prefix language models, arXiv:1910.10683, section 3.2.1; blocks as in GPT-2. Departures: learned positions of source and target apart; one embedding for both
where they have one vocabulary; dropout is rounded to a multiple of 1/256.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from codelength.errors import UsageError
from codelength.models.autoregressive.base import AutoregressiveModel
from codelength.models.base import Positions
from codelength.models.sequence.gpt2 import INIT, POSITION_INIT, GPT2Block
from codelength.nn.activations import byte_dropout
from codelength.nn.conditions import FEATURES
from codelength.nn.sequence_attention import KeyValues
from codelength.pixels.categorical import Categorical
from codelength.space import Space

AFTER_END = -30.0
"""Logit of the tokens other than the end, of logit 0, after the end: no code length is infinite, and filling costs 1e-13 nats a place and level."""
SOURCE = "source"
"""The condition that is a text: (n, S) tokens."""


@dataclass
class PrefixState:
    """What the steps keep: keys and values, the prefix positions that are seen (n, S), and whether a target has ended (n,)."""

    caches: list[KeyValues]
    seen: Tensor
    ended: Tensor
    steps: int = 0


class PrefixLM(AutoregressiveModel):
    """P(y | source), or P(y | features).

    Args:
        space: Sequences of T target tokens; the last level is the end.
        source: Positions of the prefix, S.
        source_levels: Of a text as source its levels; the last one is filling and is not looked at.
        features: Of real features as source their number, a multiple of S.
        layers: Blocks.
        width: Width of the stream.
        heads: Heads of the attention.
        hidden: Units of a block's network; 4 width by default.
        dropout: Of the embeddings and of both branches of a block.
        blind: Do not look at the source.

    Raises:
        UsageError: Not a space of sequences, or sizes that do not fit.
    """

    context = None
    """No windows: a target is seen whole."""

    def __init__(
        self,
        space: Space,
        *,
        source: int,
        source_levels: int = 0,
        features: int = 0,
        layers: int = 4,
        width: int = 128,
        heads: int = 4,
        hidden: int | None = None,
        dropout: float = 0.1,
        blind: bool = False,
    ) -> None:
        super().__init__(space, conditioning=(SOURCE if source_levels else FEATURES,))
        if space.kind != "sequence" or space.offset:
            raise UsageError(
                f"prefix_lm speaks of tokens 0, 1, ..., not of {space.kind} from {space.offset}; choose text"
            )
        if (source_levels > 1) == (features > 0) or source < 1 or features % source:
            raise UsageError(
                f"prefix_lm: source={source}, source_levels={source_levels}, features={features}; wanted either levels of a text of "
                "`source` tokens, or a number of features that is a multiple of `source`"
            )
        self.source, self.source_levels, self.features = source, source_levels, features
        self.dropout, self.blind = dropout, blind
        self.embedding, self.start = nn.Embedding(space.levels, width), nn.Parameter(torch.zeros(width))
        self.shared = source_levels == space.levels
        self.enter: nn.Module = (
            nn.Linear(features // source, width)
            if features
            else nn.Identity()
            if self.shared
            else nn.Embedding(source_levels, width)
        )
        self.source_positions = nn.Parameter(torch.empty(source, width))
        self.positions = nn.Parameter(torch.empty(space.num_dims, width))
        hidden = 4 * width if hidden is None else hidden
        self.blocks = nn.ModuleList(GPT2Block(width, heads, hidden, dropout, 0.0, rotary=False) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        for name, parameter in self.named_parameters():
            if name.endswith("positions"):
                nn.init.normal_(parameter, std=POSITION_INIT)
            elif parameter.ndim == 2:
                into_stream = name.endswith(("attention.out.weight", "narrow.weight"))
                nn.init.normal_(parameter, std=INIT * ((2 * layers) ** -0.5 if into_stream else 1.0))
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)
        nn.init.normal_(self.start, std=INIT)

    @property
    def end(self) -> int:
        """The end token."""
        return self.space.levels - 1

    def example_conditions(self, n: int) -> dict[str, Tensor]:
        """A source for n data: token 0 everywhere, or features of 0."""
        if self.features:
            return {FEATURES: torch.zeros(n, self.features)}
        return {SOURCE: torch.zeros(n, self.source, dtype=torch.long)}

    def check_conditions(self, conditions: dict[str, Tensor], batch: int) -> dict[str, Tensor]:
        """The source on the model's device.

        Raises:
            UsageError: It is missing, of another shape or type, or out of range.
        """
        name, size = self.conditioning[0], self.features or self.source
        if set(conditions) != {name}:
            got = ", ".join(conditions) or "nothing"
            raise UsageError(f"the model is conditioned on {name!r} and got {got}; pass {name}= of shape (B, {size})")
        value = torch.as_tensor(conditions[name], device=self.device)
        if value.shape != (batch, size) or value.is_floating_point() != bool(self.features):
            kind = "real numbers" if self.features else "integers"
            raise UsageError(
                f"condition {name!r}: {value.dtype} of shape {tuple(value.shape)}; wanted {kind} ({batch}, {size})"
            )
        if not self.features and batch and not (int(value.min()) >= 0 and int(value.max()) < self.source_levels):
            raise UsageError(
                f"condition {name!r}: {int(value.min())}..{int(value.max())}; wanted 0..{self.source_levels - 1}"
            )
        return {name: value.to(self.dtype) if self.features else value.long()}

    # --- the network ---------------------------------------------------------------------------------------------------

    def _prefix(self, conditions: dict[str, Tensor], batch: int) -> tuple[Tensor, Tensor]:
        """The source as inputs (B, S, width), and which of its positions are seen, (B, S) bool."""
        value = self.check_conditions(conditions, batch)[self.conditioning[0]]
        if self.features:
            inputs, seen = self.enter(value.unflatten(1, (self.source, -1))), torch.ones_like(value[:, : self.source])
        else:
            inputs, seen = (self.embedding if self.shared else self.enter)(value), value != self.source_levels - 1
        seen = torch.zeros_like(seen) if self.blind else seen
        return inputs + self.source_positions, seen.bool()

    def _embed(self, tokens: Tensor, first: int) -> Tensor:
        """Target inputs `first`, `first` + 1, ..., of which number 0 is the start: tokens (B, T) to (B, T or 1 + T, width)."""
        x = self.embedding(tokens)
        if first == 0:
            x = torch.cat([self.start.expand(len(tokens), 1, -1), x], dim=1)
        return x + self.positions[first : first + x.shape[1]]

    def _run(self, x: Tensor, mask: Tensor, caches: list[KeyValues] | None = None) -> Tensor:
        x = byte_dropout(x, self.dropout, self.training)
        for i, block in enumerate(self.blocks):
            x = block(x, None if caches is None else caches[i], mask)
        out: Tensor = self.norm(x)
        return out

    def feature_maps(self, x: Tensor, **conditions: Tensor) -> Tensor:
        """Last layer's features of every target position given the source and the tokens before it: (B, T) to (B, T, width)."""
        prefix, seen = self._prefix(conditions, len(x))
        size, length = self.source, x.shape[1]
        total = torch.cat([prefix, self._embed(x[:, :-1], 0)], dim=1)
        mask = torch.zeros(size + length, size + length, dtype=torch.bool, device=x.device)
        mask[size:, size:] = torch.ones(length, length, dtype=torch.bool, device=x.device).tril()
        mask = mask.repeat(len(x), 1, 1)
        mask[:, :, :size] = seen.unsqueeze(1)
        # Filling sees itself: attention to nothing at all is no number, even where nobody reads it.
        mask |= torch.eye(size + length, dtype=torch.bool, device=x.device)
        return self._run(total, mask.unsqueeze(1))[:, size:]

    def _logits(self, features: Tensor, ended: Tensor) -> Tensor:
        """Features (B, T, width) to logits (B, T, levels); the end alone where the target `ended` before, (B, T) bool."""
        logits = F.linear(features, self.embedding.weight)
        only = torch.full_like(logits[:1, :1], AFTER_END)
        only[..., self.end] = 0
        return torch.where(ended.unsqueeze(-1), only, logits)

    # --- the interface -------------------------------------------------------------------------------------------------

    def conditionals(self, x: Tensor, **conditions: Tensor) -> Categorical:
        """Distribution of every token given the source and those before it; x is (B, T)."""
        features = self.feature_maps(x, **conditions)
        ends = (x == self.end).cumsum(1) > 0
        ended = F.pad(ends[:, :-1], (1, 0))
        return Categorical(self._logits(features, ended).transpose(1, 2).unsqueeze(1))  # (B, 1, levels, T)

    @property
    def schedule(self) -> list[Positions]:
        """One token a step."""
        return [Positions(torch.tensor([0]), torch.tensor([t])) for t in range(self.space.num_dims)]

    @property
    def state_numbers(self) -> int:
        """Numbers that the caches hold for one sequence."""
        return 2 * len(self.blocks) * (self.source + self.space.num_dims) * self.embedding.embedding_dim

    def init_state(self, n: int, **conditions: Tensor) -> PrefixState:
        prefix, seen = self._prefix(conditions, n)
        like, length = self.embedding.weight.detach(), self.source + self.space.num_dims
        attentions = [block.attention for block in self.blocks if isinstance(block, GPT2Block)]
        caches = [KeyValues(n, a.heads, a.size, length, like) for a in attentions]
        mask = seen.unsqueeze(1) | torch.eye(self.source, dtype=torch.bool, device=seen.device)
        self._run(prefix, mask.unsqueeze(1), caches)
        return PrefixState(caches, seen, torch.zeros(n, dtype=torch.bool, device=seen.device))

    def step(self, state: PrefixState, values: Tensor | None) -> tuple[Categorical, PrefixState]:
        """The distribution of the next token."""
        n = len(state.seen)
        tokens = torch.zeros((n, 0), dtype=torch.long, device=self.device)
        if values is not None:
            tokens = values[:, 0].to(self.device)
            state.ended = state.ended | (tokens[:, 0] == self.end)
        x = self._embed(tokens, state.steps)
        state.steps += 1
        mask = F.pad(state.seen, (0, state.steps), value=True)[:, None, None]  # (n, 1, 1, S + steps)
        features = self._run(x, mask, state.caches)
        logits = self._logits(features, state.ended.unsqueeze(1))[:, 0]
        return Categorical(logits[:, None, :, None]), state
