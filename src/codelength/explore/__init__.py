"""A local page on runs: code length, map and rank of an image, samples, completions."""

from codelength.explore.session import Explorer

__all__ = ["Explorer"]
