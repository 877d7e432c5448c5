"""Loaders of published sets on tiny files of the official formats."""

import hashlib
import io
import tarfile
import zipfile

import numpy as np
import pytest
import scipy.io
from PIL import Image

from codelength.data import field_sets, load_data, official
from codelength.data.official import OfficialFile
from codelength.data.registry import ENTRIES
from codelength.errors import ChecksumError, DataError


@pytest.fixture
def publish(tmp_path, monkeypatch, cache):
    """Write official files, with checksums as if they were the published ones."""
    monkeypatch.setattr(field_sets, "cache_folder", lambda: cache)
    monkeypatch.setenv("CODELENGTH_DATA", str(tmp_path / "data"))

    def write(folder, files):
        (tmp_path / "data" / folder).mkdir(parents=True)
        entries = {}
        for name, content in files.items():
            (tmp_path / "data" / folder / name).write_bytes(content)
            digest = "md5:" + hashlib.md5(content).hexdigest()
            if ".tar.gz" in name:
                digest = f"bytes:{len(content)}"
            entries[name] = OfficialFile({name: digest}, "http://nowhere/")
        monkeypatch.setitem(official.OFFICIAL, folder, entries)
        return tmp_path / "data" / folder

    return write


def encoded(image, kind="png"):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **({"quality": 95} if kind == "jpeg" else {}))
    return buffer.getvalue()


def tar(files, mode):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in files:
            archive.writestr(name, content)
    return buffer.getvalue()


def npz(**arrays):
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return buffer.getvalue()


def test_svhn(publish, noise):
    x, labels = noise((12, 32, 32, 3)), np.array([10, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 1])[:, None]

    def mat(rows):
        buffer = io.BytesIO()
        scipy.io.savemat(buffer, {"X": x[rows].transpose(1, 2, 3, 0), "y": labels[rows].astype(np.uint8)})
        return buffer.getvalue()

    folder = publish("svhn", {"train_32x32.mat": mat(slice(0, 10)), "test_32x32.mat": mat(slice(10, 12))})
    data = load_data("svhn")
    found = np.concatenate([data.split(name).x for name in ("train", "validation", "test")])
    np.testing.assert_array_equal(found, x.transpose(0, 3, 1, 2))
    assert data.split("test").conditions["label"].tolist() == [0, 1]
    assert [len(data.split(name)) for name in ("train", "validation")] == [9, 1]
    (folder / "test_32x32.mat").write_bytes(b"MATLAB 5.0")
    with pytest.raises(ChecksumError):
        load_data("svhn")


def test_notmnist_leaves_out_empty_files_and_keeps_letters(publish, noise):
    x = noise((9, 28, 28))
    files = [(f"notMNIST_small/{'ABJ'[i % 3]}/{i}.png", encoded(image)) for i, image in enumerate(x)]
    large = [(name.replace("small", "large"), content) for name, content in files]
    archives = {
        "notMNIST_small.tar.gz": tar([*files, ("notMNIST_small/A/broken.png", b"")], "w:gz"),
        "notMNIST_large.tar.gz": tar(large, "w:gz"),
    }
    publish("notmnist", archives)
    test = load_data("notmnist").split("test")
    letters = {image.tobytes(): [0, 1, 9][i % 3] for i, image in enumerate(x)}
    assert len(test) == 9
    assert [letters[image.tobytes()] for image in test.x] == test.conditions["label"].tolist()


def test_omniglot(publish):
    strokes = np.random.default_rng(0).random((6, 105, 105)) < 0.1
    files = [(f"images_background/Latin/c{i}/0_{i}.png", encoded(~ink)) for i, ink in enumerate(strokes)]
    publish("omniglot", {"images_background.zip": zipped(files), "images_evaluation.zip": zipped(files[:2])})
    data = load_data("omniglot105")
    assert data.space.levels == 2
    np.testing.assert_array_equal(data.split("test").x[:, 0], strokes[:2])
    np.testing.assert_array_equal(data.split("train").x[:, 0], strokes[:5])


def test_celeba_by_the_name_of_its_crop(publish):
    rows, columns = np.mgrid[0:218, 0:178]
    image = np.stack([rows, columns, 0 * rows + 128], axis=-1).astype(np.uint8)
    names = [f"{i:06}.jpg" for i in range(1, 6)]
    files = [(f"img_align_celeba/{name}", encoded(image, "jpeg")) for name in names]
    partition = "".join(f"{name} {part}\n" for name, part in zip(names, (0, 0, 1, 2, 2), strict=True))
    publish("celeba", {"img_align_celeba.zip": zipped(files), "list_eval_partition.txt": partition.encode()})
    for crop, (left, upper, right, lower) in field_sets.CELEBA_CROPS.items():
        data = load_data(f"celeba64-{crop}")
        assert [len(data.split(name)) for name in ("train", "validation", "test")] == [2, 1, 2]
        face = data.split("test").x[0].astype(float)
        assert face.shape == (3, 64, 64)
        assert right - left == lower - upper
        # A ramp shows which rows and columns were taken: its mean is that of the crop.
        assert face[0].mean() == pytest.approx((upper + lower - 1) / 2, abs=0.7)
        assert face[1].mean() == pytest.approx((left + right - 1) / 2, abs=0.7)


def test_old_and_new_imagenet_are_two_names(publish, noise, cache):
    x = noise((11, 32, 32, 3))
    files = [(f"train_32x32/{i:07}.png", encoded(image)) for i, image in enumerate(x)]
    valid = [(f"valid_32x32/{i:05}.png", encoded(image)) for i, image in enumerate(x[::-1][:4])]
    publish("imagenet32-old", {"train_32x32.tar": tar(files[::-1], "w:"), "valid_32x32.tar": tar(valid, "w:")})
    old = load_data("imagenet32-old")
    np.testing.assert_array_equal(old.split("train").x[:], x[:10].transpose(0, 3, 1, 2))
    np.testing.assert_array_equal(old.split("test").x[:], x[::-1][:4].transpose(0, 3, 1, 2))
    flat = x.transpose(0, 3, 1, 2).reshape(11, -1)
    labels = np.array([1, 1000, 300, 4, 5, 6, 7, 8, 9, 10, 11])
    batches = [
        ("train_data_batch_10.npz", npz(data=flat[6:], labels=labels[6:])),
        ("train_data_batch_9.npz", npz(data=flat[:6], labels=labels[:6])),
    ]
    val = zipped([("val_data.npz", npz(data=flat[:3], labels=labels[:3]))])
    publish("imagenet32-new", {"Imagenet32_train_npz.zip": zipped(batches), "Imagenet32_val_npz.zip": val})
    new = load_data("imagenet32-new")
    np.testing.assert_array_equal(new.split("train").x[:], x[:10].transpose(0, 3, 1, 2))
    assert new.split("train").conditions["label"].tolist() == (labels[:10] - 1).tolist()
    assert new.split("test").conditions["label"].tolist() == [0, 999, 299]
    # Decoded once: the second time the cached file is read.
    kept = sorted((cache / "imagenet32-new").glob("*.npy"))
    before = [path.stat().st_mtime_ns for path in kept]
    np.testing.assert_array_equal(load_data("imagenet32-new").split("validation").x[:], x[10:].transpose(0, 3, 1, 2))
    assert [path.stat().st_mtime_ns for path in kept] == before
    np.testing.assert_array_equal(np.load(kept[0], allow_pickle=False).shape[0], np.load(kept[1]).shape[0])


def test_missing_files_are_named(publish):
    publish("elsewhere", {})
    for name in field_sets.ENTRIES:
        with pytest.raises(DataError, match=f"data fetch {name}"):
            load_data(name)
        assert ENTRIES[name].sizes[0] > 0


def chardata(path, train, test):
    """chardata.mat as published: images as columns, each in MATLAB's order."""
    columns = {"data": train, "testdata": test}
    scipy.io.savemat(
        path, {key: x.transpose(0, 2, 1).reshape(len(x), -1).T.astype(float) for key, x in columns.items()}
    )


def test_omniglot28_is_split_and_turned_as_by_burda(publish, tmp_path, monkeypatch):
    generator = np.random.default_rng(0)
    ink = generator.random((40, 28, 28)) * (generator.random((40, 28, 28)) < 0.2)
    ink[:, 0, 1:], ink[:, 1:, 0] = 1, 0  # the first row is ink, the first column is not
    chardata(tmp_path / "chardata.mat", ink[:30], ink[30:])
    publish("omniglot28", {"chardata.mat": (tmp_path / "chardata.mat").read_bytes()})
    monkeypatch.setattr(field_sets, "OMNIGLOT28_HELD_OUT", 7)
    data = load_data("omniglot28-dynamic")
    order = np.random.RandomState(123).permutation(30)
    expected = {"train": ink[order[:-7]], "validation": ink[order[-7:]], "test": ink[30:]}
    for name, images in expected.items():
        split = data.split(name)
        np.testing.assert_array_equal(split.intensity[:, 0], images.astype(np.float32))
        np.testing.assert_array_equal(split.x[images[:, None] == 0], 0)
        np.testing.assert_array_equal(split.x[images[:, None] == 1], 1)
    assert data.split("test").x[0, 0, 0, 1:].all()
    between = [(s.intensity > 0) & (s.intensity < 1) for s in (data.split("train"), data.split("test"))]
    drawn = np.concatenate([data.split(n).x[m] for n, m in zip(("train", "test"), between, strict=True)])
    p = np.concatenate([data.split(n).intensity[m] for n, m in zip(("train", "test"), between, strict=True)])
    assert abs((drawn - p).sum()) < 5 * np.sqrt((p * (1 - p)).sum())
    assert data.space.binarization == "dynamic"
    assert load_data("omniglot28-dynamic", seed=1).split("test").fingerprint() != data.split("test").fingerprint()
    static = load_data("omniglot28-static")
    assert (static.space.binarization, static.split("test").intensity) == ("static", None)
    assert static.split("test").fingerprint() == load_data("omniglot28-static").split("test").fingerprint()


def test_omniglot28_refuses_other_values(publish, tmp_path):
    chardata(tmp_path / "chardata.mat", np.full((30, 28, 28), 255.0), np.zeros((2, 28, 28)))
    publish("omniglot28", {"chardata.mat": (tmp_path / "chardata.mat").read_bytes()})
    with pytest.raises(DataError, match=r"outside of \[0, 1\]"):
        load_data("omniglot28-static")


@pytest.mark.parametrize(
    ("name", "folder", "suffix"),
    [("wikitext2-raw", "wikitext-2-raw", "raw"), ("wikitext103", "wikitext-103", "tokens")],
)
def test_wikitext(publish, name, folder, suffix):
    texts = {
        part: f" \n = {part.title()} = \n \n The {part} text <unk> @-@ naïve . \n".encode() * 9
        for part in ("train", "valid", "test")
    }
    files = [(f"{folder}/", b""), *((f"{folder}/wiki.{part}.{suffix}", content) for part, content in texts.items())]
    publish(name, {f"{folder}-v1.zip": zipped(files)})
    data = load_data(name, context=16)
    found = {split: text.content for split, text in data.texts.items()}
    assert found == {"train": texts["train"], "validation": texts["valid"], "test": texts["test"]}
    assert data.space.levels == 256
    assert data.texts["test"].num_words == 9 * 10


def test_another_archive_is_no_wikitext(publish):
    publish("wikitext2", {"wikitext-2-v1.zip": zipped([("wikitext-2/wiki.train.raw", b"text")])})
    with pytest.raises(DataError, match="no archive of WikiText"):
        load_data("wikitext2")


@pytest.mark.parametrize(("name", "text"), [("enwik8", "naïve <page> " * 80), ("text8", " anarchism originated" * 50)])
def test_wikipedia_is_cut_as_everywhere(publish, name, text):
    content = text.encode()[:1000]
    publish(name, {name: content})
    data = load_data(name, context=10)
    found = {split: text.content for split, text in data.texts.items()}
    assert found == {"train": content[:900], "validation": content[900:950], "test": content[950:]}
    assert data.space.levels == {"enwik8": 256, "text8": len(set(content[:900]))}[name]
