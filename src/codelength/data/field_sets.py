"""More of the field's image sets, from their official files.

Small ones are read into memory. Large ones are decoded once into a .npy file in the cache, named by the checksum of the
official file, and read from there in pieces.

Two different sets are called ImageNet32 (and 64): `imagenet32-old` (van den Oord et al. 2016, arXiv:1601.06759; 49,999
validation images) and `imagenet32-new` (Chrabaszcz et al. 2017, arXiv:1707.08819; box filter, 50,000). Their numbers are not
comparable; the new one is smoother.
"""

from __future__ import annotations

import io
import os
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from codelength.data.binarization import draw
from codelength.data.checksums import cache_folder
from codelength.data.dataset import DataSet, Split
from codelength.data.embedded import RGB
from codelength.data.images import decode_image
from codelength.data.official import OFFICIAL, OfficialFile, checked_file
from codelength.data.sources import ArrayFiles, Place
from codelength.data.stored import StoredArray
from codelength.errors import DataError
from codelength.space import Binarization, Space

HELD_OUT = 5_000  # training data kept for validation, where a set has none; at most a tenth

# MD5 sums are those of torchvision 0.20's loaders, SHA-256 sums those of TensorFlow Datasets' url_checksums; of notMNIST only
# the size was published. That of chardata.mat is the one in tfsnippet's ml-essentials.
OFFICIAL.update(
    {
        "notmnist": {
            "notMNIST_large.tar.gz": OfficialFile(
                {"notMNIST_large.tar.gz": "bytes:247336696"}, "http://yaroslavvb.com/upload/notMNIST/"
            ),
            "notMNIST_small.tar.gz": OfficialFile(
                {"notMNIST_small.tar.gz": "bytes:8458043"}, "http://yaroslavvb.com/upload/notMNIST/"
            ),
        },
        "svhn": {
            name: OfficialFile({name: checksum}, "http://ufldl.stanford.edu/housenumbers/")
            for name, checksum in {
                "train_32x32.mat": "md5:e26dedcc434d2e4c54c9b2d4a06d8373",
                "test_32x32.mat": "md5:eb5a983be6a315427106f1b164d9cef3",
            }.items()
        },
        "celeba": {
            name: OfficialFile({name: checksum}, "https://mmlab.ie.cuhk.edu.hk/projects/CelebA/")
            for name, checksum in {
                "img_align_celeba.zip": "md5:00d2c5bc6d35e252742224ab0c1e8fcb",
                "list_eval_partition.txt": "md5:d32c9cbf5e040fd4025c592c306e6668",
            }.items()
        },
        "omniglot": {
            name: OfficialFile({name: checksum}, "https://github.com/brendenlake/omniglot/raw/master/python/")
            for name, checksum in {
                "images_background.zip": "md5:68d2efa1b9178cc56df9314c21c6e718",
                "images_evaluation.zip": "md5:6b91aef0f799c5bb55b94e3f2daec811",
            }.items()
        },
        "omniglot28": {
            "chardata.mat": OfficialFile(
                {"chardata.mat": "md5:21ecaf34373511aa7691cf2e0802aa3d"},
                "https://raw.githubusercontent.com/yburda/iwae/master/datasets/OMNIGLOT/",
            )
        },
        "imagenet32-old": {
            name: OfficialFile({name: checksum}, "http://image-net.org/small/")
            for name, checksum in {
                "train_32x32.tar": "sha256:244a323d48f8d72f65ad8b54658c01fed68d2d7bdc77ccb43da58c11e94224e5",
                "valid_32x32.tar": "sha256:862e559462b24cf736212a19f6b0d47b55c2dc8ebdaa95ccecfe71260124c8f7",
            }.items()
        },
        "imagenet64-old": {
            name: OfficialFile({name: checksum}, "http://image-net.org/small/")
            for name, checksum in {
                "train_64x64.tar": "sha256:e2a2c1947a748d0d256e98e6d82800d855441dc9e4de2e71a773f1324c4524d7",
                "valid_64x64.tar": "sha256:eeac03ec4f585baf871d2b4cb9c974bfe345e74878a74e5820fe6eb1041629cd",
            }.items()
        },
        "imagenet32-new": {
            name: OfficialFile({name: checksum}, "http://www.image-net.org/image/downsample/")
            for name, checksum in {
                "Imagenet32_train_npz.zip": "sha256:94226337ecc1b0309d9fcd0167127aaadc931587035fbcb53925235edbaec4fc",
                "Imagenet32_val_npz.zip": "sha256:013990e6dec1237dcd1f9beadbab81ead6604cc119af5cacbfb59ae28148377a",
            }.items()
        },
        "imagenet64-new": {
            name: OfficialFile({name: checksum}, "http://www.image-net.org/image/downsample/")
            for name, checksum in {
                "Imagenet64_train_part1_npz.zip": "sha256:9422dc1dc5d092e9814a70a1cb7fc74880d2db5d88a0cb8a34ee363b12bde3f1",
                "Imagenet64_train_part2_npz.zip": "sha256:9fafc115afb7e6c301e66dc16b2d737152b427bd5dab26e1293487a6819c7f30",
                "Imagenet64_val_npz.zip": "sha256:e1e75133158a1924135a9c6f97a80d2d237b158945e0b34074e58e6c8430eeb8",
            }.items()
        },
    }
)

# Left, upper, right and lower edge in the aligned 178 x 218 images, then resized to 64 x 64.
CELEBA_CROPS = {
    "centre148": (15, 35, 163, 183),  # the central square of 148
    "larsen": (15, 40, 163, 188),  # lower by 5 rows: Larsen et al., arXiv:1512.09300; NVAE, VDVAE
    "centre140": (19, 39, 159, 179),  # the central square of 140
}


def _official(folder: str, name: str, data: str | None = None) -> tuple[Path, str]:
    """An official file, checked, and the start of its checksum; `data`: name of the set, where it is not the folder's."""
    forms = OFFICIAL[folder][name].forms
    return checked_file(folder, forms, data or folder), forms[name].partition(":")[2][:16]


HEADER_BYTES = 128


def decoded(folder: str, name: str, parts: Callable[[], Iterator[np.ndarray]]) -> StoredArray:
    """Data of the cached file `name`, written from `parts` where it is not there yet, whole or not at all.

    Args:
        folder: Folder in the cache.
        name: Name of the file without .npy: it says what was decoded, and how.
        parts: Gives the data, (n, *shape) uint8, one part after another.
    """
    path = cache_folder() / folder / f"{name}.npy"
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            count, shape = 0, (0,)
            with os.fdopen(descriptor, "wb") as file:
                file.write(bytes(HEADER_BYTES))
                for part in parts():
                    file.write(np.ascontiguousarray(part, dtype=np.uint8).tobytes())
                    count, shape = count + len(part), part.shape[1:]
                text = repr({"descr": "|u1", "fortran_order": False, "shape": (count, *shape)})
                file.seek(0)
                file.write(b"\x93NUMPY\x01\x00" + (HEADER_BYTES - 10).to_bytes(2, "little"))
                file.write(text.ljust(HEADER_BYTES - 11).encode() + b"\n")
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise
    return StoredArray(ArrayFiles([Place(str(path))], layout="nchw"))


def _held_out(x: Any, labels: np.ndarray | None) -> dict[str, Split]:
    """Training and validation data: the last 5,000, at most a tenth."""
    count = min(HELD_OUT, max(1, len(x) // 10))

    def part(start: int, stop: int) -> Split:
        own: Any = x.subset(np.arange(start, stop)) if isinstance(x, StoredArray) else x[start:stop]
        return Split(own, conditions={} if labels is None else {"label": labels[start:stop]})

    return {"train": part(0, len(x) - count), "validation": part(len(x) - count, len(x))}


def _colour(side: int, classes: int = 0) -> Space:
    return Space("image", (3, side, side), 256, channels=RGB, conditions={"label": classes} if classes else {})


def load_svhn() -> DataSet:
    """SVHN, cropped digits: 68,257 / 5,000 (the last of the training file) / 26,032, (3, 32, 32); digit 0 is label 0."""
    import scipy.io

    def read(name: str) -> tuple[np.ndarray, np.ndarray]:
        path, _ = _official("svhn", name)
        try:
            found = scipy.io.loadmat(path)
            x, labels = found["X"].transpose(3, 2, 0, 1), found["y"].ravel().astype(np.int64) % 10
        except (ValueError, KeyError, OSError, zlib.error) as error:
            raise DataError(f"{path} is no .mat file of SVHN ({error}); fetch it again") from error
        return np.ascontiguousarray(x), labels

    test, labels = read("test_32x32.mat")
    splits = {**_held_out(*read("train_32x32.mat")), "test": Split(test, conditions={"label": labels})}
    return DataSet("svhn", _colour(32, 10), splits, "non-commercial use", "train_32x32.mat, test_32x32.mat")


def load_notmnist() -> DataSet:
    """notMNIST: letters A to J in fonts. Training and validation data are of the large set, test data the small one.

    Files that no decoder reads (a handful in the official archives) are left out. Images come in the order of their names
    mixed by a fixed permutation: the archive is sorted by letter. The two sets share images.
    """
    parts = {}
    for name in ("notMNIST_large", "notMNIST_small"):
        path, _ = _official("notmnist", f"{name}.tar.gz")
        images, labels = [], []
        try:
            with tarfile.open(path) as tar:
                for member in tar:
                    file = tar.extractfile(member) if member.isfile() and member.name.endswith(".png") else None
                    if file is None:
                        continue
                    try:
                        images.append(decode_image(file.read(), member.name))
                    except DataError:
                        continue  # known damage: empty files
                    labels.append((member.name, "ABCDEFGHIJ".index(Path(member.name).parent.name)))
        except (tarfile.TarError, EOFError, zlib.error, ValueError) as error:
            raise DataError(f"{path} is no archive of notMNIST ({error}); fetch it again") from error
        order = sorted(range(len(images)), key=lambda i: labels[i][0])
        from codelength.data.splitting import stable_order

        order = [order[i] for i in stable_order(len(order), "notmnist", name)]
        parts[name] = np.stack([images[i] for i in order]), np.array([labels[i][1] for i in order], dtype=np.int64)
    test, of_test = parts["notMNIST_small"]
    splits = {**_held_out(*parts["notMNIST_large"]), "test": Split(test, conditions={"label": of_test})}
    space = Space.image(1, 28, 28, conditions={"label": 10})
    return DataSet(
        "notmnist", space, splits, "none stated (Bulatov 2011)", "notMNIST_large.tar.gz, notMNIST_small.tar.gz"
    )


def load_omniglot105() -> DataSet:
    """Omniglot as drawn: 105 x 105, ink 1. Training and validation data are of the background set, test data the evaluation set.

    Validation data are of the last alphabets: the last tenth of the images in the order of names. The 28 x 28 set of
    Burda et al. is another (`load_omniglot28`).
    """

    def read(name: str) -> np.ndarray:
        path, _ = _official("omniglot", name, "omniglot105")
        try:
            with zipfile.ZipFile(path) as archive:
                members = sorted(m for m in archive.namelist() if m.endswith(".png") and not m.startswith("__"))
                return np.stack([(decode_image(archive.read(m), m) == 0).astype(np.uint8) for m in members])
        except (zipfile.BadZipFile, ValueError) as error:
            raise DataError(f"{path} is no archive of Omniglot ({error}); fetch it again") from error

    splits = {**_held_out(read("images_background.zip"), None), "test": Split(read("images_evaluation.zip"))}
    space = Space.image(1, 105, 105, levels=2)
    return DataSet("omniglot105", space, splits, "MIT", "images_background.zip, images_evaluation.zip")


OMNIGLOT28_HELD_OUT = 1_345


def load_omniglot28(how: Binarization, seed: int = 0) -> DataSet:
    """Omniglot 28 x 28 in the split of Burda et al.: 23,000 / 1,345 / 8,070.

    The file holds reals in [0, 1], probabilities of ink. As there, training images are permuted by NumPy's RandomState(123), the
    last 1,345 are validation data, and images are the transposes of the file's, since MATLAB stores columns. Their numbers are of
    dynamic binarization; the static one is a draw of this project.

    Args:
        how: "dynamic" or "static".
        seed: Seed of the dynamic draw that `Split.x` holds.

    Reference: Burda, Grosse, Salakhutdinov, Importance weighted autoencoders, arXiv:1509.00519, section 5.1, and its code.
    """
    import scipy.io

    name = f"omniglot28-{how}"
    path, _ = _official("omniglot28", "chardata.mat", name)
    try:
        found = scipy.io.loadmat(path, variable_names=["data", "testdata"])
        train, test = (
            found[key].T.reshape(-1, 1, 28, 28).swapaxes(2, 3).astype(np.float32) for key in ("data", "testdata")
        )
    except (ValueError, KeyError, OSError, zlib.error) as error:
        raise DataError(f"{path} is no chardata.mat ({error}); fetch it again") from error
    for part in (train, test):
        if len(part) == 0 or not (part.min() >= 0 and part.max() <= 1):
            raise DataError(f"{path} holds values outside of [0, 1], or none; fetch it again")
    train = train[np.random.RandomState(123).permutation(len(train))]
    parts = {"train": train[:-OMNIGLOT28_HELD_OUT], "validation": train[-OMNIGLOT28_HELD_OUT:], "test": test}

    def split(part: str, probabilities: np.ndarray) -> Split:
        x = draw(probabilities, 2, "binarization", how, "omniglot28", part, seed)
        return Split(x, intensity=probabilities if how == "dynamic" else None)

    space = Space.image(1, 28, 28).with_binarization(how)
    splits = {part: split(part, probabilities) for part, probabilities in parts.items()}
    return DataSet(name, space, splits, "MIT (Omniglot)", f"chardata.mat of Burda et al.; {how} binarization")


def load_celeba64(crop: str) -> DataSet:
    """CelebA 64 x 64 in its official partition: 162,770 / 19,867 / 19,962.

    The aligned images are cropped and resized by Pillow's bilinear filter, which averages over the whole area. Crops, filters
    and JPEG decoders change likelihoods: compare within one fingerprint only.

    Args:
        crop: One of `CELEBA_CROPS`.
    """
    archive_path, mark = _official("celeba", "img_align_celeba.zip", f"celeba64-{crop}")
    partition_path, _ = _official("celeba", "list_eval_partition.txt", f"celeba64-{crop}")
    lines = [line.split() for line in partition_path.read_text().splitlines() if line.strip()]
    names = [line[0] for line in lines]
    where = np.array([int(line[1]) for line in lines])

    def parts() -> Iterator[np.ndarray]:
        from PIL import Image

        with zipfile.ZipFile(archive_path) as archive:
            for start in range(0, len(names), 512):
                images = []
                for name in names[start : start + 512]:
                    with Image.open(io.BytesIO(archive.read(f"img_align_celeba/{name}"))) as image:
                        square = image.convert("RGB").crop(CELEBA_CROPS[crop])
                    images.append(np.asarray(square.resize((64, 64), Image.Resampling.BILINEAR)).transpose(2, 0, 1))
                yield np.stack(images)

    x = decoded("celeba", f"{mark}-{crop}-64", parts)
    numbers = {"train": 0, "validation": 1, "test": 2}
    splits = {}
    for name, number in numbers.items():
        own: Any = x.subset(np.flatnonzero(where == number))
        splits[name] = Split(own)
    source = f"img_align_celeba.zip, list_eval_partition.txt; crop {crop}, bilinear to 64 x 64"
    return DataSet(f"celeba64-{crop}", _colour(64), splits, "non-commercial research", source)


def load_imagenet_old(side: int) -> DataSet:
    """Downsampled ImageNet of van den Oord et al.: 1,276,149 / 5,000 (the last training images) / 49,999 (the validation files)."""
    name = f"imagenet{side}-old"

    def read(part: str) -> StoredArray:
        path, mark = _official(name, f"{part}_{side}x{side}.tar")

        def parts() -> Iterator[np.ndarray]:
            with tarfile.open(path, "r:") as tar:
                members = sorted((m for m in tar if m.isfile() and m.name.endswith(".png")), key=lambda m: m.name)
                for start in range(0, len(members), 512):
                    files = [(m.name, tar.extractfile(m)) for m in members[start : start + 512]]
                    yield np.stack([decode_image(file.read(), n) for n, file in files if file is not None])

        return decoded(name, mark, parts)

    test: Any = read("valid")
    splits = {**_held_out(read("train"), None), "test": Split(test)}
    return DataSet(
        name, _colour(side), splits, "non-commercial research", f"train_{side}x{side}.tar, valid_{side}x{side}.tar"
    )


def load_imagenet_new(side: int) -> DataSet:
    """Downsampled ImageNet of Chrabaszcz et al.: 1,276,167 / 5,000 (the last training images) / 50,000 (the validation file)."""
    name = f"imagenet{side}-new"
    files = list(OFFICIAL[name])

    def read(part: str) -> tuple[StoredArray, np.ndarray]:
        opened = [_official(name, file) for file in files if part in file]

        def arrays(key: str) -> Iterator[np.ndarray]:
            for path, _ in opened:
                with zipfile.ZipFile(path) as archive:
                    members = sorted((m for m in archive.namelist() if m.endswith(".npz")), key=_number)
                    for member in members:
                        try:
                            with (
                                archive.open(member) as file,
                                np.load(io.BytesIO(file.read()), allow_pickle=False) as npz,
                            ):
                                yield npz[key]
                        except (KeyError, ValueError) as error:
                            raise DataError(f"{path}: {member} has no {key} ({error}); fetch it again") from error

        mark = "-".join(mark for _, mark in opened)
        x = decoded(name, mark, lambda: (data.reshape(-1, 3, side, side) for data in arrays("data")))
        labels = decoded(name, f"{mark}-labels", lambda: (_two_bytes(values) for values in arrays("labels")))
        low_high = labels[:].reshape(-1, 2).astype(np.int64)
        return x, low_high[:, 0] + 256 * low_high[:, 1]

    test, labels = read("val")
    test_x: Any = test
    splits = {**_held_out(*read("train")), "test": Split(test_x, conditions={"label": labels})}
    return DataSet(name, _colour(side, 1000), splits, "non-commercial research", ", ".join(files))


def _number(member: str) -> tuple[int, str]:
    """train_data_batch_10.npz after train_data_batch_9.npz."""
    digits = "".join(c for c in member.rpartition("/")[2] if c.isdigit())
    return int(digits or 0), member


def _two_bytes(labels: np.ndarray) -> np.ndarray:
    """Labels 1 ... 1000 as 0 ... 999 in two bytes each, (n, 1, 1, 2)."""
    return (labels.astype(np.int64) - 1).astype("<u2").view(np.uint8).reshape(-1, 1, 1, 2)


ENTRIES: dict[str, tuple[Callable[..., DataSet], tuple[int, int, int], int, tuple[int, int, int], str, str]] = {
    "svhn": (load_svhn, (3, 32, 32), 256, (68_257, 5_000, 26_032), "non-commercial use", "svhn"),
    "notmnist": (load_notmnist, (1, 28, 28), 256, (524_114, 5_000, 18_724), "none stated (Bulatov 2011)", "notmnist"),
    "omniglot105": (load_omniglot105, (1, 105, 105), 2, (17_352, 1_928, 13_180), "MIT", "omniglot"),
    **{
        f"celeba64-{crop}": (
            partial(load_celeba64, crop),
            (3, 64, 64),
            256,
            (162_770, 19_867, 19_962),
            "non-commercial research",
            "celeba",
        )
        for crop in CELEBA_CROPS
    },
    **{
        f"imagenet{side}-{age}": (
            partial(load, side),
            (3, side, side),
            256,
            (train - 5_000, 5_000, test),
            "non-commercial research",
            f"imagenet{side}-{age}",
        )
        for age, load, train, test in (
            ("old", load_imagenet_old, 1_281_149, 49_999),
            ("new", load_imagenet_new, 1_281_167, 50_000),
        )
        for side in (32, 64)
    },
}
"""Name -> loader, (C, H, W), levels, (train, validation, test), licence, folder."""
