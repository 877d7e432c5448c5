"""Entropy coding: the codec of exact models, the `.clen` file, and the sizes of established codecs."""

from codelength.coding.autoregressive import decode, encode
from codelength.coding.baselines import CodecResult, codec_baselines
from codelength.coding.codec import Archive, compress, load_coder, model_hash
from codelength.coding.measure import CodingResult, measure_coding

__all__ = [
    "Archive",
    "CodecResult",
    "CodingResult",
    "codec_baselines",
    "compress",
    "decode",
    "encode",
    "load_coder",
    "measure_coding",
    "model_hash",
]
