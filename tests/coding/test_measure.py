"""The proof in a fresh process."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from codelength.coding import verify_worker
from codelength.coding.measure import measure_coding, verify_in_fresh_process
from codelength.data.dataset import DataSet, Split
from codelength.errors import CodecError
from codelength.space import Space


@pytest.fixture
def data(images) -> DataSet:
    return DataSet("tiny", Space.image(1, 6, 6), {"test": Split(images(60))})


def test_a_split_is_coded_and_decoded_elsewhere(mean_field_run, data: DataSet, tmp_path: Path) -> None:
    run = mean_field_run("measured")
    result = measure_coding(run, data, "test", folder=tmp_path / "coding")
    assert result.verified
    assert result.coded_total_bytes == Path(result.file).stat().st_size
    assert result.coded_bits_per_dim == pytest.approx(8 * result.coded_total_bytes / (60 * 36))
    assert result.model_bits_per_dim == pytest.approx(8 * result.model_total_bytes / (60 * 36))
    assert 0 < result.coded_total_bytes - result.model_total_bytes <= 0.005 * result.model_total_bytes + 256
    assert result.overhead_ratio == pytest.approx(result.coded_total_bytes / result.model_total_bytes - 1)
    assert result.data_sha256 == data.splits["test"].fingerprint()
    assert result.to_json()["run"] == "measured"
    # Controls: other originals, and another file, are noticed.
    x = data.splits["test"].x.copy()
    x[0, 0, 0, 0] ^= 1
    with pytest.raises(CodecError, match="other bytes"):
        verify_in_fresh_process(Path(result.file), run.path, x)


def test_the_worker_says_what_is_wrong(mean_field_run, data: DataSet, tmp_path: Path, capsys) -> None:
    run, other = mean_field_run("one"), mean_field_run("two", seed=1)
    model, sha256 = verify_worker.load_coder(run)
    file, out = tmp_path / "x.clen", tmp_path / "x.npy"
    from codelength.coding.codec import compress

    file.write_bytes(compress(model, data.splits["test"].x, model_sha256=sha256))
    assert verify_worker.main([str(file), str(run.path), str(out)]) == 0
    np.testing.assert_array_equal(np.load(out), data.splits["test"].x)
    assert '"seconds"' in capsys.readouterr().out
    assert verify_worker.main([str(file), str(other.path), str(out)]) == 1
    assert "not with" in capsys.readouterr().err
    shutil.rmtree(run.path)
    with pytest.raises(CodecError, match="fresh process"):
        verify_in_fresh_process(file, run.path, data.splits["test"].x)
