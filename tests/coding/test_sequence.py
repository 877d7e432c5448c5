"""The codec of long sequences: one text over many items and windows, decoded to every token."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch

from codelength.cli.main import main
from codelength.coding import measure_coding, sequence_codec
from codelength.coding.codec import Archive, compress
from codelength.data import load_data
from codelength.data.audio import wav_header
from codelength.errors import CodecError, UsageError
from codelength.models.registry import build_model
from codelength.recipe import parse_recipe
from codelength.run import create_run, load_run, save_run_weights
from codelength.space import Space

OPTIONS = {"layers": 1, "width": 8, "heads": 2, "context": 6, "stride": 3}


def model_of(levels=5, length=8, offset=0):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = build_model("gpt2", Space("sequence", (length,), levels, offset=offset), **OPTIONS)
        for parameter in model.parameters():
            parameter.data.add_(0.7 * torch.randn_like(parameter))
    return model.eval()


@pytest.mark.parametrize("number", [1, 3, 4])
@pytest.mark.parametrize("count", [0, 1, 8, 37, 64])
def test_any_text_comes_back_at_the_model_s_own_code_length(count, number, monkeypatch):
    monkeypatch.setattr(sequence_codec, "LANE", 9)
    model = model_of(offset=-1)
    tokens = np.random.default_rng(count).integers(-1, 4, count)
    x = sequence_codec.pack(tokens, 8, -1)
    stream = sequence_codec.encode(model, torch.from_numpy(x), batch=number)
    back = sequence_codec.decode(model, stream, len(x), batch=number).numpy()
    assert np.array_equal(back, x)
    ideal = sequence_codec.ideal_nats(model, x, number) / np.log(2)
    assert ideal <= 8 * len(stream) <= ideal + 8 + 64 + 1e-3 * count


def test_lanes_cover_every_token():
    for count in (1, 16_384, 40_000, 131_073, 1_000_003):
        for batch in (1, 3, 16):
            starts, length = sequence_codec.lanes(count, batch)
            assert starts[0] == 0
            assert starts[-1] + length == count
            assert all(b - a <= length for a, b in pairwise(starts))
            assert len(starts) * length - count < len(starts)


def test_one_text_costs_less_than_its_windows_apart():
    """A model that has learnt to repeat the token before: context across items must pay."""
    model = model_of(levels=7)
    tokens = torch.full((64,), 3)
    optimizer = torch.optim.Adam(model.parameters(), 0.03)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        for _ in range(60):
            x = torch.randint(7, (32, 1)).expand(-1, 6)
            optimizer.zero_grad()
            (-model.conditionals(x).log_prob(x.unsqueeze(1)).mean()).backward()
            optimizer.step()
    x = tokens.reshape(8, 8)
    apart = -float(model.log_prob(x).detach().sum())
    assert sequence_codec.ideal_nats(model, x.numpy(), 1) < 0.5 * apart


def test_a_file_holds_the_text_and_is_refused_when_damaged():
    model = model_of()
    x = sequence_codec.pack(np.random.default_rng(0).integers(0, 5, 61).astype(np.uint8), 8)
    content = compress(model, x)
    archive = Archive(content)
    assert archive.header.codec == "sequence/1"
    assert np.array_equal(archive.decode(model), x)
    damaged = bytearray(content)
    damaged[archive.container.chunks[0].offset + 3] ^= 4
    with pytest.raises(CodecError):
        Archive(bytes(damaged)).decode(model)
    with pytest.raises(CodecError, match="trailing zeros"):
        sequence_codec.decode(model, b"\xff\x7f" + b"\0" * 4, 1)
    with pytest.raises(CodecError, match="how many"):
        sequence_codec.decode(model, b"\xff" * 12, 1)


@pytest.fixture
def run(tmp_path):
    """An untrained byte model, and a folder of files."""
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog\n" * 30)
    data = load_data(str(tmp_path / "text.txt"), context=8)
    recipe = parse_recipe(
        {
            "name": "bytes",
            "data": {"name": str(tmp_path / "text.txt"), "options": {"context": 8}},
            "model": {"system": "gpt2", "options": OPTIONS},
        }
    )
    create_run(tmp_path / "run", recipe, data.space)
    save_run_weights(tmp_path / "run", load_run(tmp_path / "run").build().state_dict(), "raw", 0)
    (tmp_path / "files" / "deep").mkdir(parents=True)
    (tmp_path / "files" / "a.bin").write_bytes(bytes(range(256)) + b"\0" * 50)
    (tmp_path / "files" / "deep" / "empty").write_bytes(b"")
    (tmp_path / "files" / "z.txt").write_text("ends in zeros\0\0\0")
    return tmp_path


def test_a_byte_model_compresses_any_files(run):
    file = run / "x.clen"
    assert main(["compress", str(run / "run"), str(run / "files"), "-o", str(file)]) == 0
    assert main(["decompress", str(file), "-o", str(run / "back"), "--run", str(run / "run")]) == 0
    for path in ("a.bin", "deep/empty", "z.txt"):
        assert (run / "back" / "files" / path).read_bytes() == (run / "files" / path).read_bytes()
    code = main(["decompress", str(file), "-o", str(run / "part"), "--run", str(run / "run"), "--items", "1:3"])
    assert code == UsageError.exit_code


def test_measured_coding_of_text_is_verified_in_a_fresh_process(run):
    opened = load_run(run / "run")
    data = load_data(opened.recipe.data.name, **opened.recipe.data.options)
    result = measure_coding(opened, data, "test", folder=run)
    assert result.verified
    size = len(data.texts["test"].content)
    assert result.coded_bits_per_dim == pytest.approx(8 * result.coded_total_bytes / size)
    assert result.model_total_bytes < result.coded_total_bytes < result.model_total_bytes + 600


@pytest.fixture
def sound(tmp_path):
    """An untrained WaveNet of 16-bit sound, and WAV files of different lengths."""
    (tmp_path / "wav").mkdir()
    rng = np.random.default_rng(0)
    for name, count in (("a", 70), ("b", 1), ("c", 33)):
        samples = rng.integers(-32_768, 32_768, count).astype("<i2")
        samples[:2] = -32_768
        samples[-1] = -32_768
        (tmp_path / "wav" / f"{name}.wav").write_bytes(wav_header(count, 8000) + samples.tobytes())
    options = {"layers": 2, "channels": 4, "skip": 5, "components": 2, "predictor": 3, "memory": 8, "block": 4}
    recipe = parse_recipe(
        {"name": "sound", "data": {"name": "wav"}, "model": {"system": "wavenet", "options": options}}
    )
    create_run(tmp_path / "run", recipe, Space("audio", (1, 16), 65_536, offset=-32_768))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        save_run_weights(tmp_path / "run", load_run(tmp_path / "run").build().state_dict(), "raw", 0)
    return tmp_path


def test_wav_files_come_back_byte_by_byte(sound):
    file = sound / "x.clen"
    assert main(["compress", str(sound / "run"), str(sound / "wav"), "-o", str(file)]) == 0
    assert main(["decompress", str(file), "-o", str(sound / "back"), "--run", str(sound / "run")]) == 0
    for path in (sound / "wav").iterdir():
        assert (sound / "back" / "wav" / path.name).read_bytes() == path.read_bytes()
    (sound / "wav" / "other.wav").write_bytes(b"RIFF")
    assert main(["compress", str(sound / "run"), str(sound / "wav"), "-o", str(file)]) != 0


def test_sound_is_coded_at_the_model_s_own_code_length(sound):
    model = load_run(sound / "run").load_model()
    x = sequence_codec.pack(np.random.default_rng(1).integers(-4, 5, 150), 16, -32_768)[:, None]
    stream = sequence_codec.encode(model, torch.from_numpy(x), batch=2)
    assert np.array_equal(sequence_codec.decode(model, stream, len(x), batch=2).numpy(), x)
    ideal = sequence_codec.ideal_nats(model, x, 2) / np.log(2)
    assert ideal <= 8 * len(stream) <= ideal * 1.002 + 8 + 64


def test_samples_of_a_byte_model_are_text(run):
    out = run / "samples.txt"
    assert main(["sample", str(run / "run"), "-n", "3", "-o", str(out), "--seed", "4"]) == 0
    content = out.read_bytes()
    assert content.startswith(b"--- sample 1\n")
    assert content.count(b"--- sample ") == 3
    assert len(content) == 3 * (len(b"--- sample 1\n") + 8 + 1)
    first = out.read_bytes()
    assert main(["sample", str(run / "run"), "-n", "3", "-o", str(out), "--seed", "4"]) == 0
    assert out.read_bytes() == first
    assert main(["sample", str(run / "run"), "-n", "3", "-o", str(run / "grid.png")]) == UsageError.exit_code
    assert main(["sample", str(run / "run"), "-o", str(out), "--complete"]) == UsageError.exit_code
