"""Data larger than memory: what is read is what was written, in any order, from anywhere in an epoch."""

import io
import tarfile

import numpy as np
import pytest
from PIL import Image

from codelength.data import load_data, stored
from codelength.data.addresses import cut_by_content, split_names
from codelength.data.dataset import Split
from codelength.data.sources import Place, write_parquet
from codelength.data.stored import StoredArray, WindowOrder
from codelength.errors import DataError, UsageError
from codelength.training.batches import Batches, data_mark


class Memory:
    """A source that counts its reads."""

    def __init__(self, x, lengths):
        self.parts = np.split(x, np.cumsum(lengths)[:-1])
        self.lengths, self.reads = list(lengths), []

    def read(self, chunk):
        self.reads.append(chunk)
        return self.parts[chunk]


@pytest.fixture
def pixels():
    return np.random.default_rng(0).integers(0, 256, (23, 3, 8, 8), dtype=np.uint8)


def png(image):
    buffer = io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(buffer, "png")
    return buffer.getvalue()


@pytest.mark.parametrize(
    "key", [slice(None), slice(3, 19, 4), slice(-4, None), [5, 0, 22, 5], [-1], np.arange(23) % 3 == 0, 7]
)
def test_indexing_is_numpys(pixels, key):
    x = StoredArray(Memory(pixels, (5, 0, 11, 7)))
    assert (x.shape, x.dtype, len(x), x.ndim) == (pixels.shape, pixels.dtype, 23, 4)
    key = np.array(key) if isinstance(key, list) else key
    np.testing.assert_array_equal(x[key], pixels[key])
    chosen = np.array([0, 4, 5, 6, 15, 16, 22])
    np.testing.assert_array_equal(x.subset(chosen)[np.array([6, 0, 3])], pixels[chosen][[6, 0, 3]])
    np.testing.assert_array_equal(x.subset(chosen).subset(np.array([1, 4]))[:], pixels[[4, 15]])
    with pytest.raises(IndexError):
        x[np.array([23])]


def test_fingerprint_is_that_of_the_array(pixels):
    assert Split(StoredArray(Memory(pixels, (20, 3)))).fingerprint() == Split(pixels).fingerprint()


def test_memory_is_bounded_and_reading_in_order_reads_each_chunk_once(pixels, monkeypatch):
    monkeypatch.setattr(stored, "KEPT_BYTES", 2 * 5 * 3 * 64)
    source = Memory(pixels, (5, 5, 5, 5, 3))
    x = StoredArray(source)
    for start in range(0, 23, 2):
        x[start : start + 2]
        assert sum(kept.nbytes for kept in x._kept.values()) <= stored.KEPT_BYTES
    assert source.reads == [0, 1, 2, 3, 4]
    monkeypatch.setattr(stored, "ARRAY_LIMIT", 100)
    with pytest.raises(UsageError, match="do not fit into memory"):
        np.asarray(x)


def test_an_epoch_is_a_permutation_entered_anywhere():
    counts = np.array([4, 9, 0, 5, 7, 6])
    order = WindowOrder(counts, 10, seed=3, epoch=2)
    whole = order[np.arange(31)]
    assert sorted(whole) == list(range(31))
    assert len(order.windows) > 1
    assert (WindowOrder(counts, 10, seed=3, epoch=2)[np.array([30, 11, 2])] == whole[[30, 11, 2]]).all()
    assert (WindowOrder(counts, 10, seed=3, epoch=3)[np.arange(31)] != whole).any()
    # Data of a window come from few chunks: those that must be in memory.
    first = int(counts[order.windows[0]].sum())
    starts = np.concatenate([[0], np.cumsum(counts)])
    chunks = set((np.searchsorted(starts, whole[:first], side="right") - 1).tolist())
    assert chunks <= set(order.windows[0])


def test_batches_cover_every_datum_once_an_epoch_and_go_on_from_any_step(pixels, monkeypatch):
    monkeypatch.setattr(stored, "WINDOW_BYTES", 8 * 192)

    def batches():
        return Batches(Split(StoredArray(Memory(pixels, (5, 11, 7)))), 4, 1)

    every = np.concatenate([batches().indices(step) for step in range(1, 24)])
    for epoch in range(4):
        assert sorted(every[23 * epoch : 23 * (epoch + 1)]) == list(range(23))
    assert (batches().indices(9) == every[32:36]).all()
    whole = batches()[3].x
    assert (whole.numpy() == pixels[every[8:12]]).all()
    mark = data_mark(Split(StoredArray(Memory(pixels, (5, 11, 7)))))
    assert mark != data_mark(Split(StoredArray(Memory(pixels[::-1], (5, 11, 7)))))


def test_splits_are_named_by_what_sets_files_apart():
    def names(*addresses):
        return {name: len(files) for name, files in split_names([Place(address) for address in addresses]).items()}

    assert names("/home/dev/faces/a.npy", "/home/dev/faces/b.npy") == {"": 2}
    assert names("/mnt/test/x.npy") == {"": 1}
    assert names("/home/dev/train/a.npy", "/home/dev/val/a.npy", "/home/dev/val/b.npy") == {"train": 1, "validation": 2}
    assert names("s3://bucket/train-0.npy", "s3://bucket/dev_0.npy") == {"train": 1, "validation": 1}


def test_cut_by_content_keeps_duplicates_together():
    x = np.random.default_rng(1).integers(0, 4, (600, 1, 2, 2), dtype=np.uint8)  # 256 contents: many duplicates
    cut = cut_by_content(StoredArray(Memory(x, (600,))), 0.2, 0.2, 0)
    assert sorted(np.concatenate(list(cut.values()))) == list(range(600))
    contents = {name: {x[i].tobytes() for i in indices} for name, indices in cut.items()}
    assert not contents["train"] & (contents["validation"] | contents["test"])
    assert not contents["validation"] & contents["test"]
    assert 60 < len(cut["test"]) < 180


def test_array_files(tmp_path, pixels):
    np.save(tmp_path / "train-0.npy", pixels.transpose(0, 2, 3, 1)[:12])
    np.save(tmp_path / "train-1.npy", pixels.transpose(0, 2, 3, 1)[12:])
    np.save(tmp_path / "test.npy", pixels.transpose(0, 2, 3, 1)[:4])
    data = load_data(f"arrays:{tmp_path}")
    assert data.space.shape == (3, 8, 8)
    np.testing.assert_array_equal(data.split("train").x[:], pixels)
    np.testing.assert_array_equal(data.split("test").x[:], pixels[:4])
    np.save(tmp_path / "stray.npy", pixels)
    with pytest.raises(DataError, match="named by no split"):
        load_data(f"arrays:{tmp_path}")
    np.save(tmp_path / "stray.npy", pixels.astype(float))
    with pytest.raises(DataError, match="wanted uint8 or uint16"):
        load_data(f"arrays:{tmp_path}/stray.npy")


def test_image_files_through_another_file_system(pixels):
    import fsspec

    memory = fsspec.filesystem("memory")
    for i, image in enumerate(pixels):
        memory.pipe(f"/pictures/{i:03}.png", png(image))
    data = load_data("images:memory://pictures@validation=0.0,test=0.0")
    np.testing.assert_array_equal(data.split("train").x[:], pixels)
    memory.rm("/pictures", recursive=True)


def test_webdataset_shards(tmp_path, pixels):
    for shard, rows in enumerate((range(10), range(10, 23))):
        with tarfile.open(tmp_path / f"shard-{shard:02}.tar", "w") as tar:
            for row in rows:
                for name, content in ((f"{row:05}.png", png(pixels[row])), (f"{row:05}.cls", str(row % 7).encode())):
                    member = tarfile.TarInfo(name)
                    member.size = len(content)
                    tar.addfile(member, io.BytesIO(content))
    data = load_data(f"webdataset:{tmp_path}/shard-{{00..01}}.tar@validation=0.0,test=0.0")
    np.testing.assert_array_equal(data.split("train").x[np.array([22, 3])], pixels[[22, 3]])
    assert data.split("train").conditions["label"].tolist() == [row % 7 for row in range(23)]
    assert data.space.conditions == {"label": 7}
    content = (tmp_path / "shard-00.tar").read_bytes()
    (tmp_path / "shard-00.tar").write_bytes(content[:700])
    with pytest.raises(DataError, match="no whole tar shard"):
        load_data(f"webdataset:{tmp_path}/shard-00.tar")


def test_parquet_of_raw_integers(tmp_path, pixels):
    pytest.importorskip("pyarrow")
    write_parquet(tmp_path / "test.parquet", (pixels[:9], pixels[9:]), [np.arange(9), np.arange(9, 23)])
    data = load_data(f"parquet:{tmp_path}@label=label")
    split = data.split("test")
    assert split.x.source.lengths == [9, 14]
    np.testing.assert_array_equal(split.x[:], pixels)
    assert split.conditions["label"].tolist() == list(range(23))


def test_parquet_of_encoded_images(tmp_path, pixels):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    image = pa.array([{"bytes": png(x), "path": None} for x in pixels])
    pq.write_table(
        pa.table({"image": image, "caption": ["a"] * 23}), tmp_path / "train-00000.parquet", row_group_size=10
    )
    x = load_data(f"parquet:{tmp_path}").split("train").x
    np.testing.assert_array_equal(x[:], pixels)
    (tmp_path / "train-00000.parquet").write_bytes(b"PAR1 and so on")
    with pytest.raises(DataError, match="no Parquet file"):
        load_data(f"parquet:{tmp_path}")


@pytest.mark.slow
def test_hugging_face_data_sets(tmp_path, pixels):
    datasets = pytest.importorskip("datasets")
    rows = datasets.Dataset.from_dict(
        {"picture": [{"bytes": png(x), "path": None} for x in pixels]},
        features=datasets.Features({"picture": datasets.Image()}),
    )
    datasets.DatasetDict({"train": rows, "test": rows.select(range(5))}).save_to_disk(str(tmp_path / "saved"))
    data = load_data(f"hub:{tmp_path / 'saved'}")
    np.testing.assert_array_equal(data.split("train").x[:], pixels)
    np.testing.assert_array_equal(data.split("test").x[:], pixels[:5])
    rows.to_parquet(str(tmp_path / "train.parquet"))
    found = load_data(f"parquet:{tmp_path / 'train.parquet'}").split("train")
    np.testing.assert_array_equal(found.x[:], pixels)


def test_errors(tmp_path):
    with pytest.raises(DataError, match=r"holds no \.npy file"):
        load_data(f"arrays:{tmp_path}")
    with pytest.raises(UsageError):
        load_data("images:nowhere-known://x")
