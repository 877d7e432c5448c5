"""A corpus scored or compressed by many workers: Ray Data moves the work, the workers read the data."""

from codelength.cluster.blocks import blocks_of
from codelength.cluster.compression import ray_streams
from codelength.cluster.evaluation import ray_scorer
from codelength.cluster.scoring import ray_lengths

__all__ = ["blocks_of", "ray_lengths", "ray_scorer", "ray_streams"]
