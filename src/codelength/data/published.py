"""Published data sets, put together from their official files with the split everyone uses."""

from __future__ import annotations

import numpy as np

from codelength.data.dataset import DataSet, Split
from codelength.data.embedded import RGB
from codelength.data.official import OFFICIAL, checked_file, cifar10_batches, read_amat, read_idx
from codelength.space import Space

HELD_OUT = 5_000  # the last training data, kept for validation


def _splits(train: np.ndarray, train_labels: np.ndarray, test: np.ndarray, test_labels: np.ndarray) -> dict[str, Split]:
    parts = {
        "train": (train[:-HELD_OUT], train_labels[:-HELD_OUT]),
        "validation": (train[-HELD_OUT:], train_labels[-HELD_OUT:]),
        "test": (test, test_labels),
    }
    return {name: Split(x=x, conditions={"label": labels.astype(np.int64)}) for name, (x, labels) in parts.items()}


def _load_idx(name: str, licence: str, source: str) -> DataSet:
    files = OFFICIAL[name]
    paths = {stem: checked_file(name, files[stem].forms, name) for stem in files}
    arrays = {stem: read_idx(path) for stem, path in paths.items()}
    splits = _splits(
        arrays["train-images-idx3-ubyte"][:, None],
        arrays["train-labels-idx1-ubyte"],
        arrays["t10k-images-idx3-ubyte"][:, None],
        arrays["t10k-labels-idx1-ubyte"],
    )
    return DataSet(name, Space.image(1, 28, 28, conditions={"label": 10}), splits, licence, source)


def load_mnist() -> DataSet:
    """MNIST: 55,000 / 5,000 (the last of the training files) / 10,000."""
    return _load_idx("mnist", "CC BY-SA 3.0 (as commonly stated)", "the four official IDX files")


def load_fashion_mnist() -> DataSet:
    """Fashion-MNIST: 55,000 / 5,000 (the last of the training files) / 10,000."""
    return _load_idx("fashion_mnist", "MIT", "the four official IDX files")


def load_cifar10() -> DataSet:
    """CIFAR-10: 45,000 / 5,000 (the last of the training batches) / 10,000, (3, 32, 32)."""
    x = np.empty((60_000, 3072), dtype=np.uint8)
    labels = np.empty(60_000, dtype=np.uint8)
    for i, (_, records) in enumerate(cifar10_batches("cifar10")):
        rows = slice(10_000 * i, 10_000 * (i + 1))
        labels[rows], x[rows] = records[:, 0], records[:, 1:]
    images = x.reshape(-1, 3, 32, 32)
    splits = _splits(images[:50_000], labels[:50_000], images[50_000:], labels[50_000:])
    space = Space("image", (3, 32, 32), 256, channels=RGB, conditions={"label": 10})
    return DataSet("cifar10", space, splits, "none stated (Krizhevsky 2009)", "the official binary version")


def load_binarized_mnist() -> DataSet:
    """The fixed binarization of Salakhutdinov and Murray in Larochelle's files: 50,000 / 10,000 / 10,000, no labels."""
    splits = {}
    for name, part in (("train", "train"), ("validation", "valid"), ("test", "test")):
        forms = OFFICIAL["binarized_mnist"][f"binarized_mnist_{part}.amat"].forms
        splits[name] = Split(x=read_amat(checked_file("binarized_mnist", forms, "mnist-static")))
    return DataSet(
        "mnist-static",
        Space.image(1, 28, 28).with_binarization("static"),
        splits,
        licence="CC BY-SA 3.0 (MNIST, as commonly stated)",
        source="binarized_mnist_{train,valid,test}.amat (Larochelle)",
    )
