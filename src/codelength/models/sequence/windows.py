"""Windows over a long sequence: which tokens each scores, and what they see.

A model with a context of C tokens cannot see all of a long text. Window k is tokens kS .. kS + C − 1, with stride S <= C. The
first scores all of its tokens, each later one its last S, so that every token is scored once and, after the first window,
sees at least C − S tokens (the minimum context). S = C cuts the text into disjoint windows; S = 1 gives every token the
longest context there is, for C times the work.

The last window ends with the text and scores what is left. The windows are those of Hugging Face's recipe for perplexity
("Perplexity of fixed-length models").
"""

from __future__ import annotations

from dataclasses import dataclass

from codelength.errors import UsageError


@dataclass(frozen=True)
class Window:
    """Tokens begin .. end − 1 of a text, of which those from `scored` on are scored."""

    begin: int
    scored: int
    end: int


def windows(length: int, context: int, stride: int) -> list[Window]:
    """The windows over `length` tokens, in order.

    Raises:
        UsageError: The stride is not in 1 .. context.

    >>> [(w.begin, w.scored, w.end) for w in windows(10, 4, 3)]
    [(0, 0, 4), (3, 4, 7), (6, 7, 10)]
    """
    if not 1 <= stride <= context:
        raise UsageError(f"stride={stride} with context={context}; wanted 1..{context}, so that every token is scored")
    found, scored = [], 0
    for begin in range(0, length, stride):
        end = min(begin + context, length)
        found.append(Window(begin, scored, end))
        scored = end
        if end == length:
            break
    return found
