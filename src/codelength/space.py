"""What a datum is: its shape, its number of levels, its kind."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from codelength.errors import SpaceMismatchError

Kind = Literal["image", "sequence", "audio", "vector"]
Binarization = Literal["static", "dynamic", "threshold"]
KINDS = ("image", "sequence", "audio", "vector")
BINARIZATIONS = ("static", "dynamic", "threshold")


@dataclass(frozen=True)
class Space:
    """The space of one datum; data are integer tensors of shape (B, *shape).

    Args:
        kind: "image" (C, H, W), "sequence" (T,), "audio" (C, T) or "vector" (D,).
        shape: Shape of one datum; None leaves a size open.
        levels: Number of values a dim can take: they are offset, ..., offset + levels - 1.
        offset: Smallest value; negative for signed audio or CT values.
        binarization: How grey data became two levels, where they did: "static", "dynamic" or "threshold".
        channels: Role of each channel, such as ("red", "green", "blue", "alpha"), of text ("byte",); empty if unnamed.
        conditions: Name and number of classes of each condition, such as {"label": 10}.

    Raises:
        ValueError: A field has an impossible value.

    >>> Space.image(3, 32, 32).num_dims
    3072
    """

    kind: Kind
    shape: tuple[int | None, ...]
    levels: int
    offset: int = 0
    binarization: Binarization | None = None
    channels: tuple[str, ...] = ()
    conditions: dict[str, int] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Space: kind={self.kind!r}; known kinds: {', '.join(KINDS)}")
        rank = {"image": 3, "audio": 2, "sequence": 1, "vector": 1}[self.kind]
        if len(self.shape) != rank or any(size is not None and size < 1 for size in self.shape):
            raise ValueError(f"Space: shape {self.shape} of kind {self.kind!r}; wanted {rank} positive sizes or None")
        if self.levels < 2:
            raise ValueError(f"Space: levels={self.levels}; wanted at least 2")
        if self.binarization is not None and (self.binarization not in BINARIZATIONS or self.levels != 2):
            raise ValueError(
                f"Space: binarization={self.binarization!r} with {self.levels} levels; wanted one of "
                f"{', '.join(BINARIZATIONS)} and 2 levels"
            )

    @staticmethod
    def image(channels: int, height: int | None, width: int | None, /, levels: int = 256, **fields: Any) -> Space:
        """Space of images (channels, height, width); `fields` may name the channels' roles."""
        return Space("image", (channels, height, width), levels, **fields)

    @property
    def num_dims(self) -> int:
        """Numbers per datum, channels included.

        Raises:
            ValueError: A size is open.
        """
        if any(size is None for size in self.shape):
            raise ValueError(
                f"Space.num_dims: shape {self.shape} leaves a size open; count the dims of the data instead"
            )
        return math.prod(size for size in self.shape if size is not None)

    @property
    def sizes(self) -> tuple[int, ...]:
        """The shape, where no size is open; raises ValueError otherwise."""
        _ = self.num_dims
        return tuple(size for size in self.shape if size is not None)

    @property
    def uniform_nats(self) -> float:
        """Code length of a uniform model, nats per datum: num_dims * ln(levels)."""
        return self.num_dims * math.log(self.levels)

    def validate(self, x: Tensor) -> Tensor:
        """Return x as an int64 tensor, or say why it is no batch of this space.

        Raises:
            SpaceMismatchError: x is not integer, has another shape or leaves the levels.
        """
        if x.is_floating_point() or x.is_complex() or x.dtype == torch.bool:
            raise SpaceMismatchError(
                f"data of dtype {x.dtype}; wanted integers {self.offset}..{self.offset + self.levels - 1}. "
                "Quantize first: a likelihood model scores the integers themselves"
            )
        shape = tuple(x.shape[1:])
        if len(shape) != len(self.shape) or any(
            w is not None and g != w for g, w in zip(shape, self.shape, strict=True)
        ):
            wanted = " x ".join("any" if size is None else str(size) for size in self.shape)
            raise SpaceMismatchError(
                f"data of shape {' x '.join(map(str, shape))}; the model wants {wanted}. "
                "Crop or resize the data, or train a model of that shape"
            )
        x = x.long()
        if x.numel():
            low, high = int(x.min()), int(x.max())
            if low < self.offset or high >= self.offset + self.levels:
                raise SpaceMismatchError(
                    f"data reach {low}..{high} but the model has {self.levels} levels "
                    f"({self.offset}..{self.offset + self.levels - 1}); train a model with more levels or quantize first"
                )
        return x

    def with_binarization(self, binarization: Binarization) -> Space:
        """This space after binarization: two levels, and named so."""
        return replace(self, levels=2, offset=0, binarization=binarization)

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `from_json` reads back."""
        return asdict(self)

    @staticmethod
    def from_json(fields: dict[str, Any]) -> Space:
        """The space that `to_json` wrote."""
        lists: dict[str, Any] = {name: tuple(fields[name]) for name in ("shape", "channels") if name in fields}
        return Space(**{**fields, **lists})
