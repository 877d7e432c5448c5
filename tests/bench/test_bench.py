"""The benchmark itself: alternation, what counts, the peers' protocol, and that both sides do the same work."""

from __future__ import annotations

import importlib
import json
import sys

import pytest
import torch

from codelength.bench import flows, gaussian, peers, tasks
from codelength.bench.measure import Contest, alternate, compete, summarize, timed
from codelength.bench.plain_pixelcnn_pp import PlainPixelCNNPP, plain_mixture_log_mass
from codelength.bench.training_steps import gap_in_bits
from codelength.cli.main import main
from codelength.errors import UsageError
from codelength.functional import MixtureLayout, logistic_mixture_log_mass
from codelength.models.registry import build_model
from codelength.space import Space


def _runner(calls: list[str], name: str, seconds: float):
    def run():
        calls.append(name)
        return {"cpu": seconds, "wall": 2 * seconds}

    return run


def _contest(passed: bool, calls: list[str], wanted: float = 2.0) -> Contest:
    ours, theirs = _runner(calls, "ours", 1.0), _runner(calls, "theirs", 3.0)
    close = lambda: calls.append("closed")  # noqa: E731
    return Contest("work", ours, theirs, "they", {}, passed, wanted, close=close)


class PeerHere:
    """A peer's worker in the tests' own process, which spares them the start of another."""

    def __init__(self, peer: peers.Peer, pip_arguments=(), **options):
        self.peer = peer
        with torch.random.fork_rng():
            self.work, self.report = importlib.import_module(peer.worker.removesuffix(".py")).prepare(options)

    def run(self):
        own = []
        times = timed(lambda: own.append(self.work()))
        return own[0] or times

    def close(self):
        pass


def test_runs_alternate_and_the_warm_up_does_not_count():
    calls: list[str] = []
    ours, theirs = alternate(_runner(calls, "ours", 1.0), _runner(calls, "theirs", 2.0), 3)
    assert len(ours) == len(theirs) == 3
    assert calls == ["ours", "theirs", "theirs", "ours"] * 2


def test_a_ratio_counts_only_with_parity():
    calls: list[str] = []
    good, bad = compete("t", _contest(True, calls), 2), compete("t", _contest(False, calls), 2)
    assert good.ratio["median"] == bad.ratio["median"] == 3.0
    assert good.reached
    assert not bad.reached
    assert not compete("t", _contest(True, calls, wanted=4.0), 2).reached
    assert calls.count("closed") == 3


def test_quartiles_of_one_run():
    assert set(summarize([2.0]).values()) == {2.0}


def test_the_plain_network_is_the_same_network():
    torch.manual_seed(0)
    model = build_model("pixelcnn_pp", Space.image(3, 8, 8), filters=6, blocks=2, stages=2, components=4)
    x = torch.randint(256, (3, 3, 8, 8), generator=torch.Generator().manual_seed(0))
    model.initialize(x, torch.Generator())
    plain = PlainPixelCNNPP(model, 4).eval()
    assert gap_in_bits(model.eval().log_prob, plain, x) < 1e-4
    with torch.no_grad():  # control: other weights are another network
        plain.model.first_down.gain.mul_(1.5)
    assert gap_in_bits(model.log_prob, plain, x) > 5e-4


def test_the_plain_loss_is_the_same_loss_where_masses_are_not_small():
    layout = MixtureLayout(3, 5, 256, True)
    outputs = 0.3 * torch.randn(2, layout.num_parameters, 4, 4, generator=torch.Generator().manual_seed(0)).double()
    value = torch.randint(256, (2, 3, 4, 4), generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        plain_mixture_log_mass(outputs, value, 5), logistic_mixture_log_mass(outputs, value, layout), rtol=0, atol=1e-5
    )


def test_a_peer_codes_the_same_tables_to_as_many_bytes(monkeypatch):
    monkeypatch.setattr(peers, "environment", lambda peer, pip_arguments=(): sys.executable)
    result = tasks.run_task("entropy-tables", tasks.Options(threads=1, rounds=1, small=True))
    assert result.passed
    assert result.parity["bytes"] == result.parity["their_bytes"] >= result.parity["ideal_bytes"]
    assert result.ratio["median"] > 0


@pytest.mark.parametrize(
    ("task", "library", "flip"),
    [("maf-step", "zuko", None), ("spline-flow-step", "nflows", None), ("maf-step", "zuko", True)],
)
def test_a_flow_scores_as_the_peer_whose_weights_it_takes(monkeypatch, task, library, flip):
    pytest.importorskip(library)
    monkeypatch.setattr(flows, "PeerProcess", PeerHere)
    monkeypatch.syspath_prepend(peers.WORKERS)
    monkeypatch.setattr(flows, "audited", lambda *arguments: {"passed": 0})  # the audit has tests of its own
    if flip:  # control: the weights of a network that sees vectors turned around
        copy = flows.copy_network
        monkeypatch.setattr(flows, "copy_network", lambda ours, layers, flip: copy(ours, layers, flip=True))
    result = tasks.run_task(task, tasks.Options(threads=1, rounds=1, small=True))
    assert result.passed is not bool(flip), result.parity
    assert (result.parity["largest_gap_nats_per_dim"] > 1e-3) is bool(flip)


def test_the_gaussian_is_the_one_that_scikit_learn_fits(monkeypatch):
    monkeypatch.setattr(gaussian, "PeerProcess", PeerHere)
    monkeypatch.syspath_prepend(peers.WORKERS)
    monkeypatch.setattr(gaussian, "audited", lambda *arguments: {"passed": 0})
    options = tasks.Options(threads=1, rounds=1, small=True)
    result = tasks.run_task("gaussian-fit", options)
    assert result.passed, result.parity
    monkeypatch.setattr(  # control: another variance is another Gaussian
        gaussian, "PeerProcess", lambda *a, variance, **options: PeerHere(*a, variance=2 * variance, **options)
    )
    assert not tasks.run_task("gaussian-fit", options).passed


def test_help_is_timed_in_a_process_of_its_own():
    result = tasks.run_task("help", tasks.Options(threads=1, rounds=1))
    assert result.passed
    assert 0.01 < result.ours_seconds["median"] < 3


def test_what_a_peers_compiler_prints_is_no_answer(tmp_path):
    worker = tmp_path / "loud.py"
    worker.write_text(
        f"import os, sys\nsys.path.insert(0, {str(peers.WORKERS)!r})\nfrom serve import serve\n"
        "def prepare(options):\n    os.system('echo noise')\n    print('noise')\n    return lambda: None, {'ready': 1}\n"
        "serve(prepare)\n"
    )
    peer = peers.Peer("loud", "1", str(worker))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(peers, "environment", lambda peer, pip_arguments=(): sys.executable)
        process = peers.PeerProcess(peer, threads=1)
    assert process.report == {"ready": 1}
    assert set(process.run()) == {"cpu", "wall"}
    process.close()


@pytest.mark.slow
@pytest.mark.parametrize("task", ["gpt2-step", "gpt2-sample"])
def test_gpt2_scores_and_continues_texts_as_transformers_does(monkeypatch, task):
    pytest.importorskip("transformers")
    monkeypatch.setattr(peers, "environment", lambda peer, pip_arguments=(): sys.executable)
    result = tasks.run_task(task, tasks.Options(threads=1, rounds=1, small=True, audit_seconds=3))
    assert result.passed, result.parity


def test_a_peer_that_fails_says_so(monkeypatch):
    monkeypatch.setattr(peers, "environment", lambda peer, pip_arguments=(): sys.executable)
    with pytest.raises(peers.PeerError, match="ended"):
        peers.PeerProcess(peers.PEERS["constriction"], threads=1, file="/nowhere.npz", parts=1)


def test_command_lists_tasks_and_writes_a_record(tmp_path, capsys):
    assert main(["bench", "--list"]) == 0
    assert set(tasks.TASKS) <= set(capsys.readouterr().out.split())
    assert main(["bench", "nothing"]) == UsageError.exit_code
    out = tmp_path / "bench.json"
    assert main(["bench", "sampling", "--small", "--rounds", "1", "--threads", "1", "--out", str(out)]) == 0
    record = json.loads(out.read_text())["sampling"]
    assert record["passed"]
    assert record["parity"]["share_of_equal_draws"] == 1
    assert set(record["facts"]["cpu_seconds_of"]) == {"network", "mixture", "rest"}
    assert record["machine"]["threads"] == 1
