"""Data sets: fixed splits of integers, named, fingerprinted and checked."""

from codelength.data.dataset import SPLITS, DataSet, Split
from codelength.data.registry import data_names, load_data

__all__ = ["SPLITS", "DataSet", "Split", "data_names", "fetch_data", "load_data", "load_images", "read_image"]


def __getattr__(name: str) -> object:
    # Loaded when first used: most callers neither fetch nor read image files.
    if name == "fetch_data":
        from codelength.data.fetch import fetch_data

        return fetch_data
    if name in ("load_images", "read_image"):
        from codelength.data import images

        return getattr(images, name)
    raise AttributeError(f"module 'codelength.data' has no attribute {name!r}")
