"""Compiled gettext catalogues (.mo): pairs of a message and its translation.

A file is a header of seven 32-bit words (magic number, revision, number of messages N, offsets of the tables of originals and of translations, two of a hash table) and the
tables: N times length and offset of a text. An original is a message, after its context and a byte 4 where it has one, before a byte 0 and its plural where it has one; the
translation holds its plural forms, a byte 0 between.

Reference: GNU gettext manual, "The Format of GNU MO Files".
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from codelength.errors import DataError

MAGIC = 0x950412DE


@dataclass(frozen=True)
class Message:
    """A message and what it means in another language.

    Args:
        source: The message, after its context and a bar where it has one.
        target: Its translation.
        entry: Number of the catalogue's entry: singular and plural of a message have one.
    """

    source: str
    target: str
    entry: int


def read_mo(content: bytes, name: str) -> list[Message]:
    """The translated messages of a catalogue: of those with plural forms the first with the singular, the last with the plural.

    Raises:
        DataError: It is no .mo file, or ends too early.
    """
    order = next((o for o in "<>" if len(content) >= 28 and struct.unpack_from(o + "I", content)[0] == MAGIC), None)
    if order is None:
        raise DataError(f"{name} is no compiled gettext catalogue (.mo); compile it with msgfmt")
    count, originals, translations = struct.unpack_from(order + "3I", content, 8)

    def text(table: int, i: int) -> list[str]:
        length, start = struct.unpack_from(order + "2I", content, table + 8 * i)
        if start + length > len(content):
            raise DataError(f"{name} ends inside message {i}; restore it from a copy")
        return content[start : start + length].decode().split("\0")

    messages = []
    try:
        for i in range(count):
            sources, targets = text(originals, i), text(translations, i)
            context, there, _ = sources[0].partition("\x04")
            sources = [source.removeprefix(context + "\x04") for source in sources] if there else sources
            if not sources[0] or not targets[0]:
                continue  # the header, or a message not translated
            prefix = f"{context}|" if there else ""
            pairs = [(sources[0], targets[0])] + ([(sources[1], targets[-1])] if len(sources) > 1 else [])
            messages += [Message(prefix + source, target, i) for source, target in pairs]
    except (struct.error, UnicodeDecodeError) as error:
        raise DataError(f"{name} is damaged ({error}); restore it from a copy") from error
    return messages
