"""WaveNet as a lossless compressor of WAV files, beside FLAC at its best setting.

    python benchmarks/audio_codecs.py RUN FOLDER_OF_WAV_FILES -o benchmarks/results/audio-codecs.json

The recordings of FOLDER, or where they are named like the Free Spoken Digit Dataset's its official test recordings (numbers 0 to 4), are compressed with the run's model,
decompressed by another process, and compared byte by byte. FLAC is libsndfile's at compression level 1.0, its best: a file a recording, and all recordings in
one file. Two sizes of ours are given, without and with the model's weights.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile

from codelength.data.audio import SPOKEN_DIGIT, find_wavs, read_wav
from codelength.evaluation.provenance import git_commit, library_versions


def flac_bytes(samples: np.ndarray, rate: int, folder: Path) -> int:
    """Size of the FLAC file of samples, which is read again and compared."""
    path = folder / "x.flac"
    soundfile.write(path, samples, rate, format="FLAC", subtype="PCM_16", compression_level=1.0)
    back, _ = soundfile.read(path, dtype="int16")
    assert np.array_equal(back, samples)
    return path.stat().st_size


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("-o", "--output", type=Path, required=True)
    arguments = parser.parse_args()
    files = find_wavs(arguments.folder)
    numbers = [SPOKEN_DIGIT.fullmatch(file.name) for file in files]
    if all(numbers):
        files = [file for file, match in zip(files, numbers, strict=True) if match and int(match[1]) < 5]
    recordings = [read_wav(file.read_bytes(), str(file)) for file in files]
    rate = recordings[0][1]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        apart = sum(flac_bytes(samples, rate, folder) for samples, rate in recordings)
        joined = flac_bytes(np.concatenate([samples for samples, _ in recordings]), rate, folder)
        command = [sys.executable, "-m", "codelength.cli.main"]
        start = time.perf_counter()
        paths = [str(file) for file in files]
        coded = folder / "x.clen"
        subprocess.run([*command, "compress", str(arguments.run), *paths, "--no-verify", "-o", str(coded)], check=True)
        middle = time.perf_counter()
        subprocess.run(
            [*command, "decompress", str(coded), "-o", str(folder / "back"), "--run", str(arguments.run)],
            check=True,
            stdout=subprocess.DEVNULL,
        )
        end = time.perf_counter()
        for file in files:
            if (folder / "back" / file.name).read_bytes() != file.read_bytes():
                raise SystemExit(f"{file} did not come back")
        ours = coded.stat().st_size
    weights = (arguments.run / "model.safetensors").stat().st_size
    samples = sum(len(samples) for samples, _ in recordings)
    raw = sum(file.stat().st_size for file in files)
    sizes = {
        "WAV": raw,
        "FLAC, a file a recording": apart,
        "FLAC, all in one file": joined,
        f"{arguments.run.name}, model not counted": ours,
        f"{arguments.run.name}, model counted": ours + weights,
    }
    result = {
        "run": arguments.run.name,
        "recordings": len(files),
        "samples": samples,
        "sizes": {name: {"bytes": size, "bits_per_sample": 8 * size / samples} for name, size in sizes.items()},
        "smaller_than_flac_a_file_a_recording": 1 - ours / apart,
        "smaller_than_flac_in_one_file": 1 - ours / joined,
        "model_bytes": weights,
        "decoded": True,
        "encode_seconds": middle - start,
        "decode_seconds": end - middle,
        "soundfile": f"{soundfile.__version__}, {soundfile.__libsndfile_version__}",
        "commit": git_commit(),
        "library_versions": library_versions(),
    }
    arguments.output.write_text(json.dumps(result, indent=1) + "\n")
    for name, size in sizes.items():
        print(f"{name:<40}{size:>12,} bytes{8 * size / samples:>9.4f} bits/sample")


if __name__ == "__main__":
    main()
