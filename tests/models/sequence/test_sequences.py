"""What every model of sequences promises: causality, and that its steps are its parallel pass."""

from __future__ import annotations

import pytest
import torch

from codelength.errors import UsageError
from codelength.models.autoregressive.base import with_channels
from codelength.models.autoregressive.stepwise import score_stepwise, stepwise_log_prob_per_dim
from codelength.models.registry import build_model
from codelength.models.sequence.windows import windows
from codelength.nn.sequence_attention import KeyValues
from codelength.space import Space


def test_each_conditional_sums_to_one(sequence_row, make, random_data, make_conditions):
    model, x = make(sequence_row), random_data(sequence_row.space, 5)
    probs = model.conditionals(x, **make_conditions(model, 5)).channel(0, with_channels(x)[:, :0]).probs()
    assert probs.shape == (len(x), x.shape[-1], sequence_row.space.levels)
    torch.testing.assert_close(probs.sum(-1), torch.ones(len(x), x.shape[-1], dtype=torch.float64))


def test_conditionals_ignore_their_own_and_later_tokens_and_see_earlier_ones(
    sequence_row, make, random_data, make_conditions
):
    model, space = make(sequence_row), sequence_row.space
    told = make_conditions(model, 8)
    x, query = random_data(space, 8), random_data(space, 8, seed=1) - space.offset
    with torch.no_grad():
        before = model.conditionals(x, **told).log_prob_per_dim(with_channels(query))
        for t in range(x.shape[-1]):
            changed = x.clone()
            changed[..., t:] = 2 * space.offset + space.levels - 1 - x[..., t:]
            assert torch.equal(
                model.conditionals(changed, **told).log_prob_per_dim(with_channels(query))[..., : t + 1],
                before[..., : t + 1],
            )
            changed = x.clone()
            changed[..., t] = space.offset + (x[..., t] - space.offset + 1) % space.levels
            after = model.conditionals(changed, **told).log_prob_per_dim(with_channels(query))
            seen = any(w.begin <= t < w.end - 1 and t + 1 >= w.scored for w in _windows(model, x.shape[-1]))
            assert t + 1 == x.shape[-1] or not seen or (after[..., t + 1] != before[..., t + 1]).any()


def _windows(model, length):
    return windows(length, length, length) if model.context is None else windows(length, model.context, model.stride)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-9), (torch.float32, 1e-5)])
def test_steps_equal_the_parallel_pass(sequence_row, make, random_data, make_conditions, dtype, tolerance):
    model, x = make(sequence_row, dtype=dtype), random_data(sequence_row.space, 6)
    told = make_conditions(model, 6)
    with torch.no_grad():
        parallel = model.conditionals(x, **told).log_prob_per_dim(with_channels(x) - sequence_row.space.offset)
        assert (stepwise_log_prob_per_dim(model, x, **told).view_as(parallel) - parallel).abs().max() < tolerance
        torch.testing.assert_close(
            score_stepwise(model, x, **told), model.log_prob(x, **told).double(), atol=tolerance, rtol=0
        )


def test_a_cache_shifted_by_one_position_is_seen(sequence_row, make, random_data, monkeypatch):
    """The negative control of the test above: keys and values kept a place too late, or a place read twice."""
    if sequence_row.system != "gpt2":
        return
    model, x = make(sequence_row), random_data(sequence_row.space, 6)
    append = KeyValues.append

    def shifted(self, k, v):
        keys, values = append(self, k, v)
        return (keys.roll(1, dims=2), values) if keys.shape[2] > 1 else (keys, values)

    with torch.no_grad():
        parallel = model.log_prob(x)
        monkeypatch.setattr(KeyValues, "append", shifted)
        assert (score_stepwise(model, x) - parallel).abs().max() > 1e-3


@pytest.mark.parametrize("positions", ["learned", "rotary"])
def test_cached_generation_equals_uncached(positions):
    """Token by token, every token again from the whole parallel pass: the same draws from the same generator."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model(
            "gpt2", Space("sequence", (24,), 11), layers=2, width=16, heads=2, context=10, stride=4, positions=positions
        )
        for parameter in model.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    model = model.double().eval()
    cached = model.sample(3, torch.Generator().manual_seed(5))
    generator, uncached = torch.Generator().manual_seed(5), torch.zeros((3, 24), dtype=torch.long)
    with torch.no_grad():
        for t in range(24):
            channel = model.conditionals(uncached[:, : t + 1]).channel(0, uncached[:, None, :0])
            channel.logits = channel.logits[:, -1:]
            uncached[:, t] = channel.sample(generator)[:, 0]
    assert torch.equal(cached, uncached)


def test_gpt2_refuses_what_it_is_not_for():
    with pytest.raises(UsageError, match="speaks of sequences"):
        build_model("gpt2", Space.image(1, 2, 2))
    with pytest.raises(UsageError, match="stride=5 with context=4"):
        build_model("gpt2", Space("sequence", (8,), 3), context=4, stride=5, width=8, heads=2)
    with pytest.raises(UsageError, match="positions='sine'"):
        build_model("gpt2", Space("sequence", (8,), 3), positions="sine")
    with pytest.raises(UsageError, match="multiple"):
        build_model("gpt2", Space("sequence", (8,), 3), width=10, heads=4)


def test_dropout_and_half_precision_take_the_same_mathematics():
    """Training's plain products against the fused kernel of evaluation: bfloat16 is within its own round-off."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model("gpt2", Space("sequence", (12,), 7), layers=2, width=16, heads=2, dropout=0.0)
    x = torch.randint(7, (4, 12), generator=torch.Generator().manual_seed(0))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        trained = model.train().log_prob(x)
    with torch.no_grad():
        torch.testing.assert_close(trained, model.eval().log_prob(x), atol=0.05, rtol=0.01)


@pytest.mark.parametrize(("length", "context", "stride"), [(1, 4, 2), (4, 4, 4), (10, 4, 3), (23, 8, 1), (23, 8, 8)])
def test_windows_score_every_token_once_with_the_promised_context(length, context, stride):
    scored = []
    for window in windows(length, context, stride):
        assert window.end - window.begin <= context
        if window.begin:
            assert window.scored - window.begin == context - stride
        scored += range(window.scored, window.end)
    assert scored == list(range(length))
