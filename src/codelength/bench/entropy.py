"""Entropy coding alone: tables against others' coders, mixtures by CDF against building tables."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch

from codelength.bench.measure import Contest, Times, timed
from codelength.bench.peers import PEERS, PeerProcess
from codelength.bench.workers.serve import Stopwatch
from codelength.coding.entropy import Decoder, Encoder
from codelength.pixels.logistic_mixture import LogisticMixtureChannel

if TYPE_CHECKING:
    from codelength.bench.tasks import Options

LEVELS = 256


def _tables(options: Options, name: str, slack: float, wanted: float) -> Contest:
    """1,000,000 symbols, each with a table of its own of 256 masses, in parts of 50,000: encode and decode.

    A part's tables are those of the first, turned by 13 levels: all differ, and memory holds one part.
    """
    count, parts = (500, 2) if options.small else (50_000, 20)
    rng = np.random.default_rng(0)
    base = rng.gamma(0.1, size=(count, LEVELS)) + 1e-12
    base /= base.sum(1, keepdims=True)
    drawn = (base.cumsum(1) < rng.random((count, 1))).sum(1).clip(0, LEVELS - 1)
    symbols = np.stack([(drawn + 13 * part) % LEVELS for part in range(parts)]).astype(np.int32)
    sizes: list[int] = []

    def work() -> Times:
        # Making a part's tables is not coding: the watch stands still.
        watch = Stopwatch()
        encoder = Encoder()
        for part in range(parts):
            tables = np.roll(base, 13 * part, axis=1)
            with watch:
                encoder.encode(symbols[part], tables)
        stream = encoder.finish()
        decoder = Decoder(stream)
        for part in range(parts):
            tables = np.roll(base, 13 * part, axis=1)
            with watch:
                decoded = decoder.decode(tables)
            assert np.array_equal(decoded, symbols[part])
        sizes.append(len(stream))
        return watch.times

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "tables.npz"
        np.savez(file, tables=base, symbols=symbols)
        peer = PeerProcess(PEERS[name], options.pip_arguments, file=str(file), parts=parts, threads=options.threads)
    work()
    ideal = -float(np.log2(base[np.arange(count), drawn]).sum()) * parts
    return Contest(
        what=f"encode and decode {count * parts:,} symbols, each with its own table of {LEVELS} masses",
        ours=work,
        theirs=peer.run,
        theirs_name=peer.peer.label,
        parity={"bytes": sizes[0], "their_bytes": peer.report["bytes"], "ideal_bytes": round(ideal / 8, 1)},
        passed=abs(sizes[0] / peer.report["bytes"] - 1) < slack,
        wanted=wanted,
        close=peer.close,
    )


def tables(options: Options) -> Contest:
    """Beside constriction's own batch interface: the same bytes."""
    return _tables(options, "constriction", 1e-4, 0.5)


def tables_torchac(options: Options) -> Contest:
    """Beside torchac, whose tables have 16 bits and whose parts are a stream each."""
    return _tables(options, "torchac", 0.02, 1.0)


def mixtures(options: Options) -> Contest:
    """Values of 256 levels under mixtures of 10 logistics: encode and decode by CDF, or by tables that are built first."""
    count = 500 if options.small else 20_000
    generator = torch.Generator().manual_seed(0)
    logits, mean, log_scale = torch.randn((3, count, 10), generator=generator)
    channel = LogisticMixtureChannel(logits, 0.5 * mean, -3 + 0.5 * log_scale, LEVELS)
    symbols = channel.sample(generator).numpy()
    sizes: dict[str, int] = {}

    def fresh() -> LogisticMixtureChannel:
        # The decoder has only the parameters: nothing may be kept from the encoder.
        return LogisticMixtureChannel(channel.logits, channel.component_mean, channel.log_scale, LEVELS)

    def by_cdf() -> None:
        encoder = Encoder()
        at = fresh()
        encoder.encode_by_cdf(symbols, lambda v: at.cdf(torch.from_numpy(v)).numpy(), LEVELS)
        stream = encoder.finish()
        there = fresh()
        decoded = Decoder(stream).decode_by_cdf(count, lambda v: there.cdf(torch.from_numpy(v)).numpy(), LEVELS)
        assert np.array_equal(decoded, symbols)
        sizes["cdf"] = len(stream)

    def by_tables() -> None:
        encoder = Encoder()
        encoder.encode(symbols, fresh().probs().numpy())
        stream = encoder.finish()
        assert np.array_equal(Decoder(stream).decode(fresh().probs().numpy()), symbols)
        sizes["tables"] = len(stream)

    by_cdf()
    by_tables()
    return Contest(
        what=f"encode and decode {count:,} values of {LEVELS} levels under mixtures of 10 logistics",
        ours=lambda: timed(by_cdf),
        theirs=lambda: timed(by_tables),
        theirs_name="building the tables",
        parity={"bytes": sizes["cdf"], "their_bytes": sizes["tables"]},
        passed=abs(sizes["cdf"] / sizes["tables"] - 1) < 0.01,
        wanted=10.0,
    )


PREPARE = {"entropy-tables": tables, "entropy-torchac": tables_torchac, "entropy-mixtures": mixtures}
