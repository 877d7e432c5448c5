"""P7: code the data for real, decode them again, and compare the bits with −log2 P.

A stream that decodes exactly and is as long as claimed proves the number to be a code length of that model on that data.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codelength.adapters.foreign import ForeignModel
from codelength.audit.context import Context
from codelength.audit.order import as_data
from codelength.audit.verdict import Findings, Verdict
from codelength.coding.registry import Codec
from codelength.errors import CodecError, CodelengthError

SLACK = 0.005
SLACK_BYTES = 256
# A coder's smallest frequency makes values cheaper that the model thinks all but impossible, so that a file may be shorter than −log2 P.
DEFICIT = 0.05
CHAIN_DIMS = 256
BITS_BACK_PASSES = 8  # time of coding a datum and decoding it, thrice, in passes of the model
BITS_BACK_SLACK = 0.02
LEAST = 24
CODEC_CAUSE = (
    "frequencies of 0 after rounding, a cumulative table that does not increase, a symbol outside the table, or a decoder that needs "
    "what only the encoder has"
)
RATE_CAUSE = "a probability no decoder could compute, missing normalization, or a unit or constant"

Encode = Callable[..., bytes]
Decode = Callable[..., Tensor]


def probe(context: Context) -> Verdict:
    """By the model's own codec, by this package's, or by coding with its conditionals."""
    found, subject = Findings("P7"), context.subject
    if isinstance(subject.model, ForeignModel) and subject.answers("encode") and subject.answers("decode"):
        model: Any = subject.model
        other: Any = copy.deepcopy(subject.pristine) if subject.pristine is not None else model
        if other is model:
            found.note("it cannot be copied: the decoder may remember what it encoded")
        _round_trips(context, found, model.encode, other.decode)
    elif all(subject.answers(name) for name in ("schedule", "init_state", "step", "log_prob")):
        _our_codec(context, found)
    elif subject.has_table and isinstance(subject.model, ForeignModel):
        _by_conditionals(context, found)
    elif subject.has_bound and (codec := _bits_back_codec(subject.model)) is not None:
        _bits_back(context, found, codec)
    else:
        found.note("no codec: it has no encode and decode, no steps and no conditionals")
    return found.verdict()


def _our_codec(context: Context, found: Findings) -> None:
    from codelength.coding.autoregressive import DEFAULT_BATCH, DEFAULT_THREADS
    from codelength.coding.registry import CODECS, codec_of

    model = context.subject.model
    try:
        codec = CODECS[codec_of(model)]
    except CodecError as error:
        found.note(f"no codec: {error}")
        return
    options = {"batch": codec.batch(model, DEFAULT_BATCH), "threads": DEFAULT_THREADS}
    _round_trips(
        context,
        found,
        lambda x: codec.encode(model, x, **options, **context.subject.conditions(len(x))),
        lambda blob, n: codec.decode(model, blob, n, **options, **context.subject.conditions(n)),
        steps=context.inputs.space.num_dims,
    )


def _bits_back_codec(model: Any) -> Codec | None:
    """The codec of a model that has a bound only, if there is one."""
    from codelength.coding.registry import CODECS, codec_of

    if isinstance(model, ForeignModel):
        return None
    try:
        return CODECS[codec_of(model)]
    except CodecError:
        return None


def _bits_back(context: Context, found: Findings, codec: Codec) -> None:
    """Data, noise and extremes decode; coded a second time behind themselves, data cost what the bound says.

    The second time the initial bits are there, so that what is added is the net rate. Each datum draws once.
    """
    model, conditions = context.subject.model, context.subject.conditions
    batch = codec.batch(model, 1)
    count = context.affordable("bound", 100 * BITS_BACK_PASSES, 0.15, LEAST * BITS_BACK_PASSES) // BITS_BACK_PASSES
    data = context.inputs.data(count)
    noise, extremes = context.inputs.noise(4, "p7"), context.inputs.extremes()[:4]
    sizes = []
    for name, x in {
        "data": data,
        "data twice": torch.cat([data, data]),
        "noise and extremes": torch.cat([noise, extremes]),
    }.items():
        try:
            blob = codec.encode(model, x, batch=batch, threads=1, **conditions(len(x)))
            decoded = codec.decode(model, blob, len(x), batch=batch, threads=1, **conditions(len(x)))
        except CodelengthError as error:
            found.fail(f"coding {len(x)} {name} raised {type(error).__name__}: {error}", CODEC_CAUSE)
            return
        sizes.append(8 * len(blob))
        wrong = int((decoded != x).flatten(1).any(1).sum())
        if wrong:
            found.fail(f"{wrong} of {len(x)} {name} decode to something else", CODEC_CAUSE)
            return
    found.passed(f"{len(data)} data, noise and extremes decode exactly")
    if len(data) < LEAST:
        found.note(f"{len(data)} data are too few to tell the net rate")
        return
    claims = -context.repeated_bounds(data, 1, 8, "p7") / math.log(2)
    claimed, net = float(claims.mean(0).sum()), sizes[1] - sizes[0]
    found.evidence |= {"net_claimed_bits": claimed, "net_coded_bits": net}
    slack = BITS_BACK_SLACK * abs(claimed) + 4 * float(claims.var(0).sum().sqrt()) + 64
    if net > claimed + slack:
        found.fail(f"data: {net} bits coded, {claimed:.1f} claimed: the number is no code length", RATE_CAUSE)
    else:
        found.passed(f"data: {net} bits coded net, {claimed:.1f} claimed")


def _round_trips(context: Context, found: Findings, encode: Encode, decode: Decode, steps: int = 1) -> None:
    """Data, noise and extremes, each coded, decoded and compared."""
    member = "log_prob" if context.subject.has_log_prob else "bound" if context.subject.has_bound else "conditionals"
    count = context.affordable(member, 100 * steps, 0.15, 4 * steps) // steps
    sets = {
        "data": context.inputs.data(count),
        "noise": context.inputs.noise(min(count, 24), "p7"),
        "extremes": context.inputs.extremes()[: max(4, count)],
    }
    for name, x in sets.items():
        claimed = _claimed_bits(context, x)
        if claimed is not None:
            x, claimed = x[claimed.isfinite()], claimed[claimed.isfinite()]
        if not len(x):
            found.note(f"all {name} have probability 0")
            continue
        try:
            blob = encode(x)
            decoded = torch.as_tensor(decode(blob, len(x))).reshape(x.shape)
        except Exception as error:  # a foreign codec may fail in any way; each is a fault of the codec
            found.fail(
                f"coding {len(x)} {name} raised {type(error).__name__}: {' '.join(str(error).split())[:200]}",
                CODEC_CAUSE,
            )
            return
        wrong = int((decoded.long() != x).flatten(1).any(1).sum())
        found.evidence |= {f"{name}_coded": len(x), f"{name}_coded_bytes": len(blob), f"{name}_wrong": wrong}
        if wrong:
            found.fail(f"{wrong} of {len(x)} {name} decode to something else", CODEC_CAUSE)
            return
        if claimed is not None:
            _rate(context, found, name, 8 * len(blob), float(claimed.sum()), SLACK_BYTES)
    if not found.failed:
        found.passed(f"{', '.join(sets)} decode exactly")


def _claimed_bits(context: Context, x: Tensor) -> Tensor | None:
    """−log2 P of each datum, or of its bound; None where the model gives neither."""
    subject = context.subject
    if subject.has_log_prob:
        return -subject.log_prob(x, model=subject.model) / math.log(2)
    if subject.has_bound:
        return -context.repeated_bounds(x, 1, 4, "p7").mean(0) / math.log(2)
    return None


def _rate(context: Context, found: Findings, name: str, bits: int, claimed: float, slack_bytes: int) -> None:
    found.evidence |= {f"{name}_claimed_bits": claimed, f"{name}_coded_bits": bits}
    slack = SLACK * abs(claimed) + 8 * slack_bytes
    if bits > claimed + slack:
        found.fail(f"{name}: {bits} bits coded, {claimed:.1f} claimed: the number is no code length", RATE_CAUSE)
    elif bits < (1 - DEFICIT) * claimed - slack and name == "data" and context.subject.has_log_prob:
        found.fail(f"{name}: {bits} bits coded, {claimed:.1f} claimed: log_prob is not what it codes with", RATE_CAUSE)
    else:
        found.passed(f"{name}: {bits} bits coded, {claimed:.1f} claimed")


def _by_conditionals(context: Context, found: Findings) -> None:
    """Code symbol by symbol with the conditionals, each computed from what the decoder knows at that point."""
    from codelength.coding.entropy import Decoder, Encoder

    space, order = context.inputs.space, context.order
    if order is None:
        found.note("no order of the dims is known (see P2), so nothing can be decoded")
        return
    if space.num_dims > CHAIN_DIMS:
        found.note(f"not coded: {space.num_dims} dims are more than {CHAIN_DIMS} passes of the model")
        return
    count = context.affordable("conditionals", 200 * space.num_dims, 0.06, 4 * space.num_dims) // space.num_dims // 2
    x = torch.cat([context.inputs.data(count), context.inputs.mixed(max(1, count // 2), "p7")])
    flat = (x.flatten(1) - space.offset).numpy()
    encoder, known = Encoder(), np.zeros_like(flat)
    try:
        for i in order:
            encoder.encode(flat[:, i], context.subject.table(as_data(known, space))[:, i].numpy())
            known[:, i] = flat[:, i]
        stream = encoder.finish()
        decoder, decoded = Decoder(stream), np.zeros_like(flat)
        for i in order:
            decoded[:, i] = decoder.decode(context.subject.table(as_data(decoded, space))[:, i].numpy())
    except CodelengthError as error:
        found.fail(f"its conditionals cannot code: {error}", CODEC_CAUSE)
        return
    wrong = int((decoded != flat).any(1).sum())
    found.evidence |= {"coded": len(x), "coded_bytes": len(stream), "wrong": wrong}
    if wrong:
        found.fail(f"{wrong} of {len(x)} data decode to something else", CODEC_CAUSE)
        return
    claimed = -context.subject.log_prob(x) / math.log(2)
    if bool(claimed.isfinite().all()):
        # Frequencies of 24 bits cost levels / 2^24 of a symbol's mass; the stream ends on a 32-bit word.
        _rate(context, found, "data", 8 * len(stream), float(claimed.sum()), 16)
    else:
        found.passed("its conditionals decode exactly")
