"""The conditions of a chunk, stored: what a conditional model is told, the file must hold.

P(x | label) is no code of x: a decoder needs the label first. So each chunk of a conditional model begins with the conditions of
its items, one after the other, each by its adaptive frequency

    P(y_i = c) = (n_c + 1) / (i + C),      n_c the number of c among y_0 .. y_{i−1}, C the number of classes:

log2 C bits for the first item, and no more than log2 of (n + C − 1 choose C − 1) above the entropy of the labels' own
frequencies in all. Counts are integers, so the tables are the same on every machine.

The chunk's payload is then: length of the stream of conditions in bytes (LEB128), that stream, the stream of the items.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from codelength.coding.entropy import Decoder, Encoder
from codelength.coding.leb128 import read_leb128, write_leb128
from codelength.errors import CodecError, UsageError

MAX_CLASSES = 2**12
"""Classes of a condition that a file can hold."""


def checked_conditions(
    conditions: Mapping[str, np.ndarray], wanted: Sequence[str], classes: Mapping[str, int], count: int
) -> dict[str, np.ndarray]:
    """The conditions a model takes, int64 (count,) each, in the model's order; others are left out.

    Raises:
        UsageError: One is missing, of another length, or leaves its classes.
    """
    checked = {}
    for name in wanted:
        if name not in conditions:
            raise UsageError(
                f"the model is conditioned on {name!r} but the items come without it; give --condition {name}=VALUE, "
                f"--condition {name}=FILE.npy with one integer an item, or data that carry it"
            )
        if classes[name] > MAX_CLASSES:
            raise UsageError(f"condition {name!r} has {classes[name]} classes; a file holds at most {MAX_CLASSES}")
        values = np.asarray(conditions[name])
        if values.shape != (count,) or not np.issubdtype(values.dtype, np.integer):
            raise UsageError(
                f"condition {name!r} of {values.dtype} {values.shape}; wanted one integer an item, ({count},)"
            )
        if count and not (values.min() >= 0 and values.max() < classes[name]):
            raise UsageError(f"condition {name!r}: {values.min()}..{values.max()}; wanted 0..{classes[name] - 1}")
        checked[name] = values.astype(np.int64)
    return checked


def encode_conditions(conditions: Mapping[str, np.ndarray], classes: Mapping[str, int]) -> bytes:
    """The conditions of a chunk with their length before them; nothing where there are none.

    Args:
        conditions: Name -> (n,) integers, in the model's order.
        classes: Name -> number of classes.
    """
    if not conditions:
        return b""
    encoder = Encoder()
    for name, values in conditions.items():
        encoder.encode(values, _tables(values, classes[name]))
    stream = encoder.finish()
    return write_leb128(len(stream)) + stream


def decode_conditions(
    payload: bytes, names: Sequence[str], classes: Mapping[str, int], count: int
) -> tuple[dict[str, np.ndarray], bytes]:
    """The conditions of `count` items and the rest of the payload.

    Raises:
        CodecError: The payload holds no such conditions.
    """
    if not names:
        return {}, payload
    length, start = read_leb128(payload, 5, "says nothing of its conditions")
    stream, rest = payload[start : start + length], payload[start + length :]
    if len(stream) != length:
        raise CodecError("the file is damaged: a chunk ends inside its conditions. Restore it from a copy")
    decoder, conditions = Decoder(stream), {}
    for name in names:
        counts = np.ones((1, classes[name]))
        values = np.empty(count, dtype=np.int64)
        for i in range(count):
            values[i] = decoder.decode(counts)[0]
            counts[0, values[i]] += 1
        conditions[name] = values
    return conditions, rest


def condition_nats(conditions: Mapping[str, np.ndarray], classes: Mapping[str, int]) -> float:
    """−log P of the conditions of a chunk by their adaptive frequencies, nats: their ideal code length.

    >>> round(condition_nats({"label": np.array([3])}, {"label": 10}) / math.log(2), 4)
    3.3219
    """
    total = 0.0
    for name, values in conditions.items():
        seen = np.bincount(values, minlength=classes[name])
        total += math.lgamma(len(values) + classes[name]) - math.lgamma(classes[name])
        total -= sum(math.lgamma(count + 1) for count in seen)
    return total


def _tables(values: np.ndarray, classes: int) -> np.ndarray:
    """Counts of each class before each value, plus one: (n, C)."""
    tables = np.ones((len(values), classes))
    tables[1:] += np.cumsum(np.eye(classes)[values[:-1]], axis=0)
    return tables
