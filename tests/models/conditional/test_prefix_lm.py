"""A language model of a target given a source: what it sees, what it does not, and what filling costs."""

from __future__ import annotations

import struct

import pytest
import torch

from codelength.data.gettext import Message, read_mo
from codelength.data.pairs import fill, patches, text_of_target, translations
from codelength.data.vocabulary import Bytes
from codelength.errors import CodecError, DataError, UsageError
from codelength.models.autoregressive.stepwise import score_stepwise
from codelength.models.registry import build_model
from codelength.nn.sequence_attention import KeyValues
from codelength.space import Space

TARGET = Space("sequence", (5,), 6)


def model_of(**options):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model("prefix_lm", TARGET, layers=2, width=16, heads=2, **options)
        for parameter in model.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
    return model.double().eval()


@pytest.fixture
def pair():
    generator = torch.Generator().manual_seed(0)
    source = torch.randint(6, (7, 4), generator=generator)
    return source, torch.randint(5, (7, 5), generator=generator)


@torch.no_grad()
def test_every_target_token_sees_all_of_the_source(pair):
    source, y = pair
    model = model_of(source=4, source_levels=7)
    before = model.conditionals(y, source=source).log_prob_per_dim(y.unsqueeze(1))
    for s in range(4):
        changed = source.clone()
        changed[:, s] = (changed[:, s] + 1) % 6
        after = model.conditionals(y, source=changed).log_prob_per_dim(y.unsqueeze(1))
        assert (after != before).all()


@torch.no_grad()
def test_filling_of_the_source_is_not_seen(pair):
    """A source of two tokens is the same in two, four or six places: what lies behind filling changes nothing."""
    source, y = pair
    model = model_of(source=4, source_levels=7)
    source[:, 2:] = 6
    before = model.log_prob(y, source=source)
    model.enter.weight[6] += 1
    assert torch.equal(model.log_prob(y, source=source), before)
    source[:, 3] = 5
    assert (model.log_prob(y, source=source) != before).all()


@torch.no_grad()
def test_a_blind_model_sees_no_source_and_an_empty_source_is_no_source(pair):
    source, y = pair
    blind, seeing = (model_of(source=4, source_levels=7, blind=b) for b in (True, False))
    assert torch.equal(blind.log_prob(y, source=source), blind.log_prob(y, source=source.flip(0)))
    empty = torch.full_like(source, 6)
    torch.testing.assert_close(seeing.log_prob(y, source=empty), blind.log_prob(y, source=source))
    assert (seeing.log_prob(y, source=source) != blind.log_prob(y, source=source)).all()


@torch.no_grad()
def test_after_the_end_filling_costs_nothing_and_all_else_a_fortune(pair):
    source, y = pair
    model = model_of(source=4, source_levels=7)
    y[:, 2:] = 5
    per_token = model.conditionals(y, source=source).log_prob_per_dim(y.unsqueeze(1))[:, 0]
    assert (per_token[:, 3:].abs() < 1e-11).all()
    assert (per_token[:, :3] < -1e-3).all()
    y[:, 4] = 1
    assert (model.log_prob(y, source=source) < per_token.sum(1) - 29).all()


def test_training_through_filling_gives_finite_gradients(pair):
    source, y = pair
    y[:, 2:] = 5
    for options in ({"source": 4, "source_levels": 7}, {"source": 4, "source_levels": 7, "blind": True}):
        model = model_of(**options).train()
        model.log_prob(y, source=torch.full_like(source, 6)).sum().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        assert gradients
        assert all(torch.isfinite(g).all() for g in gradients)


@torch.no_grad()
def test_steps_see_a_cache_that_is_shifted(pair, monkeypatch):
    """The negative control of steps against the parallel pass."""
    source, y = pair
    model = model_of(source=4, source_levels=7)
    exact = model.log_prob(y, source=source)
    torch.testing.assert_close(score_stepwise(model, y, source=source), exact.double())
    append = KeyValues.append

    def shifted(self, k, v):
        keys, values = append(self, k, v)
        return keys.roll(1, dims=2), values

    monkeypatch.setattr(KeyValues, "append", shifted)
    assert (score_stepwise(model, y, source=source) - exact).abs().max() > 1e-3


@torch.no_grad()
def test_a_model_told_the_source_learns_to_copy_and_a_blind_one_cannot():
    """Targets are their sources: the one goes below a tenth of ln 4 a token, the other stays at ln 4."""
    generator = torch.Generator().manual_seed(0)
    told = torch.randint(4, (256, 3), generator=generator)
    y = torch.cat([told, torch.full((256, 2), 5)], dim=1)
    costs = []
    for blind in (False, True):
        with torch.random.fork_rng(), torch.enable_grad():
            torch.manual_seed(1)
            model = build_model(
                "prefix_lm", TARGET, layers=2, width=32, heads=2, source=3, source_levels=6, dropout=0.0, blind=blind
            )
            optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
            for step in range(150):
                rows = torch.arange(64) + 64 * (step % 4)
                loss = -model.log_prob(y[rows], source=told[rows]).mean()
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
        fresh = torch.randint(4, (200, 3), generator=generator)
        target = torch.cat([fresh, torch.full((200, 2), 5)], dim=1)
        costs.append(-float(model.eval().log_prob(target, source=fresh).mean()) / 3)
    assert costs[0] < 0.14 < 1.3 < costs[1]


def test_wrong_sources_and_sizes_are_refused(pair):
    source, y = pair
    model = model_of(source=4, source_levels=7)
    with pytest.raises(UsageError, match="conditioned on 'source' and got nothing"):
        model.log_prob(y)
    with pytest.raises(UsageError, match=r"wanted integers \(7, 4\)"):
        model.log_prob(y, source=source[:, :3])
    with pytest.raises(UsageError, match=r"wanted 0\.\.6"):
        model.log_prob(y, source=source + 4)
    with pytest.raises(UsageError, match="either levels of a text"):
        build_model("prefix_lm", TARGET, source=4)
    with pytest.raises(UsageError, match="speaks of tokens"):
        build_model("prefix_lm", Space.image(1, 2, 2), source=4, features=4)


def test_a_file_cannot_hold_a_source():
    from codelength.coding.registry import codec_of

    with pytest.raises(CodecError, match="no codec accepts"):
        codec_of(model_of(source=4, source_levels=7))


# --- data ------------------------------------------------------------------------------------------------------------


def catalogue(entries: dict[str, str], order: str = "<") -> bytes:
    """A .mo file."""
    texts = [text.encode() for pair in sorted(entries.items()) for text in pair]
    table, place = [], 28 + 16 * len(entries)
    for text in texts:
        table.append((len(text), place))
        place += len(text) + 1
    head = struct.pack(order + "7I", 0x950412DE, 0, len(entries), 28, 28 + 8 * len(entries), 0, place)
    rows = [struct.pack(order + "2I", *table[i]) for i in (*range(0, len(texts), 2), *range(1, len(texts), 2))]
    return head + b"".join(rows) + b"".join(text + b"\0" for text in texts)


ENTRIES = {
    "": "Language: fr\n",
    "Yes": "Oui",
    "month\x04May": "mai",
    "%d day\0%d days": "%d jour\0%d jours",
    "Untranslated": "",
}


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_catalogue_is_read_as_gettext_reads_it(order, tmp_path):
    import gettext
    import io

    content = catalogue(ENTRIES, order)
    found = {message.source: message.target for message in read_mo(content, "x.mo")}
    assert found == {"Yes": "Oui", "month|May": "mai", "%d day": "%d jour", "%d days": "%d jours"}
    theirs = gettext.GNUTranslations(io.BytesIO(content))
    assert theirs.gettext("Yes") == found["Yes"]
    assert theirs.pgettext("month", "May") == found["month|May"]
    with pytest.raises(DataError, match="no compiled gettext catalogue"):
        read_mo(b"msgid", "x.po")
    with pytest.raises(DataError, match=r"damaged|ends inside"):
        read_mo(content[:-30], "x.mo")


def test_forms_of_a_message_are_in_one_split_and_each_source_once():
    messages = [Message(f"{word} {i}", f"{wort} {i}", i) for i in range(40) for word, wort in (("a", "b"), ("c", "d"))]
    data = translations("t", messages + messages, length=8, vocabulary="bytes", seed=0, source="")
    assert sum(len(split) for split in data.splits.values()) == 80
    seen = [set(split.clusters.tolist()) for split in data.splits.values()]
    assert not any(a & b for i, a in enumerate(seen) for b in seen[:i])
    split = data.split("test")
    for row, told in zip(split.x, split.conditions["source"], strict=True):
        source, target = text_of_target(told, data.vocabulary), text_of_target(row, data.vocabulary)
        assert target == source.replace("a", "b").replace("c", "d")


def test_texts_that_do_not_fit_with_their_end_are_told():
    rows, fits = fill(["ab", "abc", "abcd"], Bytes(), 4)
    assert fits.tolist() == [True, True, False]
    assert rows.tolist()[0] == [97, 98, 256, 256]


def test_patches_hold_each_number_once():
    pictures = torch.arange(2 * 8 * 8 * 3).reshape(2, 8, 8, 3).numpy()
    cut = patches(pictures, 4)
    assert cut.shape == (2, 192)
    assert sorted(cut[0].tolist()) == list(range(192))
    assert set(cut[0, :48].tolist()) == set(pictures[0, :4, :4].flatten().tolist())
