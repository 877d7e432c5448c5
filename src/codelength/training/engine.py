"""How the gradient of a step is computed on this machine: on one device or many, at once or in parts.

None of it is part of a recipe. A step's batch, noise and dropout are functions of (seed, step); the batch is cut into
shares, one a process and micro-batch, each share gets the noise it would get in the whole batch, and gradients are added:
the result differs in round-off only.

    "ddp"   every process holds all weights and optimizer moments; gradients are averaged (DistributedDataParallel)
    "fsdp"  every process holds a part of each tensor, and of its moments; a block's weights are gathered while it
            computes (fully_shard, FSDP2)
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn

from codelength import distributed
from codelength.errors import UsageError
from codelength.randomness import Share, sharing
from codelength.run import load_weights
from codelength.training.checkpoint import Checkpoint

Result = TypeVar("Result")
Sharding = Literal["ddp", "fsdp"]


@dataclass(frozen=True)
class Execution:
    """How to train on the devices at hand; changes round-off, memory and time only.

    Args:
        sharding: "ddp" or "fsdp"; without effect in one process, unless that is "fsdp".
        accumulate: Micro-batches that a process's part of the batch is cut into.
        recompute: Compute the activations of each block again in the backward pass instead of keeping them.
    """

    sharding: Sharding = "ddp"
    accumulate: int = 1
    recompute: bool = False

    def shares(self, batch_size: int) -> list[Share]:
        """The parts of a batch that this process computes.

        Raises:
            UsageError: There are more parts than data.
        """
        if self.accumulate < 1:
            raise UsageError(f"--accumulate {self.accumulate}; wanted 1 or more micro-batches")
        parts = distributed.size() * self.accumulate
        if batch_size < parts:
            raise UsageError(
                f"training.batch_size {batch_size} cannot be cut into {parts} parts ({distributed.size()} processes, "
                f"{self.accumulate} micro-batches each); enlarge it, or use fewer processes or micro-batches"
            )
        start, stop = distributed.share(batch_size)
        cuts = [distributed.share(stop - start, part, self.accumulate) for part in range(self.accumulate)]
        return [Share(start + first, start + last, batch_size) for first, last in cuts]


# The option's name since torch 2.13, and before.
_BUFFERS_APART: dict[str, Any] = {
    "forward_sync_buffers"
    if "forward_sync_buffers" in inspect.signature(nn.parallel.DistributedDataParallel).parameters
    else "broadcast_buffers": False
}


class Root(nn.Module):
    """A module whose forward pass is whatever is computed with the model: DDP and FSDP2 hook there."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, call: Callable[[], Result]) -> Result:
        """The result of `call`."""
        return call()


def blocks(model: nn.Module) -> list[nn.Module]:
    """The layers that repeat: members of lists of modules that have parameters, each once; lists inside them do not count."""
    found: dict[nn.Module, None] = {}

    def walk(module: nn.Module) -> None:
        for child in module.children():
            if isinstance(module, nn.ModuleList) and not isinstance(child, nn.ModuleList | nn.ModuleDict):
                if next(child.parameters(), None) is not None:
                    found[child] = None
            else:
                walk(child)

    walk(model)
    return list(found)


class Engine:
    """Computes gradients with a model under an `Execution`.

    Args:
        model: The model, with its initial weights; "fsdp" shards it in place.
        execution: How.
        batch_size: Data a step.
        device: Where.

    Raises:
        UsageError: The batch cannot be cut so, or a layer normalizes by its batch.
    """

    def __init__(self, model: nn.Module, execution: Execution, batch_size: int, device: torch.device) -> None:
        self.model, self.execution, self.device = model, execution, device
        self.shares = execution.shares(batch_size)
        self.generator: torch.Generator | None = None  # of the share that is being computed
        self.is_sharded = execution.sharding == "fsdp"
        if any(not share.is_whole for share in self.shares):
            _refuse_batch_norm(model)
        self.root: nn.Module = Root(model)
        if execution.recompute:
            for block in blocks(model):
                _recompute(block, lambda: self.generator)
        if self.is_sharded:
            shard(self.root, device)

    def parallel(self, first_loss: Callable[[], Tensor]) -> None:
        """Let gradients be averaged over the processes ("ddp"); `first_loss` shows which parameters are used."""
        if self.is_sharded or distributed.size() == 1:
            return
        first_loss().backward()
        unused = any(p.requires_grad and p.grad is None for p in self.model.parameters())
        self.model.zero_grad(set_to_none=True)
        self.root = nn.parallel.DistributedDataParallel(
            self.root,
            device_ids=[self.device] if self.device.type == "cuda" else None,
            **_BUFFERS_APART,  # they are a function of (seed, step) like all else
            find_unused_parameters=unused,
            gradient_as_bucket_view=True,
        )

    def gradient(self, loss: Callable[[Share], Tensor]) -> Tensor:
        """Leave the gradient of the step's loss in the parameters.

        Args:
            loss: A share's part of the loss: its sum over the share's data, divided by the size of the whole batch.

        Returns:
            The loss, a scalar, the same on every process.
        """
        whole = torch.zeros((), device=self.device)
        with warnings.catch_warnings():
            # Of 1 x 1 convolutions, whose strides mean nothing.
            warnings.filterwarnings("ignore", "Grad strides do not match bucket view strides", UserWarning)
            self._backward(loss, whole)
        return distributed.total(whole)

    def _backward(self, loss: Callable[[Share], Tensor], whole: Tensor) -> None:
        for index, share in enumerate(self.shares):
            with self._synchronized(last=index == len(self.shares) - 1), sharing(share):  # recomputation drops alike
                part: Tensor = self.root(lambda share=share: loss(share))
                # Both average over the processes; the parts of the loss want their sum.
                (part * distributed.size()).backward()
            whole += part.detach()

    def _synchronized(self, last: bool) -> AbstractContextManager[Any]:
        """Gradients travel once a step with "ddp"; with "fsdp" each time, so that none is kept whole."""
        if last or not isinstance(self.root, nn.parallel.DistributedDataParallel):
            return nullcontext()
        waiting: AbstractContextManager[Any] = self.root.no_sync()
        return waiting


def shard(root: nn.Module, device: torch.device) -> None:
    """Shard a model in place over all processes: each of its blocks, then what is left."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if not distributed.is_active():
        raise UsageError(
            "--shard fsdp shards over the processes that torchrun starts, and this is none of them; start it as\n"
            "torchrun --nproc-per-node N --no-python codelength train ..."
        )
    mesh = init_device_mesh(device.type, (distributed.size(),))
    for block in blocks(root):
        fully_shard(block, mesh=mesh)
    fully_shard(root, mesh=mesh)


def with_weights(root: nn.Module, call: Callable[[], Result]) -> Result:
    """`call` with the weights of a sharded model gathered as they are needed, and given back after."""
    sharded: Any = root
    with torch.no_grad():
        result: Result = sharded(call)
    sharded.reshard()  # gathered weights would be those of before the next step
    return result


def restore_weights(model: nn.Module, checkpoint: Checkpoint, part: str, source: str) -> None:
    """Load a part of a checkpoint, sharded or whole, into a model that is sharded or whole.

    Raises:
        CheckpointError: It is of another architecture.
    """
    here = model.state_dict()

    def make(name: str, whole: Tensor) -> Tensor:
        target = here.get(name)
        return torch.zeros(whole.shape, dtype=whole.dtype) if target is None else torch.zeros_like(target)

    tensors = checkpoint.part(part, make)
    fitting = {
        n: distributed.placed(here[n], t) if n in here and here[n].shape == t.shape else t for n, t in tensors.items()
    }
    load_weights(model, fitting, source)


def whole_tensors(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sharded tensors put together, one at a time, on the CPU of the first process; nothing on the others."""
    kept = {}
    for name, tensor in tensors.items():
        whole = distributed.whole(tensor)
        if distributed.is_first():
            kept[name] = whole.cpu()
    return kept


def _refuse_batch_norm(model: nn.Module) -> None:
    for name, module in model.named_modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            raise UsageError(
                f"the layer {name} ({type(module).__name__}) normalizes by the batch, so that a batch cut into parts "
                "trains another model; train in one process without --accumulate"
            )


def _recompute(block: nn.Module, current: Callable[[], torch.Generator | None]) -> None:
    """Replace a block's forward pass by one that keeps its inputs only and is computed again for the backward pass.

    Numbers that the block draws, from torch's generator or the step's, are drawn again alike.
    """
    from torch.utils.checkpoint import checkpoint

    forward = block.forward

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        generator = current()
        state = None if generator is None else generator.get_state()

        @contextmanager
        def again() -> Iterator[None]:
            if generator is None or state is None:
                yield
                return
            now = generator.get_state()
            generator.set_state(state)
            try:
                yield
            finally:
                generator.set_state(now)

        return nullcontext(), again()

    def recomputed(*arguments: Any, **options: Any) -> Any:
        if not (block.training and torch.is_grad_enabled()):
            return forward(*arguments, **options)
        return checkpoint(forward, *arguments, use_reentrant=False, context_fn=contexts, **options)

    block.forward = recomputed
