"""The data to score: files of the user, or a split of a data set."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from codelength.data import load_data
from codelength.data.dataset import Split
from codelength.data.images import IMAGE_SUFFIXES, load_images
from codelength.data.own import ARRAY_SUFFIXES, load_arrays
from codelength.errors import SpaceMismatchError
from codelength.run import Run


def load_items(path: str, split: str, run: Run, *, counted: bool = True) -> tuple[list[str], Split]:
    """Names and data at a path, in the order of files or of the array.

    Args:
        path: A folder of images, an image, a .npy or .npz file, or a data set's name.
        split: Split of a named data set; the test split of the run's own data is counted as a test evaluation.
        run: The run that scores them.
        counted: Count test evaluations of the run's own data.

    Raises:
        DataError: They cannot be read, or images have different shapes.
        UsageError: There is no such data set or split.
    """
    file = Path(path)
    if file.is_dir() or (file.is_file() and file.suffix.lower() in IMAGE_SUFFIXES):
        images = load_images([file])
        shape = images[0][1].shape
        for name, pixels in images:
            if pixels.shape != shape or pixels.dtype != images[0][1].dtype:
                raise SpaceMismatchError(
                    f"{name} is {pixels.dtype} {pixels.shape} but {images[0][0]} is {images[0][1].dtype} {shape} "
                    "(channels, height, width); score images of one shape at a time"
                )
        return [name for name, _ in images], Split(np.stack([pixels for _, pixels in images]))
    if file.is_file() and file.suffix in ARRAY_SUFFIXES:
        data = load_arrays(file, validation=0.0, test=0.0)
        x = np.concatenate([part.x for part in data.splits.values() if len(part)])
        return [str(i) for i in range(len(x))], Split(x)
    data = load_data(path)
    chosen = data.split(split)
    if counted and split == "test" and data.name == run.recipe.data.name:
        from codelength.evaluation.sealed import log_test_evaluation

        log_test_evaluation(run.path, data.name, run.recipe.evaluation.samples, run.recipe.evaluation.seed)
    return [f"{data.name} {split} {i}" for i in range(len(chosen))], chosen
