"""Records: complete, valid against their schema, kept whole."""

from __future__ import annotations

import json

import jsonschema
import numpy as np
import pytest
from pydantic import ValidationError

from codelength.errors import EvaluationError
from codelength.evaluation import Evaluation, EvaluationRecord, attach_coded, load_record
from codelength.evaluation.record import SCHEMA_FILE, schema_json, write_schema

FIELDS = """model, family, measure, conditioning, data, split, data_sha256, num_examples, num_dims, levels, augmentation,
kind, num_samples, dequantizer, nats_per_example, bits_per_dim, standard_error_bits_per_dim, converged, weights, dtype,
float64_difference, seed, seconds, model_sha256, recipe_sha256, commit, library_versions, test_evaluations,
elbo_bits_per_dim, ess_median, ess_min, k_hat_max, coded_bits_per_dim, coded_total_bytes, bits_per_byte,
perplexity_per_token, perplexity_per_word, perplexity_per_byte, tokens, words, bytes, context, stride, min_context, bos,
adapts_on_test"""


def test_the_record_has_every_field_of_the_design():
    assert {name.strip() for name in FIELDS.split(",")} <= EvaluationRecord.model_fields.keys()


def test_the_shipped_schema_is_that_of_the_record(monkeypatch, tmp_path, make_evaluation):
    assert SCHEMA_FILE.read_text() == schema_json(), "run codelength.evaluation.record.write_schema()"
    monkeypatch.setattr("codelength.evaluation.record.SCHEMA_FILE", tmp_path / "schema.json")
    write_schema()
    schema = json.loads((tmp_path / "schema.json").read_text())
    record = json.loads(make_evaluation("A", np.arange(3.0)).record.to_json())
    jsonschema.validate(record, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(record | {"kind": "guess"}, schema)


@pytest.mark.parametrize(
    "wrong", [{"bits_per_dim": float("nan")}, {"kind": "guess"}, {"num_examples": 0}, {"nats": 3.0}]
)
def test_impossible_records_are_refused(make_evaluation, wrong):
    with pytest.raises(ValidationError):
        make_evaluation("A", np.arange(3.0), **wrong)


def test_save_and_load(tmp_path, make_evaluation):
    base = make_evaluation("A", np.arange(3.0), np.array([0, 0, 1]), kind="bound", num_samples=100)
    arrays = {"elbo": np.arange(3.0) + 1, "ess": np.ones(3), "k_hat": np.full(3, np.nan)}
    evaluation = Evaluation(base.record, base.per_example, base.clusters, **arrays, curve={1: 2.0, 10: 1.5, 100: 1.0})
    folder = evaluation.save(tmp_path / "a" / "b")
    names = {"record.json", "per_example.npy", "clusters.npy", "elbo.npy", "ess.npy", "k_hat.npy", "curve.json"}
    assert {file.name for file in folder.iterdir()} == names
    loaded = Evaluation.load(folder)
    assert loaded.record == evaluation.record
    assert loaded.curve == evaluation.curve
    for name in ("per_example", "clusters", *arrays):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(evaluation, name))


def test_exact_records_have_no_arrays_of_bounds(tmp_path, make_evaluation):
    folder = make_evaluation("A", np.arange(3.0)).save(tmp_path)
    assert {file.name for file in folder.iterdir()} == {"record.json", "per_example.npy"}
    assert Evaluation.load(folder).elbo is None


def test_a_rewritten_folder_keeps_no_array_of_before(tmp_path, make_evaluation):
    make_evaluation("A", np.arange(3.0), np.array([0, 0, 1])).save(tmp_path)
    make_evaluation("A", np.arange(3.0)).save(tmp_path)
    assert Evaluation.load(tmp_path).clusters is None


def test_damage_is_named(tmp_path, make_evaluation):
    with pytest.raises(EvaluationError, match="is missing; run `codelength evaluate`"):
        load_record(tmp_path)
    folder = make_evaluation("A", np.arange(3.0)).save(tmp_path)
    (folder / "per_example.npy").write_bytes(b"\x93NUMPY broken")
    with pytest.raises(EvaluationError, match="damaged"):
        Evaluation.load(folder)
    np.save(folder / "per_example.npy", np.arange(2.0))
    with pytest.raises(EvaluationError, match=r"record of 3 examples, but per_example.npy has shape \(2,\)"):
        Evaluation.load(folder)
    (folder / "per_example.npy").unlink()
    with pytest.raises(EvaluationError, match="is missing"):
        Evaluation.load(folder)
    (folder / "record.json").write_text('{"model": 3}')
    with pytest.raises(EvaluationError, match="no valid record"):
        load_record(folder)


def test_coded_bytes_are_attached(tmp_path, make_evaluation):
    folder = make_evaluation("A", np.arange(3.0), num_dims=8).save(tmp_path)
    assert attach_coded(folder, 12).coded_bits_per_dim == 12 * 8 / 24
    assert load_record(folder).coded_total_bytes == 12
    assert attach_coded(folder, 12, bits=48.0).coded_bits_per_dim == 2.0


def test_folder_names(make_evaluation):
    record = make_evaluation("A", np.arange(3.0), data="../my data/x", kind="bound", num_samples=50).record
    assert record.folder_name() == ".._my_data_x-test-bound-K50"
