"""Classical codecs on the data of a report."""

from __future__ import annotations

import numpy as np

from codelength.coding.baselines import CodecResult, codec_baselines
from codelength.data.dataset import DataSet
from codelength.report.collect import Group


def codecs_on(dataset: DataSet, split: str) -> list[CodecResult]:
    """Classical codecs on a split of images of at most 16 bits; an empty list for other data, such as text."""
    x = dataset.split(split).x
    space = dataset.space
    if space.kind != "image" or space.offset != 0 or space.levels > 2**16:
        return []
    return codec_baselines(np.ascontiguousarray(x, dtype=np.uint8 if space.levels <= 256 else np.uint16))


def measure_codecs(group: Group) -> list[CodecResult]:
    """Classical codecs on a group's data; an empty list where the data are not there."""
    return [] if group.dataset is None else codecs_on(group.dataset, group.split)
