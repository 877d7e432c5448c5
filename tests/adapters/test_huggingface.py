"""Against `transformers`: the same weights give the same loss, the same windows the same perplexity."""

from __future__ import annotations

import importlib.util
import json
import math

import numpy as np
import pytest
import torch

from codelength.adapters.huggingface import CausalLanguageModel, load_hugging_face, load_with_text
from codelength.cli.main import main
from codelength.data.vocabulary import BytePairs
from codelength.errors import CheckpointError, DataError, UsageError
from codelength.evaluation.text import token_nats
from codelength.models.registry import build_model
from codelength.models.sequence.windows import windows
from codelength.space import Space

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("transformers") is None, reason="needs transformers"),
    pytest.mark.filterwarnings("ignore"),
]
TEXT = (
    "It is a truth universally acknowledged, that a single man in possession of a good fortune, must be in want of a wife.\n"
    * 60
)


def their_model(levels=97, positions=1024, seed=0):
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(
        vocab_size=levels,
        n_positions=positions,
        n_embd=32,
        n_layer=2,
        n_head=4,
        bos_token_id=levels - 1,
        eos_token_id=levels - 1,
    )
    torch.manual_seed(seed)
    model = GPT2LMHeadModel(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return model


def our_model(theirs, context):
    config = theirs.config
    ours = build_model(
        "gpt2",
        Space("sequence", (context,), config.vocab_size),
        layers=config.n_layer, width=config.n_embd, heads=config.n_head, context=config.n_positions,
    )  # fmt: skip
    ours.load_hugging_face(theirs.state_dict())
    return ours.eval()


def test_the_same_weights_give_the_same_loss_to_1e_5():
    """Their first input stands in our start token's place: then every prediction has the same inputs."""
    theirs = their_model()
    tokens = torch.randint(97, (3, 200), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        loss = theirs(tokens, labels=tokens).loss.item()
        ours = our_model(theirs, 199)
        logits = ours._logits(ours._features(ours.embedding(tokens), 0))
        mine = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).item()
        assert mine == pytest.approx(loss, abs=1e-5)
        ours.blocks[0].attention.key.weight.add_(0.01)
        logits = ours._logits(ours._features(ours.embedding(tokens), 0))
        other = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten()).item()
    assert abs(other - loss) > 1e-5


def test_with_their_start_token_as_ours_the_likelihood_is_theirs():
    theirs = their_model()
    ours = our_model(theirs, 100)
    tokens = torch.randint(97, (3, 100), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours.start.copy_(ours.embedding.weight[96])
        out = theirs(torch.cat([torch.full((3, 1), 96), tokens[:, :-1]], dim=1)).logits
        wanted = -torch.nn.functional.cross_entropy(out.transpose(1, 2), tokens, reduction="none").sum(1)
        torch.testing.assert_close(ours.log_prob(tokens).float(), wanted, atol=1e-3, rtol=1e-5)


def test_weights_of_another_architecture_are_refused():
    theirs = their_model()
    deeper = build_model("gpt2", Space("sequence", (8,), 97), layers=3, width=32, heads=4, context=1024)
    with pytest.raises(CheckpointError, match="3 blocks"):
        deeper.load_hugging_face(theirs.state_dict())


def their_recipe(model, tokens, stride, max_length=1024):
    """Perplexity of fixed-length models, as the documentation of transformers computes it; and the tokens it scores."""
    input_ids = torch.from_numpy(tokens)[None]
    length, nll_sum, n_tokens, previous, scored = input_ids.size(1), 0.0, 0, 0, []
    for begin in range(0, length, stride):
        end = min(begin + max_length, length)
        target_length = end - previous
        inputs = input_ids[:, begin:end]
        targets = inputs.clone()
        targets[:, :-target_length] = -100
        with torch.no_grad():
            loss = model(inputs, labels=targets).loss
        num_valid = int((targets != -100).sum())
        num_loss = num_valid - targets.size(0) if targets[0, 0] != -100 else num_valid
        nll_sum, n_tokens = nll_sum + loss.double() * num_loss, n_tokens + num_loss
        scored += range(max(previous, begin + 1), end)
        previous = end
        if end == length:
            break
    assert len(scored) == n_tokens
    return math.exp(nll_sum / n_tokens), np.array(scored)


@pytest.mark.parametrize("stride", [64, 512, 1024])
def test_windowed_perplexity_is_that_of_the_recipe_on_the_tokens_it_scores(stride):
    """It leaves out the first token, and with disjoint windows the first of each window: we charge those as uniform."""
    theirs = their_model()
    tokens = np.random.default_rng(0).integers(0, 97, 2500)
    ours = CausalLanguageModel(theirs, Space("sequence", (1024,), 97), start=None, context=1024)
    nats = token_nats(ours, tokens, context=1024, stride=stride, batch_size=4)
    perplexity, scored = their_recipe(theirs, tokens, stride)
    assert math.exp(nats[scored].mean()) == pytest.approx(perplexity, rel=1e-5)
    left_out = np.setdiff1d(np.arange(2500), scored)
    expected = [0, 1024, 2048] if stride == 1024 else [0]
    assert left_out.tolist() == expected == [w.scored for w in windows(2500, 1024, stride) if w.scored == w.begin]
    assert nats[left_out] == pytest.approx(np.full(len(left_out), math.log(97)))
    assert math.exp(token_nats(ours, tokens, context=1024, stride=333)[scored].mean()) != pytest.approx(
        perplexity, rel=1e-5
    )


@pytest.fixture
def folder(tmp_path):
    """A small GPT-2 with its tokenizer, saved as `save_pretrained` does, and a text."""
    vocabulary = BytePairs.train(TEXT.encode(), 280)
    theirs = their_model(levels=280, positions=48)
    path = tmp_path / "model"
    theirs.save_pretrained(path)
    vocabulary.tokenizer.save(str(path / "tokenizer.json"))
    (tmp_path / "text.txt").write_text(TEXT)
    return path, tmp_path / "text.txt"


def test_evaluate_a_folder(folder, capsys):
    path, text = folder
    found = {}
    for bos in ("--bos", "--no-bos"):
        assert (
            main(["evaluate", str(path), "--data", str(text), "--split", "test", "--stride", "16", bos, "--json"]) == 0
        )
        found[bos] = json.loads(capsys.readouterr().out)
    record = found["--bos"]
    content = text.read_bytes()[round(len(TEXT) * 0.95) :]
    assert record["bytes"] == len(content)
    assert record["words"] == len(content.split())
    assert (record["context"], record["stride"], record["min_context"], record["bos"]) == (48, 16, 32, True)
    assert record["bits_per_byte"] == pytest.approx(record["total_nats"] / math.log(2) / record["bytes"])
    assert record["perplexity_per_token"] == pytest.approx(math.exp(record["nats_per_example"]))
    assert record["nats_per_example"] * record["tokens"] == pytest.approx(record["total_nats"])
    assert found["--no-bos"]["bos"] is False
    assert found["--no-bos"]["total_nats"] != record["total_nats"]


def test_audit_a_folder(folder, capsys):
    path, text = folder
    main(["audit", str(path), "--data", str(text), "--budget", "5", "--json"])
    verdicts = json.loads(capsys.readouterr().out)["verdicts"]
    status = {verdict["probe"]: verdict["status"] for verdict in verdicts}
    # The weights are random and every line of the text is the same: baselines and duplicates may complain.
    assert all(status[probe] == "pass" for probe in ("P1", "P2", "P3", "P4", "P5", "P6"))
    accounting = next(verdict for verdict in verdicts if verdict["probe"] == "P9")["evidence"]
    assert accounting["bytes"] == accounting["bytes_of_tokens"] > accounting["tokens"]


def test_a_folder_without_tokenizer_or_weights_is_refused(folder):
    path, text = folder
    (path / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"no tokenizer\.json"):
        load_with_text(path, str(text))
    (path / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="model"):
        load_hugging_face(path)
