"""Latents in a report: what each layer costs and carries, and pictures of what latents do."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from codelength.errors import UsageError
from codelength.evaluation.latents import noise_of_latents, use_of_layers
from codelength.models.latent.base import Choose, Gaussian, LatentModel
from codelength.models.latent.intervention import Interventions, parse_latent
from codelength.randomness import make_generator
from codelength.report.collect import Group, Measured
from codelength.report.page import Block, Cell, Column, Note, Table
from codelength.report.pictures import choose_items
from codelength.units import bits_per_dim

ITEMS = 200

COLUMNS = (
    Column("layer", "Top first."),
    Column("KL, nats", "Mean cost of the layer's latents a datum, one sample each.", numeric=True),
    Column(
        "bits/dim", "The same cost in bits for each number of the datum: where the bits of the bound go.", numeric=True
    ),
    Column("active units", "Units whose posterior mean moves with the data: variance over 0.01.", numeric=True),
    Column("units", "", numeric=True),
    Column(
        "aggregate mean",
        "Root mean square, over units, of the aggregate posterior's mean; 0 in the prior.",
        numeric=True,
    ),
    Column("aggregate std", "Range over units of the aggregate posterior's standard deviation; 1 in the prior."),
    Column("state"),
)


def latent_tables(group: Group) -> list[Block]:
    """A table for each run of a latent-variable model: KL, active units, aggregate posterior of its layers."""
    return [block for m in group.measured for block in _table(group, m)] if group.dataset is not None else []


def _table(group: Group, m: Measured) -> list[Block]:
    model = group.model(m.subject)
    if not isinstance(model, LatentModel) or group.dataset is None:
        return []
    split = group.dataset.split(group.split)
    chosen = choose_items(len(split), ITEMS, "latents", group.data, group.split)
    if len(chosen) < 2:
        return []
    uses = use_of_layers(model, split.batch(chosen).to(model.device))
    rows = []
    for use in uses:
        low, high = use.noise_std.min(), use.noise_std.max()
        off = float(np.sqrt((use.noise_mean**2).mean()))
        state = (
            "collapsed" if use.collapsed else "used" if use.active == use.units else f"{use.units - use.active} unused"
        )
        rows.append(
            [
                Cell(use.layer),
                Cell(f"{use.kl:.2f}", use.kl),
                Cell(f"{bits_per_dim(use.kl, group.num_dims):.3f}", bits_per_dim(use.kl, group.num_dims)),
                Cell(str(use.active), use.active),
                Cell(str(use.units), use.units),
                Cell(f"{off:.2f}", off),
                Cell(f"{low:.2f} to {high:.2f}", float(low)),
                Cell(state),
            ]
        )
    note = (
        f"On {len(chosen)} random items, 8 draws each. Moments are of the latents in the coordinates of their prior's noise, "
        "pooled over items."
    )
    blocks: list[Block] = [Table(f"Latents of {m.subject.name}", COLUMNS, rows, note)]
    collapsed = [use.layer for use in uses if use.collapsed]
    if collapsed:
        blocks.append(Note(f"{m.subject.name}: {', '.join(collapsed)} collapsed onto the prior and carry nothing."))
    return blocks


def latent_model(model: object, name: str) -> LatentModel:
    """The model, if it has latents.

    Raises:
        UsageError: It has none.
    """
    if not isinstance(model, LatentModel):
        raise UsageError(f"{name} has no latents; choose a run of a latent-variable model, such as vae")
    return model


@torch.no_grad()
def reconstructions(model: LatentModel, x: Tensor, seed: int = 0) -> Tensor:
    """Each datum beside the mode of P(x | z), z drawn from q(z | x): x_1, its own, x_2, ..., (2 N, C, H, W)."""
    latents = model.infer(x, 1, make_generator(seed, "reconstruct", device=model.device)).latents
    drawn = model.generate(len(x), lambda layer, prior: latents[layer][0]).mode + model.space.offset
    return torch.stack([x, drawn], dim=1).flatten(0, 1)


@torch.no_grad()
def interpolations(model: LatentModel, x: Tensor, steps: int = 8, seed: int = 0) -> Tensor:
    """Rows from x_1 to x_2, from x_3 to x_4, ...: latents on the great circle of their noise, (N / 2 * steps, C, H, W).

    Noise of many dims lies near a sphere; a straight line would pass where no draw ever is.
    """
    found = model.infer(x, 1, make_generator(seed, "interpolate", device=model.device)).latents
    noise = {layer: values[0] for layer, values in noise_of_latents(model, found).items()}
    rows = []
    for a in range(0, len(x) - 1, 2):
        between = {layer: great_circle(e[a], e[a + 1], steps) for layer, e in noise.items()}
        rows.append(model.generate(steps, _from_noise(between)).mode)
    return torch.cat(rows) + model.space.offset


def _from_noise(noise: dict[str, Tensor]) -> Choose:
    return lambda layer, prior: prior.draw(noise[layer])


def great_circle(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Points from a to b at equal angles, (steps, *shape); ends included.

    >>> great_circle(torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0]), 3)[1]
    tensor([0.7071, 0.7071])
    """
    t = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device).view(-1, *[1] * a.ndim)
    cosine = (a * b).sum() / (a.norm() * b.norm()).clamp(min=1e-12)
    angle = torch.acos(cosine.clamp(-1, 1))
    if angle < 1e-4:
        return a + t * (b - a)
    return (torch.sin((1 - t) * angle) * a + torch.sin(t * angle) * b) / torch.sin(angle)


@torch.no_grad()
def interventions(model: LatentModel, latent: str, values: Sequence[float], rows: int = 4, seed: int = 0) -> Tensor:
    """do(latent = value): a row for each draw of everything else, a column for each value, (rows * values, C, H, W).

    The noise of all other latents is the same along a row, so that what changes is what the latent does.
    """
    layer_set, _ = parse_latent(latent, model.layers)
    count, pictures = len(values), []
    setting = torch.tensor(values, device=model.device, dtype=model.dtype)
    if "[" not in latent:
        shape = model.layers[layer_set]
        setting = setting.view(-1, *[1] * len(shape)).expand(count, *shape)
    chosen = Interventions(model.layers, {latent: setting}, count)
    for row in range(rows):
        noise = model.draw_noise(1, make_generator(seed, "do", row, device=model.device))
        pictures.append(model.generate(count, _with_row_noise(noise, chosen, count)).mode)
    return torch.cat(pictures) + model.space.offset


def _with_row_noise(noise: dict[str, Tensor], chosen: Interventions, count: int) -> Choose:
    """Draws with one noise for the whole row, where nothing is set."""

    def choose(layer: str, prior: Gaussian) -> Tensor:
        return chosen.apply(layer, prior.draw(noise[layer].expand(count, *noise[layer].shape[1:])))

    return choose


@torch.no_grad()
def drawing_steps(model: LatentModel, n: int, seed: int = 0) -> tuple[Tensor, int]:
    """The most probable image of DRAW's canvas after every step, a row for each of n draws, and the images a row.

    Raises:
        UsageError: The model draws on no canvas.
    """
    from codelength.models.latent.draw import DRAW

    if not isinstance(model, DRAW):
        raise UsageError(f"{type(model).__name__} draws on no canvas; choose a run of the system draw")
    noise = model.draw_noise(n, make_generator(seed, "canvas", device=model.device))
    canvases = model.canvases(n, lambda layer, prior: prior.draw(noise[layer]))
    modes = [model.likelihood(canvas).mode for canvas in canvases]
    return torch.stack(modes, dim=1).flatten(0, 1) + model.space.offset, len(canvases)
