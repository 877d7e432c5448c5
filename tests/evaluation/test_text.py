"""The likelihood of text: every token once, in the right units."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from codelength.data import load_data
from codelength.errors import EvaluationError, UsageError
from codelength.evaluation import evaluate
from codelength.evaluation.text import token_nats
from codelength.models.registry import build_model
from codelength.space import Space

WORDS = "über den Wolken muss die Freiheit wohl grenzenlos sein\n" * 20


@pytest.fixture
def data(tmp_path):
    path = tmp_path / "song.txt"
    path.write_text(WORDS)
    return load_data(str(path), context=12, vocabulary="characters", test=0.3)


def model_of(space, **options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model("gpt2", space, layers=1, width=8, heads=2, **options)
        for parameter in model.parameters():
            parameter.data.add_(0.5 * torch.randn_like(parameter))
    return model.double().eval()


@pytest.mark.parametrize("stride", [1, 5, 12])
def test_token_nats_are_the_model_s_own_conditionals_whatever_the_batches(data, stride):
    """Token by token from single windows, against the batched sum; and the total is the model's own log P of the text."""
    model, tokens = model_of(data.space, stride=stride), data.texts["test"].tokens
    nats = token_nats(model, tokens, context=12, stride=stride, batch_size=7)
    x = torch.from_numpy(tokens.astype(np.int64))[None]
    with torch.no_grad():
        wanted = -model.conditionals(x).log_prob_per_dim(x.unsqueeze(1))[0, 0].numpy()
    assert np.abs(nats - wanted).max() < 1e-9
    assert np.abs(nats - token_nats(model, tokens, context=12, stride=stride, batch_size=1)).max() < 1e-9


def test_a_uniform_model_has_the_perplexity_of_its_vocabulary(data):
    model = model_of(data.space)
    torch.nn.init.zeros_(model.embedding.weight)  # equal logits
    record = evaluate(model, data, "test", model_name="uniform", family="sequence").record
    text = data.texts["test"]
    assert record.perplexity_per_token == pytest.approx(data.space.levels)
    assert record.total_nats == pytest.approx(len(text.tokens) * math.log(data.space.levels))
    assert record.tokens == len(text.content.decode()) < record.bytes == len(text.content)
    assert record.bits_per_byte == pytest.approx(record.total_nats / math.log(2) / len(text.content))
    assert record.perplexity_per_byte == pytest.approx(2**record.bits_per_byte)
    assert record.perplexity_per_word == pytest.approx(math.exp(record.total_nats / record.words))
    assert record.bits_per_dim == pytest.approx(math.log2(data.space.levels))
    assert (record.num_examples, record.num_dims, record.kind) == (len(text.tokens), 1, "exact")
    assert record.float64_difference == 0
    assert "-C12-S6" in record.folder_name()


def test_windows_are_the_model_s_unless_they_are_given(data):
    model = model_of(data.space, stride=4)
    record = evaluate(model, data, "test", model_name="m", family="sequence").record
    assert (record.context, record.stride, record.min_context, record.bos) == (12, 4, 8, True)
    other = evaluate(model, data, "test", model_name="m", family="sequence", context=8, stride=8).record
    assert (other.context, other.stride, other.min_context) == (8, 8, 0)
    assert other.total_nats != record.total_nats
    with pytest.raises(UsageError, match="at most 12"):
        evaluate(model, data, "test", model_name="m", family="sequence", context=13)
    with pytest.raises(UsageError, match="stride=9"):
        evaluate(model, data, "test", model_name="m", family="sequence", context=8, stride=9)
    uniform = build_model("uniform", Space.image(1, 8, 8, 17))
    with pytest.raises(UsageError, match="text data"):
        evaluate(uniform, load_data("digits"), "test", model_name="u", family="baselines", context=8)


def test_ends_of_documents_are_charged(tmp_path):
    for i in range(12):
        (tmp_path / f"{i:02}.txt").write_text(f"document {i} " * 9)
    data = load_data(str(tmp_path), context=8, test=0.5)
    model = model_of(data.space)
    torch.nn.init.zeros_(model.embedding.weight)
    record = evaluate(model, data, "test", model_name="m", family="sequence").record
    assert record.documents == record.num_clusters == 6
    assert record.tokens == record.bytes + 6
    assert record.total_nats == pytest.approx((record.bytes + 6) * math.log(257))


def test_a_token_that_cannot_be_scored_is_named(data):
    model = model_of(data.space)
    torch.nn.init.constant_(model.norm.bias, math.nan)
    with pytest.raises(EvaluationError, match="the first at 0"):
        token_nats(model, data.texts["test"].tokens, context=12, stride=6)
