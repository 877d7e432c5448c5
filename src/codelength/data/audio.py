"""Sound as data: folders of 16-bit PCM WAV files of one channel, their samples or 8-bit mu-law codes of them.

Recordings follow each other; a datum is a window (1, `length`) of them. Training windows begin every `stride` samples, held-out windows are disjoint,
but for the last, which ends with the last recording.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import numpy as np

from codelength.data.dataset import SPLITS, DataSet, Split
from codelength.data.splitting import stable_order
from codelength.data.text import crops, held_out
from codelength.errors import DataError, UsageError
from codelength.space import Space

HEADER = struct.Struct("<4sI4s4sIHHIIHH4sI")
SPOKEN_DIGIT = re.compile(r"\d_[a-z]+_(\d+)\.wav")
MU = 255


def read_wav(content: bytes, name: str) -> tuple[np.ndarray, int]:
    """Samples (T,) int16 and sample rate of a plain WAV file: 16-bit PCM, one channel, nothing but its 44-byte header and samples.

    Raises:
        DataError: It is another file, or holds more: such a file would not come back byte by byte.
    """
    if len(content) >= HEADER.size:
        rate = HEADER.unpack_from(content)[7]
        size = len(content) - HEADER.size
        if size % 2 == 0 and content[: HEADER.size] == wav_header(size // 2, rate):
            return np.frombuffer(content, dtype="<i2", offset=HEADER.size).astype(np.int16), rate
    raise DataError(
        f"{name} is no plain WAV file: wanted 16-bit PCM of one channel, a 44-byte header and samples, no further chunks; convert it "
        "(sox IN -b 16 -c 1 OUT.wav), or compress it without a RUN"
    )


def wav_header(samples: int, rate: int) -> bytes:
    """The 44 bytes before the samples of a plain WAV file.

    >>> len(wav_header(10, 8000))
    44
    """
    size = 2 * samples
    return HEADER.pack(b"RIFF", 36 + size, b"WAVE", b"fmt ", 16, 1, 1, rate, 2 * rate, 2, 16, b"data", size)


def mu_law(samples: np.ndarray) -> np.ndarray:
    """16-bit samples as 256 levels: sign(y) ln(1 + 255 |y|) / ln 256 of y in [−1, 1], rounded (ITU-T G.711's curve, as in WaveNet, section 2.2).

    >>> mu_law(np.array([-32768, 0, 32767])).tolist()
    [0, 128, 255]
    """
    y = (samples.astype(np.float64) + 0.5) / 32_767.5
    companded = np.sign(y) * np.log1p(MU * np.abs(y)) / np.log1p(MU)
    return np.floor((companded + 1) / 2 * MU + 0.5).astype(np.uint8)


def find_wavs(path: Path) -> list[Path]:
    """WAV files of a folder and its sub-folders, sorted."""
    return sorted(file for file in path.rglob("*") if file.suffix.lower() == ".wav" and file.is_file())


def load_wav_folder(
    path: Path,
    /,
    *,
    length: int = 2048,
    stride: int = 512,
    bits: int = 16,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
) -> DataSet:
    """Recordings of a folder.

    Sub-folders named train, validation or test are those splits. Recordings named like the Free Spoken Digit Dataset's (7_theo_12.wav) are split as it
    is officially: numbers 0 to 4 are test recordings; here 5 are validation recordings. Others are split at random.

    Args:
        path: Folder of plain WAV files, 16 bits, one channel, one sample rate.
        length: Samples of a window.
        stride: Samples from one training window to the next.
        bits: 16 for the samples themselves, 8 for their mu-law codes.
        validation, test: Shares of recordings, where names and sub-folders say nothing.
        seed: Seed of the split.

    Raises:
        DataError: A file is no plain WAV file, rates differ, or a split is shorter than a window.
        UsageError: An option is out of range.
    """
    if bits not in (8, 16) or min(length, stride) < 1 or min(validation, test) < 0 or validation + test >= 1:
        raise UsageError(
            f"bits={bits}, length={length}, stride={stride}, validation={validation}, test={test}; wanted 8 or 16 bits, positive "
            "sizes, and shares that add up to less than 1"
        )
    files, rates, splits = _by_split(path, validation, test, seed), set(), {}
    for name, group in files.items():
        recordings = []
        for file in group:
            samples, rate = read_wav(file.read_bytes(), str(file))
            recordings.append(samples)
            rates.add(rate)
        joined = np.concatenate(recordings)
        if len(joined) < length:
            raise DataError(f"{path}: the {name} recordings have {len(joined)} samples, fewer than length={length}")
        values = joined if bits == 16 else mu_law(joined)
        windows = crops(values, length)[::stride] if name == "train" else held_out(values, length)
        splits[name] = Split(x=windows[:, None])
    if len(rates) > 1:
        raise DataError(f"{path}: sample rates {sorted(rates)}; wanted one, resample the recordings")
    space = Space("audio", (1, length), 65_536 if bits == 16 else 256, offset=-32_768 if bits == 16 else 0)
    ordered = {name: splits[name] for name in SPLITS if name in splits}
    return DataSet(path.resolve().stem, space, ordered, licence="the user's own", source=str(path))


def _by_split(path: Path, validation: float, test: float, seed: int) -> dict[str, list[Path]]:
    named = {split: find_wavs(path / split) for split in SPLITS if (path / split).is_dir()}
    if named:
        return {split: files for split, files in named.items() if files}
    files = find_wavs(path)
    numbers = [SPOKEN_DIGIT.fullmatch(file.name) for file in files]
    parts: dict[str, list[Path]] = {split: [] for split in SPLITS}
    if all(numbers):
        for file, match in zip(files, numbers, strict=True):
            number = int(match[1]) if match else 0
            parts["test" if number < 5 else "validation" if number == 5 else "train"].append(file)
    else:
        order = stable_order(len(files), "wav", seed)
        ends = [round(test * len(files)), round((test + validation) * len(files))]
        for split, part in zip(("test", "validation", "train"), np.split(order, ends), strict=True):
            parts[split] = [files[i] for i in sorted(part)]
    return {split: found for split, found in parts.items() if found}
