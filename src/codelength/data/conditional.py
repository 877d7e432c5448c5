"""Data sets of p(y | x): whole-numbered targets (N, 1) with real features (N, F) as their condition; inside scikit-learn's wheel."""

from __future__ import annotations

import gzip

import numpy as np

from codelength.data.dataset import DataSet, Split
from codelength.data.embedded import load_digits, package_file
from codelength.data.splitting import stable_order
from codelength.space import Space

FEATURES = "features"


def load_diabetes() -> DataSet:
    """442 patients: 10 measurements, and how far the disease went after a year, a whole number from 25 to 346: 342 / 50 / 50.

    Features have mean 0 and variance 1 on the training data.
    """
    tables = {}
    for part in ("data_raw", "target"):
        with gzip.open(package_file("sklearn", f"datasets/data/diabetes_{part}.csv.gz"), "rt") as file:
            tables[part] = np.loadtxt(file)
    targets = tables["target"].astype(np.int64)[:, None]
    order = dict(zip(("train", "validation", "test"), np.split(stable_order(len(targets), "diabetes"), [342, 392])))
    train = tables["data_raw"][order["train"]]
    features = ((tables["data_raw"] - train.mean(0)) / train.std(0)).astype(np.float32)
    splits = {name: Split(x=targets[i], conditions={FEATURES: features[i]}) for name, i in order.items()}
    source = "sklearn.datasets.load_diabetes (Efron et al., Least Angle Regression, 2004)"
    return DataSet("diabetes", Space("vector", (1,), 400), splits, "BSD-3-Clause (as in scikit-learn)", source)


def load_digits_label() -> DataSet:
    """The labels of `digits` given their 64 pixels, in the same splits: classification as p(label | x)."""
    data = load_digits()
    splits = {
        name: Split(
            x=split.conditions["label"][:, None],
            conditions={FEATURES: (split.x.reshape(len(split), -1) / 8 - 1).astype(np.float32)},
        )
        for name, split in data.splits.items()
    }
    return DataSet("digits-label", Space("vector", (1,), 10), splits, data.licence, data.source)
