"""Text: vocabularies lose nothing, splits share nothing, windows cover everything."""

from __future__ import annotations

import importlib.util

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from codelength.data import load_data
from codelength.data.official import OFFICIAL, is_here
from codelength.data.text import crops, cut, held_out, split_documents
from codelength.data.vocabulary import BytePairs, Bytes, Characters, byte_alphabet
from codelength.errors import DataError, UsageError

TEXT = "Straße, naïve café — πάντα ῥεῖ. The quick brown fox jumps over the lazy dog. \n" * 40


@given(st.text())
def test_vocabularies_give_every_text_back_and_count_its_bytes(text):
    content = text.encode()
    for vocabulary in (Bytes(), Characters(text)):
        tokens = vocabulary.encode(content)
        assert vocabulary.decode(tokens) == content
        assert int(vocabulary.byte_lengths()[tokens].sum() if len(tokens) else 0) == len(content)


def test_the_byte_alphabet_is_a_bijection():
    alphabet = byte_alphabet()
    assert sorted(alphabet.values()) == list(range(256))
    assert all(character.isprintable() for character in alphabet)


@pytest.mark.skipif(importlib.util.find_spec("tokenizers") is None, reason="needs tokenizers")
def test_byte_pairs_give_every_text_back_and_count_its_bytes():
    vocabulary = BytePairs.train(TEXT.encode(), 300)
    assert vocabulary.size == 300
    for text in (TEXT, "never seen: ☃ \t\r\n\x00", ""):
        tokens = vocabulary.encode(text.encode())
        assert vocabulary.decode(tokens) == text.encode()
        assert int(vocabulary.byte_lengths()[tokens].sum()) == len(text.encode())
    assert len(vocabulary.encode(TEXT.encode())) < len(TEXT.encode()) / 2
    with pytest.raises(UsageError, match="at least the 256 bytes"):
        BytePairs.train(b"abc", 100)


def test_an_unknown_character_is_named():
    with pytest.raises(DataError, match="'!'"):
        Characters("abc").encode(b"abc!")
    with pytest.raises(DataError, match="no UTF-8"):
        Characters("abc").encode(b"\xff")


def test_a_file_is_cut_in_order_between_characters(tmp_path):
    path = tmp_path / "mine.txt"
    path.write_text(TEXT)
    data = load_data(str(path), context=16, vocabulary="characters")
    assert b"".join(data.texts[s].content for s in ("train", "validation", "test")) == TEXT.encode()
    assert data.space.levels == len(set(data.texts["train"].content.decode()))
    for text in data.texts.values():
        assert data.vocabulary.decode(text.tokens) == text.content
        assert int(text.byte_lengths.sum()) == len(text.content)
    for share in (0.013, 0.1, 0.33):
        for parts in cut(TEXT.encode(), share, share).values():
            parts[0].decode()


def test_ends_of_text_are_tokens_that_stand_for_no_bytes(tmp_path):
    for i in range(12):
        (tmp_path / f"{i:02}.txt").write_text(f"document {i} " * 9)
    data = load_data(str(tmp_path), context=8, validation=0.25, test=0.25)
    assert data.space.levels == 257
    assert sum(len(set(text.documents.tolist())) for text in data.texts.values()) == 12
    for text in data.texts.values():
        ends = text.tokens == 256
        assert ends.sum() == text.documents[-1] + 1
        assert text.byte_lengths[ends].sum() == 0
        assert text.byte_lengths.sum() == len(text.content)


def test_equal_documents_go_to_one_split_whatever_their_order():
    documents = [bytes([i // 3]) * 5 for i in range(60)]
    parts = split_documents(documents, 0.2, 0.2, 0)
    assert sorted(document for part in parts.values() for document in part) == sorted(documents)
    assert not set(parts["train"]) & set(parts["test"])
    assert parts == split_documents(documents[::-1], 0.2, 0.2, 0)
    assert parts != split_documents(documents, 0.2, 0.2, 1)


def test_training_windows_are_all_crops_and_held_out_ones_cover_the_text():
    tokens = np.arange(23)
    assert np.array_equal(crops(tokens, 5)[7], tokens[7:12])
    assert len(crops(tokens, 5)) == 19
    assert not crops(tokens, 5).flags.owndata
    windows = held_out(tokens, 5)
    assert set(windows.ravel().tolist()) == set(range(23))
    assert len(windows) == 5


def test_text_that_is_too_short_or_an_option_that_is_wrong_is_refused(tmp_path):
    path = tmp_path / "short.txt"
    path.write_text("too short")
    with pytest.raises(DataError, match="fewer than a window"):
        load_data(str(path), context=64)
    with pytest.raises(UsageError, match="vocabulary='words'"):
        load_data(str(path), context=2, vocabulary="words")
    with pytest.raises(UsageError, match="context=0"):
        load_data(str(path), context=0)
    with pytest.raises(UsageError, match="shares"):
        load_data(str(path), context=1, test=1.5)


def test_pydoc_is_whole():
    data = load_data("pydoc")
    assert set(data.splits) == {"train", "validation", "test"}
    assert data.space.levels == 257
    assert b'The "assert" statement' in b"".join(text.content for text in data.texts.values())


@pytest.mark.skipif(not is_here("tinyshakespeare"), reason="needs the official file")
def test_tinyshakespeare_is_cut_as_everywhere():
    data = load_data("tinyshakespeare")
    assert data.space.levels == 65
    assert len(data.texts["test"].content) == 1_115_394 - int(0.9 * 1_115_394)
    assert list(OFFICIAL["tinyshakespeare"]) == ["input.txt"]
