"""The user's own data: a folder of images, or an array in a .npy or .npz file."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

import numpy as np

from codelength.data.dataset import SPLITS, DataSet, Split
from codelength.data.splitting import split_by_content
from codelength.errors import DataError, UsageError
from codelength.space import Space

ARRAY_SUFFIXES = (".npy", ".npz")
LAYOUTS = ("nhwc", "nchw")
Layout = Literal["nhwc", "nchw"]


def load_folder(
    path: Path,
    /,
    *,
    crop: int | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    levels: int | None = None,
) -> DataSet:
    """Images of a folder and its sub-folders, in the order of their names.

    Sub-folders named train, validation or test are those splits. A split that has no folder is cut from the training
    images by content, so that exact duplicates never straddle a cut.

    Args:
        path: Folder of PNG, JPEG, WebP or TIFF files, all grey or all RGB, all of 8 or all of 16 bits, of one size.
        crop: Side of the square cut from the centre of each image; none to take them whole.
        validation: Share of validation images, where there is no such folder.
        test: Share of test images, where there is no such folder.
        seed: Seed of the split.
        levels: Number of levels; 256 for 8 bits and 65,536 for 16 bits if not given.

    Raises:
        DataError: The folder is empty, an image is damaged, sizes or bit depths differ, values exceed the levels.
        UsageError: An option is out of range.
    """
    from codelength.data.images import find_images

    if crop is not None and (isinstance(crop, bool) or not isinstance(crop, int) or crop < 1):
        raise UsageError(f"crop={crop!r}; wanted the side of a square in pixels, 1 or more")
    named = {name: find_images(path / name) for name in SPLITS if (path / name).is_dir()}
    files = named or {"train": find_images(path)}
    pixels = _read_alike([p for group in files.values() for p in group], crop)
    ends = np.cumsum([len(group) for group in files.values()])[:-1]
    arrays = dict(zip(files, np.split(pixels, ends), strict=True))
    return _assemble(path, arrays, validation, test, seed, levels)


def _read_alike(paths: list[Path], crop: int | None) -> np.ndarray:
    """Read images that must have one shape and type: (N, C, H, W)."""
    from codelength.data.images import read_image

    images: list[np.ndarray] = []
    for path in paths:
        image = read_image(path)
        image = image if crop is None else centre(image, crop, path)
        if images and image.dtype != images[0].dtype:
            raise DataError(
                f"{path} has {8 * image.itemsize} bits but {paths[0]} has {8 * images[0].itemsize}; "
                "put 8-bit and 16-bit images into different folders, or convert one kind"
            )
        if images and len(image) != len(images[0]):
            kinds = {1: "grey", 3: "RGB"}
            raise DataError(
                f"{path} is {kinds[len(image)]} but {paths[0]} is {kinds[len(images[0])]}; "
                "put them into different folders, or convert one kind"
            )
        if images and image.shape != images[0].shape:
            raise DataError(
                f"images of mixed sizes: {paths[0]} has {_size(images[0])} and {path} has {_size(image)} (width x height); "
                "give crop=N to cut a square of N pixels from the centre of each, or resize them"
            )
        images.append(image)
    return np.stack(images)


def _size(image: np.ndarray) -> str:
    return f"{image.shape[2]} x {image.shape[1]}"


def centre(image: np.ndarray, side: int, path: Path) -> np.ndarray:
    """The square of `side` pixels in the middle of an image, (C, H, W); raises DataError if it is too small."""
    _, height, width = image.shape
    if min(height, width) < side:
        raise DataError(f"{path} has {_size(image)} (width x height), too small for crop={side}; give a smaller crop")
    top, left = (height - side) // 2, (width - side) // 2
    return image[:, top : top + side, left : left + side]


def load_arrays(
    path: Path,
    /,
    *,
    layout: Layout | None = None,
    validation: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    levels: int | None = None,
) -> DataSet:
    """Images of an array: (N, H, W), (N, H, W, C) or (N, C, H, W), unsigned integers.

    Args:
        path: A .npy file of all images, or a .npz file: of one array, or of arrays train, validation and test (those
            that are missing are cut from train by content).
        layout: "nhwc" or "nchw"; found out from where a size of 1 or 3 is, if not given.
        validation: Share of validation images, where the file does not name them.
        test: Share of test images, where the file does not name them.
        seed: Seed of the split.
        levels: Number of levels; 256 for uint8 and 65,536 for uint16 if not given.

    Raises:
        DataError: The file is damaged or pickled, the array is of another form, values exceed the levels.
        UsageError: An option is out of range, or the layout must be given.
    """
    if layout is not None and layout not in LAYOUTS:
        raise UsageError(f"layout={layout!r}; known layouts: {', '.join(LAYOUTS)}")
    arrays = {name: channels_first(path, array, layout) for name, array in _read_arrays(path).items()}
    shapes = {array.shape[1:] for array in arrays.values()}
    types = {array.dtype for array in arrays.values()}
    if len(shapes) > 1 or len(types) > 1:
        found = ", ".join(f"{name}: {a.dtype} {a.shape}" for name, a in arrays.items())
        raise DataError(f"{path}: the splits differ in shape or type ({found}); store them alike")
    return _assemble(path, arrays, validation, test, seed, levels)


def _read_arrays(path: Path) -> dict[str, np.ndarray]:
    try:
        with open(path, "rb") as file:  # numpy leaves a damaged archive open
            loaded = np.load(file, allow_pickle=False)
            if isinstance(loaded, np.ndarray):
                return {"train": loaded}
            arrays = {name: loaded[name] for name in loaded.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{path} cannot be read as numbers ({' '.join(str(error).split())}); it is damaged or holds pickled objects: "
            "save an integer array with numpy.save or numpy.savez"
        ) from error
    if len(arrays) == 1:
        return {name if name in SPLITS else "train": array for name, array in arrays.items()}
    if not arrays or set(arrays) - set(SPLITS):
        raise DataError(f"{path} holds arrays {sorted(arrays)}; wanted one array, or arrays named {', '.join(SPLITS)}")
    return {name: arrays[name] for name in SPLITS if name in arrays}


def channels_first(path: Path, x: np.ndarray, layout: Layout | None) -> np.ndarray:
    """Any of the accepted forms as (N, C, H, W) of uint8 or uint16."""
    if x.dtype not in (np.uint8, np.uint16):
        raise DataError(
            f"{path} holds {x.dtype}; wanted uint8 or uint16: a likelihood model scores the integers themselves, so "
            "quantize first, for instance (255 * x).round().astype('uint8')"
        )
    if x.ndim not in (3, 4) or 0 in x.shape:
        raise DataError(
            f"{path} has shape {x.shape}; wanted (N, H, W), (N, H, W, C) or (N, C, H, W) with N of 1 or more"
        )
    if x.ndim == 3:
        return x[:, None]
    if layout is None:
        first, last = x.shape[1] in (1, 3), x.shape[3] in (1, 3)
        if first == last:
            raise UsageError(f"{path} has shape {x.shape}, whose layout is not clear; give layout=nhwc or layout=nchw")
        layout = "nchw" if first else "nhwc"
    return np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if layout == "nhwc" else x


def _assemble(
    path: Path, arrays: dict[str, np.ndarray], validation: float, test: float, seed: int, levels: int | None
) -> DataSet:
    """Check the levels, cut the splits that are not given from the training data, name the whole."""
    sample = next(iter(arrays.values()))
    most = 256 if sample.dtype == np.uint8 else 65_536
    levels = most if levels is None else levels
    if not 2 <= levels <= 65_536:
        raise UsageError(f"levels={levels}; wanted 2 to 65536")
    for name, x in arrays.items():
        if int(x.max()) >= levels:
            raise DataError(
                f"{path}: the {name} data reach {int(x.max())} but levels={levels} allows 0..{levels - 1}; "
                "give more levels or quantize first"
            )
    shares = {"validation": validation, "test": test}
    for name in arrays:
        shares[name] = 0.0
    splits = {name: Split(x=x) for name, x in arrays.items() if name != "train"}
    if "train" in arrays:
        x = arrays["train"]
        for name, indices in split_by_content(x, shares["validation"], shares["test"], seed).items():
            if name not in splits:
                splits[name] = Split(x=x[indices])
    channels = ("red", "green", "blue") if sample.shape[1] == 3 else ()
    space = Space("image", sample.shape[1:], levels, channels=channels)
    ordered = {name: splits[name] for name in SPLITS if name in splits}
    return DataSet(path.resolve().stem, space, ordered, licence="the user's own", source=str(path))
