"""Text in a report: the record's tokens, in order, with their own bits."""

from __future__ import annotations

import numpy as np
import pytest
from tests.report.conftest import write_run

from codelength.report.collect import collect
from codelength.report.passages import SHOWN, STEPS, passages, token_texts
from codelength.report.write import write_report
from codelength.units import bits

CONTENT = "".join(f"Line {i} says that naïve bytes <b>cost</b> bits.\n" for i in range(400))


@pytest.fixture(scope="module")
def text_run(tmp_path_factory):
    """A tiny language model on a file of text, measured."""
    folder = tmp_path_factory.mktemp("text")
    path = folder / "own.txt"
    path.write_text(CONTENT)
    options = {"layers": 1, "heads": 1, "width": 16}
    return write_run(folder / "gpt2", "gpt2", options, data=str(path))


def test_passage_is_the_text_with_its_costs(text_run):
    group = collect([text_run])[0]
    passage, table = passages(group)
    text = group.dataset.texts["test"]
    shown = "".join(word for word, _, _ in passage.tokens)
    assert len(passage.tokens) == min(SHOWN, len(text.tokens))
    assert shown.replace("\\xc3", "").replace("\\xaf", "ï") in CONTENT
    nats = group.measured[0].evaluation.per_example
    start = next(
        i
        for i in range(len(nats))
        if f"{bits(nats[i]):.2f}" == passage.tokens[0][2]
        and all(f"{bits(nats[i + j]):.2f}" == passage.tokens[j][2] for j in range(20))
    )
    costs = bits(nats[start : start + len(passage.tokens)])
    assert [token[1] for token in passage.tokens] == [sum(cost >= step for step in STEPS) for cost in costs]
    assert table.rows[0][-1].sort == pytest.approx(float(np.max(costs)))


def test_in_the_page_and_escaped(text_run, tmp_path):
    page = write_report([text_run], tmp_path / "r.html").read_text()
    assert 'class="passage"' in page
    assert "&lt;" in page
    assert "<b>cost" not in page


def test_images_have_no_passage(runs):
    assert passages(collect(runs)[0]) == []


def test_token_texts():
    from codelength.data.text import tokenize
    from codelength.data.vocabulary import Bytes

    text = tokenize(["aé".encode(), b"\n"], Bytes(), ends=True)
    assert token_texts(text, slice(0, 5)) == ["a", "\\xc3", "\\xa9", "¶", "\n"]
