"""Drawing images by cached steps against a full forward pass a pixel, and where the time of the steps goes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import torch

from codelength.bench.measure import Contest, Times, timed
from codelength.models.registry import build_model
from codelength.space import Space

if TYPE_CHECKING:
    from codelength.bench.tasks import Options

MODEL = {"filters": 24, "blocks": 1, "components": 5}


def prepare(options: Options) -> Contest:
    """256 images of 32x32x3 of a small PixelCNN++ with random weights, on which the time does not depend.

    A full pass a pixel is really made for one pixel in the middle of the images, drawn from the same random numbers: it
    must draw what the steps drew there. Its time for all pixels is that times their number.
    """
    count, size = (4, 8) if options.small else (256, 32)
    torch.manual_seed(0)
    model: Any = build_model("pixelcnn_pp", Space.image(3, size, size), **MODEL).eval()
    schedule = model.schedule
    probe = len(schedule) * 3 // 4
    drawn = _draw(model, count, probe)
    x, state, split = drawn["images"], drawn["state"], drawn["split"]
    positions = schedule[probe]
    known = torch.zeros_like(x)
    for earlier in schedule[:probe]:
        earlier.scatter(known, earlier.gather(x))

    def one_pass() -> torch.Tensor:
        generator = torch.Generator()
        generator.set_state(state)
        with torch.no_grad():
            outputs = model.outputs(known)[:, :, positions.rows, positions.columns]
            values: torch.Tensor = model.distribution(outputs).sample(generator=generator)
        return values

    same = float((one_pass() == positions.gather(x)).double().mean())

    def theirs() -> Times:
        times = timed(one_pass)
        return {clock: seconds * len(schedule) for clock, seconds in times.items()}

    return Contest(
        what=f"{count} images {size}x{size}x3 drawn from PixelCNN++ {MODEL}",
        ours=lambda: timed(lambda: model.sample(count, torch.Generator().manual_seed(0))),
        theirs=theirs,
        theirs_name="a full forward pass a pixel",
        parity={"share_of_equal_draws": same},
        passed=same > 0.999,
        wanted=50.0,
        facts={"steps": len(schedule), "cpu_seconds_of": split},
    )


def _draw(model: Any, count: int, probe: int) -> dict[str, Any]:
    """Images drawn by steps, the generator's state before step `probe`, and CPU-seconds of network, mixture and rest."""
    generator = torch.Generator().manual_seed(0)
    states: list[Any] = []
    spent = {"network": 0.0, "mixture": 0.0}
    kind, step = type(model), type(model).step

    def watched(self: Any, *arguments: Any) -> Any:
        states.append(generator.get_state() if len(states) == probe else None)
        start = time.process_time()
        distribution, state = step(self, *arguments)
        spent["network"] += time.process_time() - start
        sample = distribution.sample

        def timed_sample(*a: Any, **k: Any) -> Any:
            begin = time.process_time()
            values = sample(*a, **k)
            spent["mixture"] += time.process_time() - begin
            return values

        distribution.sample = timed_sample
        return distribution, state

    kind.step = watched
    try:
        start = time.process_time()
        images = model.sample(count, generator)
        total = time.process_time() - start
    finally:
        kind.step = step
    split = {name: round(seconds, 4) for name, seconds in spent.items()}
    split["rest"] = round(total - sum(spent.values()), 4)
    return {"images": images, "state": states[probe], "split": split}


PREPARE = {"sampling": prepare}
