"""Data sets larger than memory by their address: `parquet:ADDRESS`, `webdataset:ADDRESS`, `images:ADDRESS`, `arrays:ADDRESS`,
`hub:NAME`.

Files or folders whose names start with train, validation (valid, val, dev) or test are those splits. Without such names the
data are cut by content, so that exact duplicates never straddle two splits.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from functools import partial
from itertools import takewhile
from typing import Any

import numpy as np

from codelength.data import sources
from codelength.data.dataset import SPLITS, DataSet, Split
from codelength.data.images import IMAGE_SUFFIXES
from codelength.data.sources import Place
from codelength.data.stored import Source, StoredArray
from codelength.errors import DataError, UsageError
from codelength.space import Space

NAMES = {"train": "train", "training": "train", "validation": "validation", "valid": "validation", "val": "validation",
         "dev": "validation", "test": "test"}  # fmt: skip


def split_names(places: list[Place]) -> dict[str, list[Place]]:
    """Split -> its files, where their names or those of the folders that set them apart say so; else all of them under "".

    Raises:
        DataError: Some files are named by a split and others are not.
    """
    groups: dict[str, list[Place]] = {}
    paths = [place.address.split("/") for place in places]
    # Folders above all files say where the data are, not what: /home/dev/faces is no validation set.
    shared = takewhile(lambda parts: len(set(parts)) == 1, zip(*(folders for *folders, _ in paths), strict=False))
    above = len(list(shared))
    for place, path in zip(places, paths, strict=True):
        *folders, file = path[above:]
        words = [re.split(r"[-_.\d]", file)[0].lower(), *(folder.lower() for folder in reversed(folders))]
        groups.setdefault(next((NAMES[word] for word in words if word in NAMES), ""), []).append(place)
    if "" in groups and len(groups) > 1:
        raise DataError(
            f"{groups[''][0].address} is named by no split, but others are; start its name with train, validation or test"
        )
    return groups


def cut_by_content(x: StoredArray, validation: float, test: float, seed: int) -> dict[str, np.ndarray]:
    """Split -> indices: a datum's split is a function of its integers and the seed; one pass over the data.

    Raises:
        UsageError: The shares are negative or leave no training data.
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise UsageError(
            f"validation={validation} and test={test}; wanted shares of 0 or more that add up to less than 1"
        )
    if validation == test == 0:
        return {"train": np.arange(len(x))}
    where = np.empty(len(x), dtype=np.float64)
    for start in range(0, len(x), 1024):
        for i, row in enumerate(x[start : start + 1024], start=start):
            digest = hashlib.sha256(np.ascontiguousarray(row, dtype="<u2").tobytes() + str(seed).encode()).digest()
            where[i] = int.from_bytes(digest[:8], "little") / 2**64
    cuts = {"test": where < test, "validation": (where >= test) & (where < test + validation)}
    cuts["train"] = where >= test + validation
    return {name: np.flatnonzero(cuts[name]) for name in SPLITS if cuts[name].any()}


def _load(
    address: str,
    suffixes: tuple[str, ...],
    make: Callable[[list[Place]], Source],
    labels_of: Callable[[Any], np.ndarray | None],
    levels: int | None,
    validation: float,
    test: float,
    seed: int,
) -> DataSet:
    groups = split_names(sources.find(address, suffixes))
    arrays, labels = {}, {}
    for name, places in groups.items():
        source = make(places)
        arrays[name], labels[name] = StoredArray(source), labels_of(source)
    return assemble(address, arrays, labels, levels, validation, test, seed)


def assemble(
    address: str,
    arrays: dict[str, StoredArray],
    labels: dict[str, np.ndarray | None],
    levels: int | None,
    validation: float,
    test: float,
    seed: int,
) -> DataSet:
    """A data set of stored arrays; one under "" is cut by content.

    Raises:
        DataError: The splits differ in shape or type, or are no images.
        UsageError: `levels` is out of range.
    """
    shapes = {(array.shape[1:], array.dtype.name) for array in arrays.values()}
    if len(shapes) > 1:
        raise DataError(f"{address}: the splits differ in shape or type ({sorted(map(str, shapes))}); store them alike")
    first = next(iter(arrays.values()))
    most = 256 if first.dtype == np.uint8 else 65_536
    levels = most if levels is None else levels
    if not 2 <= levels <= most:
        raise UsageError(f"levels={levels}; wanted 2 to {most} for {first.dtype}")
    if first.ndim != 4 or first.shape[1] not in (1, 3):
        raise DataError(f"{address} has data of shape {first.shape[1:]}; wanted images (C, H, W) of 1 or 3 channels")
    classes = {name: int(values.max()) + 1 for name, values in labels.items() if values is not None}
    conditions = {"label": max(classes.values())} if len(classes) == len(arrays) else {}

    def split(array: StoredArray, values: np.ndarray | None) -> Split:
        # A stored array answers what the loops ask of a NumPy array.
        x: Any = array
        return Split(x, conditions={"label": values} if conditions and values is not None else {})

    if "" in arrays:
        whole, values = arrays[""], labels[""]
        cut = cut_by_content(whole, validation, test, seed)
        splits = {n: split(whole.subset(i), None if values is None else values[i]) for n, i in cut.items()}
    else:
        splits = {name: split(arrays[name], labels[name]) for name in SPLITS if name in arrays}
    channels = ("red", "green", "blue") if first.shape[1] == 3 else ()
    space = Space("image", first.shape[1:], levels, channels=channels, conditions=conditions)
    name = re.sub(r"[^\w]+", "-", address.rstrip("/").rpartition("/")[2].partition(".")[0]).strip("-") or "data"
    return DataSet(name, space, splits, licence="the user's own", source=address)


def load_parquet(
    address: str,
    /,
    *,
    column: str | None = None,
    label: str | None = None,
    crop: int | None = None,
    levels: int | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
) -> DataSet:
    """Images of Parquet files (extra `large`): a column of encoded images, or of raw integers as `write_parquet` writes them.

    Args:
        address: File, folder or pattern; any that fsspec knows.
        column: Column of the images; the only one that could hold them by default.
        label: Column of classes 0, 1, ...; none by default.
        crop: Side of the square cut from the centre of each image.
        levels: Number of levels; by the type of the integers by default.
        validation, test, seed: Shares cut by content where names do not say the splits.

    Raises:
        DataError: There is no such file, or one is damaged.
        UsageError: An option is out of range, or pyarrow is not installed.
    """
    require("pyarrow", "large")

    def labels(source: Any) -> np.ndarray | None:
        if label is None:
            return None
        return np.concatenate([source.values(i, label).to_numpy() for i in range(len(source.lengths))]).astype(np.int64)

    make = partial(sources.ParquetFiles, column=column, crop=crop)
    return _load(address, (".parquet",), make, labels, levels, validation, test, seed)


def load_webdataset(
    address: str,
    /,
    *,
    crop: int | None = None,
    levels: int | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
) -> DataSet:
    """Images of WebDataset shards, .tar files of images (and .cls files, their classes).

    Args:
        address: Such as shards-{0000..0099}.tar; any that fsspec knows.
        crop, levels, validation, test, seed: As for `load_parquet`.

    Raises:
        DataError: There is no such file, or one is damaged.
        UsageError: An option is out of range.
    """

    def labels(source: sources.TarShards) -> np.ndarray | None:
        return None if source.labels is None else np.array(source.labels, dtype=np.int64)

    return _load(address, (".tar",), partial(sources.TarShards, crop=crop), labels, levels, validation, test, seed)


def load_image_files(
    address: str,
    /,
    *,
    crop: int | None = None,
    levels: int | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
) -> DataSet:
    """Image files of a folder or pattern, decoded when they are read.

    Args:
        address: Any that fsspec knows.
        crop, levels, validation, test, seed: As for `load_parquet`.

    Raises:
        DataError: There is no such file, or one is damaged.
        UsageError: An option is out of range.
    """
    make = partial(sources.ImageFiles, crop=crop)
    return _load(address, IMAGE_SUFFIXES, make, lambda _: None, levels, validation, test, seed)


def load_array_files(
    address: str,
    /,
    *,
    layout: str | None = None,
    levels: int | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
) -> DataSet:
    """Images of .npy files, read in pieces.

    Args:
        address: Any that fsspec knows.
        layout: "nhwc" or "nchw", where the shape does not tell.
        levels, validation, test, seed: As for `load_parquet`.

    Raises:
        DataError: There is no such file, or one is damaged.
        UsageError: An option is out of range.
    """
    make = partial(sources.ArrayFiles, layout=layout)
    return _load(address, (".npy",), make, lambda _: None, levels, validation, test, seed)


def load_hub(
    address: str,
    /,
    *,
    column: str | None = None,
    crop: int | None = None,
    levels: int | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
) -> DataSet:
    """Images of a Hugging Face data set (extra `hub`): a name on the hub, a folder of its files, or one that `save_to_disk` wrote.

    Args:
        address: Name or folder.
        column: Column of the images; the only one of that type by default.
        crop, levels, validation, test, seed: As for `load_parquet`.

    Raises:
        DataError: It cannot be loaded.
        UsageError: An option is out of range, or `datasets` is not installed.
    """
    require("datasets", "hub")
    found = _hub(address)
    arrays = {}
    for name in found:
        source = sources.HubRows(partial(_hub_split, address, name), column, crop)
        arrays[NAMES.get(name, name) if len(found) > 1 or name == "test" else ""] = StoredArray(source)
    labels: dict[str, np.ndarray | None] = dict.fromkeys(arrays)
    return assemble(address, arrays, labels, levels, validation, test, seed)


def _hub(address: str) -> Any:
    import os

    import datasets

    try:
        if os.path.isfile(os.path.join(address, "dataset_info.json")) or os.path.isfile(
            os.path.join(address, "dataset_dict.json")
        ):
            loaded = datasets.load_from_disk(address)
        else:
            loaded = datasets.load_dataset(address)
    except Exception as error:  # whatever the loader of that data set raises
        raise DataError(
            f"hub:{address} cannot be loaded ({' '.join(str(error).split())[:300]}); check the name"
        ) from error
    return loaded if isinstance(loaded, dict) else {"train": loaded}


def _hub_split(address: str, name: str) -> Any:
    return _hub(address)[name]


def require(module: str, extra: str) -> None:
    """Raise UsageError with the extra to install unless a module is there."""
    import importlib.util

    if importlib.util.find_spec(module) is None:
        raise UsageError(f'{module} is not installed; install it by `pip install "codelength[{extra}]"`')


SCHEMES: dict[str, Callable[..., DataSet]] = {
    "parquet": load_parquet,
    "webdataset": load_webdataset,
    "images": load_image_files,
    "arrays": load_array_files,
    "hub": load_hub,
}
