"""Several processes train, validate, save and evaluate what one does."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file
from torch import nn

from codelength import distributed
from codelength.coding.codec import Archive, load_coder
from codelength.data import load_data
from codelength.errors import CodecError, UsageError
from codelength.nn.activations import byte_dropout, dropout
from codelength.randomness import Share, SharedNoise, integers, make_generator, normal, sharing, uniform
from codelength.run import load_run
from codelength.training import Execution
from codelength.training.engine import Engine, blocks

HERE = Path(__file__).parent


def drive(folder, part):
    command = [sys.executable, str(HERE / "distributed_driver.py"), str(folder), str(HERE / "toys.py"), part]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    return drive(tmp_path_factory.mktemp("quick"), "quick")


@pytest.fixture(scope="module")
def thorough(tmp_path_factory):
    return drive(tmp_path_factory.mktemp("thorough"), "thorough")


def content(run):
    """Weights, and code lengths of every logged step and validation."""
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return load_file(run / "model.safetensors"), np.array([line["nats"] for line in lines if line["split"] != "end"])


def assert_same(run, reference):
    weights, nats = content(run)
    expected, expected_nats = content(reference)
    np.testing.assert_allclose(nats, expected_nats, atol=1e-4, rtol=0)
    assert weights.keys() == expected.keys()
    for name, values in expected.items():
        # Adam divides by the root of the second moment: round-off in a gradient near zero moves a weight visibly.
        np.testing.assert_allclose(weights[name], values, atol=2e-5, rtol=0, err_msg=name)
    assert (run / "recipe.yaml").read_bytes() == (reference / "recipe.yaml").read_bytes()


def test_three_processes_and_two_that_share_the_weights_train_as_one(quick):
    assert_same(quick / "pixelcnn_pp-3", quick / "pixelcnn_pp-1")
    assert_same(quick / "pixelcnn_pp-fsdp", quick / "pixelcnn_pp-1")
    end = json.loads((quick / "pixelcnn_pp-3" / "metrics.jsonl").read_text().splitlines()[-1])
    assert end["processes"] == 3


def test_sharded_checkpoints_hold_no_pickle(quick):
    (state,) = (quick / "pixelcnn_pp-fsdp" / "state").iterdir()
    assert {path.suffix for path in state.iterdir()} == {".safetensors", ".json"}
    assert len(list(state.glob("shard-*"))) == 2


def test_records_do_not_depend_on_the_number_of_processes(quick):
    records = [json.loads((quick / f"record-pixelcnn_pp-1-{n}" / "record.json").read_text()) for n in (1, 2, 3)]
    arrays = [np.load(quick / f"record-pixelcnn_pp-1-{n}" / "per_example.npy") for n in (1, 2, 3)]
    assert [record["test_evaluations"] for record in records] == [1, 2, 3]
    for record, array in zip(records[1:], arrays[1:], strict=True):
        np.testing.assert_array_equal(array, arrays[0])  # in the order of the data, to the last bit
        assert record["num_examples"] == 250
        for key in ("bits_per_dim", "data_sha256", "standard_error_bits_per_dim", "train_bits_per_dim"):
            assert record[key] == pytest.approx(records[0][key], abs=1e-6) if "sha" not in key else True
            assert "sha" not in key or record[key] == records[0][key]


@pytest.mark.parametrize("suffix", ["png", "clen"])
def test_samples_and_files_do_not_depend_on_the_number_of_processes(quick, suffix):
    one, two, three = ((quick / f"pixelcnn_pp-1-{n}.{suffix}").read_bytes() for n in (1, 2, 3))
    assert one == two == three
    assert (quick / f"pixelcnn_pp-1-backwards.{suffix}").read_bytes() != one  # parts put together in another order


def test_the_file_of_three_processes_holds_the_data(quick):
    model, sha256 = load_coder(load_run(quick / "pixelcnn_pp-1"))
    x = load_data("digits").split("test").x
    archive = Archive((quick / "pixelcnn_pp-1-3.clen").read_bytes())
    np.testing.assert_array_equal(archive.decode(model, slice(0, 80), model_sha256=sha256), x[:80])
    wrong = Archive((quick / "pixelcnn_pp-1-backwards.clen").read_bytes())
    with pytest.raises(CodecError):
        wrong.decode(model, slice(0, 40), model_sha256=sha256)


def test_gather_keeps_order_and_lengths(quick):
    found = json.loads((quick / "gathered.json").read_text())
    assert found == {"values": [1.0, 2.0, 2.0], "parts": ["", "", "02"], "total": 6.0}


@pytest.mark.slow
@pytest.mark.parametrize("system", ["pixelcnn_pp", "vae", "causal_window", "realnvp", "made"])
def test_two_processes_train_as_one(thorough, system):
    assert_same(thorough / f"{system}-2", thorough / f"{system}-1")


@pytest.mark.slow
@pytest.mark.parametrize("how", ["parts", "recompute", "fsdp-parts-recompute", "to-fsdp", "from-fsdp"])
def test_parts_recomputation_and_resuming_otherwise_change_round_off_only(thorough, how):
    assert_same(thorough / f"pixelcnn_pp-{how}", thorough / "pixelcnn_pp-1")


@pytest.mark.slow
def test_bounds_do_not_depend_on_the_number_of_processes(thorough):
    one, three = (np.load(thorough / f"record-vae-1-{n}" / "per_example.npy") for n in (1, 3))
    np.testing.assert_array_equal(one, three)


@pytest.mark.parametrize("draw", [uniform, normal])
def test_shared_noise_is_that_of_the_whole_batch(draw):
    whole = draw((2, 7, 3), make_generator(1))
    parts = [draw((2, b - a, 3), SharedNoise(make_generator(1), Share(a, b, 7))) for a, b in ((0, 3), (3, 5), (5, 7))]
    assert torch.equal(torch.cat(parts, dim=1), whole)
    assert not torch.equal(draw((2, 3, 3), make_generator(1)), whole[:, :3])  # what a part would draw by itself
    with pytest.raises(ValueError, match="wanted 3 data"):
        draw((2, 7, 3), SharedNoise(make_generator(1), Share(0, 3, 7)))


def test_shared_integers():
    whole = integers(50, (6, 2), make_generator(2))
    parts = [integers(50, (3, 2), SharedNoise(make_generator(2), Share(a, a + 3, 6))) for a in (0, 3)]
    assert torch.equal(torch.cat(parts), whole)
    one = integers(1000, (), SharedNoise(make_generator(2), Share(0, 3, 6)))
    assert one == integers(1000, (), make_generator(2))


@pytest.mark.parametrize("drop", [dropout, byte_dropout])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_dropout_of_a_share_is_that_of_the_whole_batch(drop, memory_format):
    x = torch.rand(6, 5, 4, 3).add(1).contiguous(memory_format=memory_format)

    def masked(share):
        torch.manual_seed(0)
        with sharing(share):
            return drop(share.own(x), 0.5, True)

    whole = masked(Share(0, 6, 6))
    assert 0.3 < float((whole == 0).float().mean()) < 0.7
    assert torch.equal(torch.cat([masked(Share(0, 2, 6)), masked(Share(2, 6, 6))]), whole)


def test_shares_cover_the_batch_once(monkeypatch):
    monkeypatch.setattr(distributed, "size", lambda: 3)
    shares = []
    for rank in range(3):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        shares += Execution(accumulate=2).shares(17)
    places = [place for share in shares for place in range(share.start, share.stop)]
    assert places == list(range(17))
    with pytest.raises(UsageError, match=r"batch_size 5 cannot be cut into 6 parts"):
        Execution(accumulate=2).shares(5)


def test_batch_normalization_is_refused_in_parts():
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    Engine(model, Execution(), 4, torch.device("cpu"))
    with pytest.raises(UsageError, match="BatchNorm1d"):
        Engine(model, Execution(accumulate=2), 4, torch.device("cpu"))


def test_fsdp_wants_torchrun():
    with pytest.raises(UsageError, match="torchrun"):
        Engine(nn.Linear(2, 2), Execution("fsdp"), 4, torch.device("cpu"))


def test_blocks_are_the_members_of_lists():
    class Ladder(nn.Module):
        def __init__(self, depth):
            super().__init__()
            self.first = nn.Linear(1, 1)
            self.layers = nn.ModuleList([nn.Linear(1, 1), nn.ReLU(), nn.ModuleList([nn.Linear(1, 1)])])
            self.inner = Ladder(depth - 1) if depth else None

    model = Ladder(1)
    assert blocks(model) == [
        model.layers[0], model.layers[2][0], model.inner.layers[0], model.inner.layers[2][0],
    ]  # fmt: skip


def test_recomputation_draws_the_same_numbers():
    class Noisy(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleList([nn.Linear(4, 4), Noise()])

        def forward(self, x, generator):
            return self.layers[1](self.layers[0](x), generator)

    class Noise(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4))
            self.calls = 0

        def forward(self, x, generator):
            self.calls += 1
            return dropout((x * self.weight * normal(x.shape, generator)).tanh(), 0.5, self.training)

    def gradient(recompute):
        torch.manual_seed(0)
        model = Noisy()
        engine = Engine(model, Execution(recompute=recompute), 3, torch.device("cpu"))

        def loss(share):
            torch.manual_seed(1)
            engine.generator = make_generator(5)
            return model(torch.ones(3, 4), engine.generator).square().mean()

        engine.gradient(loss)
        return model.layers[1].calls, [p.grad for p in model.parameters()]

    (once, kept), (twice, again) = gradient(False), gradient(True)
    assert (once, twice) == (1, 2)
    assert all(torch.equal(a, b) for a, b in zip(kept, again, strict=True))
