"""The processes of one job: started by `torchrun`, or this process alone.

Every process runs the same program. What has an effect outside (files, stdout) is done by the first one; work is split by
`share` and put together by `gather`, in the order of the processes. In a single process all of these are the identity.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from codelength.errors import UsageError

JOINING, WAITING = timedelta(minutes=1), timedelta(minutes=30)
"""How long a process waits for the others to join, and later for each of them in a collective operation."""


def was_launched() -> bool:
    """Whether torchrun started this process as one of several, or as one that it may start again."""
    return all(name in os.environ for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"))


def is_active() -> bool:
    """Whether this process has joined a job."""
    return dist.is_available() and dist.is_initialized()


def size() -> int:
    """Number of processes."""
    return dist.get_world_size() if is_active() else 1


def rank() -> int:
    """Number of this process, 0, 1, ..."""
    return dist.get_rank() if is_active() else 0


def is_first() -> bool:
    """Whether this process writes the files."""
    return rank() == 0


def default_device() -> torch.device:
    """The GPU of this process, if there are any."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ["LOCAL_RANK"])) if is_active() else torch.device("cuda")


@contextmanager
def job() -> Iterator[None]:
    """Join the job that torchrun started this process for, with nccl on GPUs and gloo elsewhere; leave it at the end.

    Without torchrun there is nothing to join.
    """
    if not was_launched() or is_active():
        yield
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    store, number, processes = next(dist.rendezvous("env://"))  # type: ignore[attr-defined]
    # The agent's store outlives workers that it starts again: without a prefix they would find the addresses of dead ones.
    store = dist.PrefixStore(f"attempt-{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)  # type: ignore[attr-defined]
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    # Processes that do not meet fail soon, and torchrun starts them again. Once joined they have the usual time, since one
    # may evaluate while the others wait.
    dist.init_process_group(backend, store=store, rank=number, world_size=processes, timeout=JOINING)
    dist.distributed_c10d._set_pg_timeout(WAITING)
    try:
        yield
    finally:
        dist.destroy_process_group()


def require_one(what: str) -> None:
    """Raise UsageError if there are several processes."""
    if size() > 1:
        raise UsageError(f"{what} runs in one process, but torchrun started {size()}; start it without torchrun")


def barrier() -> None:
    """Wait until every process is here."""
    if size() > 1:
        dist.barrier()


def share(count: int, part: int | None = None, parts: int | None = None) -> tuple[int, int]:
    """Start and stop of part number `part` of 0 ... count − 1, cut into `parts` contiguous parts as equal as can be.

    Longer parts come first. By default the part of this process among all.

    >>> [share(7, part, 3) for part in range(3)]
    [(0, 3), (3, 5), (5, 7)]
    """
    part, parts = rank() if part is None else part, size() if parts is None else parts
    whole, longer = divmod(count, parts)
    start = part * whole + min(part, longer)
    return start, start + whole + (part < longer)


def _wire(tensor: Tensor) -> Tensor:
    """Where the backend can send it from."""
    return tensor.cuda() if dist.get_backend() == "nccl" else tensor


def total(value: Tensor) -> Tensor:
    """Sum over the processes, elementwise; `value` is left as it is."""
    if size() == 1:
        return value
    summed = _wire(value.detach().clone())
    dist.all_reduce(summed)
    return summed.to(value.device)


def gather(array: np.ndarray) -> np.ndarray:
    """The arrays of all processes, one after another along the first axis, on every process.

    They may differ in length but not in type and further shape.
    """
    if size() == 1:
        return array
    lengths = [torch.zeros(1, dtype=torch.int64) for _ in range(size())]
    lengths = [_wire(length) for length in lengths]
    dist.all_gather(lengths, _wire(torch.tensor([len(array)])))
    counts = [int(length) for length in lengths]
    padded = np.zeros((max(counts), *array.shape[1:]), dtype=array.dtype)
    padded[: len(array)] = array
    sent = _wire(torch.from_numpy(padded))
    parts = [torch.empty_like(sent) for _ in counts]
    dist.all_gather(parts, sent)
    return np.concatenate([part[:count].cpu().numpy() for part, count in zip(parts, counts, strict=True)])


def gather_bytes(parts: list[bytes]) -> list[bytes]:
    """The byte strings of all processes in the order of the processes, on every process."""
    if size() == 1:
        return parts
    lengths = gather(np.array([len(part) for part in parts], dtype=np.int64))
    content = gather(np.frombuffer(b"".join(parts), dtype=np.uint8)).tobytes()
    ends = np.cumsum(lengths)
    return [content[end - length : end] for end, length in zip(ends.tolist(), lengths.tolist(), strict=True)]


def from_first(value: Any) -> Any:
    """The first process's value, a plain Python object, on every process."""
    if size() == 1:
        return value
    box = [value]
    dist.broadcast_object_list(box, src=0)
    return box[0]


def is_sharded(tensor: Tensor) -> bool:
    """Whether each process holds a part of the tensor (a DTensor)."""
    if not is_active():
        return False
    from torch.distributed.tensor import DTensor  # 0.7 s to import

    return isinstance(tensor, DTensor)


def local(tensor: Any) -> Tensor:
    """The part of a tensor that this process holds, sharing its memory."""
    here: Any = tensor.detach()
    part: Tensor = here.to_local() if is_sharded(here) else here
    return part


def whole(tensor: Any) -> Tensor:
    """The tensor put together; all processes must ask."""
    here: Any = tensor.detach()
    gathered: Tensor = here.full_tensor() if is_sharded(here) else here
    return gathered


def placed(target: Any, tensor: Tensor) -> Tensor:
    """A whole tensor as `target` is: sharded alike, if that is sharded."""
    if not is_sharded(target) or is_sharded(tensor):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(tensor.to(target.device), target.device_mesh, target.placements, src_data_rank=None)
