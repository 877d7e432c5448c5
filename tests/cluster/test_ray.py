"""A corpus scored and compressed by Ray's workers: the numbers and bytes of one process, also when workers die."""

import os
import signal

import numpy as np
import pytest

from codelength.cluster import compression, evaluation
from codelength.cluster.blocks import blocks_of, run_blocks
from codelength.coding.codec import Archive, batch_of, compress, load_coder
from codelength.data import load_data
from codelength.errors import EvaluationError, UsageError
from codelength.evaluation import evaluate_run
from codelength.recipe import parse_recipe
from codelength.training import train


def test_blocks_cover_the_data_once():
    for count in (0, 1, 7, 40):
        places = [place for start, stop in blocks_of(count, 6) for place in range(start, stop)]
        assert places == list(range(count))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    fields = {
        "name": "vae",
        "data": {"name": "digits"},
        "model": {"system": "pixelcnn_pp", "options": {"filters": 4, "blocks": 1, "stages": 1}},
        "training": {"steps": 3, "batch_size": 16},
    }
    return train(parse_recipe(fields), tmp_path_factory.mktemp("ray") / "run", progress=False)


@pytest.fixture(scope="module")
def cluster():
    """Ray on two of this machine's cores."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def dying(worker, marker, at):
    """`worker`, whose process kills itself the first time that it is asked for the block that starts at `at`."""

    class Dying(worker):
        def block(self, start, stop):
            if start == at and not os.path.exists(marker):
                with open(marker, "w") as file:
                    file.write(str(os.getpid()))
                os.kill(os.getpid(), signal.SIGKILL)
            return super().block(start, stop)

    return Dying


pytestmark = pytest.mark.filterwarnings("ignore")  # Ray's own, of what it depends on


@pytest.mark.slow
def test_scores_are_those_of_one_process_though_a_worker_is_killed(run, cluster, tmp_path, monkeypatch):
    data, marker = load_data("digits"), tmp_path / "died"
    local = evaluate_run(run, data=data, split="test", batch_size=20)
    monkeypatch.setattr(evaluation, "BATCHES_A_BLOCK", 2)
    monkeypatch.setattr(evaluation, "ScoreWorker", dying(evaluation.ScoreWorker, str(marker), 80))
    told = []
    ray = evaluate_run(
        run, data=data, split="test", batch_size=20, engine="ray", workers=2, progress=lambda *done: told.append(done)
    )
    assert marker.is_file()
    assert int(marker.read_text()) != os.getpid()
    np.testing.assert_array_equal(ray.per_example, local.per_example)
    assert ray.record.num_examples == 250
    assert told[-1] == (250, 250)
    assert ray.record.bits_per_dim == local.record.bits_per_dim
    assert ray.record.data_sha256 == local.record.data_sha256


@pytest.mark.slow
def test_files_are_those_of_one_process_though_a_worker_is_killed(run, cluster, tmp_path, monkeypatch):
    model, sha256 = load_coder(run)
    x = load_data("digits").split("test").x[:60]
    np.save(tmp_path / "x.npy", x)
    monkeypatch.setattr(compression, "ChunkWorker", dying(compression.ChunkWorker, str(tmp_path / "died"), 20))
    streams = compression.ray_streams(
        run.path, [str(tmp_path / "x.npy")], [], items=60, chunk=10, batch=batch_of(model, 10), threads=1, workers=2
    )
    content = compress(model, x, model_sha256=sha256, chunk=10, streams=streams)
    assert (tmp_path / "died").is_file()
    assert content == compress(model, x, model_sha256=sha256, chunk=10)
    np.testing.assert_array_equal(Archive(content).decode(model, model_sha256=sha256), x)


@pytest.mark.slow
def test_errors_of_ours_are_not_tried_again(cluster):
    class Refusing:
        def block(self, start, stop):
            raise UsageError("no such thing")

    with pytest.raises(EvaluationError, match=r"data 0\.\.4: UsageError: no such thing"):
        list(run_blocks(Refusing, {}, [(0, 5)]))


@pytest.mark.slow
def test_anomaly_scores_are_those_of_one_process(run, cluster, monkeypatch, capsys):
    import json

    from codelength.cli.main import main
    from codelength.cluster import scoring

    monkeypatch.setattr(scoring, "BLOCK", 100)
    command = ["score", str(run.path), "digits", "--calibration", "100", "--false-positive-rate", "0.05", "--json"]
    found = []
    for engine in ("local", "ray"):
        assert main([*command, "--engine", engine]) == 0
        found.append(json.loads(capsys.readouterr().out))
    assert len(found[0]["items"]) == 250
    assert found[0]["items"] == found[1]["items"]
    assert {k: v for k, v in found[0].items() if k != "seconds"} == {
        k: v for k, v in found[1].items() if k != "seconds"
    }
