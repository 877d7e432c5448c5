"""Official files of published data sets: which they are, where they lie, how they are read.

A file is looked for in the folder of the data set inside `$CODELENGTH_DATA`, then in the cache where `fetch` puts it,
and compared with its published checksum before it is read.
"""

from __future__ import annotations

import gzip
import os
import struct
import tarfile
import tempfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from codelength.data.checksums import cache_folder, verify
from codelength.errors import ChecksumError, DataError


@dataclass(frozen=True)
class OfficialFile:
    """One official file.

    Args:
        forms: File name -> published checksum, "md5:..." or "sha256:...", the preferred form first.
        url: Address of the last form, without its name; empty where it is published in another form only.
    """

    forms: dict[str, str]
    url: str

    @property
    def fetched(self) -> str:
        """Name of the form that is fetched: the last."""
        return list(self.forms)[-1]


def _idx_files(url: str, raw: dict[str, str], gz: dict[str, str]) -> dict[str, OfficialFile]:
    return {name: OfficialFile({name: f"md5:{raw[name]}", f"{name}.gz": f"md5:{gz[name]}"}, url) for name in raw}


IDX = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte", "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")
# The published MD5 sums of the .gz files are those of the data sets' own pages; the raw ones are their contents.
MNIST_RAW = (
    "6bbc9ace898e44ae57da46a324031adb",
    "a25bea736e30d166cdddb491f175f624",
    "2646ac647ad5339dbf082846283269ea",
    "27ae3e4e09519cfbb04c329615203637",
)
MNIST_GZ = (
    "f68b3c2dcbeaaa9fbdd348bbdeb94873",
    "d53e105ee54ea40749a09fcbcd1e9432",
    "9fb629c4189551a2d022fa330f9573f3",
    "ec29112dd5afa0611ce80d1b7f02629c",
)
FASHION_RAW = (
    "f4a8712d7a061bf5bd6d2ca38dc4d50a",
    "9018921c3c673c538a1fc5bad174d6f9",
    "8181f5470baa50b63fa0f6fddb340f0a",
    "15d484375f8d13e6eb1aabb0c3f46965",
)
FASHION_GZ = (
    "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
    "25c81989df183df01b3e8a0aad5dffbe",
    "bef4ecab320f06d8554ea6380940ec79",
    "bb300cfdad3c16e7a12a480ee83cd310",
)
CIFAR10_BATCHES = {
    "data_batch_1.bin": "md5:5dd7e06a14cb22eb9f671a540d1b7c25",
    "data_batch_2.bin": "md5:5ea93a67294ea407fff1d09f752e9692",
    "data_batch_3.bin": "md5:942cd6a4bcdd0dd3c604fbe906cb4421",
    "data_batch_4.bin": "md5:ae636b3ba5c66a11e91e8cb52e771fcb",
    "data_batch_5.bin": "md5:53f37980c15c3d472c316c40844f3f0d",
    "test_batch.bin": "md5:803d5f7f4d78ea53de84dbe85f74fb6d",
}
CIFAR10_ARCHIVE = "cifar-10-binary.tar.gz"
# SHA-256 as published by TensorFlow Datasets, url_checksums/binarized_mnist.txt.
AMAT = {
    "train": "sha256:ad693b29f94c14277b095f5238ddefbbdaaae0939789dd2f4f0205278cee3e4d",
    "valid": "sha256:1de3d397c40fe8eeb33dafd4099a1f665ec01e96d9be234aaeeac8a34930e2e2",
    "test": "sha256:e6687bfea3f820c174f33b7865140b2a2dd2930ef786f35d45795fc193b5ab2c",
}
AMAT_URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/"

# Folder of a data set -> its files by the name readers use.
OFFICIAL: dict[str, dict[str, OfficialFile]] = {
    "mnist": _idx_files(
        "https://ossci-datasets.s3.amazonaws.com/mnist/", dict(zip(IDX, MNIST_RAW)), dict(zip(IDX, MNIST_GZ))
    ),
    "fashion_mnist": _idx_files(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        dict(zip(IDX, FASHION_RAW)),
        dict(zip(IDX, FASHION_GZ)),
    ),
    "cifar10": {
        CIFAR10_ARCHIVE: OfficialFile(
            {CIFAR10_ARCHIVE: "md5:c32a1d4ab5d03f1284b67883e8d87530"}, "https://www.cs.toronto.edu/~kriz/"
        )
    },
    "binarized_mnist": {
        f"binarized_mnist_{part}.amat": OfficialFile({f"binarized_mnist_{part}.amat": checksum}, AMAT_URL)
        for part, checksum in AMAT.items()
    },
    # SHA-256 as published in the metadata of Hugging Face's data set tiny_shakespeare.
    "tinyshakespeare": {
        "input.txt": OfficialFile(
            {"input.txt": "sha256:86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"},
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/",
        )
    },
    # MD5 as published on mattmahoney.net/dc/textdata.html, of the unpacked files; their zip files have no checksum.
    "enwik8": {"enwik8": OfficialFile({"enwik8": "md5:a1fa5ffddb56f4953e226637dabbb36a"}, "")},
    "enwik8_4mb": {
        "enwik8_first4MB": OfficialFile(
            {"enwik8_first4MB": "sha256:9f9ca3a41e2b87a0268d00380577e2c308e07959b22a94c8d7b1e8901bdefc37"}, ""
        )
    },
    # The package emoji-datasource-twitter 16.0.0 on npm.
    "emoji32": {
        "32.png": OfficialFile(
            {"32.png": "sha256:2767ef2e87cbfb6cc12ac46596c339549afaf0ae8771cf51100c8853f6bde632"},
            "https://cdn.jsdelivr.net/npm/emoji-datasource-twitter@16.0.0/img/twitter/sheets/",
        ),
        "emoji.json": OfficialFile(
            {"emoji.json": "sha256:1d602e65be88772bf8cc368ce16b855d719eeddbafe128d471b80203f494d29f"},
            "https://cdn.jsdelivr.net/npm/emoji-datasource-twitter@16.0.0/",
        ),
    },
    "text8": {"text8": OfficialFile({"text8": "md5:3bea1919949baf155f99411df5fada7e"}, "")},
    # SHA-256 as published in MLX Data's loader.
    **{
        f"wikitext{form}": {
            f"wikitext-{form}-v1.zip": OfficialFile(
                {f"wikitext-{form}-v1.zip": f"sha256:{checksum}"}, "https://wikitext.smerity.com/"
            )
        }
        for form, checksum in {
            "2": "92675f1d63015c1c8b51f1656a52d5bdbc33aafa60cc47a218a66e7ee817488c",
            "2-raw": "ef7edb566e3e2b2d31b29c1fdb0c89a4cc683597484c3dc2517919c615435a11",
            "103": "242ba0f20b329cfdf1ccc61e9e9e5b59becf189db7f7a81cd2a0e2fc31539590",
            "103-raw": "91c00ae287f0d699e18605c84afc9e45c192bc6b7797ff8837e5474655a33794",
        }.items()
    },
}


def data_folders(folder: str) -> list[Path]:
    """Where the files of a data set are looked for, in this order."""
    own = os.environ.get("CODELENGTH_DATA")
    return [*([Path(own).expanduser() / folder] if own else []), cache_folder() / folder]


def find_file(folder: str, forms: dict[str, str]) -> Path | None:
    """The first of the forms of a file that is here, unchecked."""
    return next((f / name for f in data_folders(folder) for name in forms if (f / name).is_file()), None)


def missing_file(folder: str, forms: dict[str, str], name: str) -> DataError:
    """The error for a file that is nowhere."""
    places = " and ".join(str(f) for f in data_folders(folder))
    return DataError(
        f"data set {name!r}: the file {' or '.join(forms)} is not in {places}. Run `codelength data fetch {name}`, "
        "or set CODELENGTH_DATA to the folder that holds "
        f"{folder}/ with the official files"
    )


def checked_file(folder: str, forms: dict[str, str], name: str) -> Path:
    """The official file, compared with its checksum.

    Raises:
        DataError: It is missing; the message says where it was looked for and how to get it.
        ChecksumError: It is not the published one.
    """
    path = find_file(folder, forms)
    if path is None:
        raise missing_file(folder, forms, name)
    verify(path, forms[path.name])
    return path


def is_here(folder: str) -> bool:
    """Whether all files of a data set are here, unchecked."""
    if all(find_file(folder, file.forms) for file in OFFICIAL[folder].values()):
        return True
    return folder == "cifar10" and all(find_file(folder, {name: c}) for name, c in CIFAR10_BATCHES.items())


def read_idx(path: Path) -> np.ndarray:
    """Read an IDX file of bytes, plain or gzipped.

    Raises:
        DataError: It is no whole IDX file of bytes.
    """
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path} is no whole gzip file ({error}); fetch it again") from error
    rank = content[3] if content[:3] == b"\x00\x00\x08" and len(content) > 3 else 0
    if rank == 0 or len(content) < 4 + 4 * rank:
        raise DataError(f"{path} is no IDX file of bytes (it starts with {content[:4].hex()}); fetch it again")
    shape = struct.unpack(f">{rank}I", content[4 : 4 + 4 * rank])
    values = np.frombuffer(content, dtype=np.uint8, offset=4 + 4 * rank)
    if len(values) != int(np.prod(shape)):
        raise DataError(f"{path} holds {len(values)} values but its header says {shape}; fetch it again")
    return values.reshape(shape)


def read_amat(path: Path) -> np.ndarray:
    """Read 28 x 28 binary images from text, a line an image of 784 digits 0 or 1 with a space between: (N, 1, 28, 28).

    Raises:
        DataError: A line has another form.
    """
    characters = np.fromfile(path, dtype=np.uint8)
    width = 2 * 784
    if len(characters) == 0 or len(characters) % width:
        raise DataError(f"{path} has {len(characters)} bytes, no whole number of lines of {width}; fetch it again")
    rows = characters.reshape(-1, width)
    values = rows[:, ::2] - ord("0")
    if values.max() > 1 or (rows[:, 1:-1:2] != ord(" ")).any() or (rows[:, -1] != ord("\n")).any():
        raise DataError(f"{path} is not of lines of 784 digits 0 or 1 with a space between; fetch it again")
    return values.reshape(-1, 1, 28, 28)


def cifar10_batches(name: str) -> Iterator[tuple[str, np.ndarray]]:
    """The six batches in order, each with its records: (10,000, 3,073) bytes, the label first, planes R, G, B.

    Where only the archive is here, it is unpacked into the cache once.
    """
    if not all(find_file("cifar10", {batch: checksum}) for batch, checksum in CIFAR10_BATCHES.items()):
        archive_forms = OFFICIAL["cifar10"][CIFAR10_ARCHIVE].forms
        archive = find_file("cifar10", archive_forms)
        if archive is None:
            batch = next(b for b, c in CIFAR10_BATCHES.items() if find_file("cifar10", {b: c}) is None)
            raise missing_file("cifar10", {batch: "", **archive_forms}, name)
        verify(archive, archive_forms[archive.name])
        unpack(archive, list(CIFAR10_BATCHES), cache_folder() / "cifar10")
    for batch, checksum in CIFAR10_BATCHES.items():
        path = checked_file("cifar10", {batch: checksum}, name)
        yield batch, np.fromfile(path, dtype=np.uint8).reshape(-1, 3073)


def unpack(archive: Path, names: list[str], folder: Path) -> None:
    """Copy the members with these base names from a tar archive into `folder`, each whole or not at all.

    Raises:
        DataError: The archive is damaged or lacks one of them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    left = set(names)
    try:
        with tarfile.open(archive) as tar:
            for member in tar:
                name = Path(member.name).name
                stream = tar.extractfile(member) if member.isfile() and name in left else None
                if stream is None:
                    continue
                with tempfile.NamedTemporaryFile(dir=folder, delete=False) as file:
                    file.write(stream.read())
                os.replace(file.name, folder / name)
                left.discard(name)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise DataError(f"{archive} is no whole archive ({error}); fetch it again") from error
    if left:
        raise ChecksumError(
            f"{archive} lacks {', '.join(sorted(left))}; it is another file: remove it and fetch it again"
        )
