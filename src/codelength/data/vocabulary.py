"""Vocabularies: bytes of text to tokens and back, with the number of bytes that each token stands for.

Every vocabulary is lossless on the text it accepts: decode(encode(text)) == text, and the byte lengths of the tokens add up to
the length of the text. So nats a token become bits a byte of the original file whatever the vocabulary is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from codelength.errors import DataError, UsageError

ENDS = ("<|endoftext|>", "</s>", "<|end_of_text|>", "<eos>")
"""What tokenizers call the end of a text."""


class Vocabulary(Protocol):
    """Tokens 0 .. size − 1."""

    @property
    def size(self) -> int:
        """Number of tokens."""

    @property
    def end(self) -> int | None:
        """Its token for the end of a text; None where it has none."""

    def encode(self, text: bytes) -> np.ndarray:
        """Tokens of a text, (N,) int64; raises DataError where it cannot be written with them."""

    def byte_lengths(self) -> np.ndarray:
        """Bytes that each token stands for, (size,) int64."""

    def decode(self, tokens: np.ndarray) -> bytes:
        """The text of tokens."""


@dataclass(frozen=True)
class Bytes:
    """The 256 bytes.

    >>> Bytes().encode("né".encode()).tolist()
    [110, 195, 169]
    """

    size: int = 256
    end: int | None = None

    def encode(self, text: bytes) -> np.ndarray:
        return np.frombuffer(text, dtype=np.uint8).astype(np.int64)

    def byte_lengths(self) -> np.ndarray:
        return np.ones(256, dtype=np.int64)

    def decode(self, tokens: np.ndarray) -> bytes:
        return np.asarray(tokens).astype(np.uint8).tobytes()


@dataclass(frozen=True)
class Characters:
    """The characters of a text, in the order of their code points.

    >>> Characters("née").encode("née".encode()).tolist()
    [1, 2, 0]
    """

    characters: str
    end: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "characters", "".join(sorted(set(self.characters))))

    @property
    def size(self) -> int:
        """Number of characters."""
        return len(self.characters)

    def encode(self, text: bytes) -> np.ndarray:
        known = {character: token for token, character in enumerate(self.characters)}
        characters = text_of(text)
        unknown = sorted(set(characters) - set(known))
        if unknown:
            raise DataError(
                f"the text has {len(unknown)} characters that the training text has not, such as {unknown[0]!r}; "
                "choose vocabulary=bytes, which knows every text"
            )
        return np.array([known[character] for character in characters], dtype=np.int64)

    def byte_lengths(self) -> np.ndarray:
        return np.array([len(character.encode()) for character in self.characters], dtype=np.int64)

    def decode(self, tokens: np.ndarray) -> bytes:
        return "".join(self.characters[token] for token in tokens).encode()


class BytePairs:
    """Byte-level byte-pair encoding by Hugging Face `tokenizers`.

    Args:
        tokenizer: A `tokenizers.Tokenizer` whose tokens are byte strings in GPT-2's alphabet (its ByteLevel pre-tokenizer).

    Raises:
        DataError: It is of another kind, which may lose bytes.
    """

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        alphabet = byte_alphabet()
        tokens = tokenizer.get_vocab(with_added_tokens=True)
        special = set(tokens) - set(tokenizer.get_vocab(with_added_tokens=False)) | {
            token.content for token in tokenizer.get_added_tokens_decoder().values()
        }
        strings = [b""] * (max(tokens.values()) + 1)
        for token, index in tokens.items():
            if token in special:
                continue  # stands for no bytes: an end of text
            if not set(token) <= set(alphabet):
                raise DataError(f"the tokenizer's token {token!r} is no byte string; wanted a byte-level tokenizer")
            strings[index] = bytes(alphabet[character] for character in token)
        self.strings = strings
        self.end = next((tokens[name] for name in ENDS if name in special), None)

    @property
    def size(self) -> int:
        """Number of tokens, special ones included."""
        return len(self.strings)

    def encode(self, text: bytes) -> np.ndarray:
        tokens = np.array(self.tokenizer.encode(text_of(text), add_special_tokens=False).ids, dtype=np.int64)
        if self.decode(tokens) != text:
            raise DataError("the tokenizer does not give the text back byte by byte; choose one without normalization")
        return tokens

    def byte_lengths(self) -> np.ndarray:
        return np.array([len(string) for string in self.strings], dtype=np.int64)

    def decode(self, tokens: np.ndarray) -> bytes:
        return b"".join(self.strings[token] for token in tokens)

    @staticmethod
    def train(text: bytes, size: int) -> BytePairs:
        """`size` tokens, the 256 bytes and the merges that shorten the text most.

        Raises:
            UsageError: Fewer than 256 tokens, or `tokenizers` is missing.
        """
        if size < 256:
            raise UsageError(f"vocabulary=bpe-{size}; wanted at least the 256 bytes, such as bpe-1024")
        tokenizers = _tokenizers()
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
        tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        trainer = tokenizers.trainers.BpeTrainer(
            vocab_size=size, initial_alphabet=sorted(byte_alphabet()), show_progress=False
        )
        tokenizer.train_from_iterator([text_of(text)], trainer)
        return BytePairs(tokenizer)


def byte_alphabet() -> dict[str, int]:
    """GPT-2's printable character for every byte: itself where it prints, else one from 256 on, in order.

    >>> byte_alphabet()["Ġ"], byte_alphabet()["a"] == ord("a")
    (32, True)
    """
    prints = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in prints]
    return {chr(byte): byte for byte in prints} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


def make_vocabulary(name: str, training_text: bytes) -> Vocabulary:
    """The vocabulary of a name: "bytes", "characters", "bpe-N", or the path of a tokenizer.json.

    Those that depend on data see the training text only.

    Raises:
        UsageError: Another name, or `tokenizers` is missing.
        DataError: The text is no UTF-8, or the file no byte-level tokenizer.
    """
    if name == "bytes":
        return Bytes()
    if name == "characters":
        return Characters(text_of(training_text))
    if re.fullmatch(r"bpe-\d+", name):
        return BytePairs.train(training_text, int(name.removeprefix("bpe-")))
    if Path(name).suffix == ".json" and Path(name).is_file():
        return BytePairs(_tokenizers().Tokenizer.from_file(name))
    raise UsageError(f"vocabulary={name!r}; wanted bytes, characters, bpe-N such as bpe-1024, or a tokenizer.json")


def text_of(content: bytes) -> str:
    """The characters of UTF-8.

    Raises:
        DataError: It is none.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise DataError(f"the text is no UTF-8 ({error}); choose vocabulary=bytes") from error


def _tokenizers() -> Any:
    try:
        import tokenizers
        import tokenizers.decoders
        import tokenizers.models
        import tokenizers.pre_tokenizers
        import tokenizers.trainers
    except ImportError as error:
        raise UsageError(
            "byte-pair vocabularies need the package tokenizers: pip install 'codelength[tokenizers]'"
        ) from error
    return tokenizers
