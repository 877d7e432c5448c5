"""WAV files: read as they are, or refused."""

from __future__ import annotations

import wave

import numpy as np
import pytest

from codelength.data import load_data
from codelength.data.audio import mu_law, read_wav, wav_header
from codelength.errors import DataError, UsageError


def write(path, samples, rate=8000, channels=1):
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels)
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.asarray(samples, dtype="<i2").tobytes())


def noise(count, seed):
    return np.random.default_rng(seed).integers(-32_768, 32_768, count).astype(np.int16)


def test_a_header_is_that_of_the_standard_library(tmp_path):
    samples = noise(99, 0)
    write(tmp_path / "a.wav", samples, 44_100)
    content = (tmp_path / "a.wav").read_bytes()
    assert content == wav_header(99, 44_100) + samples.astype("<i2").tobytes()
    back, rate = read_wav(content, "a.wav")
    assert rate == 44_100
    assert np.array_equal(back, samples)


def test_other_wav_files_are_refused(tmp_path):
    write(tmp_path / "stereo.wav", noise(10, 0), channels=2)
    content = (tmp_path / "stereo.wav").read_bytes()
    for other in (content, wav_header(4, 8000) + b"\0" * 9, b"RIFF", wav_header(2, 8000) + b"\0" * 4 + b"LIST"):
        with pytest.raises(DataError, match="no plain WAV file"):
            read_wav(other, "x.wav")


def test_spoken_digits_are_split_by_their_numbers(tmp_path):
    for number in range(8):
        write(tmp_path / f"3_theo_{number}.wav", np.full(20, number))
    data = load_data(str(tmp_path), length=8, stride=3)
    values = {name: set(split.x.ravel().tolist()) for name, split in data.splits.items()}
    assert values == {"train": {6, 7}, "validation": {5}, "test": {0, 1, 2, 3, 4}}
    assert data.space.sizes == (1, 8)
    assert (data.space.levels, data.space.offset) == (65_536, -32_768)
    assert set(load_data(str(tmp_path), length=8, bits=8).split("test").x.ravel().tolist()) <= set(range(256))


def test_recordings_are_split_whole_and_cover_everything(tmp_path):
    for i in range(10):
        write(tmp_path / f"{i}.wav", np.full(16, i))
    data = load_data(str(tmp_path), length=8, stride=8, validation=0.2, test=0.3)
    values = [set(split.x.ravel().tolist()) for split in data.splits.values()]
    assert sorted(map(len, values)) == [2, 3, 5]
    assert set.union(*values) == set(range(10))


def test_rates_sizes_and_options_are_checked(tmp_path):
    write(tmp_path / "train" / "a.wav", noise(20, 0))
    write(tmp_path / "test" / "b.wav", noise(20, 0), 16_000)
    with pytest.raises(DataError, match="sample rates"):
        load_data(str(tmp_path), length=8)
    with pytest.raises(DataError, match="fewer than length=64"):
        load_data(str(tmp_path), length=64)
    with pytest.raises(UsageError, match="bits=12"):
        load_data(str(tmp_path), bits=12)


def test_mu_law_is_monotone_and_uses_every_level():
    levels = mu_law(np.arange(-32_768, 32_768))
    assert (np.diff(levels.astype(int)) >= 0).all()
    assert set(levels.tolist()) == set(range(256))
