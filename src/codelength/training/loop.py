"""The loop: batches, gradients, logs, validation, checkpoints.

Every random number is a function of (seed, step): resumed from a checkpoint, the loop repeats what it would have done.
"""

from __future__ import annotations

import math
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from codelength import distributed
from codelength.data.dataset import DataSet, Split
from codelength.errors import TrainingError
from codelength.models.base import can, num_parameters
from codelength.randomness import Share, SharedNoise, make_generator, sharing
from codelength.recipe import Recipe
from codelength.run import save_run_weights
from codelength.training.batches import Batches, choose, data_mark
from codelength.training.checkpoint import Checkpoint, save_checkpoint
from codelength.training.diagnosis import non_finite_error
from codelength.training.engine import Engine, Execution, Root, restore_weights, shard, whole_tensors, with_weights
from codelength.training.metrics import Records, peak_memory_mib
from codelength.training.model import fresh_model, seed_torch, start_from
from codelength.training.objective import objective
from codelength.training.optimization import Optimizer, WeightAverage, learning_rate
from codelength.training.progress import Talk, describe_cost
from codelength.training.selection import code_lengths

TRAIN_LINES = 50
SAMPLES = 64


class Loop:
    """One training.

    Args:
        recipe: What to train.
        data: Its data.
        folder: The run.
        device: Where to train.
        talk: Where to report.
        selection: Name of the metrics line, and data, by which weights are selected.
        execution: How gradients are computed on the devices at hand.
    """

    def __init__(
        self,
        recipe: Recipe,
        data: DataSet,
        folder: Path,
        device: torch.device,
        talk: Talk,
        selection: tuple[str, Split],
        execution: Execution | None = None,
    ) -> None:
        self.recipe, self.config, self.folder, self.device, self.talk = recipe, recipe.training, folder, device, talk
        self.space, self.selection_name, self.selection = data.space, *selection
        self.model = fresh_model(recipe, data, device).train()
        config = self.config
        split = data.split("train")
        self.num_dims = None if self.model.measure == "density" else math.prod(split.x.shape[1:])
        self.batches = Batches(
            split,
            config.batch_size,
            config.seed,
            conditioning=self.model.conditioning,
            flip=config.horizontal_flip,
            translate=config.translate,
            steps=config.steps,
        )
        self.chosen = choose(self.selection, config.validation_examples, config.seed)
        self.memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self.execution = execution or Execution()
        self.shares = self.execution.shares(config.batch_size)
        self.average = fresh_model(recipe, data, device).eval() if config.ema_decay is not None else None
        self.step = 0
        self.best: dict[str, Any] = {"nats": math.inf, "step": 0}
        self.log_every = max(1, config.steps // TRAIN_LINES)

    # --- state -------------------------------------------------------------------------------------------------------

    def begin(self, checkpoint: Checkpoint | None) -> None:
        """Start from the beginning, or from a checkpoint.

        Raises:
            CheckpointError: The checkpoint, or the run to start from, is of another architecture.
        """
        if checkpoint is None:
            self._initialize()
        self.engine = Engine(self.model, self.execution, self.config.batch_size, self.device)
        self.average_root: nn.Module | None = None
        if self.average is not None and self.engine.is_sharded:
            self.average_root = Root(self.average)
            shard(self.average_root, self.device)
        self.optimizer = Optimizer(self.model, self.config, sharded=self.engine.is_sharded)
        if checkpoint is not None:
            self._restore(checkpoint)
        self.engine.parallel(self._smallest_loss)
        self.ema = None
        if self.average is not None and self.config.ema_decay is not None:
            self.ema = WeightAverage(self.average, self.model, self.config.ema_decay)
        records = None if checkpoint is None else checkpoint.fields["records"]
        self.records = Records(self.folder, self.num_dims, self.config.batch_size, self.step, records)

    def _initialize(self) -> None:
        """Weights of another run, and data-dependent ones from the whole first batch; alike on every process."""
        if self.config.start_from is not None:
            start_from(self.model, self.config.start_from, self.folder)
        if can(self.model, "initialize"):
            batch = self.batches[1].to(self.device, self.memory_format)
            with torch.no_grad():
                self.model.initialize(
                    batch.x, make_generator(self.config.seed, "data-dependent initialization"), **batch.conditions
                )
        if self.average is not None:
            self.average.load_state_dict(self.model.state_dict())

    def _restore(self, checkpoint: Checkpoint) -> None:
        fields, source = checkpoint.fields, f"{self.folder}/state"
        restore_weights(self.model, checkpoint, "model", source)
        if self.average is not None:
            restore_weights(self.average, checkpoint, "ema", source)
        self.optimizer.load(checkpoint.part("optimizer", self.optimizer.moment))
        self.step, self.best = checkpoint.step, fields["best"]
        here = {"threads": torch.get_num_threads(), "processes": distributed.size()}
        for what, now in here.items():
            if fields.get(what, 1) != now:
                self.talk.note(
                    f"resumed with {now} {what}; it began with {fields.get(what, 1)}, so that weights may "
                    "differ in round-off from those of an uninterrupted run"
                )

    def _checkpoint(self, complete: bool = False) -> None:
        tensors = {"model": self.model.state_dict(), "optimizer": self.optimizer.tensors()}
        if self.average is not None:
            tensors["ema"] = self.average.state_dict()
        fields = {
            "complete": complete,
            "best": self.best,
            "records": self.records.state(),
            "threads": torch.get_num_threads(),
            "processes": distributed.size(),
            "data": data_mark(self.batches.split),
        }
        save_checkpoint(self.folder / "state", Checkpoint(self.step, tensors, fields), sharded=self.engine.is_sharded)

    # --- steps -------------------------------------------------------------------------------------------------------

    def run(self) -> None:
        """Train to the last step.

        Raises:
            TrainingError: A loss or gradient is not finite; the last checkpoint is kept.
            CheckpointError: The disk is full; the last checkpoint is kept.
        """
        config = self.config
        while self.step < config.steps:
            self.step += 1
            self._train_step()
            last = self.step == config.steps
            if self.step % self.log_every == 0 or last:
                self.talk.logged(self.records.train_line(self.step, learning_rate(config, self.step)))
            if self.step % config.validate_every == 0 or last:
                self._validate()
            if config.sample_every is not None and self.step % config.sample_every == 0:
                self._sample()
            if last:
                self.records.line(self.step, "end", self.best["nats"], **self._summary())
            if self.step % config.checkpoint_every == 0 or last:
                self._checkpoint(complete=last)

    def close(self) -> None:
        """Close the records."""
        self.records.close()

    def loss(self, share: Share | None = None) -> Tensor:
        """Mean objective of the current step's batch, nats, float32: the same number whenever it is asked again.

        With a `share` of the batch, its part of that mean: the sum over its data, divided by the size of the batch.
        """
        seed, step, batch_size = self.config.seed, max(self.step, 1), self.config.batch_size
        share = Share(0, batch_size, batch_size) if share is None else share
        seed_torch(self.device, seed, "dropout", step)
        batch = self.batches.part(step, share).to(self.device, self.memory_format)
        generator = make_generator(seed, "noise", step)
        self.engine.generator = generator
        noise = generator if share.is_whole else SharedNoise(generator, share)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"), sharing(share):
            nats = objective(self.model, batch.x, noise, batch.conditions, batch.intensity)
        nats = nats.float() if nats.dtype in (torch.bfloat16, torch.float16) else nats
        return nats.mean() if share.is_whole else nats.sum() / batch_size

    def _smallest_loss(self) -> Tensor:
        """The loss of one datum: it uses the parameters that all losses use."""
        return self.loss(Share(0, 1, self.config.batch_size))

    def _train_step(self) -> None:
        start = time.perf_counter()
        rate = learning_rate(self.config, self.step)
        loss = self.engine.gradient(self.loss)
        norm = self.optimizer.clip()
        nats, gradient_norm = torch.stack((loss.detach().float(), norm.float())).tolist()
        if not (math.isfinite(nats) and math.isfinite(gradient_norm)):
            raise self._non_finite(nats, gradient_norm)
        self.optimizer.step(rate)
        if self.ema is not None:
            self.ema.update(self.step)
        self.records.add(nats, gradient_norm, time.perf_counter() - start)
        cost = describe_cost(nats, self.records.bits_per_dim(nats))
        self.talk.step(self.step, cost, self.records.images_per_second)

    def _non_finite(self, nats: float, gradient_norm: float) -> TrainingError:
        if self.engine.is_sharded:
            return TrainingError(
                f"step {self.step}: the loss is {nats}, the gradient norm {gradient_norm}. The last checkpoint is kept; "
                "resume it without --shard fsdp to learn which layer it comes from, lower the learning rate or set training.clip_norm"
            )
        errors = [
            non_finite_error(self.step, nats, gradient_norm, self.model, partial(self.loss, share))
            for share in self.engine.shares
        ]
        return next((error for error in errors if "is finite" not in str(error)), errors[0])

    # --- records -----------------------------------------------------------------------------------------------------

    def _summary(self) -> dict[str, Any]:
        return {
            "peak_memory_mib": peak_memory_mib(),
            "parameters": num_parameters(self.model),
            "selected_step": self.best["step"],
            "weights": self.weights,
            "threads": torch.get_num_threads(),
            "device": str(self.device),
            "processes": distributed.size(),
        }

    @property
    def weights(self) -> str:
        """Which weights are validated and kept."""
        return "raw" if self.average is None else "ema"

    @property
    def evaluated(self) -> Any:
        """The model that is validated: the weight average if there is one."""
        return self.model if self.average is None else self.average

    def _validate(self) -> None:
        """Score the selection data; keep the weights if they are the best so far."""
        start = time.perf_counter()
        self.model.eval()
        sharded = self.engine.is_sharded
        score = partial(
            code_lengths,
            self.evaluated,
            self.selection,
            self.chosen,
            self.recipe.evaluation.batch_size,
            lockstep=sharded,
        )
        lengths = with_weights(self.average_root or self.engine.root, score) if sharded else score()
        self.model.train()
        nats = float(np.mean(lengths))
        rate = round(len(lengths) / (time.perf_counter() - start), 1)
        if nats < self.best["nats"]:
            self.best = {"nats": nats, "step": self.step}
            state = self.evaluated.state_dict()
            save_run_weights(self.folder, whole_tensors(state) if sharded else state, self.weights, self.step)
        self.talk.logged(self.records.line(self.step, self.selection_name, nats, images_per_second=rate))

    def _sample(self) -> None:
        """Show samples of an image model that can sample."""
        model, space = self.evaluated, self.space
        if space.kind != "image" or not can(model, "sample"):
            return
        if self.engine.is_sharded:
            self.talk.note(f"step {self.step}: no sample grid while the model is sharded; see codelength sample RUN")
            return
        if not distributed.is_first():
            return
        model.eval()
        classes = {name: torch.arange(SAMPLES) % space.conditions[name] for name in model.conditioning}
        with torch.no_grad():
            x = model.sample(SAMPLES, make_generator(self.config.seed, "samples", self.step), **classes)
        self.model.train()
        self.records.samples(x, space, self.step)
