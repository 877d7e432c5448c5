"""What dequantization is for, shown: spikes without it, what it costs, and one model in the spaces of its preprocessing.

    python benchmarks/dequantization.py [limit] [spikes] [cost] [spaces] [--out benchmarks/results/dequantization.json] [--figures docs/figures]

limit    spikes of width w at every level of 8 x 8 digits: −log2 of the density falls without limit, that of the mass does not.
spikes   a RealNVP of 8 x 8 digits trained on the integers themselves, and on the integers with noise. The density at the integers grows
         and grows; what the same weights say of the integers, by an honest bound, gets worse.
cost     exact mass of a factorized logistic against the bound of uniform noise, K = 1 .. 1,000, 1 to 784 dims. A bound that is tight in one
         dim stays loose in many.
spaces   one RealNVP of MNIST digits: its bits/dim on integers, on [0, 256), on [λ, 1 − λ] and as logits, and the Jacobian terms between them.

One thread, about two CPU-minutes in all. Reference: Theis et al., arXiv:1511.01844, section 3.1.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from codelength import load_data
from codelength.evaluation import per_example_nats
from codelength.evaluation.bounds import bound_batch
from codelength.models.flows.factorized import FactorizedLogistic
from codelength.models.flows.realnvp import RealNVP
from codelength.randomness import make_generator
from codelength.report.svg import Drawing, Scale, colour_class, draw_axes, ticks
from codelength.space import Space
from codelength.transforms import Compose, Logit, Rescale
from codelength.transforms.dequantization import Dequantized, Discretized, UniformDequantization
from codelength.units import bits_per_dim

STYLE = (
    "<style>text{font:13px sans-serif;fill:#777}.grid{stroke:#9995;stroke-width:1}.axis{stroke:#777}"
    ".stroke{fill:none;stroke:var(--c);stroke-width:2}.fill{fill:var(--c)}"
    ".s0{--c:#2a78b8}.s1{--c:#d1662b}.s2{--c:#2e8b57}.s3{--c:#8e5ea2}</style>"
)
Line = tuple[str, list[tuple[float, float]]]


def chart(lines: list[Line], title: str, x_label: str, y_label: str, *, log_x: bool = False) -> str:
    """Lines over an axis, as a file of SVG."""
    points = [point for _, line in lines for point in line]
    low, high = min(y for _, y in points), max(y for _, y in points)
    x = Scale(min(x for x, _ in points), max(x for x, _ in points), 64, 620, log_x)
    y = Scale(min(low, 0.0), high, 300, 30)
    words = "; ".join(f"{name} ends at {line[-1][1]:.3g}" for name, line in lines)
    drawing = Drawing(640, 350 + 20 * len(lines), title, words)
    draw_axes(drawing, x, y, x_label, y_label)
    for i, (name, line) in enumerate(lines):
        drawing.path([(x(a), y(b)) for a, b in line], f"{colour_class(i)} stroke")
        drawing.dot(72, 354 + 20 * i, f"{colour_class(i)} fill")
        drawing.text(84, 358 + 20 * i, name)
    return standalone(drawing)


def standalone(drawing: Drawing) -> str:
    """The drawing as a file of its own."""
    return (
        drawing.render()
        .replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1)
        .replace("</desc>", f"</desc>{STYLE}", 1)
    )


def train(density: RealNVP, x: Tensor, steps: int, noise: bool, look: Callable[[int], None] | None = None) -> None:
    """Adam on −log p(x + u), u uniform on [0, 1) with `noise`, else 1/2."""
    generator = make_generator(0, "training")

    def batch(size: int) -> Tensor:
        chosen = x[torch.randint(len(x), (size,), generator=generator)].float()
        return chosen + (torch.rand(chosen.shape, generator=generator) if noise else 0.5)

    density.initialize(batch(256), generator)
    optimizer = torch.optim.Adam(density.parameters(), lr=3e-3)
    for step in range(steps + 1):
        if look is not None and step % 25 == 0:
            look(step)
        loss = -density.log_prob(batch(64)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(density.parameters(), 200.0)
        optimizer.step()


def spikes(steps: int = 800) -> tuple[dict[str, Any], dict[str, str]]:
    """Curves of a density trained on integers and of one trained with noise."""
    data = load_data("digits")
    x = torch.from_numpy(data.split("train").x).long()
    held_out = torch.from_numpy(data.split("validation").x).long()
    curves: dict[str, list[tuple[float, float]]] = {}
    for noise in (False, True):
        torch.manual_seed(0)
        density = RealNVP(data.space, filters=8, blocks=1, scales=1)
        honest = Dequantized(density, UniformDequantization(data.space.levels))
        name = "with noise" if noise else "without noise"
        at_lattice, bound = curves.setdefault(f"{name}, at the integers", []), curves.setdefault(f"{name}, bound", [])

        def look(step: int) -> None:
            with torch.no_grad():
                log_density = density.log_prob(held_out.float() + 0.5).mean()  # noqa: B023
                weights = honest.log_weights(held_out, 1, make_generator(0, "bound")).total.mean()  # noqa: B023
            dims = data.space.num_dims
            at_lattice.append((step, bits_per_dim(-float(log_density), dims)))  # noqa: B023
            bound.append((step, min(bits_per_dim(-float(weights), dims), 20.0)))  # noqa: B023

        train(density, x, steps, noise, look)
    del curves["with noise, at the integers"]
    lines: list[Line] = [
        ("trained on integers: −log2 density at held-out integers", curves["without noise, at the integers"]),
        ("trained on integers: bound on their mass (cut at 20)", curves["without noise, bound"]),
        ("trained with noise: bound on their mass", curves["with noise, bound"]),
    ]
    figure = chart(lines, "A density of integers without noise", "step", "bits/dim")
    return dict(curves), {"spikes.svg": figure}


def limit() -> tuple[dict[str, Any], dict[str, str]]:
    """Why there is no limit: a mixture with a Gaussian of width w at every level, weighted as in the data, as w falls.

    Its density at the integers grows as 1 / w for each dim; the mass that it leaves in a bin, which is what counts, does not grow.
    """
    data = load_data("digits")
    levels = data.space.levels
    x = torch.from_numpy(data.split("validation").x).long().flatten()
    share = torch.bincount(torch.from_numpy(data.split("train").x).long().flatten(), minlength=levels).double() + 1
    log_share = torch.log(share / share.sum())
    means = torch.arange(levels).double() + 0.5
    rows = []
    for exponent in range(8):
        width = 10.0**-exponent
        at = torch.arange(levels).double() + 0.5
        parts = log_share - 0.5 * ((at[:, None] - means) / width) ** 2 - math.log(width * math.sqrt(2 * math.pi))
        density = torch.logsumexp(parts, 1)
        ends = (torch.arange(levels + 1).double()[:, None] - means) / width
        mass = torch.log((log_share.exp() * torch.special.ndtr(ends)).sum(1).diff())
        rows.append(
            {
                "width_in_levels": width,
                "minus_log2_density_bits_per_dim": float(-density[x].mean()) / math.log(2),
                "minus_log2_mass_bits_per_dim": float(-mass[x].mean()) / math.log(2),
            }
        )
    lines: list[Line] = [
        (label, [(1 / row["width_in_levels"], row[key]) for row in rows])
        for label, key in (
            ("−log2 density at the integers", "minus_log2_density_bits_per_dim"),
            ("−log2 mass of the bins", "minus_log2_mass_bits_per_dim"),
        )
    ]
    figure = chart(lines, "Spikes at the levels", "1 / width of the spikes", "bits/dim", log_x=True)
    return {"rows": rows}, {"limit.svg": figure}


def cost(scale: float = 0.35) -> tuple[dict[str, Any], dict[str, str]]:
    """Gap between exact mass and bound over K, for numbers of dims; logistic dims of a third of a level's width."""
    rows, lines = [], []
    for dims in (1, 8, 64, 784):
        space = Space("vector", (dims,), 256)
        loc = 100 + 50 * torch.rand(dims, generator=make_generator(0, "loc"))
        density = FactorizedLogistic(space, loc, scale).double()
        exact, bounded = Discretized(density), Dequantized(density, UniformDequantization(256))
        x = exact.sample(200, make_generator(1, "data"))
        with torch.no_grad():
            mass = exact.log_prob(x)
            bound = bound_batch(bounded, x, range(len(x)), samples=1000, seed=0)
        curve = {k: float((mass - values.double()).mean()) / math.log(2) for k, values in bound.curve.items()}
        rows.append(
            {
                "dims": dims,
                "exact_bits_per_dim": bits_per_dim(-float(mass.mean()), dims),
                "gap_bits": curve,
                "gap_bits_per_dim": {k: gap / dims for k, gap in curve.items()},
                "median_effective_samples_of_1000": float(bound.ess.median()) if bound.ess is not None else None,
            }
        )
        lines.append((f"{dims} dims", [(float(k), gap / dims) for k, gap in curve.items()]))
    figure = chart(lines, "What uniform dequantization costs", "samples K", "bits/dim over exact", log_x=True)
    return {"scale_in_levels": scale, "rows": rows}, {"cost.svg": figure}


def spaces(steps: int = 300, alpha: float = 0.05) -> tuple[dict[str, Any], dict[str, str]]:
    """Bits/dim of one model in every space of its preprocessing, on the same noise."""
    data = load_data("mnist5k")
    torch.manual_seed(0)
    density = RealNVP(data.space, filters=8, blocks=1, fold=2, alpha=alpha)
    train(density, torch.from_numpy(data.split("train").x).long(), steps, noise=True)
    x = torch.from_numpy(data.split("validation").x).long()
    dims, generator = data.space.num_dims, make_generator(0, "noise")
    model = Dequantized(density, UniformDequantization(256))
    integers = per_example_nats(model, data.split("validation"), samples=20, indices=range(100))
    with torch.no_grad():
        y, _ = UniformDequantization(256).sample(x, 1, generator)
        y = y[0].double()
        density = density.double()
        rescale, logit = Rescale(256), Logit(alpha)
        unit, to_unit = rescale(y)
        z, to_logit = logit(unit)
        rest = Compose(list(density.flow.transforms)[2:])  # type: ignore[arg-type, union-attr]
        latents, of_flow = rest(z)
        log_p = {"[0, 256)": density.log_prob(y)}
        log_p["[λ, 1 − λ]"] = log_p["[0, 256)"] - to_unit - dims * -math.log(1 - 2 * alpha)
        log_p["logit"] = density.log_prior(latents) + of_flow
    terms = {
        "[0, 256) to [λ, 1 − λ]": to_unit + dims * math.log(1 - 2 * alpha),
        "[λ, 1 − λ] to logit": to_logit - dims * math.log(1 - 2 * alpha),
    }
    log_p["[λ, 1 − λ]"] = log_p["[0, 256)"] - terms["[0, 256) to [λ, 1 − λ]"]
    in_bits = {name: bits_per_dim(-float(value.mean()), dims) for name, value in log_p.items()}
    jacobians = {name: bits_per_dim(-float(value.mean()), dims) for name, value in terms.items()}
    error = abs(in_bits["[0, 256)"] - in_bits["logit"] - sum(jacobians.values()))
    if error > 1e-6:
        raise ArithmeticError(f"the spaces disagree by {error} bits/dim")
    bound = {"K = 1": bits_per_dim(float(-integers.elbo.mean()) * -1.0, dims)} if integers.elbo is not None else {}
    bound["K = 20"] = bits_per_dim(float(integers.code_length.mean()), dims)
    values = {"integers (K = 20)": bound["K = 20"], **in_bits}
    return (
        {
            "bound_on_integers": bound,
            "bits_per_dim": in_bits,
            "jacobian_bits_per_dim": jacobians,
            "disagreement": error,
        },
        {"spaces.svg": bars(values, jacobians)},
    )


def bars(values: dict[str, float], jacobians: dict[str, float]) -> str:
    """A bar for each space, and what leads from one to the next."""
    low, high = min(0.0, *values.values()), max(0.0, *values.values())
    x = Scale(low - 0.5, high + 0.5, 150, 620)
    words = "; ".join(f"{name}: {value:.3f}" for name, value in {**values, **jacobians}.items())
    drawing = Drawing(640, 60 * len(values) + 50, "One model in three spaces", words)
    for value in ticks(x.low, x.high):
        drawing.line(x(value), 10, x(value), 60 * len(values), "grid")
        drawing.text(x(value), 60 * len(values) + 18, f"{value:g}", "tick", "middle")
    for i, (name, value) in enumerate(values.items()):
        start, end = sorted((x(0.0), x(value)))
        drawing.rect(start, 20 + 60 * i, end - start, 24, f"{colour_class(i)} fill", f"{value:.3f}")
        drawing.text(140, 37 + 60 * i, name, anchor="end")
        drawing.text(end + 6, 37 + 60 * i, f"{value:.3f}")
        if i >= 2:
            term = list(jacobians.values())[i - 2]
            drawing.text(x(0.0), 12 + 60 * i, f"Jacobian {term:+.3f}", anchor="middle")
    drawing.text(385, 60 * len(values) + 42, "bits/dim", "label", "middle")
    return standalone(drawing)


PARTS = {"limit": limit, "spikes": spikes, "cost": cost, "spaces": spaces}


def main() -> None:
    """Run the parts named, or all; write results and figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], default=[])
    here = Path(__file__).parent
    parser.add_argument("--out", type=Path, default=here / "results" / "dequantization.json")
    parser.add_argument("--figures", type=Path, default=here.parent / "docs" / "figures")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = json.loads(arguments.out.read_text()) if arguments.out.is_file() else {}
    for name in arguments.parts or PARTS:
        found[name], figures = PARTS[name]()
        arguments.figures.mkdir(parents=True, exist_ok=True)
        for file, content in figures.items():
            (arguments.figures / f"dequantization-{file}").write_text(content + "\n")
        print(name, "done", flush=True)
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
