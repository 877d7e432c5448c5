"""P9: which integers were scored, how many levels they use, and whether the training data hold them too."""

from __future__ import annotations

import numpy as np

from codelength.audit.context import Context
from codelength.audit.duplicates import exact_duplicates, near_duplicates
from codelength.audit.verdict import Findings, Verdict

LIMIT = 2000
LEAK_CAUSE = (
    "splits drawn from overlapping sources, a split by augmented copies, or the test data inside the training data"
)


def probe(context: Context) -> Verdict:
    """Fingerprint, levels, and duplicates between the audited split and the training split."""
    found, split = Findings("P9"), context.audited
    if split is None:
        found.note("no data: give --data")
        return found.verdict()
    found.evidence |= {
        "sha256": split.fingerprint(),
        "shape": list(split.x.shape),
        "split": context.split,
    }
    _levels(context, found, split.x)
    found.passed(f"{len(split)} data, SHA-256 {split.fingerprint()[:12]}...")
    _bytes(context, found)
    if context.train is None:
        found.note("no other training split to look for duplicates in")
        return found.verdict()
    _duplicates(context, found, split.x, context.train.x)
    return found.verdict()


def _bytes(context: Context, found: Findings) -> None:
    """Text: do the tokens give the original bytes back, and do their lengths add up to what bits/byte divide by?"""
    text = None if context.data is None else context.data.texts.get(context.split)
    if text is None or context.data is None or context.data.vocabulary is None:
        return
    vocabulary, counted = context.data.vocabulary, int(text.byte_lengths.sum())
    back = vocabulary.decode(text.tokens[text.byte_lengths > 0])
    found.evidence |= {"bytes": len(text.content), "bytes_of_tokens": counted, "tokens": len(text.tokens)}
    if counted != len(text.content) or back != text.content:
        found.fail(
            f"the tokens stand for {counted} bytes and decode to {len(back)}, the text has {len(text.content)}"
            + (", equally many but others" if len(back) == counted == len(text.content) else ""),
            "a tokenizer that normalizes, adds a space or drops unknown characters: bits/byte of another text",
        )
    else:
        found.passed(f"{len(text.tokens)} tokens decode to the {counted} bytes of the text")


def _levels(context: Context, found: Findings, x: np.ndarray) -> None:
    """How many of the declared levels occur: data of a lower bit depth keep to multiples."""
    values, space = np.unique(x).astype(np.int64), context.inputs.space
    found.evidence |= {"levels_declared": space.levels, "levels_seen": len(values)}
    step = int(np.gcd.reduce(np.diff(values))) if len(values) > 1 else 1
    if step > 1 and len(values) > 2:
        found.evidence["common_step"] = step
        found.warn(
            f"all values differ by multiples of {step}: {len(values)} of {space.levels} levels occur",
            "data of a lower bit depth in the clothes of a higher one; bits/dim of different depths do not compare",
        )
    elif len(values) <= 2 < space.levels:
        found.warn(f"only {len(values)} of {space.levels} levels occur", "binarized data under a model of more levels")


def _duplicates(context: Context, found: Findings, x: np.ndarray, train: np.ndarray) -> None:
    across = exact_duplicates(x, train)
    # Against the same half of the training data: the other half of it, and the audited split.
    inside, half = exact_duplicates(train[1::2][:LIMIT], train[::2]), exact_duplicates(x[:LIMIT], train[::2])
    found.evidence |= {
        "exact_duplicates_share": across,
        "exact_duplicates_share_of_half": half,
        "exact_duplicates_share_of_half_inside_train": inside,
    }
    excess = half - inside - 5 * np.sqrt(max(inside * (1 - inside), 1e-4) / max(1, min(len(x), LIMIT)))
    if excess > 0.1:
        found.fail(
            f"{across:.1%} of the data are in the training split too (inside it {inside:.1%} repeat)", LEAK_CAUSE
        )
        return
    if across > 0.001 and excess > 0:
        found.warn(f"{across:.2%} of the data are in the training split too", LEAK_CAUSE)
    else:
        found.passed(f"{across:.2%} exact duplicates of training data")
    if context.inputs.space.num_dims < 48:
        found.note("too few dims to look for near-duplicates")
        return
    near = near_duplicates(x[:LIMIT], train[::2], context.inputs.space)
    near_inside = near_duplicates(train[1::2][:LIMIT], train[::2], context.inputs.space)
    found.evidence |= {"near_duplicates_share_of_half": near, "near_duplicates_share_of_half_inside_train": near_inside}
    if near > 0.01 and near > 2 * near_inside + half + 0.01:
        found.warn(
            f"{near:.1%} of the data have a near-duplicate in half of the training split (inside it {near_inside:.1%})",
            LEAK_CAUSE,
        )
    else:
        found.passed(f"{near:.2%} near-duplicates of training data")
