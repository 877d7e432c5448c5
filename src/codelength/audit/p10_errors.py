"""P10: does the number come with an error bar?"""

from __future__ import annotations

import math

import numpy as np

from codelength.audit.context import Context
from codelength.audit.verdict import Findings, Verdict
from codelength.units import bits_per_dim

FEW = 50


def probe(context: Context) -> Verdict:
    """Per-datum values exist; their standard error, over clusters where data come in clusters."""
    from codelength.evaluation.statistics import mean_with_error

    found, split = Findings("P10"), context.audited
    if split is None or not context.subject.is_mass or not (context.subject.has_log_prob or context.subject.has_bound):
        found.note("no data: give --data" if split is None else "no code length of integers")
        return found.verdict()
    nats, dims = context.code_lengths, context.inputs.space.num_dims
    if not np.isfinite(nats).all():
        found.fail(f"{int((~np.isfinite(nats)).sum())} of {len(nats)} data have no finite code length", "see P8")
        return found.verdict()
    clusters = None if split.clusters is None else split.clusters[context.scored_indices]
    plain, clustered = mean_with_error(nats), mean_with_error(nats, clusters)
    found.evidence |= {
        "examples_scored": len(nats),
        "examples_in_split": len(split),
        "clusters": 0 if clusters is None else len(np.unique(clusters)),
        "bits_per_dim": bits_per_dim(plain.value, dims),
        "standard_error_bits_per_dim": bits_per_dim(clustered.standard_error, dims),
        "standard_error_ignoring_clusters_bits_per_dim": bits_per_dim(plain.standard_error, dims),
    }
    error = found.evidence["standard_error_bits_per_dim"]
    if len(split) < FEW or not math.isfinite(error):
        found.warn(f"only {len(split)} data: an error bar of them means little", "a subset in place of the whole split")
    else:
        found.passed(f"{found.evidence['bits_per_dim']:.4g} ± {error:.2g} bits/dim on {len(nats)} of {len(split)} data")
    return found.verdict()
