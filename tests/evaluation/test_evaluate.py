"""From model to record: complete, checked, sealed."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from codelength.adapters.foreign import ForeignModel
from codelength.data.dataset import DataSet, Split
from codelength.errors import EvaluationError, UsageError
from codelength.evaluation import Evaluation, attach_coded, evaluate, evaluate_run, memorization_floor, provenance
from codelength.evaluation.tables import record_table
from codelength.models.base import LikelihoodModel, LogWeights
from codelength.models.flows.factorized import FactorizedLogistic
from codelength.recipe import parse_recipe
from codelength.run import Run, create_run, load_run, save_run_weights
from codelength.space import Space
from codelength.transforms.dequantization import Dequantized, Dequantizer, UniformDequantization

ABOUT = {"model_name": "m", "family": "test"}


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_the_mean_of_known_values_through_the_real_loop(known, small_data, batch_size):
    evaluation = evaluate(known(small_data.space), small_data, "test", batch_size=batch_size, **ABOUT)
    expected = 0.25 * small_data.split("test").x.reshape(65, -1).sum(1)
    record = evaluation.record
    assert (record.num_examples, record.num_dims, record.levels) == (65, 6, 5)
    assert record.nats_per_example == pytest.approx(expected.mean(), rel=1e-14)
    assert record.bits_per_dim == pytest.approx(expected.mean() / (6 * math.log(2)), rel=1e-14)
    assert record.standard_error_bits_per_dim == pytest.approx(
        expected.std(ddof=1) / math.sqrt(65) / (6 * math.log(2)), rel=1e-12
    )
    assert (record.kind, record.num_samples, record.converged, record.dtype) == ("exact", 1, True, "float32")
    assert record.data_sha256 == small_data.split("test").fingerprint()
    assert np.array_equal(evaluation.per_example, expected)


def test_the_mean_is_taken_in_float64(known):
    # 20,001 data of 0 and one of 2^24 + 1: a float32 sum loses what float64 keeps.
    x = np.zeros((20_001, 1), np.int64)
    x[1:, 0] = 1

    class Large(LikelihoodModel):
        def log_prob(self, x):
            return -torch.where(x[:, 0] == 0, 2.0**24, 0.25)

    space = Space("vector", (1,), 2)
    record = evaluate(Large(space), DataSet("d", space, {"test": Split(x)}), "test", batch_size=999, **ABOUT).record
    assert record.nats_per_example == (2**24 + 5000) / 20_001


def test_gap_and_memorization_floor(known, small_data):
    train = small_data.split("train")
    record = evaluate(known(small_data.space), small_data, "test", train=train, **ABOUT).record
    nats = {name: 0.25 * small_data.split(name).x.reshape(-1, 6).sum(1) for name in ("train", "test")}
    gap = (nats["train"].mean() - nats["test"].mean()) / (6 * math.log(2))
    assert record.train_minus_test_bits_per_dim == pytest.approx(gap, rel=1e-9)
    error = math.hypot(*(v.std(ddof=1) / math.sqrt(len(v)) for v in nats.values())) / (6 * math.log(2))
    assert record.train_minus_test_standard_error == pytest.approx(error, rel=1e-9)
    assert record.memorization_floor_bits == memorization_floor(100) == math.log2(100)
    few = [
        evaluate(known(small_data.space), small_data, "test", train=train, gap_examples=20, seed=s, **ABOUT).record
        for s in (0, 0, 1)
    ]
    assert few[0].train_bits_per_dim == few[1].train_bits_per_dim != few[2].train_bits_per_dim
    alone = evaluate(known(small_data.space), small_data, "train", train=train, **ABOUT).record
    assert alone.train_minus_test_bits_per_dim is None
    assert evaluate(known(small_data.space), small_data, "test", **ABOUT).record.memorization_floor_bits is None


def test_clusters_make_the_error_wider(known, small_data):
    x = np.repeat(small_data.split("test").x, 4, axis=0)
    splits = {"test": Split(x, clusters=np.repeat(np.arange(65), 4)), "validation": Split(x)}
    data = replace(small_data, splits=splits)
    clustered, plain = (evaluate(known(data.space), data, s, **ABOUT) for s in ("test", "validation"))
    ratio = clustered.record.standard_error_bits_per_dim / plain.record.standard_error_bits_per_dim
    assert ratio == pytest.approx(2, rel=0.01)
    assert clustered.record.num_clusters == 65
    assert np.array_equal(clustered.clusters, splits["test"].clusters)


def test_a_bound_has_its_diagnostics(logistic):
    model = logistic(16, 0.5)
    data = DataSet("d", model.space, {"test": Split(model.draw(100))})
    evaluation = evaluate(model, data, "test", samples=1000, **ABOUT)
    record = evaluation.record
    assert (record.kind, record.num_samples, record.converged) == ("bound", 1000, True)
    assert record.elbo_bits_per_dim > record.bits_per_dim + 0.05
    assert record.ess_min <= record.ess_median <= 1000
    assert record.k_hat_max == np.nanmax(evaluation.k_hat)
    assert list(evaluation.curve) == [1, 10, 100, 1000]
    one = evaluate(model, data, "test", samples=1, **ABOUT).record
    assert not one.converged
    assert "† not converged" in record_table([one])
    assert one.k_hat_max is None
    assert one.elbo_bits_per_dim == one.bits_per_dim


class HalfBin(Dequantizer):
    """Uniform on the upper half of the bin only: a poor q that misses mass, so U(0, 1) is tighter for some data."""

    def sample(self, x, k, generator, *, dtype=torch.float32):
        y, _ = UniformDequantization(17).sample(x, k, generator, dtype=dtype)
        y = x + 0.5 + 0.5 * (y - x)
        return y, torch.full((k, len(x)), x[0].numel() * math.log(2), dtype=dtype)


def test_a_dequantized_model_is_bounded_with_both_and_the_tighter_leads():
    space = Space("vector", (2,), 17)
    data = DataSet("d", space, {"test": Split(np.random.default_rng(0).integers(4, 12, (50, 2)))})
    model = Dequantized(FactorizedLogistic(space, 8.0, 2.0), HalfBin())
    both = evaluate(model, data, "test", samples=50, **ABOUT).record
    assert both.dequantizer_bounds.keys() == {"halfbin", "uniform"}
    values = {name: bound.bits_per_dim for name, bound in both.dequantizer_bounds.items()}
    assert both.dequantizer == "uniform"
    assert both.bits_per_dim == min(values.values()) < max(values.values())
    table = record_table([both])
    assert "bound, K = 50, uniform noise" in table
    assert "halfbin       <= " in table
    assert "at K = 1      <= " in table
    assert "not converged" not in table
    forced = {d: evaluate(model, data, "test", samples=50, dequantizer=d, **ABOUT).record for d in ("own", "uniform")}
    assert forced["own"].bits_per_dim == values["halfbin"]
    assert forced["uniform"].bits_per_dim == values["uniform"]
    own_is_uniform = evaluate(model.with_dequantizer(UniformDequantization(17)), data, "test", **ABOUT).record
    assert own_is_uniform.dequantizer_bounds.keys() == {"uniform"}


def test_a_density_has_no_code_length(small_data):
    with pytest.raises(EvaluationError, match="Dequantized"):
        evaluate(FactorizedLogistic(small_data.space, 2.0, 1.0), small_data, "test", **ABOUT)


def test_failures_name_the_data(small_data):
    class Broken(LikelihoodModel):
        def log_prob(self, x):
            return torch.full((len(x),), math.nan)

    with pytest.raises(EvaluationError, match=r"small validation: .*examples 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, \.\.\."):
        evaluate(Broken(small_data.space), small_data, "validation", **ABOUT)


def test_impossible_samples_do_not_spoil_the_record():
    class Sparse(LikelihoodModel):
        def log_weights(self, x, k, generator):
            weights = torch.full((k, len(x)), -math.inf)
            weights[0] = -3.0
            return LogWeights({"all": weights})

    space = Space("vector", (1,), 2)
    data = DataSet("d", space, {"test": Split(np.zeros((4, 1), np.int64))})
    evaluation = evaluate(Sparse(space), data, "test", samples=30, **ABOUT)
    assert evaluation.record.elbo_bits_per_dim is None
    assert evaluation.record.nats_per_example == pytest.approx(3 + math.log(30))
    assert not evaluation.record.converged


class Rounding(LikelihoodModel):
    """Loses `error` nats unless it runs in float64."""

    def __init__(self, space: Space, error: float) -> None:
        super().__init__(space)
        self.zero, self.error = torch.nn.Parameter(torch.zeros(())), error

    def log_prob(self, x):
        score = -x.flatten(1).sum(1).to(self.dtype) + self.zero
        return score if self.dtype == torch.float64 else score - self.error


def test_float64_difference(small_data, capsys):
    small = evaluate(Rounding(small_data.space, 1e-3), small_data, "test", **ABOUT).record
    assert small.float64_difference == pytest.approx(1e-3 / (6 * math.log(2)), rel=1e-3)
    assert capsys.readouterr().err == ""
    large = evaluate(Rounding(small_data.space, 0.1), small_data, "test", **ABOUT).record
    assert large.float64_difference == pytest.approx(0.1 / (6 * math.log(2)), rel=1e-3)
    assert "float32 and float64 differ by 0.024 bits/dim" in capsys.readouterr().err
    double = evaluate(Rounding(small_data.space, 0.1).double(), small_data, "test", **ABOUT).record
    assert (double.float64_difference, double.dtype) == (0.0, "float64")


def test_a_model_that_cannot_run_in_float64_says_so(small_data, capsys):
    class Single(Rounding):
        def log_prob(self, x):
            return -(x.flatten(1).float() @ (self.zero + torch.ones(6, dtype=torch.float32)).to(self.zero.dtype))

    assert evaluate(Single(small_data.space, 0), small_data, "test", **ABOUT).record.float64_difference is None
    assert "cannot run in float64" in capsys.readouterr().err


def test_a_foreign_object_that_is_no_module_has_no_float64(small_data):
    class Plain:
        def log_prob(self, x):
            return -x.flatten(1).sum(1).double()

    record = evaluate(ForeignModel(Plain(), small_data.space), small_data, "test", **ABOUT).record
    assert record.float64_difference is None
    assert record.kind == "exact"


def test_dynamic_data_are_fingerprinted_by_their_intensities():
    space = Space.image(1, 2, 2, levels=2, binarization="dynamic")
    intensity = np.random.default_rng(0).random((6, 1, 2, 2)).astype(np.float32)
    splits = [Split(np.zeros(intensity.shape, np.uint8), intensity=i) for i in (intensity, intensity / 2)]

    class Emission(LikelihoodModel):
        def expected_log_prob(self, intensity):
            return -intensity.flatten(1).sum(1)

    records = [evaluate(Emission(space), DataSet("d", space, {"test": s}), "test", **ABOUT).record for s in splits]
    assert all(r.expected_over_binarizations and r.binarization == "dynamic" for r in records)
    assert len({*(r.data_sha256 for r in records), splits[0].fingerprint()}) == 3


def test_device_and_progress_are_passed_on(known, small_data):
    seen = []
    evaluate(known(small_data.space), small_data, "test", device="cpu", progress=lambda *a: seen.append(a), **ABOUT)
    assert seen == [(65, 65)]


def test_commit_is_that_of_the_checkout_or_nothing(monkeypatch, tmp_path):
    provenance.git_commit.cache_clear()
    package = Path(provenance.codelength.__file__).parent
    commit = provenance.git_commit()
    in_checkout = (package.parents[1] / ".git").exists()
    assert (commit is not None and len(commit.removesuffix("-dirty")) == 40) if in_checkout else commit is None
    # An installed copy lies in no checkout of its own.
    monkeypatch.setattr(provenance.codelength, "__file__", str(tmp_path / "__init__.py"))
    provenance.git_commit.cache_clear()
    assert provenance.git_commit() is None
    monkeypatch.setenv("PATH", str(tmp_path))  # no git at all
    provenance.git_commit.cache_clear()
    assert provenance.git_commit() is None
    provenance.git_commit.cache_clear()


@pytest.fixture
def run(tmp_path, small_data) -> Run:
    recipe = parse_recipe({"name": "r", "data": {"name": "small"}, "model": {"system": "mean_field"}})
    create_run(tmp_path / "run", recipe, small_data.space)
    model = load_run(tmp_path / "run").build()
    save_run_weights(tmp_path / "run", model.state_dict(), "ema", 10)
    return load_run(tmp_path / "run")


def test_a_run_keeps_its_records_and_counts_test_evaluations(run, small_data):
    first = evaluate_run(run, data=small_data)
    folder = run.path / "evaluation" / "small-validation-exact-K1"
    assert Evaluation.load(folder).record == first.record
    record = first.record
    assert (record.model, record.family, record.weights, record.test_evaluations) == ("run", "baselines", "ema", 0)
    assert record.recipe_sha256 == run.recipe.sha256()
    assert record.model_sha256 == run.model_sha256
    assert record.train_minus_test_bits_per_dim is not None
    counts = [evaluate_run(run, data=small_data, split="test", seed=s).record.test_evaluations for s in (0, 1)]
    assert counts == [1, 2]
    assert evaluate_run(run, data=small_data).record.test_evaluations == 2
    lines = (run.path / "evaluation" / "test_evaluations.jsonl").read_text().splitlines()
    assert [json.loads(line)["seed"] for line in lines] == [0, 1]


def test_an_evaluation_that_fails_on_test_data_counts(run, small_data):
    broken = replace(small_data, splits=small_data.splits | {"test": Split(np.full((5, 1, 2, 3), 9))})
    with pytest.raises(Exception, match="levels"):
        evaluate_run(run, data=broken, split="test")
    assert evaluate_run(run, data=small_data, split="test").record.test_evaluations == 2


def test_an_unknown_split_counts_nothing(run, small_data):
    with pytest.raises(UsageError, match="did you mean 'test'"):
        evaluate_run(run, data=small_data, split="tests")
    assert not (run.path / "evaluation").exists()


def test_coded_sizes_survive_a_second_evaluation_of_the_same_weights(run, small_data):
    evaluate_run(run, data=small_data)
    folder = run.path / "evaluation" / "small-validation-exact-K1"
    attach_coded(folder, 50)
    assert evaluate_run(run, data=small_data).record.coded_total_bytes == 50
    other = run.build().state_dict() | {"site_parameters": torch.ones_like(run.build().state_dict()["site_parameters"])}
    save_run_weights(run.path, other, "raw", 11)
    assert evaluate_run(load_run(run.path), data=small_data).record.coded_total_bytes is None


def test_other_data_give_no_gap(run, small_data):
    other = replace(small_data, name="other")
    record = evaluate_run(run, data=other, samples=3, batch_size=5).record
    assert record.memorization_floor_bits is None
    assert (run.path / "evaluation" / "other-validation-exact-K1").is_dir()


def test_the_runs_own_data_are_loaded_where_none_are_given(run, small_data, monkeypatch):
    monkeypatch.setattr("codelength.data.load_data", lambda name, **options: replace(small_data, name=name))
    assert evaluate_run(run).record.data == "small"
