"""The loop: batches, gradients, logs, validation, checkpoints.

Every random number is a function of (seed, step): resumed from a checkpoint, the loop repeats what it would have done.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from codelength.data.dataset import DataSet, Split
from codelength.models.base import can, num_parameters
from codelength.randomness import make_generator
from codelength.recipe import Recipe
from codelength.run import load_weights, save_run_weights
from codelength.training.batches import Batches, choose, data_mark
from codelength.training.checkpoint import Checkpoint, save_checkpoint
from codelength.training.diagnosis import non_finite_error
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
    """

    def __init__(
        self,
        recipe: Recipe,
        data: DataSet,
        folder: Path,
        device: torch.device,
        talk: Talk,
        selection: tuple[str, Split],
    ) -> None:
        self.recipe, self.config, self.folder, self.device, self.talk = recipe, recipe.training, folder, device, talk
        self.space, self.selection_name, self.selection = data.space, *selection
        self.model = fresh_model(recipe, data, device).train()
        config = self.config
        split = data.split("train")
        self.num_dims = None if self.model.measure == "density" else math.prod(split.x.shape[1:])
        self.batches = Batches(
            split, config.batch_size, config.seed, conditioning=self.model.conditioning, flip=config.horizontal_flip
        )
        self.chosen = choose(self.selection, config.validation_examples, config.seed)
        self.memory_format = torch.channels_last if config.channels_last else torch.contiguous_format
        self.optimizer = Optimizer(self.model, config)
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
        else:
            self._restore(checkpoint)
        self.ema = None
        if self.average is not None and self.config.ema_decay is not None:
            self.ema = WeightAverage(self.average, self.model, self.config.ema_decay)
        records = None if checkpoint is None else checkpoint.fields["records"]
        self.records = Records(self.folder, self.num_dims, self.config.batch_size, self.step, records)

    def _restore(self, checkpoint: Checkpoint) -> None:
        fields, source = checkpoint.fields, f"{self.folder}/state"
        load_weights(self.model, checkpoint.tensors["model"], source)
        if self.average is not None:
            load_weights(self.average, checkpoint.tensors.get("ema", {}), source)
        self.optimizer.load(checkpoint.tensors["optimizer"])
        self.step, self.best = checkpoint.step, fields["best"]
        if fields["threads"] != torch.get_num_threads():
            self.talk.note(
                f"resumed with {torch.get_num_threads()} threads; it began with {fields['threads']}, so that weights may "
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
            "data": data_mark(self.batches.split),
        }
        save_checkpoint(self.folder / "state", Checkpoint(self.step, tensors, fields))

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

    def loss(self) -> Tensor:
        """Mean objective of the current step's batch, nats, float32: the same number whenever it is asked again."""
        seed, step = self.config.seed, self.step
        seed_torch(self.device, seed, "dropout", step)
        batch = self.batches[step].to(self.device, self.memory_format)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.config.precision == "bf16"):
            nats = objective(
                self.model, batch.x, make_generator(seed, "noise", step), batch.conditions, batch.intensity
            )
        return nats.float().mean() if nats.dtype in (torch.bfloat16, torch.float16) else nats.mean()

    def _train_step(self) -> None:
        start = time.perf_counter()
        rate = learning_rate(self.config, self.step)
        loss = self.loss()
        loss.backward()
        norm = self.optimizer.clip()
        nats, gradient_norm = torch.stack((loss.detach().float(), norm.float())).tolist()
        if not (math.isfinite(nats) and math.isfinite(gradient_norm)):
            raise non_finite_error(self.step, nats, gradient_norm, self.model, self.loss)
        self.optimizer.step(rate)
        if self.ema is not None:
            self.ema.update(self.step)
        self.records.add(nats, gradient_norm, time.perf_counter() - start)
        cost = describe_cost(nats, self.records.bits_per_dim(nats))
        self.talk.step(self.step, cost, self.records.images_per_second)

    # --- records -----------------------------------------------------------------------------------------------------

    def _summary(self) -> dict[str, Any]:
        return {
            "peak_memory_mib": peak_memory_mib(),
            "parameters": num_parameters(self.model),
            "selected_step": self.best["step"],
            "weights": self.weights,
            "threads": torch.get_num_threads(),
            "device": str(self.device),
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
        lengths = code_lengths(self.evaluated, self.selection, self.chosen, self.recipe.evaluation.batch_size)
        self.model.train()
        nats = float(np.mean(lengths))
        rate = round(len(lengths) / (time.perf_counter() - start), 1)
        if nats < self.best["nats"]:
            self.best = {"nats": nats, "step": self.step}
            save_run_weights(self.folder, self.evaluated.state_dict(), self.weights, self.step)
        self.talk.logged(self.records.line(self.step, self.selection_name, nats, images_per_second=rate))

    def _sample(self) -> None:
        """Show samples of an image model that can sample."""
        model, space = self.evaluated, self.space
        if space.kind != "image" or not can(model, "sample"):
            return
        model.eval()
        classes = {name: torch.arange(SAMPLES) % space.conditions[name] for name in model.conditioning}
        with torch.no_grad():
            x = model.sample(SAMPLES, make_generator(self.config.seed, "samples", self.step), **classes)
        self.model.train()
        self.records.samples(x, space, self.step)
