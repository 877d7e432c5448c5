"""Whole numbers in as few bytes as they need: LEB128, seven bits a byte, the lowest first; the highest bit of a byte says that more follow."""

from __future__ import annotations

from codelength.errors import CodecError


def write_leb128(number: int) -> bytes:
    """The bytes of a number, 0 or more.

    >>> write_leb128(300).hex()
    'ac02'
    """
    out = bytearray()
    while True:
        number, low = number >> 7, number & 0x7F
        out.append(low | (0x80 if number else 0))
        if not number:
            return bytes(out)


def read_leb128(stream: bytes, longest: int, otherwise: str) -> tuple[int, int]:
    """The number at the start of a stream, and how many bytes it takes.

    Args:
        stream: Starts with the number.
        longest: Bytes of the longest number that is taken.
        otherwise: What a chunk without it does, for the error, such as "says nothing of its conditions".

    Raises:
        CodecError: The stream ends inside the number, or the number is longer than any that is written.
    """
    number = 0
    for place, byte in enumerate(stream[:longest]):
        number |= (byte & 0x7F) << (7 * place)
        if byte < 0x80:
            return number, place + 1
    raise CodecError(f"the file is damaged: a chunk {otherwise}. Restore it from a copy")
