"""Names of the data sets and how they are loaded."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, get_args

from codelength.data import addresses, audio, conditional, embedded, field_sets, own, pairs, published, synthetic, text
from codelength.data.binarization import binarize
from codelength.data.dataset import DataSet
from codelength.errors import DataError, UsageError, unknown_name
from codelength.space import Binarization, Kind


@dataclass(frozen=True)
class Entry:
    """What is known of a data set before it is loaded.

    Args:
        load: Loads it; its keyword arguments are the options.
        shape: (C, H, W), of text (T,).
        levels: Number of levels.
        sizes: Training, validation and test data; of text bytes (of pydoc those of Python 3.11), of WikiText words and
            line ends, as published.
        licence: Licence of the data.
        folder: Folder of its official files; None for data inside the packages.
        binarization: How it was binarized, where it was.
        kind: Kind of its space.
    """

    load: Callable[..., DataSet]
    shape: tuple[int, ...]
    levels: int
    sizes: tuple[int, int, int]
    licence: str
    folder: str | None = None
    binarization: Binarization | None = None
    kind: Kind = "image"


def _binarized(entry: Entry, how: Binarization) -> Entry:
    def static() -> DataSet:
        return binarize(entry.load(), how)

    def dynamic(seed: int = 0) -> DataSet:
        return binarize(entry.load(), how, seed)

    return replace(entry, load=dynamic if how == "dynamic" else static, levels=2, binarization=how)


def _omniglot28_static() -> DataSet:
    return field_sets.load_omniglot28("static")


def _omniglot28_dynamic(seed: int = 0) -> DataSet:
    return field_sets.load_omniglot28("dynamic", seed)


def _entries() -> dict[str, Entry]:
    mnist = "CC BY-SA 3.0 (as commonly stated)"
    published_sizes = (55_000, 5_000, 10_000)
    grey = {
        "mnist5k": Entry(embedded.load_mnist5k, (1, 28, 28), 256, (4_000, 500, 500), mnist),
        "digits": Entry(embedded.load_digits, (1, 8, 8), 17, (1_297, 250, 250), "CC BY 4.0"),
        "mnist": Entry(published.load_mnist, (1, 28, 28), 256, published_sizes, mnist, "mnist"),
        "fashion_mnist": Entry(published.load_fashion_mnist, (1, 28, 28), 256, published_sizes, "MIT", "fashion_mnist"),
    }
    entries = {
        **grey,
        "photos32": Entry(
            embedded.load_photos32, (3, 32, 32), 256, (5_611, 476, 382), "CC BY 2.0, CC0, public domain, none stated"
        ),
        "cifar10": Entry(published.load_cifar10, (3, 32, 32), 256, (45_000, 5_000, 10_000), "none stated", "cifar10"),
    }
    sizes = (synthetic.SIZES["train"], synthetic.SIZES["validation"], synthetic.SIZES["test"])
    entries["full_rank"] = Entry(synthetic.load_full_rank, (1, 1, 2), 10, sizes, synthetic.LICENCE)
    entries["potts"] = Entry(synthetic.load_potts, (1, 4, 4), 3, sizes, synthetic.LICENCE)
    entries["addition"] = Entry(synthetic.load_addition, (1, 1, 16), 10, sizes, synthetic.LICENCE)
    for name, entry in grey.items():
        for how in get_args(Binarization):
            entries[f"{name}-{how}"] = _binarized(entry, how)
    for name, (load, shape, levels, sizes, licence, folder) in field_sets.ENTRIES.items():
        entries[name] = Entry(load, shape, levels, sizes, licence, folder)
    omniglot = ((1, 28, 28), 2, (23_000, 1_345, 8_070), "MIT (Omniglot)", "omniglot28")
    entries["omniglot28-static"] = Entry(_omniglot28_static, *omniglot, "static")
    entries["omniglot28-dynamic"] = Entry(_omniglot28_dynamic, *omniglot, "dynamic")
    sizes = (50_000, 10_000, 10_000)
    entries |= _texts()
    entries["diabetes"] = Entry(
        conditional.load_diabetes, (1,), 400, (342, 50, 50), "BSD-3-Clause (as in scikit-learn)", kind="vector"
    )
    entries["digits-label"] = Entry(
        conditional.load_digits_label, (1,), 10, (1_297, 250, 250), "CC BY 4.0", kind="vector"
    )
    entries["django-french"] = Entry(
        pairs.load_django_french, (48,), 513, (634, 46, 167), "BSD-3-Clause (as Django)", kind="sequence"
    )
    entries["emoji-names"] = Entry(
        pairs.load_emoji_names, (24,), 385, (1_429, 94, 380), "CC BY 4.0, MIT", "emoji32", kind="sequence"
    )
    entries["mnist-static"] = Entry(
        published.load_binarized_mnist, (1, 28, 28), 2, sizes, mnist, "binarized_mnist", "static"
    )
    return entries


def _texts() -> dict[str, Entry]:
    def entry(
        load: Callable[..., DataSet], levels: int, sizes: tuple[int, int, int], licence: str, folder: str | None
    ) -> Entry:
        return Entry(load, (256,), levels, sizes, licence, folder, kind="sequence")

    wikipedia = "CC BY-SA 3.0, GFDL"
    large = (90_000_000, 5_000_000, 5_000_000)
    shakespeare = (983_778, 20_077, 111_539)
    return {
        "pydoc": entry(text.load_pydoc, 257, (398_906, 27_603, 39_608), "PSF-2.0", None),
        "tinyshakespeare": entry(text.load_tinyshakespeare, 65, shakespeare, "public domain", "tinyshakespeare"),
        "enwik8": entry(text.load_enwik8, 256, large, wikipedia, "enwik8"),
        "enwik8_4mb": entry(text.load_enwik8_4mb, 256, (3_760_000, 40_000, 200_000), wikipedia, "enwik8_4mb"),
        **{
            f"wikitext{size}{form}": entry(
                partial(text.load_wikitext, size, form),
                256,
                (words, 217_646, 245_569),
                wikipedia,
                f"wikitext{size}{form}",
            )
            for size, words in ((2, 2_088_628), (103, 103_227_021))
            for form in ("", "-raw")
        },
        "text8": entry(text.load_text8, 27, large, wikipedia, "text8"),
    }


ENTRIES: dict[str, Entry] = _entries()


def data_names() -> list[str]:
    """Names of the data sets that `load_data` knows, sorted."""
    return sorted(ENTRIES)


def load_data(name: str, **options: Any) -> DataSet:
    """Load a data set.

    Args:
        name: One of `data_names()`, or the path of a folder of images, text or WAV files, a `.npy`, `.npz` or `.txt` file,
            or an address of data larger than memory, such as "parquet:shards/" (`codelength.data.addresses`).
            Options may be part of it: "mnist5k-dynamic@seed=3" is `load_data("mnist5k-dynamic", seed=3)`.
        options: Options of the data set: `seed` of NAME-dynamic; `crop`, `validation`, `test`, `seed`, `levels` of own
            images; those and `layout` of own arrays; `context` and `vocabulary` of text; `length`, `stride` and `bits` of audio.

    Returns:
        The data set. Its name holds the options that differ from their defaults.

    Raises:
        UsageError: Unknown name or option; the nearest known one is given.
        DataError: The data are missing or damaged.

    >>> data = load_data("digits")
    >>> len(data.split("train")), data.space.levels
    (1297, 17)
    """
    if name not in ENTRIES and not Path(name).exists() and "@" in name:
        name, _, written = name.rpartition("@")
        options = {**parse_options(written), **options}
    scheme, _, address = name.partition(":")
    if name in ENTRIES:
        load = ENTRIES[name].load
    elif scheme in addresses.SCHEMES and address:
        load = partial(addresses.SCHEMES[scheme], address)
    elif Path(name).is_dir():
        load = partial(_folder_loader(Path(name)), Path(name))
    elif Path(name).suffix.lower() in text.TEXT_SUFFIXES and Path(name).is_file():
        load = partial(text.load_text_file, Path(name))
    elif Path(name).suffix in own.ARRAY_SUFFIXES and Path(name).is_file():
        load = partial(own.load_arrays, Path(name))
    else:
        raise _not_found(name)
    defaults = {
        option: parameter.default
        for option, parameter in inspect.signature(load).parameters.items()
        if parameter.kind is not inspect.Parameter.POSITIONAL_ONLY
    }
    for option in options:
        if option not in defaults:
            raise unknown_name(f"option of data set {name!r}:", option, defaults or ["(none)"])
    data = load(**options)
    changed = {key: value for key, value in sorted(options.items()) if value != defaults[key]}
    suffix = "@" + ",".join(f"{key}={value}" for key, value in changed.items()) if changed else ""
    return replace(data, name=data.name + suffix)


def _folder_loader(path: Path) -> Callable[..., DataSet]:
    """What reads a folder, by what is in it: WAV files, text files, or else images."""
    if audio.find_wavs(path):
        return audio.load_wav_folder
    return text.load_text_folder if text.find_texts(path) else own.load_folder


def parse_options(written: str) -> dict[str, Any]:
    """Options written as "key=value,key=value"; numbers are read as numbers.

    >>> parse_options("seed=3,test=0.2,layout=nhwc")
    {'seed': 3, 'test': 0.2, 'layout': 'nhwc'}
    """
    options: dict[str, Any] = {}
    for item in written.split(","):
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise UsageError(f"data option {item!r}; wanted NAME@key=value,key=value")
        options[key] = _number(value)
    return options


def _number(value: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _not_found(name: str) -> UsageError | DataError:
    path = Path(name)
    if path.is_file():
        return DataError(
            f"{name} is no folder of images, .npy, .npz or .txt file; put images into a folder, or save the array with numpy.save"
        )
    if len(path.parts) > 1 or path.suffix in own.ARRAY_SUFFIXES:
        return DataError(f"{name} does not exist; give a folder of images, a .npy or .npz file, or a data set's name")
    return unknown_name("data set", name, ENTRIES)
