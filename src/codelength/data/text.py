"""Text as data: documents to tokens, tokens to windows.

A split holds its tokens twice: as a `Text`, which evaluation and coding read whole, and as windows of `context` tokens, which
training and the selection of weights read. Training windows begin at every token, so that batches are random crops; held-out
windows are disjoint, but for the last, which ends with the text.

Several documents are joined, each closed by an end-of-text token, the vocabulary's own or one beyond it: its nats count like any other's, so
that where documents end is paid for. It stands for no bytes. A single file has none.
"""

from __future__ import annotations

import hashlib
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from codelength.data.dataset import SPLITS, DataSet, Split
from codelength.data.official import OFFICIAL, checked_file, find_file
from codelength.data.vocabulary import Bytes, Characters, Vocabulary, make_vocabulary
from codelength.errors import DataError, UsageError
from codelength.space import Space

TEXT_SUFFIXES = (".txt", ".md")


@dataclass(frozen=True)
class Text:
    """The text of a split.

    Args:
        content: Its bytes, documents one after the other.
        tokens: Its tokens, ends of text included, (N,).
        byte_lengths: Bytes that each of them stands for, (N,); 0 for an end of text.
        documents: Document of each token, (N,), 0, 1, ...
    """

    content: bytes
    tokens: np.ndarray
    byte_lengths: np.ndarray
    documents: np.ndarray

    @property
    def num_words(self) -> int:
        """Words: longest runs without white space."""
        return len(self.content.split())


def tokenize(documents: list[bytes], vocabulary: Vocabulary, *, ends: bool) -> Text:
    """Documents as one text; with `ends` each is closed by the vocabulary's end of text, or by a token beyond it."""
    end = np.full(int(ends), vocabulary.size if vocabulary.end is None else vocabulary.end, dtype=np.int64)
    parts = [np.concatenate([vocabulary.encode(document), end]) for document in documents]
    tokens = np.concatenate([np.zeros(0, dtype=np.int64), *parts])
    lengths = np.append(vocabulary.byte_lengths(), 0)[tokens]
    number = np.repeat(np.arange(len(parts)), [len(part) for part in parts])
    text = Text(b"".join(documents), _narrow(tokens, vocabulary.size + 1), lengths, number)
    assert int(lengths.sum()) == len(text.content)
    return text


def _narrow(tokens: np.ndarray, levels: int) -> np.ndarray:
    return tokens.astype(np.uint8 if levels <= 256 else np.uint16 if levels <= 65_536 else np.int64)


def crops(tokens: np.ndarray, context: int) -> np.ndarray:
    """All windows of `context` tokens, (N − context + 1, context), without copying."""
    return np.lib.stride_tricks.sliding_window_view(tokens, context)


def held_out(tokens: np.ndarray, context: int) -> np.ndarray:
    """Disjoint windows of `context` tokens and, where tokens are left over, the last `context` ones."""
    starts = list(range(0, len(tokens) - context + 1, context))
    if starts and starts[-1] + context < len(tokens):
        starts.append(len(tokens) - context)
    return crops(tokens, context)[starts]


def disjoint(data: DataSet) -> DataSet:
    """The data with disjoint training windows in place of all crops, where they are text: to look for duplicates in."""
    if "train" not in data.texts:
        return data
    windows = held_out(data.texts["train"].tokens, data.space.num_dims)
    return replace(data, splits={**data.splits, "train": Split(x=windows)})


def build_text(
    name: str,
    documents: dict[str, list[bytes]],
    *,
    context: int,
    vocabulary: str,
    licence: str,
    source: str,
) -> DataSet:
    """The data set of documents by split.

    Raises:
        UsageError: `context` is not positive, or the vocabulary is unknown.
        DataError: A split is shorter than one window, or cannot be written with the vocabulary.
    """
    if isinstance(context, bool) or not isinstance(context, int) or context < 1:
        raise UsageError(f"context={context!r}; wanted the tokens of a window, 1 or more")
    words = make_vocabulary(vocabulary, b"".join(documents.get("train", [])))
    ends = any(len(parts) > 1 for parts in documents.values())
    texts = {split: tokenize(parts, words, ends=ends) for split, parts in documents.items() if parts}
    for split, text in texts.items():
        if len(text.tokens) < context:
            raise DataError(
                f"{name}: the {split} text has {len(text.tokens)} tokens, fewer than a window of context={context}; "
                "give more text or a smaller context"
            )
    kinds = {Bytes: "byte", Characters: "character"}
    role = kinds.get(type(words), "byte pair")
    space = Space("sequence", (context,), words.size + int(ends and words.end is None), channels=(role,))
    windows = {s: (crops if s == "train" else held_out)(text.tokens, context) for s, text in texts.items()}
    splits = {split: Split(x=windows[split]) for split in SPLITS if split in windows}
    return DataSet(name, space, splits, licence, source, texts=texts, vocabulary=words)


def cut(content: bytes, validation: float, test: float) -> dict[str, list[bytes]]:
    """One text as training, validation and test text, in this order, cut between UTF-8 characters.

    >>> {split: parts[0] for split, parts in cut(b"0123456789", 0.2, 0.1).items()}
    {'train': b'0123456', 'validation': b'78', 'test': b'9'}
    """
    if validation < 0 or test < 0 or validation + test >= 1:
        raise UsageError(
            f"validation={validation} and test={test}; wanted shares of 0 or more that add up to less than 1"
        )
    last = _boundary(content, round(len(content) * (1 - test)))
    middle = _boundary(content, round(len(content) * (1 - test - validation)))
    parts = {"train": content[:middle], "validation": content[middle:last], "test": content[last:]}
    return {split: [part] for split, part in parts.items() if part}


def _boundary(content: bytes, place: int) -> int:
    """The first place from `place` on that is not inside a UTF-8 character."""
    while place < len(content) and content[place] & 0xC0 == 0x80:
        place += 1
    return place


def load_text_file(
    path: Path,
    /,
    *,
    context: int = 256,
    vocabulary: str = "bytes",
    validation: float = 0.05,
    test: float = 0.05,
) -> DataSet:
    """One text file: its beginning is training text, its end test text.

    Args:
        path: The file.
        context: Tokens of a window.
        vocabulary: "bytes", "characters", "bpe-N", or the path of a tokenizer.json.
        validation, test: Shares of validation and test text.
    """
    documents = cut(path.read_bytes(), validation, test)
    options = {"licence": "the user's own", "source": str(path)}
    return build_text(path.resolve().stem, documents, context=context, vocabulary=vocabulary, **options)


def load_text_folder(
    path: Path,
    /,
    *,
    context: int = 256,
    vocabulary: str = "bytes",
    validation: float = 0.05,
    test: float = 0.05,
    seed: int = 0,
) -> DataSet:
    """Text files of a folder, one document each, in the order of their names.

    Sub-folders named train, validation or test are those splits; else documents are split by content, so that equal documents
    never straddle a cut.

    Args:
        path: The folder.
        context: Tokens of a window.
        vocabulary: "bytes", "characters", "bpe-N", or the path of a tokenizer.json.
        validation, test: Shares of validation and test documents.
        seed: Seed of the split.
    """
    named = {split: _read(path / split) for split in SPLITS if (path / split).is_dir()}
    documents = named or split_documents(_read(path), validation, test, seed)
    options = {"licence": "the user's own", "source": str(path)}
    return build_text(path.resolve().stem, documents, context=context, vocabulary=vocabulary, **options)


def find_texts(path: Path) -> list[Path]:
    """Text files of a folder and its sub-folders, sorted."""
    return sorted(file for file in path.rglob("*") if file.suffix.lower() in TEXT_SUFFIXES and file.is_file())


def _read(path: Path) -> list[bytes]:
    files = find_texts(path)
    if not files:
        raise DataError(f"{path} holds no text files ({', '.join(TEXT_SUFFIXES)})")
    return [file.read_bytes() for file in files]


def split_documents(documents: list[bytes], validation: float, test: float, seed: int) -> dict[str, list[bytes]]:
    """Documents by split, shares counted in documents; equal ones go to the same split."""
    if validation < 0 or test < 0 or validation + test >= 1:
        raise UsageError(
            f"validation={validation} and test={test}; wanted shares of 0 or more that add up to less than 1"
        )
    groups: dict[bytes, list[bytes]] = {}
    for document in documents:
        groups.setdefault(hashlib.sha256(document + str(seed).encode()).digest(), []).append(document)
    wanted = {"test": round(test * len(documents)), "validation": round(validation * len(documents))}
    parts: dict[str, list[bytes]] = {split: [] for split in SPLITS}
    for key in sorted(groups):
        split = next((s for s in wanted if len(parts[s]) < wanted[s]), "train")
        parts[split] += groups[key]
    return {split: found for split, found in parts.items() if found}


# --- data sets by name -----------------------------------------------------------------------------------------------


def load_pydoc(*, context: int = 256, vocabulary: str = "bytes") -> DataSet:
    """The reference manual inside CPython (`help("topics")`), a document a topic: 80 / 10 / 10 % of the topics.

    The topics differ between versions of Python, and so does the fingerprint.
    """
    from pydoc_data.topics import topics

    documents = split_documents([topics[name].encode() for name in sorted(topics)], 0.1, 0.1, 0)
    source = "pydoc_data.topics of this Python: its language reference as text"
    return build_text("pydoc", documents, context=context, vocabulary=vocabulary, licence="PSF-2.0", source=source)


def _official(folder: str, file: str, name: str) -> bytes:
    return checked_file(folder, OFFICIAL[folder][file].forms, name).read_bytes()


def load_tinyshakespeare(*, context: int = 256, vocabulary: str = "characters") -> DataSet:
    """Tiny Shakespeare: its last 10 % is test text, as everywhere; of the first 90 % the last fiftieth selects weights."""
    content = _official("tinyshakespeare", "input.txt", "tinyshakespeare")
    edge = int(0.9 * len(content))
    inside = edge - edge // 50
    documents = {"train": [content[:inside]], "validation": [content[inside:edge]], "test": [content[edge:]]}
    source = "input.txt of char-rnn (Karpathy): plays of Shakespeare"
    return build_text(
        "tinyshakespeare", documents, context=context, vocabulary=vocabulary, licence="public domain", source=source
    )


def load_enwik8(*, context: int = 256, vocabulary: str = "bytes") -> DataSet:
    """enwik8: the first 90, the next 5 and the last 5 million bytes, as everywhere."""
    return _wikipedia("enwik8", _official("enwik8", "enwik8", "enwik8"), 0.05, 0.05, context, vocabulary)


def load_enwik8_4mb(*, context: int = 256, vocabulary: str = "bytes") -> DataSet:
    """The first 4,000,000 bytes of enwik8: the last 5 % is test text, 1 % before it selects weights."""
    here = find_file("enwik8_4mb", OFFICIAL["enwik8_4mb"]["enwik8_first4MB"].forms)
    whole = here is None and find_file("enwik8", OFFICIAL["enwik8"]["enwik8"].forms) is not None
    folder, file = ("enwik8", "enwik8") if whole else ("enwik8_4mb", "enwik8_first4MB")
    content = _official(folder, file, "enwik8_4mb")[:4_000_000]
    return _wikipedia("enwik8_4mb", content, 0.01, 0.05, context, vocabulary)


def load_text8(*, context: int = 256, vocabulary: str = "characters") -> DataSet:
    """text8: the first 90, the next 5 and the last 5 million characters, as everywhere."""
    return _wikipedia("text8", _official("text8", "text8", "text8"), 0.05, 0.05, context, vocabulary)


def load_wikitext(size: int, form: str, /, *, context: int = 256, vocabulary: str = "bytes") -> DataSet:
    """WikiText in its official splits, each one text: good articles of Wikipedia, with white space around every word.

    Args:
        size: 2 or 103, millions of words.
        form: "-raw", the text; or "", where rare words are replaced by <unk>: numbers of the two are not comparable.
        context: Tokens of a window.
        vocabulary: "bytes", "characters", "bpe-N", or the path of a tokenizer.json.

    Reference: Merity et al., Pointer sentinel mixture models, arXiv:1609.07843.
    """
    name = f"wikitext{size}{form}"
    (file,) = OFFICIAL[name].values()
    path = checked_file(name, file.forms, name)
    try:
        with zipfile.ZipFile(path) as archive:
            suffix = "raw" if form else "tokens"
            documents = {
                split: [archive.read(f"wikitext-{size}{form}/wiki.{part}.{suffix}")]
                for split, part in (("train", "train"), ("validation", "valid"), ("test", "test"))
            }
    except (zipfile.BadZipFile, KeyError, zlib.error) as error:
        raise DataError(f"{path} is no archive of WikiText ({error}); fetch it again") from error
    source = f"{path.name} (Merity et al. 2016)"
    return build_text(
        name, documents, context=context, vocabulary=vocabulary, licence="CC BY-SA 3.0, GFDL", source=source
    )


def _wikipedia(name: str, content: bytes, validation: float, test: float, context: int, vocabulary: str) -> DataSet:
    return build_text(
        name,
        cut(content, validation, test),
        context=context,
        vocabulary=vocabulary,
        licence="CC BY-SA 3.0, GFDL",
        source="English Wikipedia of March 2006 (Mahoney, Large Text Compression Benchmark)",
    )
