"""Comparison: who may be compared, and what is said. Pitfalls B4, B7, B10, D12, D13, F1, F2."""

from __future__ import annotations

import dataclasses
import json
import math
import time

import numpy as np
import pytest

from codelength.errors import NotComparableError, UsageError
from codelength.evaluation import compare
from codelength.evaluation.conditioning import charge_conditions, condition_bits
from codelength.evaluation.tables import render, tables
from codelength.models.base import LikelihoodModel
from codelength.space import Space


@pytest.fixture
def three(make_evaluation):
    """Exact models A and B, and a bound C between them, of 400 data of 8 dims."""
    generator = np.random.default_rng(0)
    base = 40 + 4 * generator.standard_normal(400)
    a = base + 0.3 + 0.5 * generator.standard_normal(400)
    c = base + 0.1 + 0.1 * generator.standard_normal(400)
    bound = {"kind": "bound", "num_samples": 10, "converged": False}
    return [
        make_evaluation("A", a, num_dims=8),
        make_evaluation("B", base, num_dims=8, coded_bits_per_dim=7.3),
        make_evaluation("C", c, num_dims=8, **bound),
    ]


def test_ranking_and_savings(three):
    result = compare(three)
    assert [(e.rank, e.name, e.mark) for e in result.entries] == [(1, "B", ""), (2, "C", "<="), (3, "A", "")]
    pair = result.pair("A", "B")
    difference = (three[0].per_example - three[1].per_example) / (8 * math.log(2))
    assert pair.saving_bits_per_dim == pytest.approx(difference.mean(), rel=1e-12)
    assert pair.standard_error == pytest.approx(difference.std(ddof=1) / 20, rel=1e-12)
    assert pair.saving_bytes == pytest.approx(difference.mean() * 8 * 400 / 8, rel=1e-12)
    assert pair.win_rate == pytest.approx((difference > 0).mean())
    assert pair.normal_interval[0] < pair.saving_bits_per_dim < pair.normal_interval[1]
    assert pair.bootstrap_interval == pytest.approx(pair.normal_interval, abs=0.3 * pair.standard_error)
    # The pairing is what makes the difference sharp: unpaired, it would be lost in the spread of the data.
    assert pair.standard_error < 0.15 * np.hypot(*(e.per_example.std() / (8 * math.log(2)) / 20 for e in three[:2]))
    assert pair.verdict == "better"
    with pytest.raises(KeyError, match="ranks before"):
        result.pair("B", "A")


def test_a_bound_that_loses_leaves_the_pair_undecided(three):
    result = compare(three)
    assert result.pair("C", "B").verdict == "undecided: C is only bounded"
    assert result.pair("A", "C").verdict == "better"  # even C's bound beats the exact A
    assert result.entries[1].notes == ("not converged",)


def test_no_difference(three, make_evaluation):
    twin = make_evaluation("B", three[1].per_example.copy(), num_dims=8)
    result = compare([three[1], twin])
    assert [e.name for e in result.entries] == ["B", "B (2)"]
    assert result.pairs[0].verdict == "no difference shown"
    assert result.pairs[0].win_rate == 0.5
    assert "saves 0.000 ± 0.000" in result.pairs[0].sentence()


def test_many_pairs_are_corrected(make_evaluation):
    generator = np.random.default_rng(0)
    noise = [make_evaluation(f"m{i}", 10 + generator.standard_normal(200)) for i in range(12)]
    result = compare(noise, resamples=200)
    raw = np.array([pair.p_value for pair in result.pairs])
    assert len(raw) == 66
    assert (raw < 0.05).any()  # by chance alone ...
    assert all(pair.verdict == "no difference shown" for pair in result.pairs)  # ... and not after correction


def test_clusters_widen_the_interval(make_evaluation):
    generator = np.random.default_rng(0)
    clusters = np.repeat(np.arange(50), 10)
    shift = 0.1 + 0.5 * generator.standard_normal(50)[clusters]
    base = generator.standard_normal(500)
    together = compare([make_evaluation("A", base + shift, clusters), make_evaluation("B", base, clusters)])
    apart = compare([make_evaluation("A", base + shift), make_evaluation("B", base)])
    assert together.pairs[0].standard_error > 2.5 * apart.pairs[0].standard_error


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("data_sha256", "1" * 64),
        ("levels", 32),
        ("num_dims", 2),
        ("measure", "density"),
        ("binarization", "dynamic"),
        ("expected_over_binarizations", True),
    ],
)
def test_incomparable_records_are_refused_with_field_and_values(make_evaluation, field, value):
    x = np.arange(5.0)
    a, b = make_evaluation("A", x), make_evaluation("B", x, **{field: value})
    with pytest.raises(NotComparableError, match=f"A has {field} .* but B has {value}"):
        compare([a, b])


def test_another_number_of_examples_is_refused(make_evaluation):
    with pytest.raises(NotComparableError, match=r"num_examples 5 .* has 6"):
        compare([make_evaluation("A", np.arange(5.0)), make_evaluation("B", np.arange(6.0))])


def test_impossible_options(three):
    for evaluations, options in (([], {}), (three, {"confidence": 1.0}), (three, {"resamples": 1})):
        with pytest.raises(UsageError, match="wanted"):
            compare(evaluations, **options)


def test_ten_runs_of_10000_examples_under_5_seconds(make_evaluation):
    generator = np.random.default_rng(0)
    base = 2000 + 300 * generator.standard_normal(10_000)
    runs = [make_evaluation(f"m{i}", base + 10 * i * generator.random(10_000), num_dims=3072) for i in range(10)]
    started = time.perf_counter()
    result = compare(runs)
    assert len(result.pairs) == 45
    assert time.perf_counter() - started < 5


def test_one_record_is_a_ranking_without_pairs(three):
    result = compare(three[:1])
    assert result.pairs == []
    assert "Paired" not in render(result, "markdown")


def told(make_evaluation, code_length, **fields):
    options = {"num_dims": 8, "conditioning": ["label"], "condition_bits": math.log2(10), **fields}
    return make_evaluation("T", code_length, **options)


def test_a_model_that_is_told_the_label_is_refused_beside_one_that_is_not(three, make_evaluation):
    conditional = told(make_evaluation, three[1].per_example - 1)
    with pytest.raises(NotComparableError, match=r"told label for free.*--charge-conditions.*3\.32 bits a datum"):
        compare([three[1], conditional])
    # Control: among equals there is nothing to charge.
    alike = compare([conditional, told(make_evaluation, three[1].per_example)], charge=True)
    assert alike.entries[0].record.bits_per_dim == conditional.record.bits_per_dim
    assert alike.entries[0].notes == ("conditioned on label",)


def test_a_charged_label_makes_a_bound(three, make_evaluation):
    """The label costs ln 10 = 2.3 nats: a model that it saves 1 nat loses, one that it saves 4 wins."""
    for saved, first in ((1.0, "B"), (4.0, "T")):
        conditional = told(make_evaluation, three[1].per_example - saved)
        result = compare([conditional, three[1]], charge=True)
        entry = next(entry for entry in result.entries if entry.name == "T")
        assert result.entries[0].name == first
        assert (entry.mark, entry.record.conditioning) == ("<=", [])
        assert entry.notes == ("label charged: 3.32 bits a datum",)
        pair = result.pairs[0]
        assert pair.saving_bits_per_dim == pytest.approx(abs(math.log(10) - saved) / 8 / math.log(2))
        assert pair.verdict == ("better" if first == "T" else "undecided: T is only bounded")
        assert "label charged" in render(result, "markdown")
        assert conditional.record.conditioning == ["label"]


def test_charging_moves_every_number_of_a_bound(make_evaluation, three):
    bound = told(make_evaluation, three[0].per_example, kind="bound", num_samples=10, elbo_bits_per_dim=9.0)
    bound = dataclasses.replace(bound, elbo=three[0].per_example + 1, curve={1: 50.0})
    charged = charge_conditions(bound)
    np.testing.assert_allclose(charged.per_example, bound.per_example + math.log(10))
    np.testing.assert_allclose(charged.elbo, bound.elbo + math.log(10))
    assert charged.curve == {1: pytest.approx(50 + math.log(10))}
    assert charged.record.elbo_bits_per_dim == pytest.approx(9 + math.log2(10) / 8)
    assert charged.record.nats_per_example == pytest.approx(bound.per_example.mean() + math.log(10))
    assert charge_conditions(three[0]) is three[0]


def test_a_record_without_a_price_cannot_be_charged(three, make_evaluation):
    with pytest.raises(NotComparableError, match="evaluate it again"):
        compare([three[0], told(make_evaluation, three[1].per_example, condition_bits=None)], charge=True)


def test_the_price_of_conditions_is_uniform_over_classes():
    def model(classes: dict[str, int], conditioning: tuple[str, ...]) -> LikelihoodModel:
        return LikelihoodModel(Space.image(1, 2, 2, conditions=classes), conditioning=conditioning)

    assert condition_bits(model({"label": 10}, ("label",))) == math.log2(10)
    assert condition_bits(model({"label": 8, "size": 4}, ("label", "size"))) == 5
    assert condition_bits(model({"label": 10}, ())) is None
    assert condition_bits(model({}, ("features",))) is None


def test_tables_of_every_format(three):
    result = compare([*three[:2], three[2]])
    for format in ("terminal", "markdown", "latex"):
        text = render(result, format)
        for name in ("A", "B", "C"):
            assert name in text
        assert (r"$\leq$ 7" if format == "latex" else "<= 7") in text
        assert "not converged" in text
        assert "switching from C to B saves" in text
    parsed = json.loads(render(result, "json"))
    assert [entry["mark"] for entry in parsed["entries"]] == ["", "<=", ""]
    assert len(parsed["pairs"]) == 3
    assert parsed["entries"][0]["record"]["coded_bits_per_dim"] == 7.3
    with pytest.raises(UsageError, match="did you mean 'markdown'"):
        render(result, "markdwn")


def test_markdown_and_latex_are_well_formed(three, make_evaluation):
    told = {"num_dims": 8, "conditioning": ["label"]}
    odd = make_evaluation("50%_a|b & {c}", three[0].per_example, **told)
    result = compare([odd, make_evaluation("B", three[1].per_example, **told)])
    rows = [line for line in render(result, "markdown").splitlines() if line.startswith("|")]
    assert {line.replace("\\|", "").count("|") for line in rows} == {8, 10}
    latex = render(result, "latex")
    assert r"50\%\_a|b \& \{c\}" in latex
    assert "conditioned on label" in latex
    assert latex.count(r"\begin{tabular}") == latex.count(r"\end{tabular}") == 2


def test_numbers_that_do_not_exist_are_null_or_empty(make_evaluation):
    one = compare([make_evaluation("A", np.array([3.0])), make_evaluation("B", np.array([2.0]))])
    pair = json.loads(render(one, "json"))["pairs"][0]
    assert pair["standard_error"] is None
    assert pair["normal_interval"] == [None, None]
    assert pair["verdict"] == "no difference shown"
    assert tables(one)[0][1].rows[0][3] == ""


def test_many_pairs_are_listed_against_the_best(make_evaluation):
    x = np.random.default_rng(0).standard_normal((6, 50))
    result = compare([make_evaluation(f"m{i}", 10 + i + x[i]) for i in range(6)], resamples=100)
    found, lines = tables(result)
    assert len(found[1].rows) == 5
    assert any("15 pairs compared" in line for line in lines)


def test_a_model_that_adapts_is_marked(make_evaluation):
    adapting = make_evaluation("A", np.arange(5.0), adapts_on_test=True)
    assert compare([adapting]).entries[0].notes == ("adapts to the data scored",)
