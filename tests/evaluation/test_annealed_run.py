"""Annealing and samples of a split through the command line: what the records say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from codelength.cli.evaluate import command
from codelength.data import load_data
from codelength.errors import UsageError
from codelength.evaluation import Evaluation
from codelength.models.registry import build_model
from codelength.recipe import parse_recipe
from codelength.run import create_run, save_run_weights


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh dense VAE on binarized digits."""
    path = tmp_path_factory.mktemp("runs") / "vae"
    options = {"latents": 2, "network": "dense", "filters": 8}
    recipe = {"name": "vae", "data": {"name": "digits-static"}, "model": {"system": "vae", "options": options}}
    space = load_data("digits-static").space
    create_run(path, parse_recipe(recipe), space)
    torch.manual_seed(0)
    save_run_weights(path, build_model("vae", space, **options).state_dict(), "raw", 1)
    return path


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(command, arguments, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def test_annealing_writes_an_estimate_of_listed_data(run: Path) -> None:
    record = json.loads(invoke(str(run), "--ais", "5", "--chains", "2", "--examples", "6", "--json"))
    assert (record["kind"], record["num_samples"], record["annealing_steps"]) == ("estimate", 2, 5)
    assert record["num_examples"] == 6 < record["sampled_from"]
    folder = run / "evaluation" / "digits-static-validation-estimate-K2-AIS5-N6"
    kept = Evaluation.load(folder)
    assert kept.examples is not None
    assert len(np.unique(kept.examples)) == 6
    assert kept.per_example.mean() == pytest.approx(record["nats_per_example"])


def test_a_sample_of_the_split_is_listed_and_its_terms_add_up(run: Path) -> None:
    record = json.loads(invoke(str(run), "--samples", "30", "--examples", "7", "--json"))
    assert record["kind"] == "bound"
    kept = Evaluation.load(run / "evaluation" / "digits-static-validation-bound-K30-N7")
    assert list(record["elbo_terms"]) == ["log_likelihood", "log_prior", "minus_log_q"]
    assert kept.elbo_terms is not None
    assert kept.elbo is not None
    np.testing.assert_allclose(-kept.elbo_terms.sum(0), kept.elbo, rtol=1e-6)
    again = json.loads(invoke(str(run), "--samples", "30", "--examples", "7", "--json"))
    assert again["data_sha256"] == record["data_sha256"]
    whole = json.loads(invoke(str(run), "--json"))
    assert whole["sampled_from"] is None
    assert whole["num_examples"] == record["sampled_from"]


def test_an_interval_of_simulated_data_is_printed_and_kept(run: Path) -> None:
    result = json.loads(invoke(str(run), "--ais", "10", "--chains", "2", "--simulate", "5"))
    assert result["kind"] == "bound"
    assert result["gap_nats"] == pytest.approx(result["code_length_upper_nats"] - result["code_length_lower_nats"])
    assert json.loads((run / "annealing" / "simulated-AIS10.json").read_text()) == result


def test_options_that_mean_nothing_are_refused(run: Path) -> None:
    with pytest.raises(UsageError, match="wants --ais"):
        invoke(str(run), "--simulate", "5")
    with pytest.raises(UsageError, match="no meaning"):
        invoke(str(run), "--ais", "5", "--samples", "5")
